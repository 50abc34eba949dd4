//! One view of the chain, put together from several calls.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bitcoin::{Block, BlockHash, OutPoint, Transaction};

use super::calls::{ChainInfo, Failure, Rpc};
use crate::channel::{ChainView, SeenSpend, Tip};

/// A poll that a new block interrupts begins anew, this many times. Only a node that is catching up with the network has
/// new blocks faster than that, and what it shows is out of date anyway.
const ATTEMPTS: u32 = 10;

/// The node keeps getting new blocks.
#[derive(Debug, thiserror::Error)]
#[error("the tip changed during each of {ATTEMPTS} polls: the node is still catching up")]
struct Unsettled;

/// A node, and what is known of its blocks.
pub(super) struct Viewer {
    pub rpc: Rpc,
    /// No block below this can have anything to do with a channel: it is the first tip that was seen, unless the user
    /// says otherwise.
    pub from_height: OnceLock<u32>,
    /// Blocks that do not spend the funding output, each with its parent.
    without_spend: Mutex<HashMap<OutPoint, HashMap<BlockHash, BlockHash>>>,
}

impl Viewer {
    pub fn new(rpc: Rpc) -> Self {
        Self {
            rpc,
            from_height: OnceLock::new(),
            without_spend: Mutex::default(),
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

    pub fn view(&self, funding: OutPoint) -> Result<ChainView, Failure> {
        let mut info = self.info()?;
        for _ in 0..ATTEMPTS {
            let view = self.poll(funding, &info)?;
            // The pieces fit together only if no block came between them.
            let now = self.info()?;
            if now.hash == info.hash {
                return Ok(view);
            }
            info = now;
        }
        Err(Unsettled.into())
    }

    fn poll(&self, funding: OutPoint, info: &ChainInfo) -> Result<ChainView, Failure> {
        let unspent = self.rpc.confirmations(funding)?;
        let spend = self.spend(funding, unspent.is_some(), info)?;
        // A spend in a block has at most the confirmations of what it spends.
        let confirmations = unspent.or(spend.as_ref().map(|spend| spend.confirmations));
        let confirmations = confirmations.unwrap_or(0);
        Ok(ChainView {
            tip: info.tip()?,
            confirmations,
            funding_parent: self.parent(confirmations, info)?,
            spend,
        })
    }

    /// The chain's end below the block with the funding transaction. What is spent in a block waits for no lock, so the
    /// block of the spend does as well.
    fn parent(&self, confirmations: u32, info: &ChainInfo) -> Result<Option<Tip>, Failure> {
        let height = info.height.checked_sub(confirmations);
        let height = height.filter(|_| confirmations > 0);
        height.map(|height| self.rpc.tip_at(height)).transpose()
    }

    /// What spends the output, in the mempool or in a block.
    fn spend(
        &self,
        funding: OutPoint,
        in_chain: bool,
        info: &ChainInfo,
    ) -> Result<Option<SeenSpend>, Failure> {
        if let Some(tx) = self.rpc.mempool_spend(funding)? {
            return Ok(Some(SeenSpend { tx, confirmations: 0 }));
        }
        if in_chain || self.rpc.is_unspent(funding)? {
            return Ok(None);
        }
        self.spend_in_block(funding, info)
    }

    /// Searches for the spend from the tip downwards. The walk follows the blocks' own links, so that it stays on one branch.
    fn spend_in_block(&self, funding: OutPoint, info: &ChainInfo) -> Result<Option<SeenSpend>, Failure> {
        let from = self.from_height.get().copied().unwrap_or(info.height);
        let mut hash = info.hash;
        for height in (from..=info.height).rev() {
            let known = self
                .without_spend()
                .entry(funding)
                .or_default()
                .get(&hash)
                .copied();
            if let Some(parent) = known {
                hash = parent;
                continue;
            }
            let block = self.rpc.block(hash)?;
            let parent = block.header.prev_blockhash;
            if let Some(tx) = spend_in(block, funding) {
                let confirmations = info.height - height + 1;
                return Ok(Some(SeenSpend { tx, confirmations }));
            }
            self.without_spend()
                .entry(funding)
                .or_default()
                .insert(hash, parent);
            hash = parent;
        }
        Ok(None)
    }

    fn without_spend(&self) -> MutexGuard<'_, HashMap<OutPoint, HashMap<BlockHash, BlockHash>>> {
        // Entries are inserted whole, whatever became of the thread that inserted last.
        self.without_spend.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spend_in(block: Block, funding: OutPoint) -> Option<Transaction> {
    let spends = |tx: &Transaction| tx.input.iter().any(|input| input.previous_output == funding);
    block.txdata.into_iter().find(spends)
}
