//! Guessing the spent output from the items alone.

use bitcoin::{PublicKey, Script, ScriptBuf};

use super::path::{follow, Ask};
use super::revealed::Revealed;
use super::script::multisig;

/// Returns the output script that the items imply, where the spent output is not known.
pub(super) fn infer(pushes: &[Vec<u8>], witness: &[Vec<u8>]) -> Option<ScriptBuf> {
    let script = |bytes: &Vec<u8>| ScriptBuf::from_bytes(bytes.clone());
    match (pushes, witness) {
        ([program], [_, ..]) if script(program).is_witness_program() => Some(script(program).to_p2sh()),
        ([_, key], []) if is_key(key) => Some(ScriptBuf::new_p2pkh(
            &PublicKey::from_slice(key).ok()?.pubkey_hash(),
        )),
        ([], [_, key]) if is_key(key) => Some(ScriptBuf::new_p2wpkh(
            &PublicKey::from_slice(key).ok()?.wpubkey_hash().ok()?,
        )),
        ([items @ .., last], []) if fits(&script(last), items) => Some(script(last).to_p2sh()),
        ([], _) if Revealed::read(witness).is_some_and(|path| path.is_tapscript()) => {
            Revealed::read(witness).map(|path| path.output())
        }
        ([], [items @ .., last]) if fits(&script(last), items) => Some(script(last).to_p2wsh()),
        _ => None,
    }
}

/// Returns whether the witness looks like the signature of a Taproot key path spend.
pub(super) fn is_key_path(pushes: &[Vec<u8>], witness: &[Vec<u8>]) -> bool {
    pushes.is_empty() && matches!(witness, [signature] if matches!(signature.len(), 64 | 65))
}

fn is_key(bytes: &[u8]) -> bool {
    PublicKey::from_slice(bytes).is_ok()
}

/// Returns whether the script checks signatures and consumes exactly these items.
fn fits(script: &Script, items: &[Vec<u8>]) -> bool {
    let checks = |asks: &[Ask]| asks.iter().any(|ask| matches!(ask, Ask::Signature(_)));
    multisig(script).is_some()
        || follow(script, items, false).is_some_and(|path| path.problem.is_none() && checks(&path.asks))
}
