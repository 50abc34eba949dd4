use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{timeout_at, Instant};

use super::backoff::Backoff;
use super::chain::{Chain, ChainError, Watched, TIP, VIEW};
use crate::channel::{ChainView, Tip};
use error::ElectrumError;
use link::{Link, Notifier};
use pause::Pause;
use proof::Headers;

mod calls;
mod error;
mod link;
mod pause;
mod proof;
mod view;
mod words;

/// The default timeout of a server's answer. Shorter than a party's timeout for its chain.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An [electrum](https://electrum-protocol.readthedocs.io) server as a party's view of the chain, without RPC access to
/// a node. It connects at the first call, and again after the connection broke, with a [pause](Self::backoff) between
/// failed attempts.
///
/// # What it requests
///
/// The tip and the headers that are new since the last poll. About a channel: the funding transaction by its id, once;
/// the unspent outputs of its script; its history only when the funding output is no longer among those; and merkle
/// proofs of transactions in blocks. Clones share one connection and what they know.
///
/// # What it checks, and what it cannot know
///
/// What the server says is checked as far as the protocol allows: headers have the work that they claim and connect up
/// to the tip, a confirmed transaction has a merkle proof, a transaction has the id that was asked for, and one that
/// spends the funding output satisfies its script. A chain with less work than the last one that was believed is refused,
/// compared from the newest header that both have. So while a node replaces blocks, for example after `invalidateblock`,
/// the tip and the view are errors until the new branch has as much work as the old one. If it never will, make a new
/// `ElectrumChain`.
///
/// What the server does *not* say cannot be checked: it can conceal a transaction or the newest blocks, and blocks without
/// the work of the real chain cost it little. Use your own.
///
/// # What an error means
///
/// Servers refuse a script with many transactions, and anyone can send to the script of a channel until they do. The view
/// does not need the history as long as the server lists the unspent outputs, or those as long as it lists the history.
/// If it lists neither, it cannot be known whether the funding output is spent, and [`view`](Chain::view) is an error that
/// says so; [`tip`](Chain::tip) and [`broadcast`](Chain::broadcast) go on working. (Of the known servers, Fulcrum alone can
/// be asked about the output itself, and is.) Run a server whose limit is out of an attacker's reach.
///
/// A refusal or a contradiction leaves the connection to the other channels. It breaks on silence, on an answer that
/// the protocol does not have, or when the server closes it. If that happens during a poll of one channel, the next
/// poll of this channel waits, not the connection. A call that comes before the next attempt is due is an error at
/// once.
///
/// Every call is cancel safe.
///
/// # Broadcasts
///
/// It takes one transaction at a time: a child can pay for a parent that a node relays on its own, and not for one
/// below the least feerate. A node's verdict is recognised in the words of electrs, `ElectrumX`, Fulcrum and the esplora
/// family; anything else that keeps a transaction from the node is an error.
///
/// The connection is plain TCP, for a server on the same machine or behind a tunnel.
#[derive(Clone)]
pub struct ElectrumChain {
    inner: Arc<ElectrumShared>,
    timeout: Duration,
    backoff: Backoff,
}

struct ElectrumShared {
    address: String,
    changes: watch::Sender<u64>,
    notifier: Arc<Notifier>,
    /// Held while a connection is made, so that there is one for all who ask.
    connecting: tokio::sync::Mutex<()>,
    connection: Mutex<LinkState>,
    known: Mutex<KnownHeaders>,
}

#[derive(Default)]
struct LinkState {
    link: Option<Arc<Link>>,
    pause: Pause,
}

#[derive(Default)]
struct KnownHeaders {
    /// An id commits to inputs and outputs, so neither these nor the innocent can change.
    outputs: HashMap<OutPoint, TxOut>,
    /// Transactions that do not spend the output, although they have to do with its script.
    innocent: HashSet<(OutPoint, Txid)>,
    /// The chain that was believed last.
    headers: Arc<Headers>,
    /// Funding outputs whose last poll cost the connection.
    paused: HashMap<OutPoint, Pause>,
}

impl ElectrumChain {
    /// Watches the chain through the server at this address, `host:port`. The party learns of every block, and of every
    /// transaction that concerns its funding output, when the server does.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self::with(address.into(), |changes| {
            Box::new(move || changes.send_modify(|serial| *serial += 1))
        })
    }

    /// As [`new`](Self::new), for a test that decides when the party polls the chain: after
    /// [`announce`](Self::announce).
    #[must_use]
    pub fn when_announced(address: impl Into<String>) -> Self {
        Self::with(address.into(), |_| Box::new(|| ()))
    }

    fn with(
        address: String,
        on_news: impl FnOnce(watch::Sender<u64>) -> Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let changes = watch::Sender::new(0);
        let inner = ElectrumShared {
            address,
            notifier: Arc::new(Notifier::new(on_news(changes.clone()))),
            changes,
            connecting: tokio::sync::Mutex::default(),
            connection: Mutex::default(),
            known: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            timeout: TIMEOUT,
            backoff: Backoff::default(),
        }
    }

    /// Sets the timeout of each call to the server; 20 seconds by default. A party's own timeout is 30 seconds.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The pause between two attempts to connect, counted from the start of the first. The next attempt is due at once if
    /// the connection lasted for at least the longest pause, or broke during a poll of one channel. In the second case the
    /// next poll of this channel waits instead, as long as a connection would.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Makes the party poll the chain.
    pub fn announce(&self) {
        self.inner.changes.send_modify(|serial| *serial += 1);
    }

    /// Returns the number of announcements: the party's [`Status::seen`](super::Status) reaches it.
    pub fn announced(&self) -> u64 {
        *self.inner.changes.borrow()
    }

    /// The work of a call on its connection.
    async fn on_link<T>(
        &self,
        call: &Call,
        link: &Arc<Link>,
        work: impl Future<Output = Result<T, ElectrumError>>,
    ) -> Result<T, ChainError> {
        let done = self.in_time(call, work).await;
        match &done {
            Ok(_) => self.inner.notifier.served(),
            Err(error) if error.ends_connection() => self.end(link, call.about, error),
            Err(_) => {}
        }
        done.map_err(|error| ChainError::new(call.task, error))
    }

    async fn in_time<T>(
        &self,
        call: &Call,
        work: impl Future<Output = Result<T, ElectrumError>>,
    ) -> Result<T, ElectrumError> {
        // On the heap: the future holds many calls, and would make the caller's future large.
        let done = timeout_at(call.deadline, Box::pin(work)).await;
        done.unwrap_or(Err(ElectrumError::Silent(self.timeout)))
    }

    async fn link(&self, call: &Call) -> Result<Arc<Link>, ChainError> {
        let link = self.in_time(call, self.inner.link(&self.backoff)).await;
        link.map_err(|error| ChainError::new(call.task, error))
    }

    /// Gives up a connection and what it may still bring. Then either the next connection waits, or the next poll of the
    /// channel that cost this one.
    fn end(&self, link: &Arc<Link>, about: Option<OutPoint>, why: &ElectrumError) {
        let mut connection = self.inner.connection();
        if connection.link.as_ref().is_some_and(|now| Arc::ptr_eq(now, link)) {
            connection.lose(&self.backoff, why, about.is_some());
        }
        drop(connection);
        if let Some(funding) = about {
            let mut known = self.inner.known();
            let pause = known.paused.entry(funding).or_default();
            pause.begin(&self.backoff);
            pause.failed(why);
        }
        self.inner.notifier.lost();
    }

    fn call(&self, task: &'static str) -> Call {
        Call {
            task,
            deadline: Instant::now() + self.timeout,
            about: None,
        }
    }
}

/// One call of the trait.
struct Call {
    task: &'static str,
    deadline: Instant,
    /// The channel that waits if this costs the connection.
    about: Option<OutPoint>,
}

impl Chain for ElectrumChain {
    async fn tip(&self) -> Result<Tip, ChainError> {
        let call = self.call(TIP);
        let link = self.link(&call).await?;
        let poll = async { self.inner.poll(&link, link.best().await?, None).await };
        Ok(self.on_link(&call, &link, poll).await?.tip)
    }

    async fn view(&self, Watched { funding, .. }: Watched) -> Result<ChainView, ChainError> {
        let call = self.call(VIEW);
        let paused = self.inner.check_paused(funding);
        paused.map_err(|error| ChainError::new(call.task, error))?;
        let link = self.link(&call).await?;
        // A connection that breaks before this is answered does not break because of the channel.
        let best = self.on_link(&call, &link, link.best()).await?;
        let about = Some(funding);
        let call = Call { about, ..call };
        let view = self
            .on_link(&call, &link, self.inner.poll(&link, best, about))
            .await?;
        self.inner.known().paused.remove(&funding);
        Ok(view)
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ChainError> {
        let call = self.call("broadcast a transaction");
        let link = self.link(&call).await?;
        self.on_link(&call, &link, link.broadcast(tx)).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}

impl ElectrumShared {
    /// The connection, reopened if it is closed and an attempt is due.
    async fn link(&self, backoff: &Backoff) -> Result<Arc<Link>, ElectrumError> {
        let _connecting = self.connecting.lock().await;
        {
            let mut connection = self.connection();
            if let Some(link) = connection.link.clone() {
                if link.is_open() {
                    return Ok(link);
                }
                connection.lose(backoff, &link.end(), false);
            }
            if let Some((left, why)) = connection.pause.left() {
                let address = self.address.clone();
                return Err(ElectrumError::Waiting { address, why, left });
            }
            connection.pause.begin(backoff);
        }
        let link = Link::connect(&self.address, Arc::clone(&self.notifier)).await;
        let mut connection = self.connection();
        let link = link.inspect_err(|error| connection.pause.failed(error))?;
        Ok(Arc::clone(connection.link.insert(Arc::new(link))))
    }

    fn check_paused(&self, funding: OutPoint) -> Result<(), ElectrumError> {
        let left = self.known().paused.get(&funding).and_then(Pause::left);
        left.map_or(Ok(()), |(left, why)| {
            Err(ElectrumError::ChannelPaused { funding, why, left })
        })
    }

    // A panic elsewhere leaves neither of the two half changed: entries are inserted whole.

    fn connection(&self) -> MutexGuard<'_, LinkState> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, KnownHeaders> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkState {
    fn lose(&mut self, backoff: &Backoff, why: &ElectrumError, forgiven: bool) {
        let lasted = self.link.take().is_some_and(|link| link.age() >= backoff.most);
        self.pause.failed(why);
        if forgiven || lasted {
            self.pause.over();
        }
    }
}

impl Link {
    /// Gives a transaction to the network; the node's words if it is rejected.
    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ElectrumError> {
        let txid = tx.compute_txid();
        let params = json!([serialize_hex(tx)]);
        match self
            .ask::<Txid>("blockchain.transaction.broadcast", params)
            .await?
        {
            Ok(taken) if taken == txid => Ok(None),
            Ok(other) => {
                let reason = format!("it received {txid}, but says that it accepted {other}");
                Err(ElectrumError::Contradiction(reason))
            }
            Err(refusal) => words::verdict(refusal),
        }
    }
}
