//! Wallets that are slow, never answer, fail or panic, and futures that are dropped while a wallet signs: nothing is
//! locked, and nothing is broadcast.

use std::future::{pending, ready, Future};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bitcoin::secp256k1::{Message, Secp256k1};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{ecdsa, CompressedPublicKey, FeeRate, Transaction, TxOut, Witness};
use spilman::channel::Protocol::{Bond, Example7, SteppedLocktime};
use spilman::channel::{ChildTx, Construction, Cpfp};
use spilman::service::{BumpError, ChildSigner, OpenError, Wallet, WalletError, WALLET_TIMEOUT};
use tokio::io::duplex;
use tokio::time::timeout;

use crate::chains::FakeChain;
use crate::hand::{open, open_by, setup, soon};
use crate::pair::{key, payout, sat, secret, Case};

/// What a wallet does when it is asked.
#[derive(Clone)]
enum Mood {
    Answers,
    AnswersAfter(Duration),
    NeverAnswers,
    Fails,
    PanicsAtOnce,
    PanicsLater,
}

/// A future that ends with the wallet's answer, and must not be asked again.
struct Once<T>(Option<T>);

impl<T: Unpin> Future for Once<T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        Poll::Ready(self.0.take().expect("asked once"))
    }
}

type Answer = Result<Transaction, String>;

fn work(mood: &Mood, signed: Transaction) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
    match *mood {
        Mood::Answers => Box::pin(Once(Some(Ok(signed)))),
        Mood::AnswersAfter(time) => Box::pin(async move {
            tokio::time::sleep(time).await;
            Ok(signed)
        }),
        Mood::NeverAnswers => Box::pin(pending()),
        Mood::Fails => Box::pin(ready(Err("no such coin".to_owned()))),
        Mood::PanicsAtOnce => panic!("out of coins"),
        Mood::PanicsLater => Box::pin(async {
            tokio::task::yield_now().await;
            panic!("out of coins")
        }),
    }
}

struct OddWallet<'a> {
    case: &'a Case,
    mood: Mood,
}

impl Wallet for OddWallet<'_> {
    type Error = String;

    fn fund(&mut self, output: &TxOut) -> impl Future<Output = Answer> + Send {
        work(&self.mood, self.case.funding(output.clone()))
    }
}

/// Opens a channel with such a wallet; what became of the payer, and whether the payee has a channel.
async fn open_with(case: &Case, mood: Mood, chain: &FakeChain) -> (Result<(), OpenError>, bool) {
    let (a, b) = duplex(64 * 1024);
    let payees = setup("payee").limits(case.limits.clone());
    let wallet = OddWallet { case, mood };
    let (payer, payee) = tokio::join!(
        async {
            soon("the payer", open_by(case, (a, chain), setup("payer"), wallet))
                .await
                .map(drop)
        },
        payees.accept(b, chain.clone())
    );
    (payer, payee.is_ok())
}

fn cases() -> impl Iterator<Item = Case> {
    let protocols = [SteppedLocktime, Example7, Bond].into_iter().map(Case::new);
    // Here the wallet's transaction needs no signature of the peer.
    protocols.chain([Case::new(Example7).on(Construction::Taproot)])
}

#[tokio::test(start_paused = true)]
async fn a_wallet_may_take_its_time() {
    for case in cases() {
        for mood in [Mood::Answers, Mood::AnswersAfter(WALLET_TIMEOUT * 29 / 30)] {
            let (payer, payee) = open_with(&case, mood, &FakeChain::new()).await;
            assert!(payee, "{}", case.name());
            payer.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wallet_that_does_not_sign_locks_nothing() {
    let late = WALLET_TIMEOUT + Duration::from_secs(1);
    let table = [
        (Mood::NeverAnswers, "no answer within 30s"),
        (Mood::AnswersAfter(late), "no answer within 30s"),
        (Mood::Fails, "no such coin"),
        (Mood::PanicsAtOnce, "the wallet panicked: out of coins"),
        (Mood::PanicsLater, "the wallet panicked: out of coins"),
    ];
    for case in cases() {
        for (mood, says) in table.clone() {
            let chain = FakeChain::new();
            let (payer, payee) = open_with(&case, mood, &chain).await;
            let error = payer.expect_err("no channel");
            assert!(matches!(error, OpenError::Wallet(_)), "{error}");
            assert_eq!(
                error.to_string(),
                format!("the wallet made no funding transaction: {says}")
            );
            assert!(!payee, "{says} on {}", case.name());
            // Nor does anything come later.
            tokio::time::sleep(2 * late).await;
            assert_eq!(chain.broadcast_so_far(), [], "{says} on {}", case.name());
        }
    }
}

/// A person signs on a device: both sides were told to wait longer.
#[tokio::test(start_paused = true)]
async fn a_slow_signer_gets_the_time_that_it_was_promised() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let hour = Duration::from_secs(3_600);
    let (a, b) = duplex(64 * 1024);
    let payers = setup("payer").wallet_timeout(hour);
    let payees = setup("payee").opening_timeout(2 * hour);
    let wallet = OddWallet {
        case: &case,
        mood: Mood::AnswersAfter(hour / 2),
    };
    let (payer, payee) = tokio::join!(
        open_by(&case, (a, &chain), payers, wallet),
        payees.accept(b, chain.clone())
    );
    assert!(payee.is_ok());
    payer.unwrap();
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Forgetful(Arc<AtomicBool>);

impl Wallet for Forgetful {
    type Error = String;

    fn fund(&mut self, _: &TxOut) -> impl Future<Output = Answer> + Send {
        let dropped = Dropped(Arc::clone(&self.0));
        async move {
            let _dropped = dropped;
            pending().await
        }
    }
}

/// 1. The payer's user stops waiting while the wallet signs. The wallet's work is dropped with it.
/// 2. The payee hears that its peer is gone, and the network hears nothing at all.
#[tokio::test(start_paused = true)]
async fn an_open_that_is_dropped_while_the_wallet_signs_locks_nothing() {
    for case in cases() {
        let (chain, dropped) = (FakeChain::new(), Arc::new(AtomicBool::new(false)));
        let (a, b) = duplex(64 * 1024);
        let wallet = Forgetful(Arc::clone(&dropped));
        let (opened, payee) = tokio::join!(
            timeout(
                Duration::from_secs(10),
                open_by(&case, (a, &chain), setup("payer"), wallet)
            ),
            setup("payee").accept(b, chain.clone())
        );
        assert!(opened.is_err(), "no one waits any more");
        assert!(dropped.load(Ordering::Relaxed), "{}", case.name());
        let error = payee.err().expect("no channel");
        assert!(matches!(error, OpenError::Disconnected { .. }), "{error}");
        assert_eq!(chain.broadcast_so_far(), [], "{}", case.name());
    }
}

struct OddSigner(Mood);

impl ChildSigner for OddSigner {
    type Error = String;

    fn sign_child(&mut self, child: &ChildTx) -> impl Future<Output = Answer> + Send {
        work(&self.0, sign(child))
    }
}

/// With the key of the payee's payout script.
fn sign(child: &ChildTx) -> Transaction {
    let mut tx = child.unsigned().clone();
    let (script, value) = (&child.prevout().script_pubkey, child.prevout().value);
    let sighash_type = EcdsaSighashType::All;
    let digest = SighashCache::new(&tx).p2wpkh_signature_hash(0, script, value, sighash_type);
    let digest = Message::from(digest.expect("a P2WPKH output"));
    let signature = Secp256k1::new().sign_ecdsa(&digest, &secret("payee"));
    let public = CompressedPublicKey(key("payee").public_key());
    let signature = ecdsa::Signature {
        signature,
        sighash_type,
    };
    tx.input[0].witness = Witness::p2wpkh(&signature, &public.0);
    tx
}

/// 1. The payee settles, and the signer of the child does not sign: neither it nor its parent goes out again.
/// 2. The payee's user stops waiting: the same.
/// 3. The party works all the same, and the next signer signs.
#[tokio::test(start_paused = true)]
async fn a_signer_that_does_not_sign_raises_nothing() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, payee) = open(&case, &chain).await;
    payer.pay(sat(300_000)).await.unwrap();
    payer.abort();
    payee.close().await.unwrap();
    let before = chain.broadcast_so_far();
    let cpfp = Cpfp::new(FeeRate::from_sat_per_vb_u32(20), payout("payee's wallet"));
    for (mood, says) in [
        (Mood::NeverAnswers, "no answer within 30s"),
        (Mood::Fails, "no such coin"),
        (Mood::PanicsAtOnce, "the wallet panicked: out of coins"),
        (Mood::PanicsLater, "the wallet panicked: out of coins"),
    ] {
        let raised = soon("an answer", payee.bump(&cpfp, OddSigner(mood))).await;
        match raised {
            Err(BumpError::Wallet(error)) => assert_eq!(error.to_string(), says),
            other => panic!("{says}: {other:?}"),
        }
    }
    let patience = WALLET_TIMEOUT / 2;
    let raised = timeout(patience, payee.bump(&cpfp, OddSigner(Mood::NeverAnswers))).await;
    raised.expect_err("no one waits any more");
    assert_eq!(chain.broadcast_so_far(), before);

    let package = payee.bump(&cpfp, OddSigner(Mood::Answers)).await.expect("raised");
    let expected: Vec<_> = before.into_iter().chain(package.transactions()).collect();
    assert!(chain.broadcast_so_far().starts_with(&expected));
}

/// The error of a wallet is at hand, whatever its type.
#[test]
fn a_wallets_own_error_is_the_source() {
    let error = WalletError::Failed("no such coin".into());
    let source = std::error::Error::source(&error).expect("a source");
    assert_eq!(source.to_string(), "no such coin");
}
