use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::Amount;
use tokio::sync::oneshot;

use super::session::Attachment;
use crate::channel::{
    ApplyError, Balance, Event, Raisable, RefundTx, RefusalReason, SettlementTx, SpendError,
};

/// What a handle asks of its session.
pub(super) enum Request {
    // Boxed, because a channel of requests reserves room for several.
    Apply(Box<Event>, oneshot::Sender<Result<(), ApplyError>>),
    /// Goes on over a new connection.
    Attach(Box<Attachment>),
    Redeemable(oneshot::Sender<Result<Option<SettlementTx>, SpendError>>),
    Settlement(oneshot::Sender<Option<SettlementTx>>),
    Refund(oneshot::Sender<Option<RefundTx>>),
    /// What no block has yet.
    Raisable(oneshot::Sender<Option<Box<Raisable>>>),
}

/// What a payer's handle asks to be paid.
pub(super) struct Payment {
    pub sum: Sum,
    pub signed: Signed,
    pub reply: oneshot::Sender<Result<Balance, PayError>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Sum {
    /// This much more.
    More(Amount),
    /// Up to this total.
    UpTo(Amount),
}

/// Whether a payment was signed. The session signs while it holds the lock, and the handle gives up while it holds it: so
/// both know the same.
#[derive(Clone, Default)]
pub(super) struct Signed(Arc<Mutex<bool>>);

impl Signed {
    pub fn lock(&self) -> MutexGuard<'_, bool> {
        // A flag is whole whatever became of the thread that set it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A payment that was not acknowledged.
///
/// Payments are cumulative: a signature cannot be taken back, and `paid` is the total for which the payee may hold one. [`PayerHandle::pay_up_to`](super::PayerHandle::pay_up_to) with the total owed never pays twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayError {
    /// The payment is impossible: nothing was signed.
    #[error(transparent)]
    NotSent(#[from] ApplyError),
    /// The payee refused the payment, but keeps the signature.
    #[error("the payee refused the payment: {reason}; it may hold a signature for {paid} in total")]
    Refused {
        /// Why.
        reason: RefusalReason,
        /// The largest total that was signed.
        paid: Amount,
    },
    /// The payee is disconnected: nothing was signed.
    #[error("cannot pay: the payee is disconnected")]
    Disconnected,
    /// Nothing was signed, and nothing will be: too many payments were waiting before it, or the payer's node took too
    /// long.
    #[error("timed out before the payment was signed: the last signed total is {paid}")]
    NotSigned {
        /// The largest total that was signed.
        paid: Amount,
    },
    /// The payee may or may not have received the payment. Do not pay again: that adds to the total. The next payment
    /// includes it, whether this one arrived or not.
    #[error("the payee did not acknowledge {paid} in total: it disconnected or did not answer")]
    Unacknowledged {
        /// The largest total that was signed.
        paid: Amount,
    },
}
