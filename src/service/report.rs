use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, Transaction};

use crate::channel::{
    ApplyError, CpfpPackage, Expiry, FundingTx, Notice, Outcome, RefundTx, Refusal, SpendRole, Stage, Tip,
};

use super::chain::ChainError;
use super::connection::ConnectionError;
use super::handle::BumpError;
use super::open_error::OpenError;
use crate::store::{StoreError, StoredChannel};

/// What a party reports to its user, in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Report<'a> {
    /// The payer has the signed funding transaction.
    FundingHeld(&'a FundingTx),
    /// The payer's refund is complete and verified.
    Refundable(&'a RefundTx),
    /// The store has the new channel, and nothing that depends on it has left yet. The place to write a payer's
    /// [`RefundBackup`](crate::store::RefundBackup).
    Stored(&'a StoredChannel),
    /// A transaction was broadcast; `rejected` has the reason if it was not accepted.
    Broadcast {
        /// What it is for.
        role: SpendRole,
        /// The transaction.
        tx: &'a Transaction,
        /// The node's words.
        rejected: Option<&'a str>,
    },
    /// A parent with its child was broadcast; `rejected` has the reason if they were not accepted.
    BroadcastPackage {
        /// What the parent is for.
        role: SpendRole,
        /// Both.
        package: &'a CpfpPackage,
        /// The node's words.
        rejected: Option<&'a str>,
    },
    /// A notice of the state machine.
    Notice(&'a Notice),
    /// The peer's message was refused, and the connection ended.
    Refused(&'a Refusal),
    /// The peer sent bytes that are not a valid message, and the connection ended.
    Garbled(&'a ConnectionError),
    /// The peer disconnected. The channel still settles or refunds.
    Disconnected,
    /// A peer proposed a channel, and it was not opened.
    NotOpened(&'a OpenError),
    /// A child was due that pays for this side's settlement or refund, and there is none. It is tried again.
    NotRaised(&'a BumpError),
    /// Both sides go on with the channel, on a new connection.
    Resumed,
    /// An event could not be applied; not the peer's fault. The state is unchanged.
    Failed(&'a ApplyError),
    /// The [`Chain`](super::Chain) sends no more news; this side still polls it.
    NoMoreNews,
    /// This side's view of the chain failed; it is polled again shortly.
    ChainFailed(&'a ChainError),
    /// The store failed, and this process has lost the channel. It sends and signs nothing more, and takes no more payments.
    /// It watches on: a payer refunds at the lock, and a payee settles from the closing margin on, unless another process
    /// has taken the channel over.
    StoreFailed(&'a StoreError),
    /// No new block was seen for a long time: the node or server may be stuck, or withhold blocks. Reported once for
    /// each tip; no decision depends on it.
    StaleTip {
        /// The latest tip seen.
        tip: Tip,
        /// The time since it was seen, by this machine's monotonic clock.
        unchanged: Duration,
    },
}

/// Receives the reports. Called from the party's task, so it should return quickly. If it panics, the party goes on, and
/// [`Status::fault`] says so.
pub type Observer = Arc<dyn Fn(Report<'_>) + Send + Sync>;

/// Returns an observer that ignores all reports.
#[must_use]
pub fn no_observer() -> Observer {
    Arc::new(|_| {})
}

/// The status of a party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The channel's stage.
    pub stage: Stage,
    /// The total so far: signed (payer) or accepted (payee).
    pub paid: Amount,
    /// The lock at which this side acts without its peer: a payee settles, a payer refunds. `None` once the channel is closed,
    /// and for a relative lock before the funding transaction is confirmed.
    pub deadline: Option<Expiry>,
    /// Whether the peer is connected.
    pub connected: bool,
    /// Whether the last poll of the funding output failed. A blind party still acts on its locks if it knows the tip, and a
    /// blind payee acknowledges no payment.
    pub blind: bool,
    /// Messages received and processed on the latest connection.
    pub received: u64,
    /// Messages queued for the peer on the latest connection.
    pub sent: u64,
    /// The latest [`Chain::changes`](super::Chain::changes) that was processed.
    pub seen: u64,
    /// How the channel ended, once it has.
    pub outcome: Option<Outcome>,
    /// Panics of the observer, or of a subscriber of `tracing`, if there were any.
    pub fault: Option<ObserverPanic>,
    /// Why the store failed, if it did: see [`Report::StoreFailed`].
    pub store_failed: Option<String>,
    /// The message of the panic that ended the party's task, a bug in this crate: no one watches the channel any more.
    pub panicked: Option<String>,
}

/// The observer panicked. The report is lost; the channel goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObserverPanic {
    /// The number of panics.
    pub panics: u64,
    /// The message of the last one.
    pub message: String,
}
