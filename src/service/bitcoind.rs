use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bitcoin::{FeeRate, Transaction};
use bitcoincore_rpc::{Auth, Client};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::backoff::Backoff;
use super::chain::{Chain, ChainError, Watched, TIP, VIEW};
use super::fees::Fees;
use crate::channel::{ChainView, CpfpPackage, Tip};
use calls::{Failure, Rpc};
pub use client::rpc_client;
use view::Viewer;

mod calls;
mod client;
#[cfg(test)]
mod tests;
mod view;

/// Shorter than a party's timeout for its chain.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// The default interval between two polls of the tip: blocks are minutes apart.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A Bitcoin Core node as a party's view of the chain, by RPC.
///
/// The node needs no wallet and no transaction index. It must be version 28 or later, for `submitpackage`, and must not
/// have pruned the blocks since the channel was opened. While it catches up with the network, its views are errors: what it
/// shows is the past.
///
/// ```no_run
/// use spilman::service::bitcoincore_rpc::{self, Auth};
/// use spilman::service::BitcoindChain;
///
/// let cookie = "/home/me/.bitcoin/testnet4/.cookie".into();
/// let chain = BitcoindChain::connect("http://127.0.0.1:48332", Auth::CookieFile(cookie))?;
/// # Ok::<(), bitcoincore_rpc::Error>(())
/// ```
///
/// # News
///
/// The chain polls the node's best block every second ([`poll_every`](Self::poll_every)), and the party views the chain when
/// it has changed. A node that does not answer is polled less and less often ([`backoff`](Self::backoff)). An unconfirmed
/// spend of the funding output changes no block: the party sees it with its own polls, twice a minute.
///
/// # What is searched
///
/// While the funding output is unspent, a view takes the same few calls however long the channel has been open, and the views
/// of many channels take few requests. When it is spent, the spend is searched in the mempool, and then in the blocks from the
/// tip down to the opening of the channel ([`Watched::since`]). Each block is read once: those without a spend are remembered.
///
/// Clones share the client and what they know. Every call is cancel safe; the client's own timeout ends a dropped call. A
/// view is an error while blocks arrive faster than it can be read.
#[derive(Clone)]
pub struct BitcoindChain {
    shared: Arc<BitcoindShared>,
    /// `None`: the party polls only after `announce`.
    poll_interval: Option<Duration>,
    backoff: Backoff,
}

struct BitcoindShared {
    viewer: Viewer,
    changes: watch::Sender<u64>,
    /// The task that polls. It ends with the runtime of the party that started it.
    poller: Mutex<Option<AbortHandle>>,
}

impl BitcoindChain {
    /// Watches the chain through this client: one that is shared, or one with its own transport.
    #[must_use]
    pub fn new(client: impl Into<Arc<Client>>) -> Self {
        Self::with(client.into(), Some(POLL_INTERVAL))
    }

    /// Watches the chain through the RPC server at this address, such as `http://127.0.0.1:8332`. Nothing is sent yet. The
    /// node may be started again, with another cookie.
    ///
    /// # Errors
    /// If the address is not valid.
    pub fn connect(url: &str, auth: Auth) -> Result<Self, bitcoincore_rpc::Error> {
        Ok(Self::new(rpc_client(url, auth, CALL_TIMEOUT)?))
    }

    /// Watches the chain for a test that decides when a party hears of a block: the party polls after
    /// [`announce`](Self::announce).
    #[must_use]
    pub fn when_announced(client: impl Into<Arc<Client>>) -> Self {
        Self::with(client.into(), None)
    }

    fn with(client: Arc<Client>, poll_interval: Option<Duration>) -> Self {
        let shared = BitcoindShared {
            viewer: Viewer::new(Rpc(client)),
            changes: watch::Sender::new(0),
            poller: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            poll_interval,
            backoff: Backoff::default(),
        }
    }

    /// Sets the interval between two polls of the best block. Call it before a party uses this chain.
    #[must_use]
    pub fn poll_every(self, interval: Duration) -> Self {
        Self {
            poll_interval: Some(interval),
            ..self
        }
    }

    /// Sets the pause after a poll that failed. Call it before a party uses this chain.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Tells the party that the chain may have changed.
    pub fn announce(&self) {
        self.shared.announce();
    }

    /// Returns how often the chain may have changed; the party's [`Status::seen`](super::Status) follows it.
    pub fn announced(&self) -> u64 {
        *self.shared.changes.borrow()
    }

    async fn ask<T: Send + 'static>(
        &self,
        task: &'static str,
        call: impl FnOnce(&Viewer) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, ChainError> {
        let answer = ask(Arc::clone(&self.shared), call).await;
        answer.map_err(|error| ChainError::new(task, error))
    }

    /// Starts the task that polls, unless it runs.
    fn poll(&self, interval: Duration) {
        let mut poller = self.shared.poller.lock().unwrap_or_else(PoisonError::into_inner);
        if poller.as_ref().is_none_or(AbortHandle::is_finished) {
            let polling = poll(Arc::downgrade(&self.shared), interval, self.backoff);
            *poller = Some(tokio::spawn(polling).abort_handle());
        }
    }
}

impl BitcoindShared {
    fn announce(&self) {
        self.changes.send_modify(|serial| *serial += 1);
    }
}

impl Fees for BitcoindChain {
    async fn feerate(&self, blocks: u32) -> Result<FeeRate, ChainError> {
        self.ask("estimate the feerate", move |viewer| viewer.rpc.estimate(blocks))
            .await
    }
}

impl Chain for BitcoindChain {
    async fn tip(&self) -> Result<Tip, ChainError> {
        self.ask(TIP, Viewer::tip).await
    }

    async fn view(&self, watched: Watched) -> Result<ChainView, ChainError> {
        self.ask(VIEW, move |viewer| viewer.view(watched)).await
    }

    fn views(
        &self,
        watched: &[Watched],
    ) -> Option<impl Future<Output = Vec<Result<ChainView, ChainError>>> + Send> {
        let watched = watched.to_vec();
        Some(async move {
            let count = watched.len();
            let views = self.ask(VIEW, move |viewer| viewer.views(&watched)).await;
            let views = views.map(|views| {
                let views = views.into_iter();
                views.map(|view| view.map_err(|error| ChainError::new(VIEW, error)))
            });
            views.map_or_else(|error| error.repeated(count), Iterator::collect)
        })
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ChainError> {
        let tx = tx.clone();
        self.ask("broadcast a transaction", move |viewer| viewer.rpc.submit(&tx))
            .await
    }

    async fn broadcast_package(&self, package: &CpfpPackage) -> Result<Option<String>, ChainError> {
        let package = package.transactions();
        self.ask("submit a package", move |viewer| {
            viewer.rpc.submit_package(&package)
        })
        .await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        if let Some(interval) = self.poll_interval {
            self.poll(interval);
        }
        self.shared.changes.subscribe()
    }
}

/// The client blocks its thread until the answer is there, so it gets a thread for blocking work.
async fn ask<T: Send + 'static>(
    shared: Arc<BitcoindShared>,
    call: impl FnOnce(&Viewer) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(move || call(&shared.viewer)).await?
}

/// Announces every new best block, the first included: a party may have polled before it came.
async fn poll(shared: Weak<BitcoindShared>, interval: Duration, backoff: Backoff) {
    let (mut last, mut failures) = (None, 0);
    while let Some(shared) = shared.upgrade() {
        let best = ask(Arc::clone(&shared), |viewer| Ok(viewer.rpc.best_hash()?)).await;
        let pause = if let Ok(best) = best {
            failures = 0;
            if last.replace(best) != Some(best) {
                shared.announce();
            }
            interval
        } else {
            failures += 1;
            backoff.pause(failures).max(interval)
        };
        drop(shared);
        tokio::time::sleep(pause).await;
    }
}
