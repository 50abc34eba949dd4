use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use thiserror::Error;

use super::params::ChannelParams;

/// T1, signed by the payer, with the funding output found and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FundingTx {
    tx: Transaction,
    outpoint: OutPoint,
}

impl FundingTx {
    /// Finds the agreed output.
    ///
    /// # Errors
    /// If no output, or more than one, has the channel's script and amount.
    #[expect(clippy::missing_panics_doc, reason = "consensus bounds the number of outputs")]
    pub fn find(params: &ChannelParams, tx: Transaction) -> Result<Self, FundingError> {
        let wanted = params.funding_output();
        let mut found = tx
            .output
            .iter()
            .enumerate()
            .filter(|(_, output)| **output == wanted);
        let Some((vout, _)) = found.next() else {
            return Err(FundingError::NoSuchOutput {
                wanted,
                txid: tx.compute_txid(),
            });
        };
        if let Some((second, _)) = found.next() {
            return Err(FundingError::TwoOutputs { first: vout, second });
        }
        let vout = u32::try_from(vout).expect("a transaction has fewer than 2^32 outputs");
        Ok(Self {
            outpoint: OutPoint::new(tx.compute_txid(), vout),
            tx,
        })
    }

    /// Checks that this output of the transaction is the agreed one.
    pub(crate) fn check(
        params: &ChannelParams,
        outpoint: OutPoint,
        tx: Transaction,
    ) -> Result<Self, FundingError> {
        let txid = tx.compute_txid();
        if txid != outpoint.txid {
            return Err(FundingError::WrongTxid {
                expected: outpoint.txid,
                received: txid,
            });
        }
        let Some(output) = tx.output.get(outpoint.vout as usize) else {
            return Err(FundingError::MissingOutput {
                vout: outpoint.vout,
                outputs: tx.output.len(),
            });
        };
        let wanted = params.funding_output();
        if output.script_pubkey != wanted.script_pubkey {
            return Err(FundingError::WrongScript {
                expected: wanted.script_pubkey,
                received: output.script_pubkey.clone(),
            });
        }
        if output.value != wanted.value {
            return Err(FundingError::WrongAmount {
                expected: wanted.value,
                received: output.value,
            });
        }
        Ok(Self { tx, outpoint })
    }

    /// Returns the funding output.
    pub const fn outpoint(&self) -> OutPoint {
        self.outpoint
    }

    /// Returns the signed transaction.
    pub const fn tx(&self) -> &Transaction {
        &self.tx
    }

    /// Returns whether someone else can change the transaction's id before it is mined, by changing the signature
    /// of an input that is not segwit. Payments, and a refund that was signed in advance, would then spend an output
    /// that never exists, so nothing should depend on this transaction before it is confirmed.
    pub fn is_malleable(&self) -> bool {
        self.tx.input.iter().any(|input| input.witness.is_empty())
    }
}

/// The funding transaction is not the one that was agreed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FundingError {
    /// This side's transaction does not fund the channel.
    #[error("transaction {txid} has no output of {} to the script {}", wanted.value, wanted.script_pubkey)]
    NoSuchOutput {
        /// The agreed output.
        wanted: TxOut,
        /// The transaction.
        txid: Txid,
    },
    /// This side's transaction funds the channel twice; only one of the outputs would have a refund.
    #[error("outputs {first} and {second} both fund the channel")]
    TwoOutputs {
        /// Index of the first.
        first: usize,
        /// Index of the second.
        second: usize,
    },
    /// It is not the transaction that the refund spends.
    #[error("the funding transaction is {received}, but the refund spends {expected}")]
    WrongTxid {
        /// What the refund spends.
        expected: Txid,
        /// What came.
        received: Txid,
    },
    /// The refund spends an output that the transaction does not have.
    #[error("the refund spends output {vout}, but the funding transaction has {outputs} outputs")]
    MissingOutput {
        /// The output that the refund spends.
        vout: u32,
        /// The number of outputs.
        outputs: usize,
    },
    /// The output belongs to other keys.
    #[error("the funding output has the script {received}, expected {expected}")]
    WrongScript {
        /// The agreed script.
        expected: ScriptBuf,
        /// What came.
        received: ScriptBuf,
    },
    /// The output has another amount.
    #[error("the funding output has the amount {received}, expected {expected}")]
    WrongAmount {
        /// The capacity.
        expected: Amount,
        /// What came.
        received: Amount,
    },
    /// The transaction does not fit into a message.
    #[error(
        "the funding transaction has {size} bytes, a message holds at most {limit}: fund with fewer inputs"
    )]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most that a message holds.
        limit: usize,
    },
}
