//! What a server's word about the chain can be checked against: headers that connect and carry work, and the way
//! from a transaction to the merkle root of one of them.

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{TxMerkleNode, Txid, Work};
use serde::Deserialize;

use super::error::ElectrumError;

/// The number of headers of the median time past (BIP 113).
pub(super) const MEDIAN_OF: u32 = 11;

/// A block has fewer than two to the power of this many transactions.
const MAX_DEPTH: usize = 32;

/// Headers, one on the other, each with the work that it claims.
#[derive(Clone, Default)]
pub(super) struct Headers {
    first: u32,
    list: Vec<Header>,
}

impl Headers {
    /// None so far; the first one that is pushed has this height.
    pub const fn starting_at(first: u32) -> Self {
        let list = Vec::new();
        Self { first, list }
    }

    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the lowest height.
    pub const fn first(&self) -> u32 {
        self.first
    }

    /// Returns the height of the next header to push.
    pub fn next(&self) -> u32 {
        self.heights().end
    }

    fn heights(&self) -> std::ops::Range<u32> {
        // There are fewer headers than heights, and those have 32 bits.
        let count = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.first..self.first.saturating_add(count)
    }

    pub fn at(&self, height: u32) -> Option<&Header> {
        let index = height.checked_sub(self.first)?;
        self.list.get(index as usize)
    }

    /// Returns the newest header.
    pub fn last(&self) -> Option<&Header> {
        self.list.last()
    }

    /// Returns the same headers without those above this height.
    pub fn up_to(&self, height: u32) -> Self {
        let count = (height + 1).saturating_sub(self.first) as usize;
        let list = self.list[..count.min(self.list.len())].to_vec();
        Self { list, ..*self }
    }

    pub fn push(&mut self, header: Header) -> Result<(), ElectrumError> {
        let (height, hash) = (self.next(), header.block_hash());
        if header.validate_pow(header.target()).is_err() {
            let reason = format!("header {hash} at height {height} does not have the work that it claims");
            return Err(ElectrumError::Contradiction(reason));
        }
        if let Some(last) = self
            .last()
            .filter(|last| last.block_hash() != header.prev_blockhash)
        {
            let reason = format!(
                "header {hash} at height {height} follows {}, not {}",
                header.prev_blockhash,
                last.block_hash()
            );
            return Err(ElectrumError::Contradiction(reason));
        }
        self.list.push(header);
        Ok(())
    }

    /// Returns the median time past at this height, in seconds since 1970.
    pub fn mtp(&self, height: u32) -> Option<u32> {
        let lowest = (height + 1).saturating_sub(MEDIAN_OF);
        let times = (lowest..=height).map(|height| Some(self.at(height)?.time));
        let mut times: Vec<_> = times.collect::<Option<_>>()?;
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    /// Returns whether the block at this height has the transaction.
    pub fn check(&self, height: u32, txid: Txid, branch: &MerkleBranch) -> Result<(), ElectrumError> {
        let root = self.at(height).map(|header| header.merkle_root);
        if root.is_some() && branch.root(txid) == root {
            return Ok(());
        }
        let reason = format!("the proof of {txid} does not lead to the merkle root of height {height}");
        Err(ElectrumError::Contradiction(reason))
    }

    /// Refuses what has less work than `last`, which was believed, from the newest header that they have in common or
    /// else from the first that was believed.
    pub fn check_work(&self, last: &Self) -> Result<(), ElectrumError> {
        let is_common = |height: &u32| self.at(*height) == last.at(*height);
        let common = last.heights().rev().find(is_common);
        let from = common.map_or(last.first, |height| height + 1);
        let (Some(tip), Some(last_tip)) = (self.last(), last.last()) else {
            return Ok(());
        };
        if self.work_from(from) >= last.work_from(from) {
            return Ok(());
        }
        Err(ElectrumError::LessWork {
            last: last_tip.block_hash(),
            last_height: last.next() - 1,
            now: tip.block_hash(),
            height: self.next() - 1,
        })
    }

    fn work_from(&self, height: u32) -> Work {
        let headers = self.list.iter().skip(height.saturating_sub(self.first) as usize);
        let none = Work::from_be_bytes([0; 32]);
        headers.fold(none, |sum, header| sum + header.work())
    }
}

/// The hashes beside the path from a transaction up to the merkle root, the lowest first.
#[derive(Debug, Deserialize)]
pub(super) struct MerkleBranch {
    pub merkle: Vec<TxMerkleNode>,
    /// The transaction's place in the block.
    pub pos: u64,
}

impl MerkleBranch {
    /// Returns the root that the path leads to, if a tree can have that path.
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
