use std::future::Future;

use bitcoin::{Amount, FeeRate};

use super::chain::ChainError;
use crate::channel::{CpfpPackage, Raisable};

/// What it costs to get into the next blocks. [`BitcoindChain`](super::BitcoindChain) asks its node (`estimatesmartfee`).
///
/// Every future must be cancel safe, as that of a [`Chain`](super::Chain). An error is not serious: fees rise as the deadline
/// comes near, without an estimate as well.
pub trait Fees: Send + Sync + 'static {
    /// Returns the feerate with which a transaction gets into one of the next `blocks` blocks.
    fn feerate(&self, blocks: u32) -> impl Future<Output = Result<FeeRate, ChainError>> + Send;
}

/// How much a manager spends to get a settlement or a refund into a block: see
/// [`ChannelManagerBuilder::raise_fees`](super::ChannelManagerBuilder::raise_fees).
///
/// ```
/// use bitcoin::FeeRate;
/// use spilman::service::FeeBudget;
///
/// // No more than a tenth, and never more than 50 sat/vB.
/// let budget = FeeBudget {
///     percent: 10,
///     feerate: FeeRate::from_sat_per_kwu(12_500),
///     ..FeeBudget::default()
/// };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeBudget {
    /// The child pays at most this share of this side's output, in percent; 50 by default.
    pub percent: u64,
    /// Parent and child together pay at most this; 500 sat/vB by default.
    pub feerate: FeeRate,
    /// So many blocks before the other side could take the money, the feerate begins to rise towards what the budget allows,
    /// whatever the estimate says; 18 by default, half of the default closing margin.
    pub hurry: u32,
    /// How soon it shall be in a block where nothing presses; 144 blocks by default.
    pub patience: u32,
}

impl Default for FeeBudget {
    fn default() -> Self {
        Self {
            percent: 50,
            feerate: FeeRate::from_sat_per_kwu(125_000),
            hurry: 18,
            patience: 144,
        }
    }
}

impl FeeBudget {
    /// Returns in how many blocks it shall be in the chain: half of those that are left.
    pub(super) fn target(&self, blocks_left: Option<u32>) -> u32 {
        let blocks = blocks_left.map_or(self.patience, |left| self.patience.min(left / 2));
        // More than a week ahead no node has an estimate.
        blocks.clamp(1, 1_008)
    }

    /// Returns what the child may cost of an output with this value.
    pub(super) fn of(&self, value: Amount) -> Amount {
        Amount::from_sat(value.to_sat() / 100 * self.percent.min(100))
    }

    /// Returns the feerate that a child should bring both to; `None` if what is broadcast pays enough. `most` is what the
    /// budget allows.
    pub(super) fn feerate(
        &self,
        raisable: &Raisable,
        estimate: Option<FeeRate>,
        most: FeeRate,
    ) -> Option<FeeRate> {
        let alone = raisable.feerate_alone();
        let most = most.min(self.feerate);
        let wanted = estimate
            .unwrap_or(alone)
            .max(self.hurried(raisable, alone, most))
            .min(most);
        let now = raisable.raised.as_ref().map_or(alone, CpfpPackage::feerate);
        // A node takes a replacement only if it pays noticeably more, and each costs the signer work.
        let step = match (&raisable.raised, raisable.blocks_left) {
            (None, _) | (_, Some(0)) => 1,
            _ => (now.to_sat_per_kwu() / 8).max(FeeRate::BROADCAST_MIN.to_sat_per_kwu()),
        };
        let enough = now.to_sat_per_kwu().saturating_add(step);
        (wanted.to_sat_per_kwu() >= enough).then_some(wanted)
    }

    /// Rises in a straight line from what the parent pays alone to what the budget allows.
    fn hurried(&self, raisable: &Raisable, alone: FeeRate, most: FeeRate) -> FeeRate {
        let left = raisable.blocks_left.unwrap_or(self.hurry).min(self.hurry);
        let passed = u64::from(self.hurry - left);
        let more = most.to_sat_per_kwu().saturating_sub(alone.to_sat_per_kwu());
        let more = more.saturating_mul(passed) / u64::from(self.hurry.max(1));
        FeeRate::from_sat_per_kwu(alone.to_sat_per_kwu().saturating_add(more))
    }
}
