//! What a node's policy requires of a finished input beyond consensus. A spend that breaks it is not relayed, so the
//! payee's payment would be valid but worthless.

use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::script::{Instruction, Script};
use bitcoin::{ecdsa, EcdsaSighashType, Witness};

use crate::channel::script_check::SpendError;

/// Core's `MAX_STANDARD_SCRIPTSIG_SIZE`.
const MAX_SCRIPT_SIG: usize = 1_650;

/// What a witness item must be.
pub(super) enum WitnessItem {
    Empty,
    One,
    Ecdsa,
}

/// The stack of a 2-of-2: the dummy, two strict low-S `SIGHASH_ALL` signatures, the redeem script, and
/// nothing else, each pushed in the shortest way.
pub(super) fn check_pushes(script_sig: &Script) -> Result<(), SpendError> {
    if script_sig.len() > MAX_SCRIPT_SIG {
        return Err(SpendError::ScriptSigTooLong {
            len: script_sig.len(),
            limit: MAX_SCRIPT_SIG,
        });
    }
    let mut pushes = Vec::with_capacity(4);
    for instruction in script_sig.instructions_minimal() {
        match instruction {
            Ok(Instruction::PushBytes(bytes)) => pushes.push(bytes.as_bytes()),
            Ok(Instruction::Op(opcode)) => {
                return Err(SpendError::NotPushOnly {
                    opcode: opcode.to_string(),
                })
            }
            Err(error) => {
                return Err(SpendError::NotMinimal {
                    error: error.to_string(),
                })
            }
        }
    }
    let [dummy, first, second, redeem] = pushes[..] else {
        return Err(unclean(4, pushes.len()));
    };
    if !dummy.is_empty() || redeem.last() != Some(&OP_CHECKMULTISIG.to_u8()) {
        return Err(unclean(4, pushes.len()));
    }
    check_ecdsa(first)?;
    check_ecdsa(second)
}

/// Just these items, then the script.
pub(super) fn check_witness(
    witness: &Witness,
    script: &Script,
    wanted: &[WitnessItem],
) -> Result<(), SpendError> {
    let expected = wanted.len() + 1;
    let found = witness.len();
    if found != expected || witness.last() != Some(script.as_bytes()) {
        return Err(unclean(expected, found));
    }
    for (item, wanted) in witness.iter().zip(wanted) {
        match wanted {
            WitnessItem::Empty if item.is_empty() => {}
            // MINIMALIF: policy for a witness, consensus for tapscript.
            WitnessItem::One if item == [1] => {}
            WitnessItem::Ecdsa => check_ecdsa(item)?,
            WitnessItem::Empty | WitnessItem::One => return Err(unclean(expected, found)),
        }
    }
    Ok(())
}

/// One key signature, or signatures, leaf and control block; no annex, and nothing that is too long to be relayed.
pub(super) fn check_tree(witness: &Witness) -> Result<(), SpendError> {
    /// BIP 341.
    const ANNEX: u8 = 0x50;
    let found = witness.len();
    // Alone, an item is no annex, whatever it begins with.
    let annex = found > 1 && witness.last().is_some_and(|item| item.first() == Some(&ANNEX));
    if !matches!(found, 1 | 3 | 4) || annex {
        return Err(unclean(4, found));
    }
    let signatures = if found == 1 { 1 } else { found - 2 };
    for item in witness.iter().take(signatures) {
        if item.len() != 64 {
            return Err(SpendError::SignatureEncoding {
                error: format!(
                    "{} bytes, expected the 64 of a Schnorr signature with the default hash type",
                    item.len()
                ),
            });
        }
    }
    Ok(())
}

/// Strict DER, low S and the hash type at once: there is one way to write a signature.
fn check_ecdsa(signature: &[u8]) -> Result<(), SpendError> {
    let parsed = ecdsa::Signature::from_slice(signature).map_err(|error| SpendError::SignatureEncoding {
        error: error.to_string(),
    })?;
    let mut low = parsed.signature;
    low.normalize_s();
    let strict = ecdsa::Signature {
        signature: low,
        sighash_type: EcdsaSighashType::All,
    };
    if strict.serialize()[..] == *signature {
        return Ok(());
    }
    Err(SpendError::SignatureEncoding {
        error: "not strict DER, low S, ALL".to_owned(),
    })
}

const fn unclean(expected: usize, found: usize) -> SpendError {
    SpendError::UncleanStack { expected, found }
}
