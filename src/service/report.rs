use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, Transaction};

use crate::channel::{
    ApplyError, CpfpPackage, FundingTx, Notice, Outcome, RefundTx, Refusal, SpendRole, Stage, Tip,
};

use super::chain::ChainError;
use super::connection::ConnectionError;

/// What a party tells its user while it works, in the order in which it happens.
#[derive(Debug)]
#[non_exhaustive]
pub enum Report<'a> {
    /// The payer holds the signed funding transaction.
    FundingHeld(&'a FundingTx),
    /// The payer's refund is complete and verified.
    Refundable(&'a RefundTx),
    /// A transaction was given to the network; `rejected` has the reason if it was not taken.
    Broadcast {
        /// What it is for.
        role: SpendRole,
        /// The transaction.
        tx: &'a Transaction,
        /// The node's words.
        rejected: Option<&'a str>,
    },
    /// A parent with its child was given to the network; `rejected` has the reason if they were not taken.
    BroadcastPackage {
        /// What the parent is for.
        role: SpendRole,
        /// Both.
        package: &'a CpfpPackage,
        /// The node's words.
        rejected: Option<&'a str>,
    },
    /// Something that the state machine wants the user to know.
    Notice(&'a Notice),
    /// The peer's message was refused, and the connection ended.
    Refused(&'a Refusal),
    /// The peer sent no message but rubbish, and the connection ended.
    Garbled(&'a ConnectionError),
    /// The peer is gone. The channel is not: it still settles or refunds by itself.
    Disconnected,
    /// An event could not be applied, by no fault of the peer's. The state is what it was.
    Failed(&'a ApplyError),
    /// The [`Chain`](super::Chain) will bring no more news; this side looks by itself from time to time.
    NoMoreNews,
    /// This side's own view of the chain failed; it is asked again in a moment.
    ChainFailed(&'a ChainError),
    /// No new block was seen for a long time: the node or server may be stuck, or withhold blocks. Reported once for
    /// each tip; no decision depends on it.
    StaleTip {
        /// The newest tip seen.
        tip: Tip,
        /// The time since it was seen, by this machine's monotonic clock.
        unchanged: Duration,
    },
}

/// Takes the reports. Called from the party's task, so it should not take long. If it panics, the party goes on, and
/// [`Status::fault`] says so.
pub type Observer = Arc<dyn Fn(Report<'_>) + Send + Sync>;

/// An observer that looks away.
#[must_use]
pub fn no_observer() -> Observer {
    Arc::new(|_| {})
}

/// Where a party stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The channel's stage.
    pub stage: Stage,
    /// The sum so far: signed (payer) or accepted (payee).
    pub paid: Amount,
    /// Whether the peer is connected.
    pub connected: bool,
    /// Whether the last look at the funding output failed. A blind party still acts on its locks as far as it knows the
    /// tip, and a blind payee acknowledges no payment.
    pub blind: bool,
    /// Messages received and dealt with.
    pub received: u64,
    /// Messages queued for the peer.
    pub sent: u64,
    /// The newest [`Chain::changes`](super::Chain::changes) that was dealt with.
    pub seen: u64,
    /// How the channel ended, once it has.
    pub outcome: Option<Outcome>,
    /// Panics of the observer, if there were any.
    pub fault: Option<ObserverPanic>,
    /// What the party's own task said when it panicked: nobody watches the channel any more. A defect of this crate.
    pub panicked: Option<String>,
}

/// The observer panicked. The report it was given is lost; the channel goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObserverPanic {
    /// How often.
    pub panics: u64,
    /// What it said the last time.
    pub message: String,
}
