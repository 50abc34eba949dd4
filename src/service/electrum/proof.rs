//! What a server's word about the chain can be checked against: headers that connect and carry work, and the way
//! from a transaction to the merkle root of one of them.

use std::collections::{BTreeMap, VecDeque};

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{TxMerkleNode, Txid};
use serde::Deserialize;

use super::error::ElectrumError;

/// The median time past is that of so many headers (BIP 113).
pub(super) const MEDIAN_OF: u32 = 11;

/// A block has fewer than two to the power of this many transactions.
const MAX_DEPTH: usize = 32;

/// Headers, one on the other, of which only what is needed is kept.
pub(super) struct Trail {
    next: u32,
    last: Option<Header>,
    times: VecDeque<u32>,
    wanted: BTreeMap<u32, Option<Wanted>>,
}

/// What is to be known of a block with a transaction.
#[derive(Clone, Copy)]
struct Wanted {
    root: TxMerkleNode,
    /// The median time past below it.
    below: u32,
}

impl Trail {
    /// Begins at the height from which all of `heights`, and the median time past at `tip`, can be told.
    pub fn new(tip: u32, heights: &[u32]) -> Self {
        let first = tip.saturating_sub(MEDIAN_OF - 1);
        let below = |height: &u32| height.saturating_sub(MEDIAN_OF);
        Self {
            next: heights.iter().map(below).fold(first, u32::min),
            last: None,
            times: VecDeque::new(),
            wanted: heights.iter().map(|height| (*height, None)).collect(),
        }
    }

    /// The height of the header that is to be pushed now.
    pub const fn next(&self) -> u32 {
        self.next
    }

    /// The newest header.
    pub const fn last(&self) -> Option<&Header> {
        self.last.as_ref()
    }

    pub fn push(&mut self, header: Header) -> Result<(), ElectrumError> {
        let (height, hash) = (self.next, header.block_hash());
        if header.validate_pow(header.target()).is_err() {
            let reason = format!("header {hash} at height {height} has not the work that it claims");
            return Err(ElectrumError::Contradiction(reason));
        }
        if let Some(last) = self
            .last
            .filter(|last| last.block_hash() != header.prev_blockhash)
        {
            let reason = format!(
                "header {hash} at height {height} follows {}, and not {}",
                header.prev_blockhash,
                last.block_hash()
            );
            return Err(ElectrumError::Contradiction(reason));
        }
        let below = self.mtp().unwrap_or_default();
        if let Some(wanted) = self.wanted.get_mut(&height) {
            let root = header.merkle_root;
            *wanted = Some(Wanted { root, below });
        }
        self.times.push_back(header.time);
        if self.times.len() > MEDIAN_OF as usize {
            self.times.pop_front();
        }
        self.last = Some(header);
        self.next += 1;
        Ok(())
    }

    /// The median time of the newest headers, in seconds since 1970.
    pub fn mtp(&self) -> Option<u32> {
        let mut times: Vec<_> = self.times.iter().copied().collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    fn wanted(&self, height: u32) -> Option<Wanted> {
        self.wanted.get(&height).copied().flatten()
    }

    /// The median time past below the block at this height, one of those that were asked for.
    pub fn mtp_below(&self, height: u32) -> Option<u32> {
        self.wanted(height).map(|wanted| wanted.below)
    }

    /// Whether the block at this height, one of those that were asked for, has the transaction.
    pub fn check(&self, height: u32, txid: Txid, branch: &Branch) -> Result<(), ElectrumError> {
        let root = self.wanted(height).map(|wanted| wanted.root);
        if root.is_some() && branch.root(txid) == root {
            return Ok(());
        }
        let reason = format!("the proof of {txid} does not lead to the merkle root of height {height}");
        Err(ElectrumError::Contradiction(reason))
    }
}

/// The hashes beside the way from a transaction up to the merkle root, the lowest first.
#[derive(Debug, Deserialize)]
pub(super) struct Branch {
    pub merkle: Vec<TxMerkleNode>,
    /// The transaction's place in the block.
    pub pos: u64,
}

impl Branch {
    /// Where the way ends, if a tree can have it.
    fn root(&self, txid: Txid) -> Option<TxMerkleNode> {
        if self.merkle.len() >= MAX_DEPTH || self.pos >> self.merkle.len() != 0 {
            return None;
        }
        let mut node = TxMerkleNode::from_raw_hash(txid.to_raw_hash());
        for (level, beside) in self.merkle.iter().enumerate() {
            let (left, right) = if self.pos >> level & 1 == 0 {
                (&node, beside)
            } else {
                (beside, &node)
            };
            let both = [left.to_byte_array(), right.to_byte_array()].concat();
            node = TxMerkleNode::hash(&both);
        }
        Some(node)
    }
}
