//! What both parties sign in a spend of the funding output, by the `bitcoin` crate and the documents alone: tests and
//! forgeries compare it with what the protocol's own code makes.

use bitcoin::secp256k1::{Message as Digest, SecretKey};
use bitcoin::sighash::{Annex, EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::{LeafVersion, TapLeafHash};
use bitcoin::Transaction;

use crate::channel::{ChannelParams, Construction};

const INPUT: &str = "input 0 exists, and output 0 where the hash type needs it";

/// The digest of a spend by both, with the hash type that is agreed.
///
/// # Panics
/// If the transaction has no input.
#[must_use]
pub fn digest(params: &ChannelParams, tx: &Transaction) -> Digest {
    match params.terms().construction {
        Construction::Taproot => taproot_digest(params, tx, Some(0), TapSighashType::Default, None),
        _ => ecdsa_digest(params, tx, EcdsaSighashType::All),
    }
}

/// The digest of an ECDSA signature: the original one for P2SH, or else that of BIP 143.
///
/// # Panics
/// If the transaction has no input.
#[must_use]
pub fn ecdsa_digest(params: &ChannelParams, tx: &Transaction, kind: EcdsaSighashType) -> Digest {
    let (script, value) = (params.revealed_scripts()[0].1, params.funding_output().value);
    let mut cache = SighashCache::new(tx);
    if params.terms().construction == Construction::P2sh {
        let hash = cache.legacy_signature_hash(0, script, kind.to_u32());
        return hash.expect(INPUT).into();
    }
    let hash = cache.p2wsh_signature_hash(0, script, value, kind);
    hash.expect(INPUT).into()
}

/// The digest of a signature by BIP 341, through one of the revealed scripts, or by the key alone.
///
/// # Panics
/// If the transaction has no input, or the construction no such script.
#[must_use]
pub fn taproot_digest(
    params: &ChannelParams,
    tx: &Transaction,
    leaf: Option<usize>,
    kind: TapSighashType,
    annex: Option<Annex<'_>>,
) -> Digest {
    let prevouts = [params.funding_output()];
    let leaf = leaf.map(|leaf| {
        let script = params.revealed_scripts()[leaf].1;
        (TapLeafHash::from_script(script, LeafVersion::TapScript), u32::MAX)
    });
    let hash = SighashCache::new(tx).taproot_signature_hash(0, &Prevouts::All(&prevouts), annex, leaf, kind);
    hash.expect(INPUT).into()
}

/// `s` becomes `n - s`: the same ECDSA signature for consensus, and no node relays it.
///
/// # Panics
/// If `s` is zero or not below the order.
pub fn high_s(compact: &mut [u8; 64]) {
    let s = SecretKey::from_slice(&compact[32..]).expect("s is between zero and the order");
    compact[32..].copy_from_slice(&s.negate().secret_bytes());
}
