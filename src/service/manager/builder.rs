use std::sync::Arc;
use std::time::Duration;

use bitcoin::ScriptBuf;
use tokio::sync::watch;

use super::bounds::{Bounds, Room};
use super::raise::{start_raising, StartRaising, Work};
use super::randomness::Randomness;
use super::registry::Registry;
use super::{next, ChannelManager, Inner, ManagerObserver, Payouts, RestartError};
use crate::channel::{ChannelKey, ChannelKeys, KeyId, Limits};
use crate::service::backoff::Backoff;
use crate::service::chain::Chain;
use crate::service::fees::{FeeBudget, Fees};
use crate::service::guard::catch;
use crate::service::keys::KeyReuse;
use crate::service::open_error::OpenError;
use crate::service::report::Observer;
use crate::service::session::Pace;
use crate::service::setup::Setup;
use crate::service::timing::{OPENING_TIMEOUT, STALE, WALLET_TIMEOUT};
use crate::service::wallet::ChildSigner;
use crate::service::watcher::Watcher;
use crate::store::Store;

/// How many connections are told at a time that there are too many.
const REFUSALS: usize = 16;

/// What a [`ChannelManager`] is made of. Everything but the store, the keys and the payout has a default.
#[derive(Clone)]
pub struct ChannelManagerBuilder {
    pub(super) store: Arc<dyn Store>,
    pub(super) keys: ChannelKeys,
    payouts: Payouts,
    limits: Limits,
    pub(super) observer: ManagerObserver,
    pub(super) bounds: Bounds,
    pub(super) opening_timeout: Duration,
    pub(super) wallet_timeout: Duration,
    pub(super) pace: Pace,
    raising: Option<StartRaising>,
    pub(super) random: Randomness,
}

impl ChannelManagerBuilder {
    /// Takes the store, the seed of the channels' keys, and the script that receives what is due to this side.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, keys: ChannelKeys, payout: ScriptBuf) -> Self {
        Self {
            store,
            keys,
            payouts: Arc::new(move || payout.clone()),
            limits: Limits::default(),
            observer: Arc::new(|_, _| {}),
            bounds: Bounds::default(),
            opening_timeout: OPENING_TIMEOUT,
            wallet_timeout: WALLET_TIMEOUT,
            pace: Pace::new(Backoff::default(), STALE),
            raising: None,
            random: Randomness::default(),
        }
    }

    /// Sets where a new script for each channel comes from, in place of one for all.
    #[must_use]
    pub fn payouts(self, payouts: impl Fn() -> ScriptBuf + Send + Sync + 'static) -> Self {
        let payouts = Arc::new(payouts);
        Self { payouts, ..self }
    }

    /// Sets what this side agrees to. The default is [`Limits::default`].
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets how much peers may ask for. The default is [`Bounds::default`].
    #[must_use]
    pub fn bounds(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Sets what receives the reports of all parties. The default is nothing.
    #[must_use]
    pub fn observer(self, observer: ManagerObserver) -> Self {
        Self { observer, ..self }
    }

    /// Sets how long to wait for each message of an opening. The default is [`OPENING_TIMEOUT`].
    #[must_use]
    pub fn opening_timeout(self, opening_timeout: Duration) -> Self {
        Self {
            opening_timeout,
            ..self
        }
    }

    /// Sets how long a payer's wallet, or the signer of a child, may take. The default is [`WALLET_TIMEOUT`].
    #[must_use]
    pub fn wallet_timeout(self, wallet_timeout: Duration) -> Self {
        Self {
            wallet_timeout,
            ..self
        }
    }

    /// Sets how long to wait after a poll of the chain, or a broadcast, that failed. The default is [`Backoff::default`].
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        let pace = Pace { backoff, ..self.pace };
        Self { pace, ..self }
    }

    /// Sets the time without a new block after which each party reports it. The default is three hours.
    #[must_use]
    pub fn stale_after(self, stale_after: Duration) -> Self {
        let pace = Pace {
            stale_after,
            ..self.pace
        };
        Self { pace, ..self }
    }

    /// Raises the feerate of settlements and refunds that are not in a block yet, with children that `signer` signs: towards
    /// what `fees` says, the more so the fewer blocks are left, and never above the budget. Without it, fees stay as they
    /// were agreed, unless you call `bump`.
    ///
    /// A child spends this side's output, and pays the rest to the script of that output. Whatever keeps a child from being
    /// made is reported ([`Report::NotRaised`](super::Report)), and tried again.
    #[must_use]
    pub fn raise_fees<F, S>(self, fees: F, signer: S, budget: FeeBudget) -> Self
    where
        F: Fees,
        S: ChildSigner + Clone + Sync + 'static,
    {
        let raising = Some(start_raising(fees, signer, budget));
        Self { raising, ..self }
    }

    /// Sets where ids of keys, nonces and what connections say hello with come from, in place of the operating system: for
    /// published transcripts, which are the same in every run.
    #[cfg(feature = "scenario")]
    #[must_use]
    pub(crate) fn published(self, draw: impl Fn(&'static str) -> [u8; 32] + Send + Sync + 'static) -> Self {
        let random = Randomness::Published(Arc::new(draw));
        Self { random, ..self }
    }

    /// Starts the party of every channel of the store that is not over. Each runs without its peer at first: a payer refunds
    /// when the lock has passed, and a payee settles when the closing margin begins.
    ///
    /// # Errors
    /// If the store cannot be read, or a channel in it is damaged or belongs to another seed. No party is started then.
    pub async fn start<C: Chain + Clone>(self, chain: C) -> Result<ChannelManager<C>, RestartError> {
        let channels = self.store.load().await?;
        let open = channels.into_iter().filter(|channel| !channel.state.is_over());
        let bounds = self.bounds;
        let manager = Inner {
            chain: Watcher::new(chain),
            registry: Arc::new(Registry::default()),
            connections: Room::new(bounds.connections, bounds.connections_per_peer),
            refusals: Room::new(REFUSALS, REFUSALS),
            unfunded: Room::new(bounds.unfunded_channels, bounds.unfunded_channels_per_peer),
            parts: self,
        };
        let restored = open.map(|channel| manager.restore(channel));
        for party in restored.collect::<Result<Vec<_>, _>>()? {
            manager.restart(party);
        }
        if let Some(start) = &manager.parts.raising {
            // Without news it looks now and then.
            let changes = catch(|| manager.chain.changes()).unwrap_or_else(|_| watch::channel(0).1);
            start(Work {
                registry: Arc::clone(&manager.registry),
                changes,
                observer: Arc::clone(&manager.parts.observer),
            });
        }
        Ok(ChannelManager(Arc::new(manager)))
    }

    pub(super) fn payout(&self) -> Result<ScriptBuf, OpenError> {
        next(&self.payouts)
    }

    pub(super) fn setup(
        &self,
        key: ChannelKey,
        key_id: KeyId,
        payout: ScriptBuf,
        observer: Observer,
    ) -> Setup {
        Setup::new(key, payout)
            .limits(self.limits.clone())
            .observer(observer)
            .opening_timeout(self.opening_timeout)
            .wallet_timeout(self.wallet_timeout)
            .backoff(self.pace.backoff)
            .stale_after(self.pace.stale_after)
            .store(Arc::clone(&self.store), key_id)
            // 16 random bytes come once, and a record of all keys would grow with every peer that asks for one.
            .key_reuse(KeyReuse::Allow)
            .nonces(Some(self.random.nonces()))
    }
}
