#[cfg(feature = "electrs")]
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction};
use tokio::sync::watch;

use super::error::ScenarioError;
use crate::channel::{ChainView, CpfpPackage, Tip};
#[cfg(feature = "electrs")]
use crate::regtest::Electrs;
use crate::regtest::{Regtest, RegtestBuilder};
#[cfg(feature = "electrs")]
use crate::service::ElectrumChain;
use crate::service::{BitcoindChain, Chain, ChainError};

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

/// One party's view of the chain, which polls when told to.
#[derive(Clone)]
pub(super) enum PartyChain {
    Node(BitcoindChain),
    #[cfg(feature = "electrs")]
    Electrs(ElectrumChain, Arc<Electrs>),
}

impl PartyChain {
    /// Returns the view of a chain that was started for it.
    #[cfg_attr(not(feature = "electrs"), allow(clippy::unnecessary_wraps))]
    pub fn of(chain: &Regtest) -> Result<Self, ScenarioError> {
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

    /// Tells the party to poll, once its source has caught up with the node.
    #[cfg_attr(not(feature = "electrs"), allow(clippy::unnecessary_wraps))]
    pub fn announce(&self) -> Result<(), ScenarioError> {
        match self {
            Self::Node(chain) => chain.announce(),
            #[cfg(feature = "electrs")]
            Self::Electrs(chain, electrs) => {
                electrs.catch_up()?;
                chain.announce();
            }
        }
        Ok(())
    }

    pub fn announced(&self) -> u64 {
        match self {
            Self::Node(chain) => chain.announced(),
            #[cfg(feature = "electrs")]
            Self::Electrs(chain, _) => chain.announced(),
        }
    }
}

impl Chain for PartyChain {
    async fn tip(&self) -> Result<Tip, ChainError> {
        match self {
            Self::Node(chain) => chain.tip().await,
            #[cfg(feature = "electrs")]
            Self::Electrs(chain, _) => chain.tip().await,
        }
    }

    async fn view(&self, funding: OutPoint) -> Result<ChainView, ChainError> {
        match self {
            Self::Node(chain) => chain.view(funding).await,
            #[cfg(feature = "electrs")]
            Self::Electrs(chain, _) => chain.view(funding).await,
        }
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ChainError> {
        match self {
            Self::Node(chain) => chain.broadcast(tx).await,
            #[cfg(feature = "electrs")]
            Self::Electrs(chain, _) => chain.broadcast(tx).await,
        }
    }

    async fn broadcast_package(&self, package: &CpfpPackage) -> Result<Option<String>, ChainError> {
        match self {
            Self::Node(chain) => chain.broadcast_package(package).await,
            #[cfg(feature = "electrs")]
            Self::Electrs(chain, _) => chain.broadcast_package(package).await,
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        match self {
            Self::Node(chain) => chain.changes(),
            #[cfg(feature = "electrs")]
            Self::Electrs(chain, _) => chain.changes(),
        }
    }
}
