use bitcoin::{Amount, FeeRate};

use crate::channel::durable::PayerPhase;
use crate::channel::limits::Limits;
use crate::channel::lock::Tip;
use crate::channel::stage::Stage;

impl PayerPhase {
    pub(super) const fn stage(self) -> Stage {
        match self {
            Self::Protected => Stage::Protected,
            Self::AwaitingReady | Self::Suspended => Stage::AwaitingFunding,
            Self::Open => Stage::Open,
            Self::AwaitingCooperativeClose | Self::Closing => Stage::Closing,
            Self::Closed | Self::Abandoned => Stage::Closed,
        }
    }

    /// Ends payments. An unanswered request for a cooperative close stays one.
    pub(super) fn start_closing(&mut self) {
        if *self != Self::AwaitingCooperativeClose {
            *self = Self::Closing;
        }
    }
}

/// Who can broadcast the funding transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Custody {
    /// This side alone.
    Kept,
    /// The payee as well, since this tip.
    HandedOver(Tip),
}

impl Custody {
    pub fn is_kept(self) -> bool {
        self == Self::Kept
    }

    /// The tip at which the payee got it.
    pub const fn handed_over(self) -> Option<Tip> {
        match self {
            Self::Kept => None,
            Self::HandedOver(since) => Some(since),
        }
    }

    /// For how many blocks the payee has had it.
    pub fn blocks_handed_over(self, tip: Tip) -> u32 {
        let height = |tip: Tip| tip.height.to_consensus_u32();
        match self {
            Self::Kept => 0,
            Self::HandedOver(since) => height(tip).saturating_sub(height(since)),
        }
    }
}

/// The totals of the channel.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    /// The highest that was signed.
    pub paid: Amount,
    /// `None` until the payee has acknowledged anything, the empty first payment of Example 7 included.
    pub acknowledged: Option<Amount>,
    /// The last that the payee requested, and that the user was told.
    pub requested: Option<Amount>,
}

/// What the limits of the opening decide later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promises {
    /// The most that a settlement may pay, if the payee wants it to confirm sooner.
    pub max_feerate: FeeRate,
    /// See [`Limits::broadcast_funding_after`].
    pub broadcast_funding_after: Option<u32>,
}

impl Promises {
    pub const fn of(limits: &Limits) -> Self {
        Self {
            max_feerate: limits.settlement_feerate,
            broadcast_funding_after: limits.broadcast_funding_after,
        }
    }
}

/// The chain in the last view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The latest tip, also without a view of the funding output.
    pub tip: Tip,
    /// The tip below the block with the funding transaction.
    pub funding_parent: Option<Tip>,
    /// The confirmations of the funding transaction.
    pub confirmations: u32,
}

/// The funding transaction, broadcast again until it is confirmed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rebroadcast {
    /// The tip at which the network last received it from here: once a block is enough.
    pub offered: Option<Tip>,
    /// The user was told that the payee withholds it.
    pub overdue: bool,
}
