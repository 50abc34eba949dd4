//! A payer's process: its channels, its node and its connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{anyhow, bail, Result};
use bitcoin::OutPoint;
use spilman::channel::{KeyRole, Notice, RefusalReason, Stage};
use spilman::service::{
    BitcoindChain, Chain, ChannelManager, ChannelManagerBuilder, ManagerObserver, PayeeConnection,
    PayerHandle, Report, ResumeError, Status,
};
use spilman::store::{ChannelName, SqliteStore, StoredChannel};
use tokio::net::TcpStream;

use crate::cli::party::channels;
use crate::cli::party::data::DataDir;
use crate::cli::party::node::{Node, NodeArgs};
use crate::cli::party::report::line;
use crate::cli::party::wallet::Wallet;
use crate::cli::party::Progress;

/// How long a payee may take to connect and to say hello.
const HELLO: Duration = Duration::from_secs(15);
/// How often to tell how a wait goes on.
const TELL: Duration = Duration::from_millis(500);

pub struct Session {
    pub data: Arc<DataDir>,
    pub node: Node,
    pub chain: BitcoindChain,
    pub store: Arc<SqliteStore>,
    pub manager: ChannelManager<BitcoindChain>,
    pub wallet: Wallet,
    pub quiet: bool,
    /// Where the payee is of the channel that is being opened.
    pub opening: Arc<Mutex<String>>,
    /// One opening at a time: two would spend the same coins.
    pub opens: tokio::sync::Mutex<()>,
    connections: tokio::sync::Mutex<HashMap<String, PayeeConnection>>,
    /// Held while a channel is being resumed: of two connections for one channel, the second would end the first.
    resuming: tokio::sync::Mutex<HashMap<OutPoint, Arc<tokio::sync::Mutex<()>>>>,
    numbers: AtomicU16,
}

impl Session {
    /// Starts all channels of the folder.
    pub async fn start(data: DataDir, node: &NodeArgs, quiet: bool) -> Result<Self> {
        let node = node.ready(&mut Progress::new(quiet)).await?;
        data.belongs_to(&node).await?;
        let (store, data) = (data.store()?, Arc::new(data));
        let chain = node.chain();
        let wallet = data.wallet(node.network)?;
        let opening = Arc::new(Mutex::default());
        let manager = ChannelManagerBuilder::new(store.clone(), data.keys(), wallet.script())
            .backoff(node.backoff())
            .observer(observer(Arc::clone(&data), Arc::clone(&opening), quiet))
            .start(chain.clone())
            .await?;
        Ok(Self {
            data,
            node,
            chain,
            store,
            manager,
            wallet,
            quiet,
            opening,
            opens: tokio::sync::Mutex::default(),
            connections: tokio::sync::Mutex::default(),
            resuming: tokio::sync::Mutex::default(),
            numbers: AtomicU16::new(1),
        })
    }

    /// A number for a channel that no other channel of this process has.
    pub fn next_number(&self) -> u16 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub fn progress(&self) -> Progress {
        Progress::new(self.quiet)
    }

    pub async fn channels(&self) -> Result<Vec<StoredChannel>> {
        super::payer_channels(&*self.store).await
    }

    /// Finds a channel that runs.
    pub async fn find(&self, name: Option<&str>) -> Result<Arc<PayerHandle>> {
        let running: Vec<_> = self.manager.payers();
        let funding = running.iter().map(|payer| payer.funding().outpoint()).collect();
        let chosen = match (channels::choose(funding, name), name) {
            (Err(error), Some(_)) => {
                // One that is over explains more than that it does not run.
                let all = self
                    .channels()
                    .await?
                    .iter()
                    .map(|channel| channel.name().funding)
                    .collect();
                channels::choose(all, name).map_err(|_| error)?
            }
            (chosen, _) => chosen?,
        };
        match self.manager.payer(chosen) {
            Some(payer) => Ok(payer),
            None => bail!("the channel {chosen} is over: see `spilman payer status`"),
        }
    }

    /// Connects to a payee, or returns the connection to it.
    pub async fn connect(&self, address: &str) -> Result<(PayeeConnection, bool)> {
        let mut connections = self.connections.lock().await;
        if let Some(connection) = connections.get(address) {
            return Ok((connection.clone(), true));
        }
        let connection = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            anyhow::Ok(PayeeConnection::new(stream).await?)
        };
        let Ok(connection) = tokio::time::timeout(HELLO, connection).await else {
            bail!("no answer from the payee at {address} within {HELLO:?}: is it a spilman payee?");
        };
        let connection = connection.map_err(|error| {
            anyhow!("cannot reach the payee at {address}: {error}; is `spilman payee serve` running there?")
        })?;
        connections.insert(address.to_owned(), connection.clone());
        Ok((connection, false))
    }

    /// The connection has ended, or so it seems.
    pub async fn forget(&self, address: &str) {
        self.connections.lock().await.remove(address);
    }

    /// Goes on with a channel, if its payee is not connected.
    pub async fn resume(&self, payer: &PayerHandle, payee: Option<&str>) -> Result<()> {
        let funding = payer.funding().outpoint();
        let turn = Arc::clone(self.resuming.lock().await.entry(funding).or_default());
        let _turn = turn.lock().await;
        if payer.status().borrow().connected {
            return Ok(());
        }
        let address = match payee {
            Some(address) => address.to_owned(),
            None => self.data.payee_of(&name_of(funding))?,
        };
        loop {
            let (connection, is_old) = self.connect(&address).await?;
            match payer.resume(&connection).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.forget(&address).await;
                    if !is_old {
                        let context =
                            format!("cannot resume the channel {funding} with the payee at {address}");
                        return Err(anyhow::Error::from(error).context(context));
                    }
                }
            }
        }
    }

    /// Waits for a stage, and says at every block what is waited for. A channel that ends is no error here.
    pub async fn wait(&self, payer: &PayerHandle, stages: &[Stage], what: &str) -> Result<()> {
        let mut status = payer.status();
        let mut progress = self.progress();
        loop {
            let reached = async {
                let is_reached = |status: &Status| {
                    let is_over = status.outcome.is_some() || status.stage == Stage::Closed;
                    is_over || stages.contains(&status.stage) || status.store_failed.is_some()
                };
                // An error means that the task has ended.
                drop(status.wait_for(is_reached).await);
            };
            if tokio::time::timeout(TELL, reached).await.is_ok() {
                break;
            }
            self.stay_connected(payer, stages).await?;
            self.tell(&mut progress, what).await;
        }
        match &payer.status().borrow().store_failed {
            Some(reason) => bail!("the store failed: {reason}"),
            None => Ok(()),
        }
    }

    /// Returns when the payee has said what is awaited: only a connected payer hears it.
    async fn stay_connected(&self, payer: &PayerHandle, stages: &[Stage]) -> Result<()> {
        let unknown = RefusalReason::UnknownChannel;
        if stages.is_empty() {
            return Ok(());
        }
        match self.resume(payer, None).await {
            Err(error) => match error.downcast_ref() {
                Some(ResumeError::PeerRefused { reason }) if *reason == unknown => Err(error),
                // The payee may be about to come back.
                _ => Ok(()),
            },
            Ok(()) => Ok(()),
        }
    }

    async fn tell(&self, progress: &mut Progress, what: &str) {
        match self.chain.tip().await {
            Ok(tip) => progress.say(format!("height {}: {what}", tip.height.to_consensus_u32())),
            Err(error) => progress.say(format!("{error}; {what}")),
        }
    }
}

pub const fn name_of(funding: OutPoint) -> ChannelName {
    let role = KeyRole::Payer;
    ChannelName { funding, role }
}

/// Writes the backup before the funding transaction leaves, and shows what happens.
fn observer(data: Arc<DataDir>, opening: Arc<Mutex<String>>, quiet: bool) -> ManagerObserver {
    Arc::new(move |channel, report| {
        if let Report::Stored(stored) = &report {
            let payee = opening.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Err(error) = data.keep(stored, &payee) {
                eprintln!("the backup of the refund was not written: {error:#}; use `spilman payer backup`");
            }
        }
        // The command says itself what it has paid.
        let is_payment = matches!(report, Report::Notice(Notice::PaymentAccepted(_)));
        if !quiet && !is_payment {
            eprintln!("{}", line(&report).render(channel, false));
        }
    })
}
