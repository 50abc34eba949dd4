//! Moving a chain through height and time.

use bitcoin::absolute::{LockTime, Time};

use super::error::{Error, Misuse};
use super::miner::{BlockContent, MineParams, MinedBlock, Miner, Parent};
use super::node::{Node, Tip};

/// The seconds by which mock time moves with every block.
pub const BLOCK_INTERVAL: u32 = 600;

/// So many blocks one call mines at most.
const MOST_BLOCKS: u32 = 10_000;
/// The last time that is certain to be crossed before the 32 bits of a header's time are full, in 2106.
const LAST_TIME: u32 = u32::MAX - 100 * BLOCK_INTERVAL;

/// What it took to cross a lock, or to come up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// The number of blocks mined.
    pub blocks: u32,
    /// The tip before.
    pub from: Tip,
    /// The tip after.
    pub to: Tip,
}

/// Moves height, mock time and median time past together.
///
/// One step is: the node's mock time advances by [`BLOCK_INTERVAL`], and a block of that time is mined with what is
/// in the mempool.
///
/// Height and time become final differently, and both are judged for the *next* block (BIP 113 and
/// `nLockTime` in general):
///
/// | lock | final as soon as |
/// |---|---|
/// | height H | the tip's height is H, so that the next block has H + 1 |
/// | time T | the tip's median time past is greater than T; equal is not enough |
///
/// To cross a time lock, mock time jumps and some six blocks are mined until the median has followed, rather than
/// one block for every ten minutes. A jump of more than 14 days makes the node forget what is in its mempool, as
/// such a time does in reality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainClock {
    miner: Miner,
}

impl ChainClock {
    /// A clock that mines with this miner.
    #[must_use]
    pub fn new(miner: Miner) -> Self {
        Self { miner }
    }

    /// The miner, to mine without moving time.
    #[must_use]
    pub fn miner(&self) -> &Miner {
        &self.miner
    }

    /// One step, with the given content.
    ///
    /// # Errors
    ///
    /// As [`Miner::mine`].
    pub fn step(&self, node: &Node, content: BlockContent) -> Result<MinedBlock, Error> {
        self.step_no_earlier_than(node, 0, content)
    }

    /// So many steps.
    ///
    /// # Errors
    ///
    /// As [`Miner::mine`].
    pub fn advance(&self, node: &Node, count: u32) -> Result<Vec<MinedBlock>, Error> {
        let mut blocks = Vec::new();
        let mut parent = Parent::from(node.tip()?);
        for _ in 0..count {
            let time = node.mock_time() + BLOCK_INTERVAL;
            node.set_mock_time(time)?;
            let block = self
                .miner
                .mine_on(node, parent, time, BlockContent::Mempool, b"")?;
            parent = Parent::from(&block);
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// Mines until a transaction with this lock time is final for the next block, and not a block further.
    ///
    /// A lock that is final already takes no block. After a jump over a time lock, the median time past is
    /// `lock` + 1 second.
    ///
    /// # Errors
    ///
    /// [`Misuse::LockTooFar`] if a height is more than 10,000 blocks away or a time after
    /// 2105, or as [`Miner::mine`].
    pub fn make_final(&self, node: &Node, lock: LockTime) -> Result<Crossing, Error> {
        let from = node.tip()?;
        match lock {
            LockTime::Blocks(height) => {
                let blocks = height.to_consensus_u32().saturating_sub(from.height);
                self.cross(node, from, blocks, lock)
            }
            LockTime::Seconds(time) => {
                let first_final = crossable(lock, time, from)? + 1;
                let mut to = from;
                while to.mtp < first_final {
                    self.step_no_earlier_than(node, first_final, BlockContent::Mempool)?;
                    to = node.tip()?;
                }
                Ok(Crossing {
                    blocks: to.height - from.height,
                    from,
                    to,
                })
            }
        }
    }

    /// Mines up to the last state in which a transaction with this lock time is not final: the next block, of
    /// whatever later time, makes it so.
    ///
    /// For a height H, the tip is then at H − 1. For a time T, the median time past is then exactly T.
    ///
    /// # Errors
    ///
    /// [`Misuse::LockPassed`] if the lock time is final already, [`Misuse::LockTooFar`] if a height is more than
    /// 10,000 blocks away, or as [`Miner::mine`].
    pub fn stop_before(&self, node: &Node, lock: LockTime) -> Result<Crossing, Error> {
        let from = node.tip()?;
        match lock {
            LockTime::Blocks(height) => {
                let blocks = height.to_consensus_u32().checked_sub(from.height + 1);
                let blocks = blocks.ok_or(Misuse::LockPassed { lock, tip: from })?;
                self.cross(node, from, blocks, lock)
            }
            LockTime::Seconds(time) => {
                let time = crossable(lock, time, from)?;
                if from.mtp > time {
                    return Err(Misuse::LockPassed { lock, tip: from }.into());
                }
                self.bring_median_to(node, from, time)
            }
        }
    }

    fn cross(&self, node: &Node, from: Tip, blocks: u32, lock: LockTime) -> Result<Crossing, Error> {
        if blocks > MOST_BLOCKS {
            return Err(Misuse::LockTooFar { lock, tip: from }.into());
        }
        self.advance(node, blocks)?;
        Ok(Crossing {
            blocks,
            from,
            to: node.tip()?,
        })
    }

    /// Mines one block at exactly `time`, unless there is one, then later ones until one more would lift the
    /// median above it. The block at `time` has then become the median.
    fn bring_median_to(&self, node: &Node, from: Tip, time: u32) -> Result<Crossing, Error> {
        let mut to = from;
        loop {
            let times = node.recent_times(&to)?;
            if !times.contains(&time) {
                // It may be earlier than the tip, if mock time was set past it; the consensus rules allow that.
                node.set_mock_time(node.mock_time().max(time))?;
                self.mine_at(node, time, BlockContent::Mempool)?;
            } else if median_after(&times, u32::MAX) > time {
                return Ok(Crossing {
                    blocks: to.height - from.height,
                    from,
                    to,
                });
            } else {
                self.step_no_earlier_than(node, time + 1, BlockContent::Mempool)?;
            }
            to = node.tip()?;
        }
    }

    /// A step that jumps to `time` if that is further.
    fn step_no_earlier_than(
        &self,
        node: &Node,
        time: u32,
        content: BlockContent,
    ) -> Result<MinedBlock, Error> {
        let next = (node.mock_time() + BLOCK_INTERVAL).max(time);
        node.set_mock_time(next)?;
        self.mine_at(node, next, content)
    }

    fn mine_at(&self, node: &Node, time: u32, content: BlockContent) -> Result<MinedBlock, Error> {
        self.miner.mine(
            node,
            MineParams {
                content,
                time: Some(time),
                ..MineParams::default()
            },
        )
    }
}

fn crossable(lock: LockTime, time: Time, tip: Tip) -> Result<u32, Misuse> {
    let time = time.to_consensus_u32();
    if time <= LAST_TIME {
        Ok(time)
    } else {
        Err(Misuse::LockTooFar { lock, tip })
    }
}

/// The median time past once a block of time `next` follows blocks of these times.
fn median_after(times: &[u32], next: u32) -> u32 {
    let skipped = (times.len() + 1).saturating_sub(11);
    let mut last: Vec<u32> = times[skipped..].iter().copied().chain([next]).collect();
    last.sort_unstable();
    last[last.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::median_after;

    #[test]
    fn median_is_that_of_the_last_eleven() {
        assert_eq!(median_after(&[10], 30), 30, "of two, the later counts");
        assert_eq!(median_after(&[10, 20], 30), 20);
        let eleven: Vec<u32> = (1..=11).collect();
        assert_eq!(median_after(&eleven, 12), 7, "the first has dropped out");
        assert_eq!(median_after(&eleven, 0), 6, "order of arrival does not matter");
    }
}
