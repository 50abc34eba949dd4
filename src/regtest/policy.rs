//! What a node relays, pinned so that all Core versions agree.

use bitcoin::{Amount, FeeRate};

/// Feerates below which a node does not relay.
///
/// Core's own defaults change (in version 30 the first two fell to a tenth), so the harness always
/// sets them. Blocks are not limited: what is in the mempool gets mined, whatever it pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The least feerate of a transaction (`-minrelaytxfee`).
    pub min_relay: FeeRate,
    /// How much more a replacement must pay (`-incrementalrelayfee`).
    pub incremental: FeeRate,
    /// The feerate at which an output is dust if spending it costs more than its worth (`-dustrelayfee`).
    pub dust: FeeRate,
}

impl Default for Policy {
    /// 1, 1 and 3 sat/vB: the defaults of Core up to 29.
    fn default() -> Self {
        let sat_per_vb = FeeRate::from_sat_per_vb_u32;
        Self {
            min_relay: sat_per_vb(1),
            incremental: sat_per_vb(1),
            dust: sat_per_vb(3),
        }
    }
}

impl Policy {
    /// Returns a policy that relays everything: for documents without fees and with payments of a few satoshis.
    #[must_use]
    pub fn free() -> Self {
        Self {
            min_relay: FeeRate::ZERO,
            incremental: FeeRate::ZERO,
            dust: FeeRate::ZERO,
        }
    }

    /// Returns a policy that relays nothing below this feerate, and is otherwise the default.
    #[must_use]
    pub fn at_least(min_relay: FeeRate) -> Self {
        Self {
            min_relay,
            ..Self::default()
        }
    }

    pub(super) fn arguments(self) -> Vec<String> {
        [
            ("-minrelaytxfee", self.min_relay),
            ("-incrementalrelayfee", self.incremental),
            ("-dustrelayfee", self.dust),
        ]
        .map(|(name, rate)| {
            // A feerate is counted in satoshi per 1000 weight units here, in bitcoin per 1000 vbytes there.
            let per_kvb = Amount::from_sat(rate.to_sat_per_kwu() * 4);
            format!("{name}={}", per_kvb.display_in(bitcoin::Denomination::Bitcoin))
        })
        .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feerates_are_told_in_bitcoin_per_1000_vbytes() {
        assert_eq!(
            Policy::default().arguments(),
            [
                "-minrelaytxfee=0.00001",
                "-incrementalrelayfee=0.00001",
                "-dustrelayfee=0.00003"
            ]
        );
        assert_eq!(
            Policy::free().arguments(),
            ["-minrelaytxfee=0", "-incrementalrelayfee=0", "-dustrelayfee=0"]
        );
    }
}
