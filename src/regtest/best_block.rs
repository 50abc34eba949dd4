use std::fmt;

use bitcoin::BlockHash;

/// The best block of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BestBlock {
    /// Its height; the genesis block has 0.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
    /// The time in its header, in seconds since 1970.
    pub time: u32,
    /// The median time of the last eleven headers, in seconds since 1970. Time locks are compared with this
    /// (BIP 113).
    pub mtp: u32,
}

impl fmt::Display for BestBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "height {}, time {}, median time past {}",
            self.height, self.time, self.mtp
        )
    }
}
