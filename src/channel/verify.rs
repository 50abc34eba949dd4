use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::script::{Instruction, Script};
use bitcoin::{ecdsa, EcdsaSighashType, Transaction, TxOut};
use thiserror::Error;

use super::construction::Construction;

/// Core's `MAX_STANDARD_SCRIPTSIG_SIZE`.
const MAX_SCRIPT_SIG: usize = 1_650;

/// Runs the transaction's only input through full script verification.
///
/// Consensus rules are judged by Core's own library (every flag that it exports: P2SH, DERSIG, NULLDUMMY,
/// CLTV, CSV, WITNESS). The flags that only a node's policy sets (STRICTENC, `LOW_S`, MINIMALDATA,
/// SIGPUSHONLY, CLEANSTACK) are checked here on the finished bytes, because a spend that breaks one of them is
/// never relayed: the payee would hold a payment that is valid and worthless.
pub(crate) fn verify_spend(
    construction: Construction,
    tx: &Transaction,
    prevout: &TxOut,
) -> Result<(), SpendError> {
    let bytes = bitcoin::consensus::serialize(tx);
    prevout
        .script_pubkey
        .verify(0, prevout.value, &bytes)
        .map_err(|error| SpendError::Consensus {
            error: error.to_string(),
        })?;
    let script_sig = &tx.input[0].script_sig;
    if script_sig.len() > MAX_SCRIPT_SIG {
        return Err(SpendError::ScriptSigTooLong {
            len: script_sig.len(),
            limit: MAX_SCRIPT_SIG,
        });
    }
    construction.check_policy(tx)
}

/// The stack of a 2-of-2: the dummy, two strict low-S `SIGHASH_ALL` signatures, the redeem script, and
/// nothing else, each pushed in the shortest way.
pub(super) fn check_multisig_pushes(script_sig: &Script) -> Result<(), SpendError> {
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
        return Err(SpendError::UncleanStack {
            expected: 4,
            found: pushes.len(),
        });
    };
    if !dummy.is_empty() || redeem.last() != Some(&OP_CHECKMULTISIG.to_u8()) {
        return Err(SpendError::UncleanStack {
            expected: 4,
            found: pushes.len(),
        });
    }
    for signature in [first, second] {
        let parsed =
            ecdsa::Signature::from_slice(signature).map_err(|error| SpendError::SignatureEncoding {
                error: error.to_string(),
            })?;
        let mut low = parsed.signature;
        low.normalize_s();
        let strict = ecdsa::Signature {
            signature: low,
            sighash_type: EcdsaSighashType::All,
        };
        // Strict DER, low S and the hash type at once: there is one way to write a signature.
        if strict.serialize()[..] != *signature {
            return Err(SpendError::SignatureEncoding {
                error: "not strict DER, low S, ALL".to_owned(),
            });
        }
    }
    Ok(())
}

/// A finished spend that the network would not take.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpendError {
    /// Invalid in a block.
    #[error("script verification failed: {error}")]
    Consensus {
        /// What Core's library said.
        error: String,
    },
    /// Not relayed: too much input script.
    #[error("the input script has {len} bytes, nodes relay at most {limit}")]
    ScriptSigTooLong {
        /// Bytes found.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not relayed: an operation in the input script.
    #[error("the input script has the operation {opcode}, nodes relay pushes only")]
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
    /// Not relayed: something is left on the stack.
    #[error("the input has {found} elements where a 2-of-2 takes {expected}: dummy, two signatures, script")]
    UncleanStack {
        /// Elements wanted.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// Not relayed: a signature in another form than strict DER with a low S and `SIGHASH_ALL`.
    #[error("signature encoding: {error}")]
    SignatureEncoding {
        /// What is wrong.
        error: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::test_support::{example, finished_refund};
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
        verify_spend(Construction::P2sh, &tx, &prevout)
    }

    #[test]
    fn a_finished_refund_passes() {
        let (tx, prevout) = finished_refund(&example());
        assert_eq!(verify_spend(Construction::P2sh, &tx, &prevout), Ok(()));
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
            verify_spend(Construction::P2sh, &tx, &prevout),
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

    fn high_s(signature: &[u8]) -> Vec<u8> {
        use bitcoin::secp256k1::{ecdsa::Signature, Scalar, SecretKey};
        let compact = Signature::from_der(&signature[..signature.len() - 1])
            .unwrap()
            .serialize_compact();
        let s = SecretKey::from_slice(&compact[32..]).unwrap().negate();
        let mut high = compact;
        high[32..].copy_from_slice(&Scalar::from(s).to_be_bytes());
        let mut der = Signature::from_compact(&high).unwrap().serialize_der().to_vec();
        der.push(1);
        der
    }
}
