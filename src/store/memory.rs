use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::OutPoint;

use super::{ChannelName, Loading, Store, StoreError, StoredChannel, Ticket};
use crate::channel::Progress;

/// Keeps channels as long as the process lives. Clones share what they hold.
///
/// For tests, and for channels that need not survive the process.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<BTreeMap<ChannelName, StoredChannel>>>);

impl MemoryStore {
    fn channels(&self) -> MutexGuard<'_, BTreeMap<ChannelName, StoredChannel>> {
        // Each change is one step, so the map is whole whatever became of the thread that changed it last.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn insert(&self, channel: StoredChannel) -> Ticket {
        let name = channel.name();
        Ticket::resolved(match self.channels().entry(name) {
            Entry::Vacant(place) => {
                place.insert(channel);
                Ok(())
            }
            Entry::Occupied(_) => Err(StoreError::Duplicate { channel: name }),
        })
    }

    fn update(&self, funding: OutPoint, progress: Progress) -> Ticket {
        let role = progress.role();
        let channel = ChannelName { funding, role };
        let mut channels = self.channels();
        let Some(stored) = channels.get_mut(&channel) else {
            return Ticket::resolved(Err(StoreError::Unknown { channel }));
        };
        let (found, written) = (stored.state.version(), progress.version());
        if written != found + 1 {
            return Ticket::resolved(Err(StoreError::Conflict {
                channel,
                found,
                written,
            }));
        }
        stored.state.replace(progress);
        Ticket::resolved(Ok(()))
    }

    fn load(&self) -> Loading<'_> {
        let channels = self.channels().values().cloned().collect();
        Box::pin(std::future::ready(Ok(channels)))
    }
}
