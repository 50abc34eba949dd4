mod bounds;
mod builder;
mod guarded;
mod raise;
mod randomness;
mod registry;
mod restart;
mod serve;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bitcoin::{OutPoint, ScriptBuf};
use tokio::io::{AsyncRead, AsyncWrite};

use super::chain::Chain;
use super::connection::Connection;
use super::guard::catch;
use super::handle::{PayeeHandle, PayerHandle};
use super::open::{keep_payer, open_as_payer};
use super::open_error::OpenError;
use super::report::{Observer, Report};
use super::setup::{Proposal, Setup};
use super::trace::in_opening;
use super::wallet::Wallet;
use super::watcher::Watcher;
use crate::channel::KeyRole;
use crate::store::ChannelName;
pub use bounds::Bounds;
use bounds::Room;
pub use builder::ChannelManagerBuilder;
use registry::Registry;
pub use restart::RestartError;

/// All channels of a store, running: those that it held when the process started, and those opened since.
///
/// A copy is the same manager. Parties run in their own tasks and go on when the last copy is dropped.
///
/// One process runs one manager for a store. A party that runs twice would contradict itself; the store notices, and ends
/// the slower one.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use bitcoin::ScriptBuf;
/// use spilman::channel::ChannelKeys;
/// use spilman::service::{Chain, ChannelManagerBuilder};
/// use spilman::store::Store;
/// use tokio::net::TcpListener;
///
/// /// Takes payments from every payer that connects, and continues the channels of earlier processes.
/// async fn serve<C: Chain + Clone>(
///     store: Arc<dyn Store>,
///     keys: ChannelKeys,
///     payout: ScriptBuf,
///     chain: C,
/// ) -> Result<(), Box<dyn std::error::Error>> {
///     let manager = ChannelManagerBuilder::new(store, keys, payout).start(chain).await?;
///     for payee in manager.payees() {
///         println!("{} holds {}", payee.funding().outpoint(), payee.status().borrow().paid);
///     }
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     match manager.serve(listener).await {}
/// }
/// ```
pub struct ChannelManager<C>(Arc<Inner<C>>);

impl<C> Clone for ChannelManager<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<C> {
    chain: Watcher<C>,
    parts: ChannelManagerBuilder,
    registry: Arc<Registry>,
    connections: Arc<Room>,
    /// Connections that are refused.
    refusals: Arc<Room>,
    unfunded: Arc<Room>,
}

/// Receives the reports of all parties of a [`ChannelManager`], each with the name of its channel. A channel that is being
/// opened has none yet. Called from the party's task, so it should return quickly.
pub type ManagerObserver = Arc<dyn Fn(Option<&ChannelName>, Report<'_>) + Send + Sync>;

impl<C: Chain + Clone> ChannelManager<C> {
    /// Returns the payers that run.
    #[must_use]
    pub fn payers(&self) -> Vec<Arc<PayerHandle>> {
        self.0.registry.payers()
    }

    /// Returns the payees that run.
    #[must_use]
    pub fn payees(&self) -> Vec<Arc<PayeeHandle>> {
        self.0.registry.payees()
    }

    /// Returns the payer of the channel with this funding output, if it runs.
    #[must_use]
    pub fn payer(&self, funding: OutPoint) -> Option<Arc<PayerHandle>> {
        self.0.registry.payer(funding)
    }

    /// Returns the payee of the channel with this funding output, if it runs.
    #[must_use]
    pub fn payee(&self, funding: OutPoint) -> Option<Arc<PayeeHandle>> {
        self.0.registry.payee(funding)
    }

    /// Opens a channel as the payer, with a fresh key. Apart from that, it does what [`Setup::open`] does, and is as cancel
    /// safe. `io` is a new connection, or the stream of a channel of a [`PayeeConnection`](super::PayeeConnection).
    ///
    /// # Errors
    /// As [`Setup::open`]. After [`OpenError::FundingRejected`], [`ChannelManager::payer`] still has the party.
    pub async fn open<IO, W>(
        &self,
        io: IO,
        proposal: Proposal,
        wallet: W,
    ) -> Result<Arc<PayerHandle>, OpenError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        W: Wallet,
    {
        let (setup, id) = (self.0.setup(KeyRole::Payer)?, proposal.id);
        let (connection, chain) = (Connection::new(io), self.0.chain.clone());
        let opening = async {
            let opened = open_as_payer(connection, chain, setup, proposal, wallet).await?;
            let registry = &self.0.registry;
            let (handle, launch) = registry.add_payer(opened.funding(), |on_end| opened.spawn(on_end));
            keep_payer(&handle, launch).await?;
            Ok(handle)
        };
        Box::pin(in_opening(id, opening)).await
    }

    /// Serves one connection of a peer, as the payee: channels that it opens, and channels that it resumes. Returns when the
    /// connection is over, or one party has it alone. `peer` counts against what one peer may have ([`Bounds`]); without it,
    /// only the bounds on all of them count.
    pub async fn accept<IO>(&self, io: IO, peer: Option<IpAddr>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Box::pin(self.0.serve(io, peer)).await;
    }
}

impl<C> Inner<C> {
    /// What this side brings to a new channel.
    fn setup(&self, role: KeyRole) -> Result<Setup, OpenError> {
        let (key_id, key) = self.parts.random.key(&self.parts.keys, role)?;
        let observer = observer(&self.parts.observer, None);
        Ok(self.parts.setup(key, key_id, self.parts.payout()?, observer))
    }
}

/// The observer of one channel. It learns the name from what is reported before anything else of the channel is.
fn observer(observer: &ManagerObserver, name: Option<ChannelName>) -> Observer {
    let observer = Arc::clone(observer);
    let known = name.map_or_else(OnceLock::new, OnceLock::from);
    Arc::new(move |report| {
        if let Report::Stored(channel) = &report {
            known.get_or_init(|| channel.name());
        }
        observer(known.get(), report);
    })
}

/// Where what is due to this side goes.
type Payouts = Arc<dyn Fn() -> ScriptBuf + Send + Sync>;

fn next(payouts: &Payouts) -> Result<ScriptBuf, OpenError> {
    catch(|| payouts()).map_err(|panicked| OpenError::Payout(panicked.message))
}
