//! Views of the chain, put together from several calls.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::absolute::Height;
use bitcoin::{Block, BlockHash, OutPoint, Transaction};

use super::calls::{ChainInfo, Failure, Rpc};
use crate::channel::{ChainView, SeenSpend, Tip};
use crate::service::chain::Watched;

/// A poll that a new block interrupts begins anew, this many times. Only a node that is catching up with the network has
/// new blocks faster than that, and what it shows is out of date anyway.
const ATTEMPTS: u32 = 10;

/// What was searched in that time is remembered, and the next view goes on from there.
const SEARCH: Duration = Duration::from_secs(10);

/// How far below the tip at its opening a channel's spend may be: as deep as a reorganisation may have gone meanwhile.
const REORG: u32 = 6;

/// The node keeps getting new blocks.
#[derive(Debug, thiserror::Error)]
#[error("the tip changed during each of {ATTEMPTS} polls: the node is still catching up")]
struct Unsettled;

/// The spend may be further down.
#[derive(Debug, thiserror::Error)]
#[error("still searching the blocks for the spend, down to height {from}: at height {height} so far")]
struct Searching {
    height: u32,
    from: u32,
}

/// A node, and what is known of its blocks.
pub(super) struct Viewer {
    pub rpc: Rpc,
    /// No block below this can have anything to do with a channel of which nothing is said: it is the first tip that was seen.
    from_height: OnceLock<u32>,
    /// How long blocks are searched in one view.
    pub search: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The best block to which the next two belong: a view of another one has no use for them.
    best: Option<BlockHash>,
    /// Funding outputs that no block spends, with the height below them.
    unspent: HashMap<OutPoint, u32>,
    /// Ends of the chain, by height.
    tips: BTreeMap<u32, Tip>,
    searched: HashMap<BlockHash, Searched>,
    /// How many outputs all of `searched` name.
    innocent: usize,
}

/// More than this is forgotten, and read again.
const INNOCENT: usize = 1_000_000;

impl Known {
    fn remember(&mut self, block: BlockHash, parent: BlockHash, innocent: impl Iterator<Item = OutPoint>) {
        if self.innocent > INNOCENT {
            self.searched.clear();
            self.innocent = 0;
        }
        let searched = self.searched.entry(block).or_insert_with(|| Searched {
            parent,
            innocent: HashSet::new(),
        });
        for output in innocent {
            self.innocent += usize::from(searched.innocent.insert(output));
        }
    }
}

/// A block that was read.
struct Searched {
    parent: BlockHash,
    /// What it does not spend.
    innocent: HashSet<OutPoint>,
}

impl Viewer {
    pub fn new(rpc: Rpc) -> Self {
        Self {
            rpc,
            from_height: OnceLock::new(),
            search: SEARCH,
            known: Mutex::default(),
        }
    }

    pub fn tip(&self) -> Result<Tip, Failure> {
        self.info()?.tip()
    }

    fn info(&self) -> Result<ChainInfo, Failure> {
        let info = self.rpc.chain_info()?;
        self.from_height.get_or_init(|| info.height);
        Ok(info)
    }

    pub fn view(&self, watched: Watched) -> Result<ChainView, Failure> {
        // One is asked for.
        self.views(&[watched])?.swap_remove(0)
    }

    /// Returns what became of each of these outputs, all at the same tip.
    pub fn views(&self, watched: &[Watched]) -> Result<Vec<Result<ChainView, Failure>>, Failure> {
        let mut info = self.info()?;
        let until = Instant::now() + self.search;
        for _ in 0..ATTEMPTS {
            let views = self.poll(watched, &info, until)?;
            // The pieces fit together only if no block came between them.
            let now = self.info()?;
            if now.hash == info.hash {
                return Ok(views);
            }
            info = now;
        }
        Err(Unsettled.into())
    }

    fn poll(
        &self,
        watched: &[Watched],
        info: &ChainInfo,
        until: Instant,
    ) -> Result<Vec<Result<ChainView, Failure>>, Failure> {
        let unspent = self.unspent(watched, info)?;
        let mut spends = self.spends_in_mempool(watched)?;
        let missing = self.missing(watched, &unspent, &spends)?;
        let failed = self.search_blocks(missing, (info, until), &mut spends);
        let views = watched.iter().map(|watched| {
            // Both sides of a channel may ask.
            let spend = spends.get(&watched.funding).cloned();
            match &failed {
                Some((error, unfound)) if unfound.contains(&watched.funding) => Err(Arc::clone(error).into()),
                _ => self.put_together(unspent.get(&watched.funding).copied(), spend, info),
            }
        });
        Ok(views.collect())
    }

    /// `below` is the height below the funding transaction, if no block spends its output.
    fn put_together(
        &self,
        below: Option<u32>,
        spend: Option<SeenSpend>,
        info: &ChainInfo,
    ) -> Result<ChainView, Failure> {
        // A spend in a block has at most the confirmations of what it spends.
        let in_block = spend.as_ref().map_or(0, |spend| spend.confirmations);
        let below = below.or_else(|| info.height.checked_sub(in_block).filter(|_| in_block > 0));
        Ok(ChainView {
            tip: info.tip()?,
            confirmations: below.map_or(0, |below| info.height - below),
            funding_parent: below.map(|below| self.tip_at(below, info)).transpose()?,
            spend,
        })
    }

    /// The chain's end below the block with the funding transaction. What is spent in a block waits for no lock, so the
    /// block of the spend does as well.
    fn tip_at(&self, height: u32, info: &ChainInfo) -> Result<Tip, Failure> {
        if let Some(tip) = self.known_of(info).tips.get(&height) {
            return Ok(*tip);
        }
        let tip = self.rpc.tip_at(height)?;
        self.known_of(info).tips.insert(height, tip);
        Ok(tip)
    }

    /// Returns the outputs that no block spends, with the height below each. The node is asked once for each best block.
    fn unspent(&self, watched: &[Watched], info: &ChainInfo) -> Result<HashMap<OutPoint, u32>, Failure> {
        let mut unspent = HashMap::new();
        let mut unknown = Vec::new();
        let known = self.known_of(info);
        for Watched { funding, .. } in watched {
            match known.unspent.get(funding) {
                Some(below) => drop(unspent.insert(*funding, *below)),
                None => unknown.push(*funding),
            }
        }
        drop(known);
        let found = self.rpc.confirmations(&unknown)?;
        let below = found
            .into_iter()
            .map(|confirmations| info.height.checked_sub(confirmations?));
        let found = unknown.into_iter().zip(below);
        let found = found.filter_map(|(funding, below)| Some((funding, below?)));
        unspent.extend(found);
        self.known_of(info).unspent.extend(&unspent);
        Ok(unspent)
    }

    fn spends_in_mempool(&self, watched: &[Watched]) -> Result<HashMap<OutPoint, SeenSpend>, Failure> {
        let outpoints: Vec<_> = watched.iter().map(|watched| watched.funding).collect();
        let spends = self.rpc.mempool_spends(&outpoints)?;
        let unconfirmed = |tx| SeenSpend { tx, confirmations: 0 };
        Ok(spends
            .into_iter()
            .map(|(funding, tx)| (funding, unconfirmed(tx)))
            .collect())
    }

    /// Returns the outputs that are in no block and no mempool, or whose spend is in a block.
    fn missing(
        &self,
        watched: &[Watched],
        unspent: &HashMap<OutPoint, u32>,
        spends: &HashMap<OutPoint, SeenSpend>,
    ) -> Result<Vec<Watched>, Failure> {
        let is_sure = |funding| unspent.contains_key(funding) || spends.contains_key(funding);
        let unsure = watched.iter().filter(|watched| !is_sure(&watched.funding));
        let unsure: Vec<_> = unsure.copied().collect();
        let outpoints: Vec<_> = unsure.iter().map(|watched| watched.funding).collect();
        let are_unspent = self.rpc.are_unspent(&outpoints)?;
        let missing = unsure.into_iter().zip(are_unspent);
        Ok(missing
            .filter(|(_, is_unspent)| !is_unspent)
            .map(|(watched, _)| watched)
            .collect())
    }

    /// Searches for the spends of these outputs from the tip downwards, reading each block once. The walk follows the blocks'
    /// own links, so that it stays on one branch. A block that cannot be read ends it, for those that it may concern, and so does the time.
    fn search_blocks(
        &self,
        mut missing: Vec<Watched>,
        (info, until): (&ChainInfo, Instant),
        spends: &mut HashMap<OutPoint, SeenSpend>,
    ) -> Option<(Arc<dyn std::error::Error + Send + Sync>, HashSet<OutPoint>)> {
        let first_seen = self.from_height.get().copied().unwrap_or(info.height);
        let from = |watched: &Watched| {
            let since = watched.since.map(Height::to_consensus_u32);
            since.map_or(first_seen, |since| since.saturating_sub(REORG))
        };
        let mut hash = info.hash;
        for height in (0..=info.height).rev() {
            missing.retain(|watched| from(watched) <= height && !spends.contains_key(&watched.funding));
            if missing.is_empty() {
                break;
            }
            if let Some(parent) = self.parent_of_innocent(hash, &missing) {
                hash = parent;
                continue;
            }
            let block = if Instant::now() < until {
                self.rpc.block(hash)
            } else {
                let from = missing.iter().map(from).min().unwrap_or(height);
                Err(Searching { height, from }.into())
            };
            let block = match block {
                Ok(block) => block,
                Err(error) => {
                    let unfound = missing.into_iter().map(|watched| watched.funding);
                    return Some((error.into(), unfound.collect()));
                }
            };
            let parent = block.header.prev_blockhash;
            let found = spends_in(block, &missing);
            let innocent = missing.iter().map(|watched| watched.funding);
            let innocent = innocent.filter(|funding| !found.contains_key(funding));
            self.known().remember(hash, parent, innocent);
            let confirmations = info.height - height + 1;
            let found = found.into_iter();
            spends.extend(found.map(|(funding, tx)| (funding, SeenSpend { tx, confirmations })));
            hash = parent;
        }
        None
    }

    /// Returns the parent of a block that is known to spend none of these.
    fn parent_of_innocent(&self, block: BlockHash, missing: &[Watched]) -> Option<BlockHash> {
        let known = self.known();
        let searched = known.searched.get(&block)?;
        let is_innocent = |watched: &Watched| searched.innocent.contains(&watched.funding);
        missing.iter().all(is_innocent).then_some(searched.parent)
    }

    /// Returns what is known, with nothing in it of another best block.
    fn known_of(&self, info: &ChainInfo) -> MutexGuard<'_, Known> {
        let mut known = self.known();
        if known.best.replace(info.hash) != Some(info.hash) {
            known.unspent.clear();
            known.tips.clear();
        }
        known
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Entries are inserted whole, whatever became of the thread that inserted last.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spends_in(block: Block, missing: &[Watched]) -> HashMap<OutPoint, Transaction> {
    let missing: HashSet<_> = missing.iter().map(|watched| watched.funding).collect();
    let mut found = HashMap::new();
    for tx in block.txdata {
        let spent = tx.input.iter().map(|input| input.previous_output);
        let spent = spent.filter(|spent| missing.contains(spent)).collect::<Vec<_>>();
        found.extend(spent.into_iter().map(|spent| (spent, tx.clone())));
    }
    found
}
