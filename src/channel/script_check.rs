use bitcoin::hex::DisplayHex;
use bitcoin::sighash::Prevouts;
use bitcoin::{Transaction, TxIn, TxOut, Witness};
use miniscript::interpreter::{Interpreter, SatisfiedConstraint};
use thiserror::Error;

use super::construction::Scripts;
use super::keys::SECP;

/// Runs the transaction's only input through full script verification.
///
/// Consensus rules are judged by [`verify_input`]. The flags that only a node's policy sets (STRICTENC, `LOW_S`,
/// MINIMALDATA, MINIMALIF, SIGPUSHONLY, CLEANSTACK) are checked here on the finished bytes, because a spend that
/// breaks one of them is never relayed: the payee would hold a payment that is valid and worthless.
pub(crate) fn verify_spend(scripts: &Scripts, tx: &Transaction, prevout: &TxOut) -> Result<(), SpendError> {
    verify_input(tx, 0, std::slice::from_ref(prevout))?;
    scripts.check_policy(tx)
}

/// The elements that the key or the script of a Taproot witness consumes (BIP 341). The annex, the script and the control
/// block are not among them: they may happen to look like a signature.
fn pushed(witness: &Witness) -> impl Iterator<Item = &[u8]> {
    const ANNEX: u8 = 0x50;
    let annex = witness.len() > 1 && witness.last().is_some_and(|item| item.first() == Some(&ANNEX));
    let rest = witness.len() - usize::from(annex);
    witness.iter().take(if rest > 1 { rest - 2 } else { rest })
}

/// Whether an input satisfies the script of what it spends; `prevouts` are those of all inputs.
///
/// Core's own library is the judge (every flag that it exports: P2SH, DERSIG, NULLDUMMY, CLTV, CSV, WITNESS). It does
/// not know Taproot and lets anyone spend such an output, so that one is verified again by [`verify_taproot`].
pub(crate) fn verify_input(tx: &Transaction, index: usize, prevouts: &[TxOut]) -> Result<(), SpendError> {
    let (Some(prevout), Some(input)) = (prevouts.get(index), tx.input.get(index)) else {
        let (inputs, known) = (tx.input.len(), prevouts.len());
        return Err(consensus(&format!(
            "no input {index}: the transaction has {inputs}, and {known} spent outputs are known"
        )));
    };
    let bytes = bitcoin::consensus::serialize(tx);
    prevout
        .script_pubkey
        .verify(index, prevout.value, &bytes)
        .map_err(|error| consensus(&error))?;
    if !prevout.script_pubkey.is_p2tr() {
        return Ok(());
    }
    // BIP 341: the default hash type is not written. miniscript reads one that is.
    if let Some(item) = pushed(&input.witness).find(|item| item.len() == 65 && item[64] == 0) {
        let signature = item.as_hex();
        return Err(consensus(&format!(
            "the default hash type must not be written in the signature {signature}"
        )));
    }
    verify_taproot(tx, index, input, prevouts)
}

/// Runs miniscript's interpreter: control block, leaf, locks and BIP 340 signatures over the BIP 341 sighash.
fn verify_taproot(
    tx: &Transaction,
    index: usize,
    input: &TxIn,
    prevouts: &[TxOut],
) -> Result<(), SpendError> {
    let (script, sequence) = (&prevouts[index].script_pubkey, input.sequence);
    let run = Interpreter::from_txdata(script, &input.script_sig, &input.witness, sequence, tx.lock_time)
        .map_err(|error| consensus(&error))?;
    for step in run.iter(&SECP, tx, index, &Prevouts::All(prevouts)) {
        let step = step.map_err(|error| consensus(&error))?;
        // BIP 65: CHECKLOCKTIMEVERIFY fails on a final sequence, since nLockTime means nothing then. The interpreter
        // compares the two locks and ignores the sequence.
        let locked = matches!(step, SatisfiedConstraint::AbsoluteTimelock { .. });
        if locked && !sequence.enables_absolute_lock_time() {
            return Err(consensus(&format!(
                "the sequence {sequence:#010x} disables the lock of the script"
            )));
        }
    }
    Ok(())
}

fn consensus(error: &impl ToString) -> SpendError {
    SpendError::Consensus {
        error: error.to_string(),
    }
}

/// Why the network would not accept a finished spend.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpendError {
    /// Invalid in a block.
    #[error("script verification failed: {error}")]
    Consensus {
        /// What Core's library said, or for Taproot miniscript's interpreter.
        error: String,
    },
    /// Not relayed: too much input script.
    #[error("the input script has {len} bytes, but nodes relay at most {limit}")]
    ScriptSigTooLong {
        /// Bytes found.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not relayed: an operation in the input script.
    #[error("the input script has the operation {opcode}, but nodes relay only pushes")]
    NotPushOnly {
        /// The operation.
        opcode: String,
    },
    /// Not relayed: a push that could be shorter.
    #[error("a push is not minimal: {error}")]
    NotMinimal {
        /// What the script parser said.
        error: String,
    },
    /// Not relayed: more or other elements than the script takes, so that something else than its one result is left on
    /// the stack, or a boolean is not in its shortest form.
    #[error("the input has {found} elements, expected {expected}, each in its shortest form")]
    UncleanStack {
        /// Elements wanted.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// Not relayed: a signature in another form than strict DER with a low S and `SIGHASH_ALL`.
    #[error("invalid signature encoding: {error}")]
    SignatureEncoding {
        /// What is wrong.
        error: String,
    },
}

#[cfg(test)]
mod every;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::test_support::{example, finished_refund, high_s};
    use bitcoin::script::{Builder, PushBytesBuf};
    use bitcoin::ScriptBuf;

    fn pushes(tx: &Transaction) -> Vec<Vec<u8>> {
        tx.input[0]
            .script_sig
            .instructions()
            .map(|i| i.unwrap().push_bytes().unwrap().as_bytes().to_vec())
            .collect()
    }

    fn script(pushes: &[Vec<u8>]) -> ScriptBuf {
        pushes
            .iter()
            .fold(Builder::new(), |b, push| {
                b.push_slice(PushBytesBuf::try_from(push.clone()).unwrap())
            })
            .into_script()
    }

    fn verdict(script_sig: ScriptBuf) -> Result<(), SpendError> {
        let (mut tx, prevout) = finished_refund(&example());
        tx.input[0].script_sig = script_sig;
        verify_spend(example().params.scripts(), &tx, &prevout)
    }

    #[test]
    fn a_finished_refund_passes() {
        let (tx, prevout) = finished_refund(&example());
        assert_eq!(verify_spend(example().params.scripts(), &tx, &prevout), Ok(()));
    }

    #[test]
    fn a_changed_amount_or_key_order_fails_consensus() {
        let (mut tx, prevout) = finished_refund(&example());
        let mut elements = pushes(&tx);
        elements.swap(1, 2);
        assert!(matches!(
            verdict(script(&elements)),
            Err(SpendError::Consensus { .. })
        ));
        tx.output[0].value -= bitcoin::Amount::ONE_SAT;
        assert!(matches!(
            verify_spend(example().params.scripts(), &tx, &prevout),
            Err(SpendError::Consensus { .. })
        ));
    }

    /// What a block may contain and no node relays: each is valid for consensus, so that only the checks
    /// of policy can have refused it.
    #[test]
    fn what_only_policy_refuses_is_refused() {
        let (tx, _) = finished_refund(&example());
        let elements = pushes(&tx);

        let mut extra = vec![vec![7_u8, 7]];
        extra.extend(elements.clone());
        assert_eq!(
            verdict(script(&extra)),
            Err(SpendError::UncleanStack {
                expected: 4,
                found: 5
            })
        );

        let mut high = elements.clone();
        high[1] = high_s(&elements[1]);
        assert!(matches!(
            verdict(script(&high)),
            Err(SpendError::SignatureEncoding { .. })
        ));

        // OP_PUSHDATA1 for a script of 71 bytes, where a direct push would do.
        let mut long = script(&elements[..3]).into_bytes();
        long.extend([0x4c, 71]);
        long.extend(&elements[3]);
        assert!(matches!(
            verdict(ScriptBuf::from_bytes(long)),
            Err(SpendError::NotMinimal { .. })
        ));
    }
}
