//! One task asks the chain for all channels of a store.

use std::future::Future;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::Transaction;
use spilman::channel::Protocol::Example7;
use spilman::channel::{ChainView, Tip};
use spilman::service::{Chain, ChainError, ChannelManager, PayeeHandle, Watched};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::chains::FakeChain;
use crate::manager::{pays, Sides};
use crate::pair::Case;

const CHANNELS: u16 = 5;

/// What becomes of a question about many channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Whole,
    /// Only the first is answered.
    Short,
    Never,
    Panics,
}

/// A chain that answers for many channels at once.
#[derive(Clone)]
struct Batching {
    inner: FakeChain,
    answer: Arc<Mutex<Answer>>,
    /// How many channels each question was about.
    batches: Arc<Mutex<Vec<usize>>>,
    alone: Arc<AtomicUsize>,
}

impl Batching {
    fn new(inner: FakeChain, answer: Answer) -> Self {
        Self {
            inner,
            answer: Arc::new(Mutex::new(answer)),
            batches: Arc::default(),
            alone: Arc::default(),
        }
    }
}

impl Chain for Batching {
    fn tip(&self) -> impl Future<Output = Result<Tip, ChainError>> + Send {
        self.inner.tip()
    }

    fn view(&self, watched: Watched) -> impl Future<Output = Result<ChainView, ChainError>> + Send {
        self.alone.fetch_add(1, SeqCst);
        self.inner.view(watched)
    }

    fn views(
        &self,
        watched: &[Watched],
    ) -> Option<impl Future<Output = Vec<Result<ChainView, ChainError>>> + Send> {
        let answer = *self.answer.lock().unwrap();
        assert!(answer != Answer::Panics, "no one can be asked for many");
        let watched = watched.to_vec();
        Some(async move {
            self.batches.lock().unwrap().push(watched.len());
            // A real one takes its time, and others want to know meanwhile.
            sleep(Duration::from_millis(5)).await;
            let mut views = Vec::new();
            for watched in watched {
                views.push(self.inner.view(watched).await);
            }
            match answer {
                Answer::Short => views.truncate(1),
                Answer::Never => std::future::pending().await,
                Answer::Whole | Answer::Panics => {}
            }
            views
        })
    }

    fn broadcast(&self, tx: &Transaction) -> impl Future<Output = Result<Option<String>, ChainError>> + Send {
        self.inner.broadcast(tx)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes()
    }
}

/// A store with channels, each with a payment, and the next process of its payee.
async fn restarted(answer: Answer, channels: u16) -> (Batching, ChannelManager<Batching>, Sides) {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    for number in 0..channels {
        let (payer, payee) = sides.opened(&payers, &payees, number).await;
        pays(&payer, 1_000).await;
        payee.abort();
    }
    let chain = Batching::new(sides.chain.clone(), answer);
    let payees = sides.builder(1).start(chain.clone()).await.unwrap();
    (chain, payees, sides)
}

fn blind(payees: &ChannelManager<Batching>) -> usize {
    let payees = payees.payees();
    let is_blind = |payee: &&Arc<PayeeHandle>| payee.status().borrow().blind;
    payees.iter().filter(is_blind).count()
}

/// All channels of a store are viewed with one question, at the start, at each block, and in between.
#[tokio::test(start_paused = true)]
async fn one_question_serves_all_channels() {
    let (chain, payees, _sides) = restarted(Answer::Whole, CHANNELS).await;
    sleep(Duration::from_secs(1)).await;
    chain.inner.confirm(7);
    sleep(Duration::from_secs(100)).await;
    let batches = chain.batches.lock().unwrap().clone();
    // The first who asks is served at once, and the others together.
    let asked: usize = batches.iter().sum();
    assert_eq!(asked % usize::from(CHANNELS), 0, "{batches:?}");
    assert!(asked >= 5 * usize::from(CHANNELS), "{batches:?}");
    assert!(batches.len() <= 2 * asked / usize::from(CHANNELS), "{batches:?}");
    assert_eq!(chain.alone.load(SeqCst), 0);
    assert_eq!((payees.payees().len(), blind(&payees)), (CHANNELS.into(), 0));
}

/// A chain that answers less than it was asked, or never, leaves those blind that it did not answer, and they recover.
#[tokio::test(start_paused = true)]
async fn a_channel_without_an_answer_is_blind_until_there_is_one() {
    for (answer, after, blind_at_first) in [(Answer::Short, 1, 1..=4), (Answer::Never, 70, 5..=5)] {
        let (chain, payees, _sides) = restarted(answer, CHANNELS).await;
        sleep(Duration::from_secs(after)).await;
        let count = blind(&payees);
        assert!(blind_at_first.contains(&count), "{answer:?}: {count} are blind");
        *chain.answer.lock().unwrap() = Answer::Whole;
        sleep(Duration::from_secs(600)).await;
        assert_eq!(blind(&payees), 0, "{answer:?}");
    }
}

/// While no view comes, the tip does, and with it alone a payee settles at the margin.
#[tokio::test(start_paused = true)]
async fn a_view_that_hangs_does_not_hold_up_the_tip() {
    let (chain, _payees, _sides) = restarted(Answer::Never, 1).await;
    let before = chain.inner.broadcast_so_far().len();
    chain.inner.reach(crate::pair::HEIGHT + 120, crate::pair::MTP);
    sleep(Duration::from_secs(600)).await;
    assert!(chain.inner.broadcast_so_far().len() > before);
}

/// A chain that panics when it is asked for many is asked for each.
#[tokio::test(start_paused = true)]
async fn a_chain_that_cannot_be_asked_for_many_is_asked_for_each() {
    let (chain, payees, _sides) = restarted(Answer::Panics, CHANNELS).await;
    sleep(Duration::from_secs(100)).await;
    assert_eq!(blind(&payees), 0);
    assert!(chain.alone.load(SeqCst) >= usize::from(CHANNELS));
}
