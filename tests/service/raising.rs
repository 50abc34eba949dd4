//! Settlements and refunds that are not mined get children that pay for them, within a budget.

use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::{FeeRate, Transaction};
use spilman::channel::Protocol::Example7;
use spilman::channel::{ChainView, ChildTx, CpfpPackage, SeenSpend, Stage, Tip};
use spilman::regtest::{Coin, CoinKind};
use spilman::service::{
    wallet_fn, Chain, ChainError, ChannelManager, ChannelManagerBuilder, ChildSigner, FeeBudget, Fees,
    Watched,
};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::chains::FakeChain;
use crate::disk;
use crate::hand::settles;
use crate::manager::{pays, Sides};
use crate::pair::{secret, Case, HEIGHT, MTP};

/// An estimate that a test sets; without one, an error.
#[derive(Clone, Default)]
struct Estimate(Arc<Mutex<Option<FeeRate>>>);

impl Estimate {
    fn set(&self, sat_per_vb: Option<u64>) {
        *self.0.lock().unwrap() = sat_per_vb.map(rate);
    }
}

impl Fees for Estimate {
    async fn feerate(&self, blocks: u32) -> Result<FeeRate, ChainError> {
        assert!((1..=1_008).contains(&blocks));
        let estimate = *self.0.lock().unwrap();
        estimate.ok_or_else(|| ChainError::new("estimate the feerate", "no one knows"))
    }
}

fn rate(sat_per_vb: u64) -> FeeRate {
    FeeRate::from_sat_per_kwu(sat_per_vb * 250)
}

/// The wallet with the key of one side's payout.
fn signer(label: &'static str) -> impl ChildSigner + Clone + Sync + 'static {
    wallet_fn(move |child: &ChildTx| Ok::<_, Infallible>(sign(label, child)))
}

fn sign(label: &str, child: &ChildTx) -> Transaction {
    let mut tx = child.unsigned().clone();
    let coin = Coin {
        outpoint: tx.input[0].previous_output,
        output: child.prevout().clone(),
        key: secret(label),
        kind: CoinKind::Segwit,
        funding: tx.clone(),
    };
    coin.sign(&mut tx).unwrap();
    tx
}

/// A chain that takes packages, and remembers each once. So many submissions fail first.
#[derive(Clone)]
struct Packages(FakeChain, Arc<Mutex<Vec<CpfpPackage>>>, Arc<AtomicU32>);

impl Packages {
    fn new(chain: &FakeChain) -> Self {
        Self(chain.clone(), Arc::default(), Arc::default())
    }

    fn all(&self) -> Vec<CpfpPackage> {
        self.1.lock().unwrap().clone()
    }
}

impl Chain for Packages {
    fn tip(&self) -> impl Future<Output = Result<Tip, ChainError>> + Send {
        self.0.tip()
    }

    fn view(&self, watched: Watched) -> impl Future<Output = Result<ChainView, ChainError>> + Send {
        self.0.view(watched)
    }

    fn broadcast(&self, tx: &Transaction) -> impl Future<Output = Result<Option<String>, ChainError>> + Send {
        self.0.broadcast(tx)
    }

    async fn broadcast_package(&self, package: &CpfpPackage) -> Result<Option<String>, ChainError> {
        let fails = self.2.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if fails.is_ok() {
            return Err(ChainError::new("submit a package", "no one answers"));
        }
        let mut packages = self.1.lock().unwrap();
        if !packages.contains(package) {
            packages.push(package.clone());
        }
        Ok(None)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
}

const PAID: u64 = 400_000;

/// A tenth of what the payee has.
const BUDGET: FeeBudget = FeeBudget {
    percent: 10,
    feerate: FeeRate::MAX,
    hurry: 18,
    patience: 144,
};

/// The next process of one side of a channel in which something was paid.
async fn restarted(
    side: usize,
    raise: impl FnOnce(ChannelManagerBuilder) -> ChannelManagerBuilder,
) -> (Sides, Packages, ChannelManager<Packages>) {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, payee) = sides.opened(&payers, &payees, 1).await;
    pays(&payer, PAID).await;
    payer.abort();
    payee.abort();
    let chain = Packages::new(&sides.chain);
    let manager = raise(sides.builder(side)).start(chain.clone()).await.unwrap();
    (sides, chain, manager)
}

/// The lock of the default terms.
const LOCK: u32 = HEIGHT + 144;

async fn reach(chain: &Packages, height: u32) {
    chain.0.reach(height, MTP);
    sleep(Duration::from_secs(60)).await;
}

/// 1. Without an estimate, and far from the lock, the agreed feerate stays.
/// 2. An estimate is followed, and a little more than what is paid already is not worth a signature.
/// 3. Near the lock the feerate rises with every few blocks, whatever the estimate says, up to the budget and no further.
/// 4. A later process broadcasts the latest child. What is in a block is not raised any more.
#[tokio::test(start_paused = true)]
async fn a_settlement_is_raised_towards_its_deadline_within_the_budget() {
    let estimate = Estimate::default();
    let raise = |estimate: &Estimate| {
        let estimate = estimate.clone();
        move |builder: ChannelManagerBuilder| builder.raise_fees(estimate, signer("payee"), BUDGET)
    };
    let (sides, chain, payees) = restarted(1, raise(&estimate)).await;
    let payee = payees.payees().pop().unwrap();
    payee.close().await.unwrap();
    settles(payee.status()).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(chain.all(), []);
    for (sat_per_vb, children, paid) in [(10, 1, 10), (11, 1, 10), (13, 2, 13), (5, 2, 13)] {
        estimate.set(Some(sat_per_vb));
        sleep(Duration::from_secs(60)).await;
        let packages = chain.all();
        assert_eq!(packages.len(), children, "at {sat_per_vb} sat/vB");
        let feerate = packages.last().unwrap().feerate();
        assert!(feerate >= rate(paid) && feerate < rate(paid + 1), "{feerate:#}");
    }
    estimate.set(None);
    let mut last = chain.all().pop().unwrap();
    for left in [15, 12, 9, 6, 3, 1, 0] {
        reach(&chain, LOCK - left).await;
        let package = chain.all().pop().unwrap();
        assert!(
            package.feerate() > last.feerate(),
            "{left} blocks before the lock: {:#}",
            package.feerate()
        );
        last = package;
    }
    let parent_fee = 1_000_000
        - last
            .parent()
            .output
            .iter()
            .map(|output| output.value.to_sat())
            .sum::<u64>();
    let child_fee = last.fee().to_sat() - parent_fee;
    assert!(
        (BUDGET_SAT * 95 / 100..=BUDGET_SAT).contains(&child_fee),
        "{child_fee}"
    );

    payee.abort();
    sides.chain.change(|state| state.spend = None);
    let next = Packages::new(&sides.chain);
    let payees = raise(&estimate)(sides.builder(1))
        .start(next.clone())
        .await
        .unwrap();
    reach(&next, LOCK + 1).await;
    assert_eq!(next.all(), [last.clone()]);
    sides.chain.change(|state| {
        state.spend = Some(SeenSpend {
            tx: last.parent().clone(),
            confirmations: 1,
        });
    });
    sleep(Duration::from_secs(60)).await;
    drop(payees);
    let third = Packages::new(&sides.chain);
    let twice = FeeBudget {
        percent: 20,
        ..BUDGET
    };
    let payees = sides.builder(1).raise_fees(estimate, signer("payee"), twice);
    let payees = payees.start(third.clone()).await.unwrap();
    reach(&third, LOCK + 3).await;
    assert_eq!(third.all(), []);
    assert_eq!(payees.payees().len(), 1);
}

/// A tenth of the payee's output.
const BUDGET_SAT: u64 = PAID / 10;

/// A refund has no deadline, and is raised as the estimate says once its lock has passed; even if nobody keeps the manager.
#[tokio::test(start_paused = true)]
async fn a_refund_is_raised_after_its_lock() {
    let estimate = Estimate::default();
    estimate.set(Some(30));
    let fees = estimate.clone();
    let (_sides, chain, payers) = restarted(0, |builder| {
        builder.raise_fees(fees, signer("payer"), FeeBudget::default())
    })
    .await;
    let payer = payers.payers().pop().unwrap();
    drop(payers);
    reach(&chain, LOCK - 1).await;
    assert_eq!(chain.all(), []);
    reach(&chain, LOCK).await;
    assert_eq!(payer.status().borrow().stage, Stage::Closing);
    let [package] = &chain.all()[..] else {
        panic!("{:?}", chain.all())
    };
    assert!(package.feerate() >= rate(30) && package.feerate() < rate(31));
    assert_eq!(package.parent(), payer.refund().tx());
}

/// Nobody knows what became of a submission without an answer, or of one before a process died. The child goes out with the
/// next block, although its parent is in the mempool.
#[tokio::test(start_paused = true)]
async fn a_child_goes_out_until_it_is_in_a_block() {
    for (side, label) in [(0, "payer"), (1, "payee")] {
        let estimate = Estimate::default();
        estimate.set(Some(10));
        let raise = |builder: ChannelManagerBuilder| builder.raise_fees(estimate, signer(label), BUDGET);
        let (sides, chain, manager) = restarted(side, raise).await;
        chain.2.store(1, SeqCst);
        if let Some(payee) = manager.payees().pop() {
            payee.close().await.unwrap();
        }
        reach(&chain, LOCK).await;
        assert_eq!(chain.all(), [], "{label}");
        assert!(sides.chain.state.lock().unwrap().spend.is_some(), "{label}");
        reach(&chain, LOCK + 1).await;
        assert_eq!(chain.all().len(), 1, "{label}");
        manager.payers().iter().for_each(|payer| payer.abort());
        manager.payees().iter().for_each(|payee| payee.abort());
        let next = Packages::new(&sides.chain);
        let _manager = sides.builder(side).start(next.clone()).await.unwrap();
        reach(&next, LOCK + 2).await;
        assert_eq!(next.all(), chain.all(), "{label}");
    }
}

/// A child changes nothing but the fee, so that a store that has failed does not keep it back.
#[tokio::test(start_paused = true)]
async fn a_payee_without_a_store_still_raises() {
    let estimate = Estimate::default();
    estimate.set(Some(10));
    let raise = |builder: ChannelManagerBuilder| builder.raise_fees(estimate, signer("payee"), BUDGET);
    let (sides, chain, payees) = restarted(1, raise).await;
    sides.disks[1].set(disk::Mood::Fails);
    let payee = payees.payees().pop().unwrap();
    let _ = payee.close().await;
    reach(&chain, LOCK - 30).await;
    assert!(payee.status().borrow().store_failed.is_some());
    assert_eq!(chain.all().len(), 1);
}

/// A wallet that fails is reported, and asked again; one that hangs is given up.
#[tokio::test(start_paused = true)]
async fn a_wallet_that_does_not_sign_is_reported_and_asked_again() {
    let estimate = Estimate::default();
    estimate.set(Some(20));
    let moods = Arc::new(Mutex::new(vec![
        Mood::Signs,
        Mood::Hangs,
        Mood::Panics,
        Mood::Fails,
    ]));
    let wallet = Moody(Arc::clone(&moods));
    let (sides, chain, payees) = restarted(1, |builder| {
        builder
            .wallet_timeout(Duration::from_secs(10))
            .raise_fees(estimate, wallet, BUDGET)
    })
    .await;
    payees.payees()[0].close().await.unwrap();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(chain.all().len(), 1);
    assert_eq!(*moods.lock().unwrap(), []);
    for words in [
        "NotRaised(Wallet(Failed(\"no device\")))",
        "out of batteries",
        "Timeout { after: 10s }",
    ] {
        assert_eq!(sides.reported(words), 1, "{words}");
    }
    assert_eq!(sides.reported("NotRaised"), 3);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Signs,
    Fails,
    Hangs,
    Panics,
}

/// What it does next is the last in the list.
#[derive(Clone)]
struct Moody(Arc<Mutex<Vec<Mood>>>);

impl ChildSigner for Moody {
    type Error = &'static str;

    async fn sign_child(&mut self, child: &ChildTx) -> Result<Transaction, &'static str> {
        let mood = self
            .0
            .lock()
            .unwrap()
            .pop()
            .expect("asked once more than it should be");
        match mood {
            Mood::Signs => Ok(sign("payee", child)),
            Mood::Fails => Err("no device"),
            Mood::Hangs => std::future::pending().await,
            Mood::Panics => panic!("out of batteries"),
        }
    }
}
