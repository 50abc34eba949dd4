use bitcoin::{Amount, FeeRate};

use crate::channel::limits::Limits;
use crate::channel::lock::Tip;
use crate::channel::stage::Stage;

/// The life of a channel after the opening. Several states are one [`Stage`] to the user.
///
/// Whether the payee has the funding transaction is not part of it: see [`Custody`]. The user may close, and a payee may
/// say ready, before this side's node has answered, so that most states are possible on both sides of the hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The payee has not requested the funding transaction (`bond`).
    Protected,
    /// The payee has not said that payments count.
    AwaitingReady,
    /// Payments count.
    Open,
    /// Payments counted until the funding transaction lost its confirmations.
    Suspended,
    /// The payee was asked to close with one signature, and has not answered.
    AwaitingCooperativeClose,
    /// A settlement is signed, the funding output is spent, or only the refund is left.
    Closing,
    /// The spend is confirmed, or the channel was abandoned.
    Closed,
    /// The funding transaction never left this side, as far as is known.
    Abandoned,
}

impl State {
    pub const fn stage(self) -> Stage {
        match self {
            Self::Protected => Stage::Protected,
            Self::AwaitingReady | Self::Suspended => Stage::AwaitingFunding,
            Self::Open => Stage::Open,
            Self::AwaitingCooperativeClose | Self::Closing => Stage::Closing,
            Self::Closed | Self::Abandoned => Stage::Closed,
        }
    }

    /// Ends payments. An unanswered request for a cooperative close stays one.
    pub fn start_closing(&mut self) {
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
    pub offered: Tip,
    /// The user was told that the payee withholds it.
    pub overdue: bool,
}
