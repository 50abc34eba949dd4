//! Replacing the last blocks of a chain.

use std::collections::HashSet;

use bitcoin::hashes::{sha256, Hash, HashEngine};
use bitcoin::{Amount, Block, BlockHash, Transaction, Txid};

use super::best_block::BestBlock;
use super::branch::{self, TxChange, TxChanges};
use super::clock::{later, ChainClock, BLOCK_INTERVAL};
use super::error::{Error, InvalidRequest};
use super::miner::{MinedBlock, Parent};
use super::node::peers::Peer;
use super::node::Node;
use super::resubmit::{mempool, resubmit, Below};
use super::verdict::Rejection;

/// The number of blocks whose transactions the node returns to its mempool when one call disconnects blocks.
const RETURNED: u32 = 10;

/// Replaces the last blocks. By default, every transaction stays at its height.
///
/// The new branch is one block longer than what it replaces. Its blocks have the times of those they replace, and
/// further ones step on as [`ChainClock`] does. They claim the subsidy and no fees, and their coinbases are tagged
/// with a hash of what they replace and of what is new, so that the same calls give the same blocks on every run.
///
/// However the branch comes about, the mempool is the same afterwards: what was in it or in the replaced blocks is in
/// it, unless the branch has it or the node rejects it at the new tip ([`ReorgResult::lost`]). What is below the
/// feerate of the node's policy returns as well, as it does when a node reorganises.
///
/// If a call fails, the node has the chain and the mempool that it had before; its mock time may have moved.
///
/// ```
/// use spilman::regtest::{CoinKind, Regtest};
/// use bitcoin::Amount;
///
/// let mut chain = Regtest::start()?;
/// let coin = chain.fund(Amount::from_sat(100_000), CoinKind::Segwit)?;
/// let txid = coin.outpoint.txid;
///
/// let reorg = chain.reorg(1).drop_tx(txid).apply()?;
/// assert_eq!((reorg.old.len(), reorg.new.len()), (1, 2));
/// assert_eq!(reorg.dropped, [coin.funding]);
/// assert_eq!(chain.node().mempool()?, [txid], "it is unconfirmed again");
/// # Ok::<(), spilman::regtest::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens until it is applied"]
pub struct Reorg<'a> {
    node: &'a Node,
    clock: &'a ChainClock,
    depth: u32,
    length: Option<u32>,
    changes: TxChanges,
}

/// What a [`Reorg`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReorgResult {
    /// The tip before.
    pub from: BestBlock,
    /// The tip after.
    pub to: BestBlock,
    /// The blocks that were replaced.
    pub old: Vec<MinedBlock>,
    /// The blocks that replace them.
    pub new: Vec<MinedBlock>,
    /// The transactions that are in none of the new blocks, but were in an old one: those that were to be dropped or
    /// replaced, and all that spend from them.
    pub dropped: Vec<Transaction>,
    /// The dropped transactions, and those of the earlier mempool, that the node does not have in its mempool now, with
    /// its reason, such as a conflict with a replacement.
    pub lost: Vec<(Transaction, Rejection)>,
}

/// A branch that is built, but that no node has yet.
struct NewBranch {
    from: BestBlock,
    /// The last block that stays.
    fork: Parent,
    old: Vec<Block>,
    new: Vec<Block>,
    /// That of its last block.
    height: u32,
    /// What the mock time must be for that block.
    time: u32,
}

impl<'a> Reorg<'a> {
    /// Replaces the last `depth` blocks of this node.
    pub fn new(node: &'a Node, clock: &'a ChainClock, depth: u32) -> Self {
        Self {
            node,
            clock,
            depth,
            length: None,
            changes: TxChanges::default(),
        }
    }

    fn change(mut self, txid: Txid, change: TxChange) -> Self {
        self.changes.of.push((txid, change));
        self
    }

    /// Drops a transaction, with its descendants. The node accepts them to its mempool again if it still can.
    pub fn drop_tx(self, txid: Txid) -> Self {
        self.change(txid, TxChange::Drop)
    }

    /// Drops all transactions that are not moved or replaced by name. The node accepts them to its mempool again if it
    /// still can.
    pub fn drop_all(mut self) -> Self {
        self.changes.drop_others = true;
        self
    }

    /// Moves a transaction to the new block of this height.
    pub fn move_to(self, txid: Txid, height: u32) -> Self {
        self.change(txid, TxChange::MoveTo(height))
    }

    /// Replaces a transaction by another that spends one of its coins. The first is gone for good, with its
    /// descendants.
    pub fn replace(self, txid: Txid, conflicting: Transaction) -> Self {
        self.change(txid, TxChange::Replace(conflicting))
    }

    /// Sets the number of blocks in the new branch. What does not fit into a shorter branch is dropped.
    pub fn length(mut self, blocks: u32) -> Self {
        self.length = Some(blocks);
        self
    }

    /// Submits the branch to the node, block after block. The node switches at the first block that makes it longer.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::ReorgDepth`], [`InvalidRequest::BranchLength`] if it is not longer than what it replaces,
    /// [`InvalidRequest::NotInBranch`], [`InvalidRequest::HeightOutside`], [`InvalidRequest::NotConflicting`],
    /// [`InvalidRequest::ParentMissing`] if what was moved or put in by name spends from what comes later or not at
    /// all, [`NodeError::BlockRejected`](super::NodeError::BlockRejected) if a block breaks another rule, or the node
    /// fails.
    pub fn apply(self) -> Result<ReorgResult, Error> {
        let _turn = self.node.turn()?;
        let branch = self.build(self.depth.saturating_add(1), b"")?;
        let mempool = mempool(self.node)?;
        self.node.set_mock_time(branch.time)?;
        let given = branch
            .new
            .iter()
            .try_for_each(|block| self.node.submit_block(block));
        if given.is_ok() && self.node.tip()?.hash == branch.tip() {
            return branch.done(self.node, mempool);
        }
        // It may have changed over before it came to the block that it rejects.
        restore(self.node, &branch, &[], mempool)?;
        given?;
        // The node tried, and went back; block by block it says why.
        self.take_back_and_mine(b"why")
    }

    /// Takes the old blocks back by `invalidateblock`, and then mines the new branch, which may be shorter too. The
    /// node does not return to the old blocks, however long its peers think that they are.
    ///
    /// # Errors
    ///
    /// As [`Reorg::apply`], where any length but 0 will do.
    pub fn by_invalidation(self) -> Result<ReorgResult, Error> {
        let _turn = self.node.turn()?;
        self.take_back_and_mine(b"invalidated")
    }

    /// Mines the branch on a second node, which may be a new one, and connects the two if they are not: the branch
    /// arrives over the peer-to-peer network, as in reality. One of the nodes needs
    /// [`NodeBuilder::p2p`](super::NodeBuilder::p2p).
    ///
    /// # Errors
    ///
    /// As [`Reorg::apply`]; [`InvalidRequest::RivalAhead`] if the second node has a chain that is as long as the
    /// branch, [`InvalidRequest::NoPort`] if neither node listens, and
    /// [`NodeError::Timeout`](super::NodeError::Timeout) if the branch does not arrive.
    pub fn by_rival(self, rival: &Node) -> Result<ReorgResult, Error> {
        let _turn = self.node.turn()?;
        let branch = self.build(self.depth.saturating_add(1), b"")?;
        let mut shared = branch.fork.height.min(rival.tip()?.height);
        while rival.block_hash_at(shared)? != self.node.block_hash_at(shared)? {
            shared -= 1;
        }
        rival.set_mock_time(rival.mock_time().max(branch.time))?;
        for height in shared + 1..=branch.fork.height {
            rival.submit_block(&self.node.block_at(height)?)?;
        }
        let (ours, theirs) = (mempool(self.node)?, mempool(rival)?);
        self.node.set_mock_time(branch.time)?;
        let given = branch.new.iter().try_for_each(|block| rival.submit_block(block));
        if let Err(error) = given {
            // They may be connected, so that both have changed over.
            restore(rival, &branch, &[], theirs)?;
            restore(self.node, &branch, &[], ours)?;
            return Err(error);
        }
        let tip = rival.tip()?;
        if tip.height >= branch.height && tip.hash != branch.tip() {
            return Err(InvalidRequest::RivalAhead {
                branch: branch.height,
                tip,
            }
            .into());
        }
        if tip.hash != branch.tip() {
            return Reorg { node: rival, ..self }.take_back_and_mine(b"why");
        }
        connect(self.node, rival)?;
        branch.done(self.node, ours)
    }

    fn take_back_and_mine(&self, mark: &[u8]) -> Result<ReorgResult, Error> {
        let branch = self.build(1, mark)?;
        let mempool = mempool(self.node)?;
        self.node.set_mock_time(branch.time)?;
        let mut invalid = Vec::new();
        let mined = take_back_to(self.node, branch.fork.hash, &mut invalid).and_then(|()| {
            branch
                .new
                .iter()
                .try_for_each(|block| self.node.submit_block(block))
        });
        if let Err(error) = mined {
            restore(self.node, &branch, &invalid, mempool)?;
            return Err(error);
        }
        branch.done(self.node, mempool)
    }

    fn build(&self, least_length: u32, mark: &[u8]) -> Result<NewBranch, Error> {
        let from = self.node.tip()?;
        if self.depth == 0 || self.depth > from.height {
            return Err(InvalidRequest::ReorgDepth {
                depth: self.depth,
                height: from.height,
            }
            .into());
        }
        let length = self.length.unwrap_or(self.depth.saturating_add(1));
        if length < least_length {
            return Err(InvalidRequest::BranchLength {
                length,
                least: least_length,
            }
            .into());
        }
        let fork = from.height - self.depth;
        let old = (fork + 1..=from.height).map(|height| self.node.block_at(height));
        let old = old.collect::<Result<Vec<_>, _>>()?;
        let contents = branch::contents(&old, fork + 1, length, &self.changes)?;
        let fork = Parent {
            height: fork,
            hash: old[0].header.prev_blockhash,
        };
        let (new, time) = self.mine(fork, &old, contents, mark)?;
        Ok(NewBranch {
            from,
            fork,
            height: fork.height + length,
            old,
            new,
            time,
        })
    }

    fn mine(
        &self,
        fork: Parent,
        old: &[Block],
        contents: Vec<Vec<Transaction>>,
        mark: &[u8],
    ) -> Result<(Vec<Block>, u32), Error> {
        let mut hash = sha256::Hash::engine();
        hash.input(mark);
        for transaction in contents.iter().flatten() {
            hash.input(transaction.compute_wtxid().as_byte_array());
        }
        let segwit_height = self.node.segwit_height();
        let (mut parent, mut now) = (fork, self.node.mock_time());
        let mut new = Vec::with_capacity(contents.len());
        for (index, transactions) in contents.into_iter().enumerate() {
            let replaced = old.get(index);
            let time = match replaced {
                Some(block) => block.header.time,
                None => later(now, BLOCK_INTERVAL)?,
            };
            now = now.max(time);
            let mut tag = hash.clone();
            tag.input(replaced.map_or(parent.hash, Block::block_hash).as_byte_array());
            let tag = sha256::Hash::from_engine(tag);
            let block = self.clock.miner().build(
                segwit_height,
                parent,
                time,
                Amount::ZERO,
                transactions,
                tag.as_byte_array(),
            )?;
            parent = Parent {
                height: parent.height + 1,
                hash: block.block_hash(),
            };
            new.push(block);
        }
        Ok((new, now))
    }
}

impl NewBranch {
    fn tip(&self) -> BlockHash {
        self.new.last().expect("no branch is empty").block_hash()
    }

    /// Waits until the branch is the chain, and gives the node what it should have in its mempool now: some it could
    /// not take while it changed over, as they were not final then.
    fn done(self, node: &Node, mempool: Vec<Transaction>) -> Result<ReorgResult, Error> {
        let to = node.wait_for_tip(self.tip())?;
        let kept: HashSet<Txid> = self.new.iter().flat_map(branch::txids).collect();
        let transactions = self.old.iter().flat_map(|block| &block.txdata[1..]);
        let mut dropped = transactions.cloned().collect::<Vec<_>>();
        dropped.retain(|transaction| !kept.contains(&transaction.compute_txid()));
        let lost = resubmit(node, [dropped.clone(), mempool].concat(), Below::Taken)?;
        let mined = |blocks: &[Block]| {
            (self.fork.height + 1..)
                .zip(blocks)
                .map(|(height, block)| MinedBlock::new(height, block))
                .collect()
        };
        Ok(ReorgResult {
            from: self.from,
            to,
            old: mined(&self.old),
            new: mined(&self.new),
            dropped,
            lost,
        })
    }
}

/// Takes blocks back until this one is the tip, and notes which. There may be branches of earlier reorganisations, to
/// which the node changes over meanwhile.
fn take_back_to(node: &Node, fork: BlockHash, invalid: &mut Vec<BlockHash>) -> Result<(), Error> {
    loop {
        let tip = node.tip()?;
        if tip.hash == fork {
            return Ok(());
        }
        let shared = node.last_shared_height(fork)?;
        // In steps, so that all transactions return to the mempool.
        let next = (shared + 1).max((tip.height + 1).saturating_sub(RETURNED));
        let hash = node.block_hash_at(next)?;
        node.invalidate_block(hash)?;
        invalid.push(hash);
    }
}

/// Makes chain and mempool what they were before, though blocks of the new branch were mined.
fn restore(
    node: &Node,
    branch: &NewBranch,
    invalid: &[BlockHash],
    mempool: Vec<Transaction>,
) -> Result<(), Error> {
    let first = branch.new[0].block_hash();
    if node.block_hash_at(branch.fork.height + 1).ok() == Some(first) {
        node.invalidate_block(first)?;
    }
    for hash in invalid.iter().rev() {
        node.reconsider_block(*hash)?;
    }
    // What it does not take any more, it has lost for another reason.
    resubmit(node, mempool, Below::Taken).map(drop)
}

/// Connects two nodes, unless they are.
fn connect(node: &Node, other: &Node) -> Result<(), Error> {
    let (ours, theirs) = (node.peers()?, other.peers()?);
    let is_same = |our: &Peer, their: &Peer| Some(&our.addr) == their.addrbind.as_ref();
    if ours
        .iter()
        .any(|our| theirs.iter().any(|their| is_same(our, their)))
    {
        return Ok(());
    }
    let (caller, address) = match (node.p2p_address(), other.p2p_address()) {
        (_, Some(address)) => (node, address),
        (Some(address), None) => (other, address),
        (None, None) => return Err(InvalidRequest::NoPort.into()),
    };
    caller.call_peer(&address.to_string())
}
