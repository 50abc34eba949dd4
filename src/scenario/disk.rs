use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::{fs, io};

use bitcoin::OutPoint;

use crate::channel::Progress;
use crate::store::{Loading, SqliteError, SqliteStore, Store, StoreError, StoredChannel, Ticket};

/// The disk of one side's machine, with the file of its store.
pub(super) struct Disk {
    file: PathBuf,
    open: Weak<PromptStore>,
    full: Arc<AtomicBool>,
}

/// A store that answers before it returns: a party that waits for its store looks idle, and the story would go on too early.
struct PromptStore {
    file: SqliteStore,
    full: Arc<AtomicBool>,
}

impl Disk {
    pub fn new(file: PathBuf) -> Self {
        let (open, full) = (Weak::new(), Arc::default());
        Self { file, open, full }
    }

    /// Opens the store, as each process does.
    pub fn open(&mut self) -> Result<Arc<dyn Store>, SqliteError> {
        let (file, full) = (SqliteStore::open(&self.file)?, Arc::clone(&self.full));
        let store = Arc::new(PromptStore { file, full });
        self.open = Arc::downgrade(&store);
        Ok(store)
    }

    /// Whether a process has the store open.
    pub fn is_open(&self) -> bool {
        self.open.strong_count() > 0
    }

    /// From now on no change can be written.
    pub fn fill(&self) {
        self.full.store(true, SeqCst);
    }

    /// Copies the file, which no process may have open, as an owner does who makes a backup.
    pub fn back_up(&self) -> io::Result<()> {
        fs::copy(&self.file, self.backup()).map(drop)
    }

    /// Replaces the file with its copy.
    pub fn restore_backup(&self) -> io::Result<()> {
        fs::copy(self.backup(), &self.file).map(drop)
    }

    fn backup(&self) -> PathBuf {
        self.file.with_extension("backup")
    }
}

impl PromptStore {
    fn write(&self, write: impl FnOnce(&SqliteStore) -> Ticket) -> Ticket {
        if self.full.load(SeqCst) {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Ticket::resolved(Err(StoreError::Other(Arc::new(full))));
        }
        Ticket::resolved(wait(write(&self.file)))
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
        self.file.load()
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
