//! Moving a chain through height and time.

use std::fmt;

use super::best_block::BestBlock;
use super::error::{Error, InvalidRequest};
use super::lock::{counted, Lock, LockRequirement};
use super::miner::{BlockContent, MinedBlock, Miner, Parent};
use super::node::Node;

/// The seconds by which mock time moves with every block.
pub const BLOCK_INTERVAL: u32 = 600;

/// The number of empty blocks mined with one setting of the clock, so that none is more than two hours from it: as far
/// off as a block may be.
const AT_ONCE: u32 = 12;
/// The most blocks that one call mines.
const MOST_BLOCKS: u32 = 10_000;
/// A crossing of more blocks than this is not told block by block.
const TOLD: usize = 12;
/// The last time that is certain to be crossed before the 32 bits of a header's time are full, in 2106.
const LAST_TIME: u32 = u32::MAX - 100 * BLOCK_INTERVAL;

/// Moves height, mock time and median time past together.
///
/// One step is: the node's mock time advances by [`BLOCK_INTERVAL`], and a block of that time is mined with what is
/// in the mempool.
///
/// [`Lock`] says when a lock is final.
///
/// To cross a time lock, mock time jumps and some six blocks are mined until the median has followed, rather than
/// one block for every ten minutes. A jump of more than 14 days makes the node drop its mempool, as
/// such a time does in reality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainClock {
    miner: Miner,
}

impl ChainClock {
    /// Creates a clock that mines with this miner.
    #[must_use]
    pub fn new(miner: Miner) -> Self {
        Self { miner }
    }

    /// Returns the miner, to mine without moving time.
    pub fn miner(&self) -> &Miner {
        &self.miner
    }

    /// Takes one step, with the given content.
    ///
    /// # Errors
    ///
    /// As [`Miner::mine`].
    pub fn step(&self, node: &Node, content: BlockContent) -> Result<MinedBlock, Error> {
        let _turn = node.turn()?;
        self.step_no_earlier_than(node, 0, content)
    }

    /// Takes `count` steps. Once the mempool is empty, the rest is mined without polling it again.
    ///
    /// # Errors
    ///
    /// As [`Miner::mine`].
    pub fn advance(&self, node: &Node, count: u32) -> Result<Vec<MinedBlock>, Error> {
        let _turn = node.turn()?;
        self.steps(node, count)
    }

    fn steps(&self, node: &Node, count: u32) -> Result<Vec<MinedBlock>, Error> {
        let mut blocks = Vec::new();
        let mut left = count;
        while left > 0 && !node.mempool()?.is_empty() {
            blocks.push(self.step_no_earlier_than(node, 0, BlockContent::Mempool)?);
            left -= 1;
        }
        blocks.extend(self.empty_steps(node, left)?);
        Ok(blocks)
    }

    /// Takes `count` steps, without transactions.
    ///
    /// # Errors
    ///
    /// As [`Miner::mine`].
    pub fn advance_empty(&self, node: &Node, count: u32) -> Result<Vec<MinedBlock>, Error> {
        let _turn = node.turn()?;
        self.empty_steps(node, count)
    }

    fn empty_steps(&self, node: &Node, count: u32) -> Result<Vec<MinedBlock>, Error> {
        let mut mined = Vec::new();
        if count == 0 {
            return Ok(mined);
        }
        let tip = node.tip()?;
        let mut parent = Parent::from(tip);
        let mut now = node.mock_time().max(tip.mtp);
        let mut left = count;
        while left > 0 {
            let some = left.min(AT_ONCE);
            let last = later(now, some * BLOCK_INTERVAL)?;
            let times = (1..=some).map(|number| now + number * BLOCK_INTERVAL);
            let blocks = self.miner.build_empty(node.segwit_height(), parent, times)?;
            (left, now) = (left - some, last);
            node.set_mock_time(now)?;
            node.extend_chain(&blocks)?;
            mined.extend(
                (parent.height + 1..)
                    .zip(&blocks)
                    .map(|(height, block)| MinedBlock::new(height, block)),
            );
            parent = mined.last().map_or(parent, Parent::from);
        }
        Ok(mined)
    }

    /// Mines until a transaction with this lock is final for the next block, and not one block more.
    ///
    /// A lock that is already final takes no block. After a jump over a time lock, the median time past is just
    /// what is needed. Of a spend that is locked by height and by time, the height is crossed first.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::LockTooFar`] if a height is more than 10,000 blocks away or a time after 2105,
    /// [`InvalidRequest::CoinMissing`] or [`InvalidRequest::CoinUnconfirmed`] if there is no block from which a relative lock
    /// counts, or as [`Miner::mine`].
    pub fn make_final(&self, node: &Node, lock: impl Into<Lock>) -> Result<ClockAdvance, Error> {
        let _turn = node.turn()?;
        let (lock, from) = (lock.into(), node.tip()?);
        let needs = crossable(&lock, node, from)?;
        let mut blocks = self.climb(node, from, needs.height.unwrap_or(0))?;
        let first_final = needs.mtp.unwrap_or(0);
        let mut to = node.tip()?;
        while to.mtp < first_final {
            blocks.push(self.step_no_earlier_than(node, first_final, BlockContent::Mempool)?);
            to = node.tip()?;
        }
        Ok(ClockAdvance {
            needs,
            blocks,
            from,
            to,
        })
    }

    /// Mines up to a state in which a transaction with this lock is not final, but the next block, of whatever later
    /// time, makes it so.
    ///
    /// For a height, the tip is then one block before the one that is needed. For a time, the median time past is
    /// one second less than needed. A spend that is locked by height and by time is stopped before the height, if its
    /// time has passed by then or passes with the next block, and otherwise before the time.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::LockPassed`] if the lock is already final, [`InvalidRequest::NotLocked`] if a transaction has none, and as
    /// [`ChainClock::make_final`].
    pub fn stop_before(&self, node: &Node, lock: impl Into<Lock>) -> Result<ClockAdvance, Error> {
        let _turn = node.turn()?;
        let (lock, from) = (lock.into(), node.tip()?);
        let needs = crossable(&lock, node, from)?;
        match lock {
            Lock::Spend { txid, .. } if needs == LockRequirement::default() => {
                return Err(InvalidRequest::NotLocked { txid }.into());
            }
            _ if needs.are_met_by(&from) => return Err(InvalidRequest::LockPassed { lock, tip: from }.into()),
            _ => {}
        }
        let height = needs.height.unwrap_or(0);
        let mut blocks = self.climb(node, from, height.saturating_sub(1))?;
        let tip = node.tip()?;
        if let Some(mtp) = needs.mtp {
            let passes_with_the_height = tip.height < height
                && median_after(&node.recent_times(&tip)?, tip.mtp.saturating_add(1)) >= mtp;
            if !passes_with_the_height {
                blocks.extend(self.bring_median_to(node, tip, mtp - 1)?);
            }
        }
        Ok(ClockAdvance {
            needs,
            blocks,
            from,
            to: node.tip()?,
        })
    }

    /// Mines up to this height.
    fn climb(&self, node: &Node, from: BestBlock, height: u32) -> Result<Vec<MinedBlock>, Error> {
        self.steps(node, height.saturating_sub(from.height))
    }

    /// Mines one block at exactly `time`, unless there is one, then later ones until one more would lift the
    /// median above it. The block at `time` has then become the median.
    fn bring_median_to(&self, node: &Node, from: BestBlock, time: u32) -> Result<Vec<MinedBlock>, Error> {
        let mut blocks = Vec::new();
        let mut tip = from;
        loop {
            let times = node.recent_times(&tip)?;
            if !times.contains(&time) {
                // It may be earlier than the tip, if mock time was set past it; the consensus rules allow that.
                node.set_mock_time(node.mock_time().max(time))?;
                let parent = Parent::from(tip);
                let block = self
                    .miner
                    .mine_on(node, parent, time, BlockContent::Mempool, b"")?;
                blocks.push(block);
            } else if median_after(&times, u32::MAX) > time {
                return Ok(blocks);
            } else {
                blocks.push(self.step_no_earlier_than(node, time + 1, BlockContent::Mempool)?);
            }
            tip = node.tip()?;
        }
    }

    /// A step that jumps to `time` if that is further. It is the caller's turn.
    pub(super) fn step_no_earlier_than(
        &self,
        node: &Node,
        time: u32,
        content: BlockContent,
    ) -> Result<MinedBlock, Error> {
        let tip = node.tip()?;
        // Blocks may be ahead of the clock, by as much as two hours.
        let next = later(node.mock_time().max(tip.mtp), BLOCK_INTERVAL)?.max(time);
        node.set_mock_time(next)?;
        self.miner.mine_on(node, Parent::from(tip), next, content, b"")
    }
}

/// A time that many seconds after another.
pub(super) fn later(now: u32, seconds: u32) -> Result<u32, InvalidRequest> {
    now.checked_add(seconds)
        .ok_or(InvalidRequest::TimeOver { now, seconds })
}

fn crossable(lock: &Lock, node: &Node, from: BestBlock) -> Result<LockRequirement, Error> {
    let needs = lock.requirement(node)?;
    let too_high = needs
        .height
        .is_some_and(|height| height.saturating_sub(from.height) > MOST_BLOCKS);
    if too_high || needs.mtp.is_some_and(|mtp| mtp > LAST_TIME) {
        return Err(InvalidRequest::LockTooFar {
            lock: lock.clone(),
            tip: from,
        }
        .into());
    }
    Ok(needs)
}

/// The median time past once a block of time `next` follows blocks of these times.
fn median_after(times: &[u32], next: u32) -> u32 {
    let skipped = (times.len() + 1).saturating_sub(11);
    let mut last: Vec<u32> = times[skipped..].iter().copied().chain([next]).collect();
    last.sort_unstable();
    last[last.len() / 2]
}

/// The blocks and times that it took to cross a lock, or to stop before it.
///
/// ```text
/// needs height 104; 1 block: 103 at 1700001200;
/// from height 102, time 1700000600, median time past 1699997600
/// to height 103, time 1700001200, median time past 1699998200
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockAdvance {
    /// What a tip needs for the lock to be final.
    pub needs: LockRequirement,
    /// The blocks mined, with their heights and times.
    pub blocks: Vec<MinedBlock>,
    /// The tip before.
    pub from: BestBlock,
    /// The tip after.
    pub to: BestBlock,
}

impl fmt::Display for ClockAdvance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            needs,
            blocks,
            from,
            to,
        } = self;
        write!(f, "needs {needs}; ")?;
        let told = |block: &MinedBlock| format!("{} at {}", block.height, block.time);
        match &blocks[..] {
            [] => return write!(f, "no block; at {to}"),
            [first, .., last] if blocks.len() > TOLD => {
                write!(f, "{}: {} … {}", counted(blocks.len()), told(first), told(last))?;
            }
            _ => {
                let all: Vec<_> = blocks.iter().map(told).collect();
                write!(f, "{}: {}", counted(blocks.len()), all.join(", "))?;
            }
        }
        write!(f, "; from {from} to {to}")
    }
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
