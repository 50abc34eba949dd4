use std::future::Future;
use std::sync::Arc;

use bitcoin::Transaction;
use tokio::sync::{mpsc, oneshot, watch, Semaphore};

use super::chain::{in_time, Chain, ChainError, Watched, TIP, VIEW};
use super::guard::catch;
use crate::channel::{ChainView, CpfpPackage, Tip};

/// How many channels are viewed with one call.
const BATCH: usize = 1_000;

/// How many broadcasts run at the same time: what a node takes without refusing others.
const BROADCASTS: usize = 8;

/// One task that asks the chain for all channels: what waits while it asks is asked for together, next.
///
/// A copy is the same task. It ends with the last copy.
#[derive(Clone)]
pub(super) struct Watcher<C> {
    chain: C,
    /// The chain answers for many at once.
    batches: bool,
    asks: mpsc::UnboundedSender<Ask>,
    broadcasts: Arc<Semaphore>,
}

/// What a party wants to know. It waits for the answer, so that each has one of these at most.
enum Ask {
    View(Watched, Reply<ChainView>),
    Tip(Reply<Tip>),
}

type Reply<T> = oneshot::Sender<Result<T, ChainError>>;

/// The task has ended with its runtime, or the chain has answered less than it was asked.
#[derive(Debug, thiserror::Error)]
#[error("there is no answer for this channel")]
struct NoAnswer;

impl<C: Chain + Clone> Watcher<C> {
    pub fn new(chain: C) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        tokio::spawn(watch(chain.clone(), asked));
        Self {
            // One that panics here is asked for each, where panics are dealt with.
            batches: catch(|| chain.views(&[]).is_some()).unwrap_or(false),
            chain,
            asks,
            broadcasts: Arc::new(Semaphore::new(BROADCASTS)),
        }
    }

    async fn ask<T>(&self, task: &'static str, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, ChainError> {
        let (reply, answer) = oneshot::channel();
        // If the task has ended, `reply` is gone with the request.
        let _ = self.asks.send(ask(reply));
        answer
            .await
            .unwrap_or_else(|_| Err(ChainError::new(task, NoAnswer)))
    }

    async fn in_turn<T>(&self, broadcast: impl Future<Output = T>) -> T {
        // It is never closed. Without a permit, the node refuses what is too much.
        let _permit = self.broadcasts.acquire().await;
        broadcast.await
    }
}

async fn watch<C: Chain>(chain: C, mut asked: mpsc::UnboundedReceiver<Ask>) {
    let mut asks = Vec::new();
    while asked.recv_many(&mut asks, BATCH).await > 0 {
        let (mut watched, mut views, mut tips) = (Vec::new(), Vec::new(), Vec::new());
        for ask in asks.drain(..) {
            match ask {
                // Whoever does not wait any more is not asked for.
                Ask::View(_, reply) if reply.is_closed() => {}
                Ask::View(channel, reply) => {
                    watched.push(channel);
                    views.push(reply);
                }
                Ask::Tip(reply) => tips.push(reply),
            }
        }
        if !watched.is_empty() {
            let all = in_time(VIEW, async {
                match chain.views(&watched) {
                    Some(views) => Ok(views.await),
                    None => Ok(Vec::new()),
                }
            });
            let answers = all.await.unwrap_or_else(|error| error.repeated(watched.len()));
            // Where a chain answers less than it was asked, the rest learns that there is no answer.
            for (reply, answer) in views.into_iter().zip(answers) {
                let _ = reply.send(answer);
            }
        }
        if !tips.is_empty() {
            let tip = in_time(TIP, async { chain.tip().await }).await;
            let answers = match tip {
                Ok(tip) => tips.iter().map(|_| Ok(tip)).collect(),
                Err(error) => error.repeated(tips.len()),
            };
            for (reply, answer) in tips.into_iter().zip(answers) {
                let _ = reply.send(answer);
            }
        }
    }
}

impl<C: Chain + Clone> Chain for Watcher<C> {
    async fn tip(&self) -> Result<Tip, ChainError> {
        self.ask(TIP, Ask::Tip).await
    }

    async fn view(&self, watched: Watched) -> Result<ChainView, ChainError> {
        if !self.batches {
            // A channel that takes long holds up no other one.
            return self.chain.view(watched).await;
        }
        self.ask(VIEW, |reply| Ask::View(watched, reply)).await
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ChainError> {
        self.in_turn(self.chain.broadcast(tx)).await
    }

    async fn broadcast_package(&self, package: &CpfpPackage) -> Result<Option<String>, ChainError> {
        self.in_turn(self.chain.broadcast_package(package)).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.chain.changes()
    }
}
