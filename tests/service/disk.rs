//! A store that does what a test says.

use std::sync::{Arc, Mutex};

use bitcoin::OutPoint;
use spilman::channel::Progress;
use spilman::store::{
    ChannelName, Loading, MemoryStore, Store, StoreError, StoredChannel, Ticket, TicketHolder,
};

/// A store with moods.
#[derive(Clone, Default)]
pub struct Disk {
    held: MemoryStore,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    mood: Mood,
    /// How many changes have come.
    changes: u32,
    /// What is not answered yet.
    waiting: Vec<(Write, TicketHolder)>,
    /// What will never be answered.
    lost: Vec<TicketHolder>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    #[default]
    Prompt,
    /// Answers when it is told to.
    Slow,
    Fails,
    Hangs,
    Panics,
    TakenOver,
    /// From this change on nothing is answered. The first of them may still be stored.
    Dies {
        at: u32,
        stored: bool,
    },
}

enum Write {
    Insert(Box<StoredChannel>),
    Update(OutPoint, Box<Progress>),
}

impl Disk {
    pub fn set(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// Writes what waits, and answers.
    pub async fn catch_up(&self) {
        let waiting = std::mem::take(&mut self.state.lock().unwrap().waiting);
        for (write, holder) in waiting {
            holder.complete(self.write(write).await);
        }
    }

    fn write(&self, write: Write) -> Ticket {
        match write {
            Write::Insert(channel) => self.held.insert(*channel),
            Write::Update(funding, progress) => self.held.update(funding, *progress),
        }
    }

    fn change(&self, write: Write) -> Ticket {
        let mut state = self.state.lock().unwrap();
        state.changes += 1;
        let number = state.changes;
        let (holder, ticket) = Ticket::new();
        match state.mood {
            Mood::Prompt => return self.write(write),
            Mood::Dies { at, .. } if number < at => return self.write(write),
            Mood::Dies { at, stored } => {
                if stored && number == at {
                    drop(self.write(write));
                }
                state.lost.push(holder);
            }
            Mood::Slow | Mood::Hangs => state.waiting.push((write, holder)),
            Mood::Fails => {
                let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
                return Ticket::resolved(Err(StoreError::Other(Arc::new(full))));
            }
            Mood::TakenOver => {
                let channel = write.name();
                let (found, written) = (9, 3);
                return Ticket::resolved(Err(StoreError::Conflict {
                    channel,
                    found,
                    written,
                }));
            }
            Mood::Panics => {
                drop(state);
                panic!("the store's own fault")
            }
        }
        ticket
    }
}

impl Write {
    fn name(&self) -> ChannelName {
        match self {
            Self::Insert(channel) => channel.name(),
            Self::Update(funding, progress) => ChannelName {
                funding: *funding,
                role: progress.role(),
            },
        }
    }
}

impl Store for Disk {
    fn insert(&self, channel: StoredChannel) -> Ticket {
        self.change(Write::Insert(Box::new(channel)))
    }

    fn update(&self, funding: OutPoint, progress: Progress) -> Ticket {
        self.change(Write::Update(funding, Box::new(progress)))
    }

    fn load(&self) -> Loading<'_> {
        self.held.load()
    }
}
