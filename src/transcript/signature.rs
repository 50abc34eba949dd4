//! One signature of an input: what it signs, and whose key made it.

use bitcoin::secp256k1::{ecdsa, schnorr, Message};
use bitcoin::sighash::{Annex, EcdsaSighashType, Prevouts, SighashCache};
use bitcoin::{Amount, ScriptBuf, TapLeafHash, TapSighashType, Transaction, TxOut};

use super::keys::{ScriptKey, SECP};

/// The position of the last `OP_CODESEPARATOR` if none has run (BIP 342).
const NO_CODE_SEPARATOR: u32 = u32::MAX;

/// Who made a signature. The answer comes from verifying it, not from its place in the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureOwner {
    /// It verifies against this key of the script.
    Key(ScriptKey),
    /// It verifies against none of the script's keys.
    NoKey,
    /// The bytes cannot be a signature at all, for this reason.
    Malformed(&'static str),
    /// It could not be checked, for this reason.
    Unchecked(&'static str),
}

/// The algorithm of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA.
    Ecdsa {
        /// Whether S is in the lower half of the curve's order, as relay policy demands (BIP 146).
        low_s: bool,
    },
    /// BIP 340.
    Schnorr,
}

/// A signature with its hash type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedSignature {
    /// Who made it.
    pub signer: SignatureOwner,
    /// The hash type: the last byte, as it stands; 0 (default) for a Schnorr signature of 64 bytes.
    pub hash_type: u8,
    /// How it was made.
    pub algorithm: Algorithm,
    /// The digest that the signature must sign, in the order in which the algorithm takes the bytes.
    pub sighash: Option<[u8; 32]>,
}

/// How the digest of an input is made.
pub(super) enum Digest<'a> {
    /// The original algorithm, which does not commit to amounts.
    Legacy { code: ScriptBuf },
    /// BIP 143; it needs the amount of the spent output.
    SegwitV0 { code: ScriptBuf, value: Option<Amount> },
    /// BIP 341, with a leaf BIP 342; it needs the spent outputs of all inputs.
    Taproot {
        prevouts: &'a [TxOut],
        annex: Option<&'a [u8]>,
        leaf: Option<TapLeafHash>,
    },
}

impl Digest<'_> {
    fn sighash(&self, tx: &Transaction, index: usize, hash_type: u8) -> Result<[u8; 32], SignatureOwner> {
        let mut cache = SighashCache::new(tx);
        match self {
            // Consensus hashes the byte as it stands, so an undefined hash type is hashed too.
            Self::Legacy { code } => cache
                .legacy_signature_hash(index, code, u32::from(hash_type))
                .map(|hash| *hash.as_ref())
                .map_err(|_| SignatureOwner::Unchecked("no such input")),
            Self::SegwitV0 { code, value } => {
                let value = value.ok_or(SignatureOwner::Unchecked(
                    "it signs the amount of the spent output, which is unknown",
                ))?;
                let hash_type = EcdsaSighashType::from_standard(u32::from(hash_type))
                    .map_err(|_| SignatureOwner::Unchecked("its hash type is undefined"))?;
                // With the P2PKH script as code this is the digest of P2WPKH as well.
                cache
                    .p2wsh_signature_hash(index, code, value, hash_type)
                    .map(|hash| *hash.as_ref())
                    .map_err(|_| SignatureOwner::Unchecked("no such input"))
            }
            Self::Taproot {
                prevouts,
                annex,
                leaf,
            } => {
                let hash_type = TapSighashType::from_consensus_u8(hash_type)
                    .map_err(|_| SignatureOwner::Malformed("its hash type is undefined (BIP 341)"))?;
                if prevouts.is_empty() {
                    return Err(SignatureOwner::Unchecked(
                        "it signs the spent outputs, which are unknown",
                    ));
                }
                let annex = annex.and_then(|bytes| Annex::new(bytes).ok());
                let leaf = leaf.map(|leaf| (leaf, NO_CODE_SEPARATOR));
                // Inputs and prevouts exist, so only the output of SINGLE can be missing.
                cache
                    .taproot_signature_hash(index, &Prevouts::All(prevouts), annex, leaf, hash_type)
                    .map(|hash| *hash.as_ref())
                    .map_err(|_| SignatureOwner::Malformed("there is no output for SINGLE (BIP 341)"))
            }
        }
    }
}

/// Decodes `bytes` (not empty) as the signature of input `index` and looks for its maker among `keys`.
pub(super) fn read(
    tx: &Transaction,
    index: usize,
    digest: &Digest<'_>,
    keys: &[ScriptKey],
    bytes: &[u8],
) -> DecodedSignature {
    let parsed = match digest {
        Digest::Taproot { .. } => Parsed::schnorr(bytes),
        _ => Parsed::ecdsa(bytes),
    };
    let checked = parsed.signature.and_then(|signature| {
        let hash = digest.sighash(tx, index, parsed.hash_type)?;
        let message = Message::from_digest(hash);
        let signer = keys.iter().find(|key| signature.is_by(key, &message));
        Ok((
            hash,
            signer.map_or(SignatureOwner::NoKey, |key| SignatureOwner::Key(*key)),
        ))
    });
    let (sighash, signer) = match checked {
        Ok((hash, signer)) => (Some(hash), signer),
        Err(signer) => (None, signer),
    };
    DecodedSignature {
        signer,
        hash_type: parsed.hash_type,
        algorithm: parsed.algorithm,
        sighash,
    }
}

enum Signature {
    /// libsecp256k1 verifies no high S, so the signature is normalised, as in Core.
    Ecdsa(ecdsa::Signature),
    Schnorr(schnorr::Signature),
}

impl Signature {
    fn is_by(&self, key: &ScriptKey, message: &Message) -> bool {
        match (self, key) {
            (Self::Ecdsa(normal), ScriptKey::Full(key)) => {
                SECP.verify_ecdsa(message, normal, &key.inner).is_ok()
            }
            (Self::Schnorr(signature), ScriptKey::XOnly(key)) => {
                SECP.verify_schnorr(signature, message, key).is_ok()
            }
            _ => false,
        }
    }
}

struct Parsed {
    signature: Result<Signature, SignatureOwner>,
    hash_type: u8,
    algorithm: Algorithm,
}

impl Parsed {
    fn ecdsa(bytes: &[u8]) -> Self {
        let (&hash_type, der) = bytes.split_last().unwrap_or((&0, &[]));
        let Ok(signature) = ecdsa::Signature::from_der(der) else {
            return Self {
                signature: Err(SignatureOwner::Malformed("not DER")),
                hash_type,
                algorithm: Algorithm::Ecdsa { low_s: false },
            };
        };
        let mut normal = signature;
        normal.normalize_s();
        Self {
            signature: Ok(Signature::Ecdsa(normal)),
            hash_type,
            algorithm: Algorithm::Ecdsa {
                low_s: normal == signature,
            },
        }
    }

    /// BIP 341: 64 bytes stand for the default hash type, which must not be written as a byte 0 at the end.
    fn schnorr(bytes: &[u8]) -> Self {
        let (hash_type, signature) = match bytes.split_last() {
            Some((hash_type, signature)) if bytes.len() == 65 => (*hash_type, signature),
            _ => (0, bytes),
        };
        let signature = if bytes.len() == 65 && hash_type == 0 {
            Err(SignatureOwner::Malformed(
                "the default hash type must not be written (BIP 341)",
            ))
        } else {
            schnorr::Signature::from_slice(signature)
                .map(Signature::Schnorr)
                .map_err(|_| SignatureOwner::Malformed("neither 64 nor 65 bytes (BIP 341)"))
        };
        Self {
            signature,
            hash_type,
            algorithm: Algorithm::Schnorr,
        }
    }
}

/// Returns the name of a hash type: `ALL`, `SINGLE|ANYONECANPAY`, `0x00 (undefined)`.
pub(super) fn hash_type_name(signature: &DecodedSignature) -> String {
    let hash_type = signature.hash_type;
    if signature.algorithm == Algorithm::Schnorr && hash_type == 0 {
        return "DEFAULT".to_owned();
    }
    match EcdsaSighashType::from_standard(u32::from(hash_type)) {
        Ok(standard) => standard.to_string().replace("SIGHASH_", ""),
        Err(_) => format!("0x{hash_type:02x}, undefined hash type"),
    }
}
