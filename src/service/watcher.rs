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

/// One task that asks the chain for all channels: what waits while it asks is asked for together, next. Another one asks for the
/// tip, which helps a party when views take long.
///
/// A copy has the same tasks. They end with the last copy.
#[derive(Clone)]
pub(super) struct Watcher<C> {
    chain: C,
    /// The chain answers for many at once.
    batches: bool,
    views: mpsc::UnboundedSender<(Watched, Reply<ChainView>)>,
    tips: mpsc::UnboundedSender<Reply<Tip>>,
    broadcasts: Arc<Semaphore>,
}

/// Where an answer goes. A party waits for it, so that each has one of these at most.
type Reply<T> = oneshot::Sender<Result<T, ChainError>>;

/// The task has ended with its runtime, or the chain has answered less than it was asked.
#[derive(Debug, thiserror::Error)]
#[error("there is no answer for this channel")]
struct NoAnswer;

impl<C: Chain + Clone> Watcher<C> {
    pub fn new(chain: C) -> Self {
        let (views, viewed) = mpsc::unbounded_channel();
        let (tips, asked) = mpsc::unbounded_channel();
        tokio::spawn(answer_views(chain.clone(), viewed));
        tokio::spawn(answer_tips(chain.clone(), asked));
        Self {
            // One that panics here is asked for each, where panics are dealt with.
            batches: catch(|| chain.views(&[]).is_some()).unwrap_or(false),
            chain,
            views,
            tips,
            broadcasts: Arc::new(Semaphore::new(BROADCASTS)),
        }
    }

    async fn in_turn<T>(&self, broadcast: impl Future<Output = T>) -> T {
        // It is never closed. Without a permit, the node refuses what is too much.
        let _permit = self.broadcasts.acquire().await;
        broadcast.await
    }
}

async fn answer_views<C: Chain>(chain: C, mut asked: mpsc::UnboundedReceiver<(Watched, Reply<ChainView>)>) {
    let mut asks = Vec::new();
    while asked.recv_many(&mut asks, BATCH).await > 0 {
        // Whoever does not wait any more is not asked for.
        let waiting = asks.drain(..).filter(|(_, reply)| !reply.is_closed());
        let (watched, replies): (Vec<_>, Vec<_>) = waiting.unzip();
        let all = in_time(VIEW, async {
            match chain.views(&watched) {
                Some(views) => Ok(views.await),
                None => Ok(Vec::new()),
            }
        });
        let answers = all.await.unwrap_or_else(|error| error.repeated(watched.len()));
        // Where a chain answers less than it was asked, the rest learns that there is no answer.
        for (reply, answer) in replies.into_iter().zip(answers) {
            let _ = reply.send(answer);
        }
    }
}

async fn answer_tips<C: Chain>(chain: C, mut asked: mpsc::UnboundedReceiver<Reply<Tip>>) {
    let mut replies = Vec::new();
    while asked.recv_many(&mut replies, BATCH).await > 0 {
        let answers = match in_time(TIP, async { chain.tip().await }).await {
            Ok(tip) => replies.iter().map(|_| Ok(tip)).collect(),
            Err(error) => error.repeated(replies.len()),
        };
        for (reply, answer) in replies.drain(..).zip(answers) {
            let _ = reply.send(answer);
        }
    }
}

/// The answer of one of the tasks.
async fn answer<T>(
    task: &'static str,
    answer: oneshot::Receiver<Result<T, ChainError>>,
) -> Result<T, ChainError> {
    answer
        .await
        .unwrap_or_else(|_| Err(ChainError::new(task, NoAnswer)))
}

impl<C: Chain + Clone> Chain for Watcher<C> {
    async fn tip(&self) -> Result<Tip, ChainError> {
        let (reply, tip) = oneshot::channel();
        // If the task has ended, `reply` is gone with the request.
        let _ = self.tips.send(reply);
        answer(TIP, tip).await
    }

    async fn view(&self, watched: Watched) -> Result<ChainView, ChainError> {
        if !self.batches {
            // A channel that takes long holds up no other one.
            return self.chain.view(watched).await;
        }
        let (reply, view) = oneshot::channel();
        let _ = self.views.send((watched, reply));
        answer(VIEW, view).await
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
