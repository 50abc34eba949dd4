//! Where channels outlive the process: a small trait, one store in memory, and with the feature `sqlite` one in a file.
//!
//! A party never acts on what its store does not hold yet. It hands each change to the store, in the order in which the
//! changes happened, and waits for the [`Ticket`] before anything leaves that depends on it: a payee acknowledges no
//! payment that a power cut could take back.
//!
//! - **One row for each channel.** It has a version, and an update replaces one version by the next. Two processes that
//!   believe that they own a channel cannot both be right: the slower one gets [`StoreError::Conflict`], and lets go of it.
//! - **A failure is final.** After a failed write nobody knows what the disk holds, and a second try that succeeds proves
//!   nothing. The party takes no more payments, and the store refuses every later change. A new process reads what is there.
//!
//! ```
//! use spilman::store::{MemoryStore, Store};
//!
//! # async fn f() -> Result<(), spilman::store::StoreError> {
//! let store = MemoryStore::default();
//! assert!(store.load().await?.is_empty());
//! # Ok(())
//! # }
//! ```

mod backup;
mod error;
mod memory;
mod record;
#[cfg(feature = "sqlite")]
mod sqlite;
mod ticket;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bitcoin::OutPoint;

use crate::channel::{ChannelState, KeyId, KeyRole, Progress};

pub use backup::{BackupError, RefundBackup};
pub use error::StoreError;
pub use memory::MemoryStore;
pub use record::{
    progress_row, ChannelRow, DamagedRow, ProgressRow, Value, CHANNEL_COLUMNS, PROGRESS_COLUMNS,
};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteError, SqliteStore};
pub use ticket::{Ticket, TicketHolder};

/// What a store holds of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChannel {
    /// Which key: with the seed, [`ChannelKeys::derive`](crate::channel::ChannelKeys::derive) makes it again.
    pub key_id: KeyId,
    /// What the party must not forget.
    pub state: ChannelState,
}

impl StoredChannel {
    /// Returns what identifies the channel in its store.
    pub fn name(&self) -> ChannelName {
        ChannelName {
            funding: self.state.funding().outpoint(),
            role: self.state.role(),
        }
    }
}

/// Identifies a channel in a store: both sides of it may be in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName {
    /// The output that locks the capacity, as it was signed.
    pub funding: OutPoint,
    /// Which side this is.
    pub role: KeyRole,
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.role {
            KeyRole::Payer => "payer",
            KeyRole::Payee => "payee",
        };
        write!(f, "the {side}'s channel {}", self.funding)
    }
}

/// Keeps channels.
///
/// [`insert`](Store::insert) and [`update`](Store::update) do not wait: the order of the calls for one channel is the
/// order of its versions, and the ticket resolves when the change is durable. An implementation may write many changes,
/// of one channel or of several, at once. It may leave out a version that a later one replaces, and must then complete the
/// tickets of both.
///
/// A failure is terminal: after the first error for a channel, all later changes of it fail, too.
pub trait Store: Send + Sync + 'static {
    /// Stores a new channel.
    ///
    /// The ticket fails if the store has a channel of this name.
    fn insert(&self, channel: StoredChannel) -> Ticket;

    /// Replaces the version before this one.
    ///
    /// The ticket fails if the store has another version, which another process has written.
    fn update(&self, funding: OutPoint, progress: Progress) -> Ticket;

    /// Returns all channels.
    fn load(&self) -> Loading<'_>;
}

/// The channels of a store, once they are read.
pub type Loading<'a> = Pin<Box<dyn Future<Output = Result<Vec<StoredChannel>, StoreError>> + Send + 'a>>;
