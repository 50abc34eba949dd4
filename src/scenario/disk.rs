use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};

use bitcoin::OutPoint;

use crate::channel::Progress;
use crate::store::{Loading, SqliteError, SqliteStore, Store, StoreError, StoredChannel, Ticket};

/// The disk of one side's machine, with the file of its store.
pub(super) struct Disk {
    file: PathBuf,
    open: Weak<PromptStore>,
}

/// A store that answers before it returns: a party that waits for its store looks idle, and the story would go on too early.
struct PromptStore(SqliteStore);

impl Disk {
    pub fn new(file: PathBuf) -> Self {
        let open = Weak::new();
        Self { file, open }
    }

    /// Opens the store, as each process does.
    pub fn open(&mut self) -> Result<Arc<dyn Store>, SqliteError> {
        let store = Arc::new(PromptStore(SqliteStore::open(&self.file)?));
        self.open = Arc::downgrade(&store);
        Ok(store)
    }

    /// Whether a process has the store open.
    pub fn is_open(&self) -> bool {
        self.open.strong_count() > 0
    }
}

impl PromptStore {
    fn write(&self, write: impl FnOnce(&SqliteStore) -> Ticket) -> Ticket {
        Ticket::resolved(wait(write(&self.0)))
    }
}

impl Store for PromptStore {
    fn insert(&self, channel: StoredChannel) -> Ticket {
        self.write(|file| file.insert(channel))
    }

    fn update(&self, funding: OutPoint, progress: Progress) -> Ticket {
        self.write(|file| file.update(funding, progress))
    }

    fn load(&self) -> Loading<'_> {
        self.0.load()
    }
}

/// Blocks this thread until the writer's has answered.
fn wait(ticket: Ticket) -> Result<(), StoreError> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    // A task that has done much already would never see the answer.
    let mut ticket = pin!(tokio::task::unconstrained(ticket));
    loop {
        match ticket.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}
