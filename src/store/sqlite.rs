//! The store in one `SQLite` file.

mod error;
mod file;
#[cfg(test)]
mod tests;
mod writer;

use std::convert::Infallible;
use std::path::Path;
use std::sync::{mpsc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bitcoin::OutPoint;
use tokio::sync::oneshot;

use super::{ChannelName, Loading, Store, StoreError, StoredChannel, Ticket};
use crate::channel::Progress;
use file::File;
use writer::{Request, Writer};

pub use error::SqliteError;

/// How long dropping a [`SqliteStore`] waits for what was queued.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps channels in one `SQLite` file, for one process.
///
/// ```
/// use spilman::store::{SqliteStore, Store};
///
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("channels.sqlite");
/// let store = SqliteStore::open(&path)?; // created if it is missing
/// assert!(store.load().await?.is_empty());
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new()?.block_on(f())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// One thread writes for all channels: what waits becomes one transaction and one sync of the disk, so that a thousand
/// channels that pay at once cost little more than one. Of several versions of a channel it writes the last.
///
/// **A failure is final.** After the first failed write, every waiting and every later ticket fails with its error.
/// Nothing is tried again, because a second sync that succeeds proves nothing about the first. A ticket that failed may
/// still be in the file: a process that opens it anew goes on with what is there.
///
/// **Where to put the file.** On a local file system. Network file systems and FUSE volumes (those of desktop container
/// programs, for example) often acknowledge a sync that has not happened, and then a power cut takes back what was
/// acknowledged. Some have no locks either, and two processes could open the file.
///
/// **Backups.** No other program can read the file while a process has it open, so stop the process first. Then
/// `sqlite3 channels.sqlite "VACUUM INTO 'backup.sqlite'"`, or `.backup`, makes a copy that is complete in itself. Never
/// copy a file without the `-wal` beside it, which a killed process leaves behind: the newest payments are there.
///
/// **Damage.** A changed bit in the file is an error when it is opened. A changed bit in the `-wal` looks to `SQLite` like the
/// end of it, so that the store goes back to an older state, as if an older copy had been restored.
///
/// **An older copy** forgets the payments after it. A payer whose copy is older signs lower sums, never higher ones. A
/// payee whose copy is older can settle for less, until its payer sends the latest payment again. No key is used twice,
/// because the ids of keys are random, not counted. A copy that other processes have gone on from must not be opened
/// beside them.
#[derive(Debug)]
pub struct SqliteStore {
    requests: mpsc::Sender<Request>,
    /// Disconnected once the writer has ended.
    ended: Mutex<mpsc::Receiver<Infallible>>,
}

impl SqliteStore {
    /// Opens the file, or creates it, readable by this user alone. Blocks until it is checked from end to end: the time grows
    /// with the file.
    ///
    /// # Errors
    /// If another process or another store of this one has it open, it is not a store of this program or of a version that
    /// this one knows, it is damaged, or the disk does not do what it should.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SqliteError> {
        let path = path.as_ref();
        let writer = Writer::new(File::open(path)?);
        let (requests, queue) = mpsc::channel();
        let (alive, ended) = mpsc::channel();
        let run = move || {
            let _alive = alive;
            writer.run(&queue);
        };
        let thread = thread::Builder::new().name("spilman-store".to_owned());
        thread.spawn(run).map_err(|error| SqliteError::io(path, &error))?;
        Ok(Self {
            requests,
            ended: Mutex::new(ended),
        })
    }

    /// A writer that has ended drops the request, and with it the holder of a ticket, which says so.
    fn send(&self, request: Request) {
        let _ = self.requests.send(request);
    }
}

impl Store for SqliteStore {
    fn insert(&self, channel: StoredChannel) -> Ticket {
        let (holder, ticket) = Ticket::new();
        self.send(Request::Insert(Box::new(channel), holder));
        ticket
    }

    fn update(&self, funding: OutPoint, progress: Progress) -> Ticket {
        let (holder, ticket) = Ticket::new();
        let role = progress.role();
        self.send(Request::Update(ChannelName { funding, role }, progress, holder));
        ticket
    }

    fn load(&self) -> Loading<'_> {
        let (holder, loaded) = oneshot::channel();
        self.send(Request::Load(holder));
        Box::pin(async { loaded.await.unwrap_or(Err(StoreError::Ended)) })
    }
}

impl Drop for SqliteStore {
    /// Waits until what was queued is durable, or will never be, and the file is closed.
    fn drop(&mut self) {
        self.requests = mpsc::channel().0;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(CLOSING_TIMEOUT);
    }
}
