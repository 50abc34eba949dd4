use bitcoin::Amount;
use tokio::sync::oneshot;

use crate::channel::{ApplyError, Balance, Event, Reason, SettlementTx, SpendError};

/// What a handle asks of its session.
pub(super) enum Request {
    Apply(Event, oneshot::Sender<Result<(), ApplyError>>),
    Pay(Amount, oneshot::Sender<Result<Balance, PayError>>),
    Redeemable(oneshot::Sender<Result<Option<SettlementTx>, SpendError>>),
    Settlement(oneshot::Sender<Option<SettlementTx>>),
}

/// A payment that was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayError {
    /// It was not even sent.
    #[error(transparent)]
    NotSent(#[from] ApplyError),
    /// The payee refused it.
    #[error("the payee refused the payment: {reason}")]
    Refused {
        /// Why.
        reason: Reason,
    },
    /// It was not sent: the payee is gone.
    #[error("the payee is not connected any more")]
    Disconnected,
    /// The payee may or may not have got it. Do not simply pay again: that adds to the sum. `paid` is what was signed
    /// in all; the next payment carries it along, whether this one arrived or not.
    #[error("the payee did not acknowledge {paid} in all: it is gone, or does not answer")]
    Unacknowledged {
        /// Cumulative, in satoshi.
        paid: Amount,
    },
}
