use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::Transaction;
use tokio::sync::watch;

use super::error::ScenarioError;
use crate::channel::{ChainView, CpfpPackage, Tip};
#[cfg(feature = "electrs")]
use crate::regtest::Electrs;
use crate::regtest::{Regtest, RegtestBuilder};
#[cfg(feature = "electrs")]
use crate::service::ElectrumChain;
use crate::service::{BitcoindChain, Chain, ChainError, Watched};

/// How the parties of a scenario see the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ChainSource {
    /// The RPC of the node.
    #[default]
    Node,
    /// An electrum server beside the node (feature `electrs`).
    #[cfg(feature = "electrs")]
    Electrs,
}

impl ChainSource {
    pub(super) fn start(self, chain: RegtestBuilder) -> Result<Regtest, ScenarioError> {
        let chain = match self {
            Self::Node => chain,
            #[cfg(feature = "electrs")]
            Self::Electrs => chain.electrs(true),
        };
        Ok(chain.start()?)
    }
}

/// One party's view of the chain, which changes when told to, and at no other time. A party also polls by a timer, and on
/// a machine that is busy enough that happens while a story mines: what the party then did would differ between two runs.
#[derive(Clone)]
pub(super) struct PartyChain {
    source: PartySource,
    /// The view since the announcement of this number.
    last: Arc<Mutex<Option<(u64, ChainView)>>>,
    /// Called instead of the next broadcast, which never ends: the party loses its power.
    cut: Arc<Mutex<Option<Cut>>>,
}

type Cut = Box<dyn FnOnce(&Transaction) + Send>;

#[derive(Clone)]
enum PartySource {
    Node(BitcoindChain),
    #[cfg(feature = "electrs")]
    Electrs(ElectrumChain, Arc<Electrs>),
}

/// Runs the same on whichever source it is.
macro_rules! of_source {
    ($self:ident, $chain:ident => $result:expr) => {
        match &$self.source {
            PartySource::Node($chain) => $result,
            #[cfg(feature = "electrs")]
            PartySource::Electrs($chain, _) => $result,
        }
    };
}

impl PartyChain {
    /// Returns the view of a chain that was started for it.
    #[cfg_attr(not(feature = "electrs"), allow(clippy::unnecessary_wraps))]
    pub fn of(chain: &Regtest) -> Result<Self, ScenarioError> {
        Ok(Self {
            source: PartySource::of(chain)?,
            last: Arc::default(),
            cut: Arc::default(),
        })
    }

    /// Takes what happens instead of the next broadcast.
    pub fn cut_at_broadcast(&self, cut: impl FnOnce(&Transaction) + Send + 'static) {
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(cut));
    }

    /// Tells the party to poll, once its source has caught up with the node.
    #[cfg_attr(not(feature = "electrs"), allow(clippy::unnecessary_wraps))]
    pub fn announce(&self) -> Result<(), ScenarioError> {
        #[cfg(feature = "electrs")]
        if let PartySource::Electrs(_, electrs) = &self.source {
            electrs.catch_up()?;
        }
        of_source!(self, chain => chain.announce());
        Ok(())
    }

    pub fn announced(&self) -> u64 {
        of_source!(self, chain => chain.announced())
    }

    fn last(&self) -> MutexGuard<'_, Option<(u64, ChainView)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartySource {
    #[cfg_attr(not(feature = "electrs"), allow(clippy::unnecessary_wraps))]
    fn of(chain: &Regtest) -> Result<Self, ScenarioError> {
        #[cfg(feature = "electrs")]
        if let Some(electrs) = chain.electrs() {
            let view = ElectrumChain::when_announced(electrs.address().to_string());
            electrs.catch_up()?;
            return Ok(Self::Electrs(view, Arc::clone(electrs)));
        }
        Ok(Self::Node(BitcoindChain::when_announced(
            chain.node().new_client(),
        )))
    }
}

impl Chain for PartyChain {
    async fn tip(&self) -> Result<Tip, ChainError> {
        of_source!(self, chain => chain.tip().await)
    }

    async fn view(&self, watched: Watched) -> Result<ChainView, ChainError> {
        let announced = self.announced();
        let last = self.last().clone().filter(|(since, _)| *since == announced);
        if let Some((_, view)) = last {
            return Ok(view);
        }
        let view = of_source!(self, chain => chain.view(watched).await)?;
        *self.last() = Some((announced, view.clone()));
        Ok(view)
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ChainError> {
        let cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(cut) = cut {
            cut(tx);
            std::future::pending::<()>().await;
        }
        of_source!(self, chain => chain.broadcast(tx).await)
    }

    async fn broadcast_package(&self, package: &CpfpPackage) -> Result<Option<String>, ChainError> {
        of_source!(self, chain => chain.broadcast_package(package).await)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        of_source!(self, chain => chain.changes())
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Amount;

    use super::*;
    use crate::regtest::CoinKind;

    #[test]
    fn a_party_sees_nothing_that_was_not_announced() {
        let mut regtest = Regtest::start().unwrap();
        let coin = regtest.fund(Amount::from_sat(10_000), CoinKind::Segwit).unwrap();
        let chain = PartyChain::of(&regtest).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let seen = || {
            let view = runtime.block_on(chain.view(coin.outpoint.into()));
            view.unwrap().confirmations
        };
        assert_eq!(seen(), 1);
        regtest.mine(2).unwrap();
        assert_eq!(seen(), 1);
        chain.announce().unwrap();
        assert_eq!(seen(), 3);
    }
}
