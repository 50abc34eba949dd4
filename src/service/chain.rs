use std::error::Error as StdError;
use std::future::Future;

use bitcoin::{OutPoint, Transaction};
use thiserror::Error;
use tokio::sync::watch;

use super::guard::catch_async;
use super::timing::CHAIN_TIMEOUT;
use crate::channel::{ChainView, CpfpPackage, Tip};

/// All that a party knows of the chain, and all that it can do there.
///
/// Safety decisions rest on what this says and on nothing else: no clock is read.
///
/// A call that takes longer than 30 s is dropped and counts as failed. So every future has to be cancel safe: dropping
/// it must leave the implementation ready for the next call. A transaction whose broadcast was dropped may have reached
/// the network or not; the party allows for both. A panic counts as a failure, too.
pub trait Chain: Send + Sync + 'static {
    /// The chain's end.
    fn tip(&self) -> impl Future<Output = Result<Tip, ChainError>> + Send;

    /// The chain as far as the channel with this funding output is concerned. If this fails and [`Chain::tip`] does not, the
    /// party still acts on its locks.
    fn view(&self, funding: OutPoint) -> impl Future<Output = Result<ChainView, ChainError>> + Send;

    /// Gives a transaction to the network: `None` if it was taken (or known already), otherwise the reason
    /// in the node's words.
    fn broadcast(&self, tx: &Transaction) -> impl Future<Output = Result<Option<String>, ChainError>> + Send;

    /// Gives a parent with its child to the network: `None` if both were taken, otherwise the reason.
    ///
    /// Unless the chain knows better, one after the other, which helps only if the parent alone is not below what nodes
    /// relay.
    fn broadcast_package(
        &self,
        package: &CpfpPackage,
    ) -> impl Future<Output = Result<Option<String>, ChainError>> + Send {
        async {
            if let Some(reason) = self.broadcast(package.parent()).await? {
                return Ok(Some(format!(
                    "{reason} (the parent: this view of the chain cannot submit it together with its child)"
                )));
            }
            self.broadcast(package.child()).await
        }
    }

    /// A number that grows whenever the chain may have changed, and wakes up who waits for it. Without news, a party
    /// looks by itself twice a minute. Called once; the receiver's own `changed` is cancel safe.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// One's own view of the chain failed: the node is down, slow, or answers nonsense. Never the peer's fault.
#[derive(Debug, Error)]
#[error("cannot {task}")]
pub struct ChainError {
    task: &'static str,
    source: Box<dyn StdError + Send + Sync>,
}

impl ChainError {
    /// `task` completes the sentence "cannot …".
    pub fn new(task: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            task,
            source: source.into(),
        }
    }
}

/// Returns the answer of this side's node, or an error if it gives none in time.
pub(super) async fn in_time<T>(
    task: &'static str,
    answer: impl Future<Output = Result<T, ChainError>>,
) -> Result<T, ChainError> {
    match tokio::time::timeout(CHAIN_TIMEOUT, catch_async(answer)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panicked)) => Err(ChainError::new(task, panicked)),
        Err(elapsed) => Err(ChainError::new(task, elapsed)),
    }
}
