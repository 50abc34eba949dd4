//! One ECDSA signature of an input: what it signs, and whose key made it.

use std::sync::LazyLock;

use bitcoin::secp256k1::{ecdsa, Message, Secp256k1, VerifyOnly};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{Amount, PublicKey, ScriptBuf, Transaction};

static SECP: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// Who made a signature. The answer comes from verifying it, not from its place in the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// It verifies against this key of the script.
    Key(PublicKey),
    /// It verifies against none of the script's keys.
    NoKey,
    /// The bytes are not a DER signature (BIP 66).
    Malformed,
    /// It could not be checked, for this reason.
    Unchecked(&'static str),
}

/// A signature with its hash type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedSignature {
    /// Who made it.
    pub signer: Signer,
    /// The hash type: the last byte, as it stands.
    pub hash_type: u8,
    /// Whether S is in the lower half of the curve's order, as relay policy demands (BIP 146).
    pub low_s: bool,
    /// The digest that the signature must sign, in the order in which ECDSA takes the bytes.
    pub sighash: Option<[u8; 32]>,
}

/// How the digest of an input is made.
pub(super) enum Digest {
    /// The original algorithm, which does not commit to amounts.
    Legacy { code: ScriptBuf },
    /// BIP 143; it needs the amount of the spent output.
    SegwitV0 { code: ScriptBuf, value: Option<Amount> },
}

impl Digest {
    fn sighash(&self, tx: &Transaction, index: usize, hash_type: u8) -> Result<[u8; 32], &'static str> {
        let mut cache = SighashCache::new(tx);
        match self {
            // Consensus hashes the byte as it stands, so an undefined hash type is hashed too.
            Self::Legacy { code } => cache
                .legacy_signature_hash(index, code, u32::from(hash_type))
                .map(|hash| *hash.as_ref())
                .map_err(|_| "no such input"),
            Self::SegwitV0 { code, value } => {
                let value = value.ok_or("it signs the amount of the spent output, which is unknown")?;
                let hash_type = EcdsaSighashType::from_standard(u32::from(hash_type))
                    .map_err(|_| "its hash type is undefined")?;
                // With the P2PKH script as code this is the digest of P2WPKH as well.
                cache
                    .p2wsh_signature_hash(index, code, value, hash_type)
                    .map(|hash| *hash.as_ref())
                    .map_err(|_| "no such input")
            }
        }
    }
}

/// Decodes `bytes` (not empty) as the signature of input `index` and looks for its maker among `keys`.
pub(super) fn read(
    tx: &Transaction,
    index: usize,
    digest: &Digest,
    keys: &[PublicKey],
    bytes: &[u8],
) -> DecodedSignature {
    let (&hash_type, der) = bytes.split_last().unwrap_or((&0, &[]));
    let Ok(signature) = ecdsa::Signature::from_der(der) else {
        return DecodedSignature {
            signer: Signer::Malformed,
            hash_type,
            low_s: false,
            sighash: None,
        };
    };
    let mut normal = signature;
    normal.normalize_s();
    let low_s = normal == signature;
    match digest.sighash(tx, index, hash_type) {
        Ok(hash) => {
            let signer = find_signer(hash, &normal, keys);
            DecodedSignature {
                signer,
                hash_type,
                low_s,
                sighash: Some(hash),
            }
        }
        Err(why) => DecodedSignature {
            signer: Signer::Unchecked(why),
            hash_type,
            low_s,
            sighash: None,
        },
    }
}

/// libsecp256k1 verifies nothing with a high S, so the signature comes normalised, as in Core.
fn find_signer(hash: [u8; 32], normal: &ecdsa::Signature, keys: &[PublicKey]) -> Signer {
    let message = Message::from_digest(hash);
    keys.iter()
        .find(|key| SECP.verify_ecdsa(&message, normal, &key.inner).is_ok())
        .map_or(Signer::NoKey, |key| Signer::Key(*key))
}

/// The name of a hash type: `ALL`, `SINGLE|ANYONECANPAY`, `0x00 (undefined)`.
pub(super) fn hash_type_name(hash_type: u8) -> String {
    match EcdsaSighashType::from_standard(u32::from(hash_type)) {
        Ok(standard) => standard.to_string().replace("SIGHASH_", ""),
        Err(_) => format!("0x{hash_type:02x}, undefined hash type"),
    }
}
