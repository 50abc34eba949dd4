use bitcoin::{Amount, FeeRate, ScriptBuf, Weight};
use thiserror::Error;

use super::construction::Construction;
use super::keys::PayeeKey;
use super::lock::RefundLock;

/// Why the parties' contributions do not make a channel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// Both sides have the same key: its owner could spend alone.
    #[error("payer and payee have the same key {key}")]
    SameKey {
        /// The key.
        key: PayeeKey,
    },
    /// Both sides have the same script: payment and change would be indistinguishable.
    #[error("payer and payee have the same payout script {script}")]
    SamePayout {
        /// The script.
        script: ScriptBuf,
    },
    /// The descriptor cannot have this lock.
    #[error("the construction {construction} cannot have the refund lock {lock}: {error}")]
    Lock {
        /// The proposed lock.
        lock: RefundLock,
        /// The proposed construction.
        construction: Construction,
        /// In the words of the descriptor library.
        error: String,
    },
    /// Fee, reserve and dust leave nothing to pay with.
    #[error(
        "a capacity of {capacity} is too small: a channel with this fee, reserve and minimum payment needs at least \
         {needed}"
    )]
    CapacityTooSmall {
        /// The least capacity.
        needed: Amount,
        /// The proposed one.
        capacity: Amount,
    },
    /// The feerate is absurd.
    #[error("the fee at {feerate} sat/kwu for {weight} overflows")]
    FeeOverflow {
        /// The proposed feerate.
        feerate: FeeRate,
        /// The transaction's weight.
        weight: Weight,
    },
}
