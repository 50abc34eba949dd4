use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use tokio::sync::watch;

use super::chain::{Chain, ChainError};
use crate::channel::{ChainView, Tip};
use error::ElectrumError;
use link::{Link, OnNews};

mod error;
mod link;
mod look;
mod proof;

/// How long a server may take for an answer, unless told otherwise. Shorter than what a party gives its chain.
const PATIENCE: Duration = Duration::from_secs(20);

/// An [electrum](https://electrum-protocol.readthedocs.io) server as a party's view of the chain, without RPC access to
/// a node. Connects when it is first asked, and again whenever the connection broke.
///
/// What the server says is checked as far as the protocol allows: headers have the work that they claim and connect up
/// to the tip, a confirmed transaction has a merkle proof, a transaction has the id that was asked for, and one that
/// spends the funding output satisfies its script. What it does *not* say cannot be checked: a server can conceal a
/// transaction or the newest blocks, and blocks without the work of the real chain cost it little. Use your own.
///
/// It takes one transaction at a time: a child can pay for a parent that a node relays by itself, and not for one that is
/// below the least feerate.
///
/// The connection is plain TCP, for a server on the same machine or behind a tunnel.
#[derive(Clone)]
pub struct ElectrumChain {
    inner: Arc<Inner>,
    patience: Duration,
}

struct Inner {
    address: String,
    changes: watch::Sender<u64>,
    on_news: OnNews,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    known: Mutex<Known>,
}

/// What cannot change any more: an id commits to inputs and outputs.
#[derive(Default)]
struct Known {
    outputs: HashMap<OutPoint, TxOut>,
    /// Transactions that do not spend the output, although they have to do with its script.
    innocent: HashSet<(OutPoint, Txid)>,
}

impl ElectrumChain {
    /// Watches the chain through the server at this address, `host:port`. The party hears of every block, and of every
    /// transaction that concerns its funding output, when the server does.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self::with(address.into(), |changes| {
            Arc::new(move || changes.send_modify(|serial| *serial += 1))
        })
    }

    /// The same for a test that decides who hears of a block, and when: the party looks at the chain after
    /// [`announce`](Self::announce).
    #[must_use]
    pub fn when_announced(address: impl Into<String>) -> Self {
        Self::with(address.into(), |_| Arc::new(|| ()))
    }

    fn with(address: String, on_news: impl FnOnce(watch::Sender<u64>) -> OnNews) -> Self {
        let changes = watch::Sender::new(0);
        let inner = Inner {
            address,
            on_news: on_news(changes.clone()),
            changes,
            link: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            patience: PATIENCE,
        }
    }

    /// How long each call waits for the server, 20 seconds unless told otherwise. A party gives up on any chain after
    /// 30 seconds.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Tells the party to look at the chain.
    pub fn announce(&self) {
        self.inner.changes.send_modify(|serial| *serial += 1);
    }

    /// How often there was something to look at: the party's [`Status::seen`](super::Status) comes up to it.
    #[must_use]
    pub fn announced(&self) -> u64 {
        *self.inner.changes.borrow()
    }

    async fn in_time<T>(
        &self,
        task: &'static str,
        answer: impl Future<Output = Result<T, ElectrumError>>,
    ) -> Result<T, ChainError> {
        // The answer is made of many calls, and whoever waits for it should not have to carry them all.
        let answer = tokio::time::timeout(self.patience, Box::pin(answer)).await;
        let answer = answer.unwrap_or(Err(ElectrumError::Silent(self.patience)));
        if answer.is_err() {
            // A server that is wrong once, or late, gets a new connection, without what the old one still brings.
            *self.inner.link.lock().await = None;
        }
        answer.map_err(|error| ChainError::new(task, error))
    }
}

impl Chain for ElectrumChain {
    async fn tip(&self) -> Result<Tip, ChainError> {
        let view = self.in_time("read the tip", self.inner.look(None)).await?;
        Ok(view.tip)
    }

    async fn view(&self, funding: OutPoint) -> Result<ChainView, ChainError> {
        self.in_time("look at the chain", self.inner.look(Some(funding)))
            .await
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ChainError> {
        self.in_time("broadcast a transaction", self.inner.broadcast(tx))
            .await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}

impl Inner {
    /// The connection, made anew if there is none.
    async fn link(&self) -> Result<Arc<Link>, ElectrumError> {
        let mut link = self.link.lock().await;
        if let Some(open) = link.as_ref().filter(|link| link.is_open()) {
            return Ok(Arc::clone(open));
        }
        let new = Link::connect(&self.address, Arc::clone(&self.on_news)).await?;
        Ok(Arc::clone(link.insert(Arc::new(new))))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Whole entries are put in, so that a panic elsewhere leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
