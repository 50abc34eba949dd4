use std::error::Error as StdError;
use std::future::{Future, Ready};
use std::sync::Arc;

use bitcoin::absolute::Height;
use bitcoin::{OutPoint, Transaction};
use thiserror::Error;
use tokio::sync::watch;

use super::guard::limited;
use super::timing::CHAIN_TIMEOUT;
use crate::channel::{ChainView, CpfpPackage, Tip};

/// A party's view of the chain, and its way to broadcast.
///
/// Safety decisions depend on this alone: no clock is read.
///
/// A call that takes longer than 30 s is dropped and counts as failed. So every future must be cancel safe: dropping
/// it must leave the implementation ready for the next call. A transaction whose broadcast was dropped may have reached
/// the network or not; the party allows for both. A panic counts as a failure, too.
pub trait Chain: Send + Sync + 'static {
    /// Returns the tip.
    fn tip(&self) -> impl Future<Output = Result<Tip, ChainError>> + Send;

    /// Returns the chain as the channel with this funding output sees it. If this fails and [`Chain::tip`] does not, the
    /// party still acts on its locks.
    fn view(&self, watched: Watched) -> impl Future<Output = Result<ChainView, ChainError>> + Send;

    /// Returns the same for many channels, in their order, with a few requests for all of them. `None` if this chain has to ask
    /// for each, as it is by default: then each party asks for itself. A channel that fails costs the others nothing.
    fn views(
        &self,
        watched: &[Watched],
    ) -> Option<impl Future<Output = Vec<Result<ChainView, ChainError>>> + Send> {
        let _ = watched;
        None::<Ready<_>>
    }

    /// Broadcasts a transaction: `None` if it was accepted (or already known), otherwise the reason in the node's
    /// words.
    fn broadcast(&self, tx: &Transaction) -> impl Future<Output = Result<Option<String>, ChainError>> + Send;

    /// Broadcasts a parent with its child: `None` if both were accepted, otherwise the reason.
    ///
    /// By default, one after the other, which helps only if nodes relay the parent alone.
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

    /// Returns a number that grows whenever the chain may have changed. Without news, a party polls twice a minute. Called
    /// once; the receiver's own `changed` is cancel safe.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// A funding output whose spend a party waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Watched {
    /// The funding output.
    pub funding: OutPoint,
    /// The height at which the channel was opened. The spend is in a later block, even if this process never saw one of those.
    /// `None`: later than the first tip that this chain has seen.
    pub since: Option<Height>,
}

impl From<OutPoint> for Watched {
    fn from(funding: OutPoint) -> Self {
        Self { funding, since: None }
    }
}

/// This side's view of the chain failed: the node is down, slow, or gives invalid answers. Never the peer's fault.
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

    /// Returns `count` copies of this error, one for each caller that shared the request.
    pub(super) fn repeated<T>(self, count: usize) -> Vec<Result<T, Self>> {
        let source: Arc<dyn StdError + Send + Sync> = self.source.into();
        let errors = std::iter::repeat_with(|| Self::new(self.task, Arc::clone(&source)));
        errors.take(count).map(Err).collect()
    }
}

/// The tasks of calls, for their errors.
pub(super) const VIEW: &str = "view the chain";
pub(super) const TIP: &str = "read the tip";

/// Returns the answer of this side's node, or an error if it times out.
pub(super) async fn in_time<T>(
    task: &'static str,
    answer: impl Future<Output = Result<T, ChainError>>,
) -> Result<T, ChainError> {
    let answer = limited(CHAIN_TIMEOUT, answer).await;
    answer.unwrap_or_else(|interrupted| Err(ChainError::new(task, interrupted)))
}
