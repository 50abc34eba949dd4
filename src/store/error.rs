use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::ChannelName;

/// Why a store did not keep a change, or could not be read. Each ends the right of this process to the channel.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store holds another version than the one that this process wrote last.
    #[error(
        "{channel} is at version {found} in the store, and this process wants to write {written}: another process has \
         taken the channel over, so stop one of the two"
    )]
    Conflict {
        /// The channel.
        channel: ChannelName,
        /// The stored version.
        found: u64,
        /// What was to be written.
        written: u64,
    },
    /// The store has no such channel.
    #[error("{channel} is not in the store: was the file replaced by an older copy?")]
    Unknown {
        /// The channel.
        channel: ChannelName,
    },
    /// A channel of this name was stored before.
    #[error("{channel} is in the store already: a funding output serves one channel")]
    Duplicate {
        /// The channel.
        channel: ChannelName,
    },
    /// The store did not answer.
    #[error("the store did not answer within {0:?}: a change may be lost, so restart the process once the disk answers")]
    Timeout(Duration),
    /// The store has ended, with this process or before it.
    #[error("the store has ended: open it again")]
    Ended,
    /// What only this kind of store meets: a full disk, a damaged file.
    #[error("{0}")]
    Other(Arc<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Whether another process may own the channel, so that this one must not even settle it.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. } | Self::Unknown { .. } | Self::Duplicate { .. }
        )
    }
}
