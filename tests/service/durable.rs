//! What leaves a party, and what stays, when its store is slow, fails, or its process dies.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::TxOut;
use spilman::channel::Protocol::Example7;
use spilman::channel::{ChannelKeys, Construction, KeyId, KeyRole, Stage};
use spilman::service::{
    wallet_fn, ChannelManager, ChannelManagerBuilder, Observer, OpenError, OutcomeError, PayError,
    PayeeHandle, PayerHandle, Proposal, Report, RequestError, RestartError, Setup,
};
use spilman::store::{RefundBackup, Store};
use tokio::io::duplex;
use tokio::time::sleep;

use crate::chains::FakeChain;
use crate::disk::{Disk, Mood};
use crate::hand::{opens, settles, soon, until};
use crate::pair::{amounts, channels, payout, sat, Case, HEIGHT, MTP};

fn keys() -> ChannelKeys {
    ChannelKeys::new([7; 32])
}

/// A party whose key has this number.
fn setup(role: KeyRole, number: u8, disk: &Disk) -> Setup {
    let id = KeyId::from_bytes([number; 16]);
    let label = if role == KeyRole::Payer { "payer" } else { "payee" };
    Setup::new(keys().derive(role, id), payout(label))
        .key_reuse(spilman::service::KeyReuse::Allow)
        .store(Arc::new(disk.clone()), id)
}

type Opened = (Result<PayerHandle, OpenError>, Result<PayeeHandle, OpenError>);

async fn opening(case: &Case, chain: &FakeChain, payers: &Disk, payees: &Disk) -> Opened {
    let (a, b) = duplex(64 * 1024);
    let wallet = wallet_fn(|output: &TxOut| Ok::<_, Infallible>(case.funding(output.clone())));
    let proposal = Proposal {
        id: case.id,
        terms: case.terms.clone(),
    };
    let payer = setup(KeyRole::Payer, 1, payers).limits(case.limits.clone());
    let payee = setup(KeyRole::Payee, 2, payees).limits(case.limits.clone());
    tokio::join!(
        payer.open(a, chain.clone(), proposal, wallet),
        payee.accept(b, chain.clone())
    )
}

async fn open(case: &Case, chain: &FakeChain, payers: &Disk, payees: &Disk) -> (PayerHandle, PayeeHandle) {
    let (payer, payee) = opening(case, chain, payers, payees).await;
    let (payer, payee) = (payer.unwrap(), payee.unwrap());
    chain.confirm(3);
    opens(&payer).await;
    (payer, payee)
}

async fn restart(disk: &Disk, chain: &FakeChain) -> ChannelManager<FakeChain> {
    let builder = ChannelManagerBuilder::new(Arc::new(disk.clone()), keys(), payout("payee"));
    builder.start(chain.clone()).await.unwrap()
}

async fn restarted_payee(disk: &Disk, chain: &FakeChain) -> Arc<PayeeHandle> {
    let manager = restart(disk, chain).await;
    let [payee] = &manager.payees()[..] else {
        panic!("one payee")
    };
    assert_eq!(manager.payers().len(), 0);
    Arc::clone(payee)
}

async fn restarted_payer(disk: &Disk, chain: &FakeChain) -> Arc<PayerHandle> {
    let manager = restart(disk, chain).await;
    let [payer] = &manager.payers()[..] else {
        panic!("one payer")
    };
    assert_eq!(manager.payees().len(), 0);
    Arc::clone(payer)
}

/// The payee acknowledges a payment, and tells its user, when the store has it, and not before.
#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_it_is_stored() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let [payers, payees] = [Disk::default(), Disk::default()];
    let (payer, payee) = open(&case, &chain, &payers, &payees).await;
    let payer = Arc::new(payer);
    payees.set(Mood::Slow);
    let paying = tokio::spawn({
        let payer = Arc::clone(&payer);
        async move { payer.pay(sat(1_000)).await }
    });
    // Whatever the chain says meanwhile.
    for blocks in 1..10 {
        sleep(Duration::from_secs(2)).await;
        chain.reach(HEIGHT + blocks, MTP);
        assert_eq!(payee.status().borrow().paid, sat(0));
        assert!(!paying.is_finished());
    }
    payees.catch_up().await;
    assert_eq!(
        soon("the payment", paying).await.unwrap().unwrap().paid,
        sat(1_000)
    );
    until(payee.status(), "the payment", |status| status.paid == sat(1_000)).await;
}

/// The payer sends a payment when its store knows that it was signed.
#[tokio::test(start_paused = true)]
async fn nothing_is_paid_before_it_is_stored() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let [payers, payees] = [Disk::default(), Disk::default()];
    let (payer, payee) = open(&case, &chain, &payers, &payees).await;
    let received = payee.status().borrow().received;
    payers.set(Mood::Slow);
    let (paid, ()) = tokio::join!(payer.pay(sat(1_000)), async {
        sleep(Duration::from_secs(20)).await;
        assert_eq!(payee.status().borrow().received, received);
        payers.catch_up().await;
    });
    assert_eq!(paid.unwrap().paid, sat(1_000));
}

/// The payee settles at the margin all the same, with all that it acknowledged.
#[tokio::test(start_paused = true)]
async fn a_payee_whose_store_fails_takes_no_payment_and_settles_at_the_margin() {
    for mood in [Mood::Fails, Mood::Hangs, Mood::Panics] {
        let (case, chain) = (Case::new(Example7), FakeChain::new());
        let [payers, payees] = [Disk::default(), Disk::default()];
        let (payer, payee) = open(&case, &chain, &payers, &payees).await;
        soon("a payment", payer.pay(sat(50_000))).await.unwrap();
        payees.set(mood);
        let more = soon("an answer", payer.pay(sat(500))).await;
        let unacknowledged = PayError::Unacknowledged { paid: sat(50_500) };
        assert_eq!(more, Err(unacknowledged.into()), "{mood:?}");
        // 1. It knows that the channel is no longer its own.
        let status = until(payee.status(), "the failure", |status| {
            status.store_failed.is_some()
        })
        .await;
        assert_eq!((status.paid, status.connected), (sat(50_000), false), "{mood:?}");
        let closing = payee.close().await.unwrap_err();
        assert!(
            matches!(closing, RequestError::StoreFailed { .. }),
            "{mood:?}: {closing}"
        );
        // 2. A settlement that no store knows could be outdated by what a later process acknowledges; but not from the
        //    margin on.
        chain.reach(HEIGHT + 107, MTP);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(
            chain.broadcast_so_far().len(),
            1,
            "{mood:?}: the funding transaction"
        );
        chain.reach(HEIGHT + 108, MTP);
        settles(payee.status()).await;
        sleep(Duration::from_secs(1)).await;
        assert!(amounts(&chain.broadcast_so_far()[1])[1] >= 50_000, "{mood:?}");
    }
}

/// It asked the payer for a settlement, which its store does not know. Without the payer it would settle alone, but a later
/// process would believe that the channel is open.
#[tokio::test(start_paused = true)]
async fn a_payee_whose_close_is_not_stored_does_not_settle() {
    let (case, chain) = (Case::new(Example7).on(Construction::Taproot), FakeChain::new());
    let [payers, payees] = [Disk::default(), Disk::default()];
    let (payer, payee) = open(&case, &chain, &payers, &payees).await;
    soon("a payment", payer.pay(sat(50_000))).await.unwrap();
    payees.set(Mood::Fails);
    payee.close().await.unwrap();
    until(payee.status(), "the failure", |status| {
        status.store_failed.is_some()
    })
    .await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(chain.broadcast_so_far().len(), 1, "the funding transaction");
    let next = restarted_payee(&payees, &chain).await;
    assert_eq!(next.status().borrow().stage, Stage::Open);
}

/// Another process has the channel, and may hold later payments: this one must not settle with what it knows.
#[tokio::test(start_paused = true)]
async fn a_payee_whose_channel_was_taken_over_ends() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let [payers, payees] = [Disk::default(), Disk::default()];
    let (payer, payee) = open(&case, &chain, &payers, &payees).await;
    soon("a payment", payer.pay(sat(50_000))).await.unwrap();
    payees.set(Mood::TakenOver);
    soon("an answer", payer.pay(sat(500))).await.unwrap_err();
    let ended = soon("the end", payee.outcome()).await.unwrap_err();
    assert!(
        matches!(&ended, OutcomeError::StoreFailed { reason } if reason.contains("version 9")),
        "{ended}"
    );
    chain.reach(HEIGHT + 108, MTP);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(chain.broadcast_so_far().len(), 1, "the funding transaction");
}

#[tokio::test(start_paused = true)]
async fn a_payer_whose_store_fails_pays_nothing_and_refunds() {
    for mood in [Mood::Fails, Mood::Hangs, Mood::TakenOver] {
        let (case, chain) = (Case::new(Example7), FakeChain::new());
        let [payers, payees] = [Disk::default(), Disk::default()];
        let (payer, payee) = open(&case, &chain, &payers, &payees).await;
        payers.set(mood);
        soon("an answer", payer.pay(sat(500))).await.unwrap_err();
        until(payer.status(), "the failure", |status| {
            status.store_failed.is_some()
        })
        .await;
        assert_eq!(payee.status().borrow().paid, sat(0), "{mood:?}");
        payee.abort();
        chain.reach(HEIGHT + 144, MTP);
        sleep(Duration::from_secs(60)).await;
        // A process that lost the channel leaves the refund to the other one.
        let refunds = mood != Mood::TakenOver;
        assert_eq!(
            chain.broadcast_so_far().len(),
            1 + usize::from(refunds),
            "{mood:?}"
        );
    }
}

/// What cannot be stored does not begin: the funding transaction stays where it is.
#[tokio::test(start_paused = true)]
async fn a_channel_that_cannot_be_stored_is_not_opened() {
    for case in channels() {
        let (at, chain) = (case.name(), FakeChain::new());
        let [prompt, full] = [Disk::default(), Disk::default()];
        full.set(Mood::Fails);
        let (payer, payee) = opening(&case, &chain, &full, &prompt).await;
        assert!(matches!(payer, Err(OpenError::Store(_))), "{at}");
        assert!(payee.is_err(), "{at}");
        assert_eq!(chain.broadcast_so_far(), [], "{at}");
        assert_eq!(prompt.load().await.unwrap(), [], "{at}");
    }
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let [prompt, full] = [Disk::default(), Disk::default()];
    full.set(Mood::Fails);
    let (_payer, payee) = opening(&case, &chain, &prompt, &full).await;
    assert!(matches!(payee, Err(OpenError::Store(_))));
    assert_eq!(chain.broadcast_so_far(), []);
}

/// The user hears of the stored channel before anything depends on it, so that a backup is never late.
#[tokio::test(start_paused = true)]
async fn the_backup_can_be_written_before_the_money_is_locked() {
    for case in channels() {
        let (at, chain) = (case.name(), FakeChain::new());
        let [payers, payees] = [Disk::default(), Disk::default()];
        let backup = Arc::new(Mutex::new(None));
        let observer: Observer = Arc::new({
            let (chain, backup) = (chain.clone(), Arc::clone(&backup));
            move |report| {
                if let Report::Stored(channel) = report {
                    assert_eq!(chain.broadcast_so_far(), [], "it has left");
                    *backup.lock().unwrap() = RefundBackup::of(channel);
                }
            }
        });
        let (a, b) = duplex(64 * 1024);
        let wallet = wallet_fn(|output: &TxOut| Ok::<_, Infallible>(case.funding(output.clone())));
        let proposal = Proposal {
            id: case.id,
            terms: case.terms.clone(),
        };
        let payer = setup(KeyRole::Payer, 1, &payers)
            .limits(case.limits.clone())
            .observer(observer);
        let payee = setup(KeyRole::Payee, 2, &payees).limits(case.limits.clone());
        let (payer, payee) = tokio::join!(
            payer.open(a, chain.clone(), proposal, wallet),
            payee.accept(b, chain.clone())
        );
        let (payer, _payee) = (payer.unwrap(), payee.unwrap());
        assert_eq!(payer.status().borrow().fault, None, "{at}");
        let backup = backup.lock().unwrap().take().expect("a report");
        let key = keys().derive(KeyRole::Payer, backup.key_id());
        assert_eq!(backup.refund(&key).unwrap().tx(), payer.refund().tx(), "{at}");
    }
}

/// Both processes die after three payments. Each goes on alone, and gets what is its own.
#[tokio::test(start_paused = true)]
async fn parties_that_start_again_get_what_is_theirs() {
    // A relative lock begins with a block, and this chain has none.
    for case in channels().filter(|case| !case.terms.construction.has_relative_lock()) {
        for payee_returns in [true, false] {
            let at = format!("{}, payee returns: {payee_returns}", case.name());
            let chain = FakeChain::new();
            let [payers, payees] = [Disk::default(), Disk::default()];
            let (payer, payee) = open(&case, &chain, &payers, &payees).await;
            for total in [10_000, 20_000, 30_000] {
                soon("a payment", payer.pay_up_to(sat(total))).await.unwrap();
            }
            payer.abort();
            payee.abort();
            let before = chain.broadcast_so_far().len();
            if payee_returns {
                let payee = restarted_payee(&payees, &chain).await;
                assert_eq!(payee.status().borrow().paid, sat(30_000), "{at}");
                chain.reach(HEIGHT + 110, MTP + 120 * 600);
                settles(payee.status()).await;
                sleep(Duration::from_secs(60)).await;
                chain.confirm_the_spend();
                let outcome = soon("the outcome", payee.outcome()).await.unwrap();
                assert_eq!(outcome.to_payee, sat(30_000), "{at}");
                assert_eq!(restart(&payees, &chain).await.payees().len(), 0, "{at}");
            } else {
                let payer = restarted_payer(&payers, &chain).await;
                assert_eq!(payer.status().borrow().paid, sat(30_000), "{at}");
                let disconnected = payer.pay(sat(1)).await;
                assert_eq!(disconnected, Err(PayError::Disconnected.into()), "{at}");
                chain.reach(HEIGHT + 200, MTP + 200 * 600);
                settles(payer.status()).await;
                sleep(Duration::from_secs(60)).await;
                assert!(chain.broadcast_so_far().len() > before, "{at}");
                assert_eq!(chain.broadcast_so_far().last(), Some(payer.refund().tx()), "{at}");
            }
        }
    }
}

/// The payee's process dies at each of its changes, before the store has it or after, but in any case before anything
/// followed. What the payer was told to have been accepted is settled.
#[tokio::test(start_paused = true)]
async fn whatever_was_acknowledged_survives_a_death_at_any_change() {
    for case in [Case::new(Example7), Case::new(spilman::channel::Protocol::Bond)] {
        for (at, stored) in (1..9).flat_map(|at| [(at, false), (at, true)]) {
            let chain = FakeChain::new();
            let [payers, payees] = [Disk::default(), Disk::default()];
            payees.set(Mood::Dies { at, stored });
            let mut acknowledged = sat(0);
            let (payer, payee) = {
                let opened =
                    tokio::time::timeout(Duration::from_secs(20), opening(&case, &chain, &payers, &payees));
                match opened.await {
                    Ok((payer, payee)) => (payer.ok(), payee.ok()),
                    Err(_) => (None, None),
                }
            };
            chain.confirm(3);
            if let Some(payer) = &payer {
                for total in [10_000, 20_000, 30_000] {
                    let paid =
                        tokio::time::timeout(Duration::from_secs(20), payer.pay_up_to(sat(total))).await;
                    if let Ok(Ok(balance)) = paid {
                        acknowledged = balance.paid;
                    }
                }
            }
            if let Some(payee) = payee {
                payee.abort();
            }
            sleep(Duration::from_secs(1)).await;
            let parties = restart(&payees, &chain).await;
            let payees = parties.payees();
            let [payee] = &payees[..] else {
                assert!(payees.is_empty());
                assert_eq!(
                    acknowledged,
                    sat(0),
                    "{} died at {at}, stored: {stored}",
                    case.name()
                );
                continue;
            };
            assert!(
                payee.status().borrow().paid >= acknowledged,
                "{} died at {at}",
                case.name()
            );
            chain.reach(HEIGHT + 110, MTP + 120 * 600);
            sleep(Duration::from_secs(120)).await;
            if acknowledged > sat(0) {
                let settled = chain.state.lock().unwrap().spend.clone().expect("a settlement");
                assert!(
                    amounts(&settled.tx)[1] >= acknowledged.to_sat(),
                    "{} died at {at}",
                    case.name()
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_seed_is_named() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let [payers, payees] = [Disk::default(), Disk::default()];
    let _parties = open(&case, &chain, &payers, &payees).await;
    let other = ChannelKeys::new([8; 32]);
    let other = ChannelManagerBuilder::new(Arc::new(payees), other, payout("payee"));
    let Err(error) = other.start(chain).await else {
        panic!("restored with another seed")
    };
    assert!(matches!(error, RestartError::Damaged { .. }));
    assert!(
        error.to_string().contains("open the store with the seed"),
        "{error}"
    );
}
