use std::collections::{BTreeMap, HashMap};
use std::iter;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::file::File;
use super::SqliteError;
use crate::channel::Progress;
use crate::store::{ChannelName, StoreError, StoredChannel, TicketHolder};

/// The most that one transaction holds, so that one that waits behind it waits no longer than that.
const MAX_BATCH: usize = 4_096;

/// Pages of the WAL, of 4 KiB, from which it is moved into the file even when the store is busy.
const MAX_WAL_PAGES: u32 = 4_096;

/// How long nothing must happen before the WAL is moved into the file.
const IDLE: Duration = Duration::from_secs(1);

/// What the thread is asked to do.
#[expect(
    clippy::large_enum_variant,
    reason = "one comes with every payment, and must not cost an allocation"
)]
pub(super) enum Request {
    Insert(Box<StoredChannel>, TicketHolder),
    Update(ChannelName, Progress, TicketHolder),
    Load(oneshot::Sender<Result<Vec<StoredChannel>, StoreError>>),
}

/// Writes what waits, one transaction after the other, until the first failure.
pub(super) struct Writer {
    file: File,
    pending_pages: u32,
    /// Channels that another process may own, and what was found.
    lost: HashMap<ChannelName, StoreError>,
    failure: Option<StoreError>,
}

type Batch = BTreeMap<ChannelName, Pending>;

/// What a transaction will do for one channel, and who waits for it.
struct Pending {
    change: Change,
    tickets: Vec<TicketHolder>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "one comes with every payment, and must not cost an allocation"
)]
enum Change {
    Insert(Box<StoredChannel>),
    Update {
        /// The first version that this stands for. The one before it must be in the store.
        first: u64,
        last: Progress,
    },
}

impl Writer {
    pub fn new(file: File) -> Self {
        Self {
            file,
            pending_pages: 0,
            lost: HashMap::new(),
            failure: None,
        }
    }

    #[cfg(test)]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Serves until no one can ask any more.
    pub fn run(mut self, queue: &Receiver<Request>) {
        loop {
            let first = if self.pending_pages == 0 || self.failure.is_some() {
                queue.recv().map_err(RecvTimeoutError::from)
            } else {
                queue.recv_timeout(IDLE)
            };
            match first {
                Ok(first) => {
                    self.serve(iter::once(first).chain(queue.try_iter().take(MAX_BATCH - 1)));
                    self.checkpoint_above(MAX_WAL_PAGES);
                }
                Err(RecvTimeoutError::Timeout) => self.checkpoint_above(0),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Answers all of these requests.
    pub fn serve(&mut self, requests: impl IntoIterator<Item = Request>) {
        let (mut batch, mut loads) = (Batch::new(), Vec::new());
        for request in requests {
            match request {
                Request::Insert(channel, ticket) => {
                    let name = channel.name();
                    self.add(&mut batch, name, Change::Insert(channel), ticket);
                }
                Request::Update(name, last, ticket) => {
                    let first = last.version();
                    self.add(&mut batch, name, Change::Update { first, last }, ticket);
                }
                Request::Load(load) => loads.push(load),
            }
        }
        self.write(batch);
        for load in loads {
            let channels = self.failure.clone().map_or_else(|| Ok(self.file.load()?), Err);
            // The caller may have stopped waiting.
            let _ = load.send(channels);
        }
    }

    fn add(&mut self, batch: &mut Batch, channel: ChannelName, change: Change, ticket: TicketHolder) {
        if let Some(error) = self.failure.as_ref().or_else(|| self.lost.get(&channel)) {
            return ticket.complete(Err(error.clone()));
        }
        let Some(pending) = batch.get_mut(&channel) else {
            let tickets = vec![ticket];
            batch.insert(channel, Pending { change, tickets });
            return;
        };
        match pending.change.follow(channel, change) {
            Ok(()) => pending.tickets.push(ticket),
            Err(error) => {
                self.lost.insert(channel, error.clone());
                ticket.complete(Err(error));
            }
        }
    }

    fn write(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let written = self.file.commit(|file| {
            let write = |(name, pending): (&ChannelName, &Pending)| match &pending.change {
                Change::Insert(channel) => file.insert(channel),
                Change::Update { first, last } => file.update(*name, *first, last),
            };
            batch.iter().map(write).collect::<rusqlite::Result<Vec<_>>>()
        });
        match written {
            Ok(refused) => {
                for ((name, pending), refused) in batch.into_iter().zip(refused) {
                    self.lost.extend(refused.clone().map(|error| (name, error)));
                    pending.complete(&refused.map_or(Ok(()), Err));
                }
                self.count_pages(File::pending_pages);
            }
            Err(error) => {
                let error = self.fail(error);
                for pending in batch.into_values() {
                    pending.complete(&Err(error.clone()));
                }
            }
        }
    }

    fn checkpoint_above(&mut self, pages: u32) {
        if self.pending_pages > pages && self.failure.is_none() {
            self.count_pages(File::checkpoint);
        }
    }

    fn count_pages(&mut self, count: impl FnOnce(&File) -> Result<u32, SqliteError>) {
        match count(&self.file) {
            Ok(pages) => self.pending_pages = pages,
            Err(error) => drop(self.fail(error)),
        }
    }

    /// Nobody knows what the disk holds now, so nothing is written any more.
    fn fail(&mut self, error: SqliteError) -> StoreError {
        self.file.leave_as_it_is();
        self.failure.insert(error.into()).clone()
    }
}

impl Pending {
    fn complete(self, result: &Result<(), StoreError>) {
        for ticket in self.tickets {
            ticket.complete(result.clone());
        }
    }
}

impl Change {
    /// Takes the next version of the same channel, so that only that one is written.
    fn follow(&mut self, channel: ChannelName, next: Self) -> Result<(), StoreError> {
        let Self::Update {
            first: written,
            last: next,
        } = next
        else {
            return Err(StoreError::Duplicate { channel });
        };
        let found = match self {
            Self::Insert(new) => new.state.version(),
            Self::Update { last, .. } => last.version(),
        };
        if written != found.wrapping_add(1) {
            return Err(StoreError::Conflict {
                channel,
                found,
                written,
            });
        }
        match self {
            Self::Insert(new) => new.state.replace(next),
            Self::Update { last, .. } => *last = next,
        }
        Ok(())
    }
}
