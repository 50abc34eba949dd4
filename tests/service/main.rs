//! Two parties on a connection, with a chain that the test writes. Time is tokio's own and paused: it jumps
//! to the next timer when no task has anything to do.

mod cancel;
mod chains;
#[path = "../common/mod.rs"]
mod common;
mod disk;
mod durable;
mod electrum;
#[cfg(feature = "tracing")]
mod events;
mod floods;
mod hand;
mod manager;
mod panics;
mod peers;
#[cfg(feature = "sqlite")]
mod raising;
mod store;
mod sums;
mod surroundings;
mod wallets;
mod watcher;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::FeeRate;
use chains::{Blind, FakeChain, Shaky};
use common::pair;
use hand::{denied, loses_peer, open, open_payer, opening, opens, settles, setup, soon, until, Hand};
use pair::{amounts, sat, Case, HEIGHT, MTP};
use spilman::channel::{Construction, Protocol, Stage};
use spilman::service::{OpenError, PayError, RequestError, OPENING_TIMEOUT};
use tokio::io::duplex;
use Protocol::{Bond, Example7, SteppedLocktime};

use crate::common::assert_matches;

#[tokio::test(start_paused = true)]
async fn three_lives() {
    for protocol in Protocol::ALL {
        let (case, chain) = (Case::new(protocol), FakeChain::new());
        // 1. Opened: only the funding transaction is with the network.
        let (payer, payee) = open(&case, &chain).await;
        assert_eq!(chain.broadcast_so_far(), [payer.funding().tx().clone()]);
        // 2. Paid twice, acknowledged.
        for paid in [1_000, 2_000] {
            if protocol == Bond {
                payee.request_payment(sat(1_000)).await.unwrap();
            }
            assert_eq!(
                soon("a payment", payer.pay(sat(1_000))).await.unwrap().paid,
                sat(paid)
            );
        }
        assert_eq!(
            payee.redeemable().await.unwrap().unwrap().balance().paid,
            sat(2_000)
        );
        // 3. Closed together; both say the same in the end.
        payer.close().await.unwrap();
        settles(payee.status()).await;
        assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], 2_000);
        chain.confirm_the_spend();
        let outcome = soon("the payer's outcome", payer.outcome()).await.unwrap();
        assert_eq!(
            (
                soon("the payee's outcome", payee.outcome()).await,
                outcome.to_payee
            ),
            (Ok(outcome), sat(2_000))
        );
        assert_eq!(payer.pay(sat(1)).await, Err(RequestError::Ended));
    }
}

#[tokio::test(start_paused = true)]
async fn a_payee_that_dies_in_mid_payment_leaves_it_unacknowledged() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, payee) = open(&case, &chain).await;
    soon("a payment", payer.pay(sat(1_000))).await.unwrap();
    // 1. The payment is on its way when the payee loses power.
    let (paid, ()) = tokio::join!(soon("an answer", payer.pay(sat(1_000))), async { payee.abort() });
    assert_eq!(paid, Err(PayError::Unacknowledged { paid: sat(2_000) }.into()));
    // 2. Every later one is not even signed.
    assert_eq!(
        soon("an answer", payer.pay(sat(1_000))).await,
        Err(PayError::Disconnected.into())
    );
    assert_eq!(payer.status().borrow().paid, sat(2_000));
    assert!(!payer.status().borrow().connected);
    // 3. The refund is the way out.
    chain.reach(HEIGHT + 144, MTP);
    settles(payer.status()).await;
    assert_eq!(chain.broadcast_so_far().last(), Some(payer.refund().tx()));
    chain.confirm_the_spend();
    assert_eq!(soon("the end", payer.outcome()).await.unwrap().to_payee, sat(0));
}

#[tokio::test(start_paused = true)]
async fn a_payer_that_dies_leaves_the_payee_its_payment() {
    for protocol in [Example7, SteppedLocktime] {
        let (case, chain) = (Case::new(protocol), FakeChain::new());
        let (payer, payee) = open(&case, &chain).await;
        payer.pay(sat(1_000)).await.unwrap();
        payer.abort();
        loses_peer(payee.status()).await;
        chain.reach(HEIGHT + 108, MTP);
        settles(payee.status()).await;
        assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], 1_000, "{protocol}");
    }
}

/// With one signature for both, a close asks the payer first; here there is no one to ask.
#[tokio::test(start_paused = true)]
async fn a_close_after_the_payer_is_gone_settles_at_once() {
    for feerate in [None, Some(FeeRate::from_sat_per_vb_u32(20))] {
        let (case, chain) = (Case::new(Example7).on(Construction::Taproot), FakeChain::new());
        let (payer, payee) = open(&case, &chain).await;
        payer.pay(sat(1_000)).await.unwrap();
        payer.abort();
        loses_peer(payee.status()).await;
        match feerate {
            None => payee.close().await.unwrap(),
            Some(feerate) => payee.close_at(feerate).await.unwrap(),
        }
        let held = payee.redeemable().await.unwrap().expect("a payment");
        assert_eq!(chain.broadcast_so_far().last(), Some(held.tx()), "{feerate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_not_waited_for() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let after = OPENING_TIMEOUT;
    // 1. The payer waits for an answer to its proposal.
    let (a, _silent) = duplex(4_096);
    let error = soon("the payer", open_payer(&case, a, &chain))
        .await
        .err()
        .unwrap();
    assert_matches!(error, OpenError::Timeout { stage: Stage::Proposing, after: a } if a == after);
    // 2. The payee waits for a proposal, and after that for the refund.
    for (says, at) in [(false, Stage::Proposing), (true, Stage::SigningRefund)] {
        let (mut hand, io) = Hand::over(4_096);
        if says {
            hand.send(&case.propose().1).await;
        }
        let error = denied(io).await;
        assert_matches!(error, OpenError::Timeout { stage, .. } if stage == at);
    }
    assert!(chain.broadcast_so_far().is_empty());
}

/// A chain whose news end: what needs no chain goes on, and nothing waits for ever.
#[tokio::test(start_paused = true)]
async fn a_party_without_news_of_the_chain_still_answers() {
    let case = Case::new(Example7);
    let (chain, blind) = (FakeChain::new(), Blind(FakeChain::new()));
    let (left, right) = duplex(4_096);
    let setup = setup("payee");
    let (payer, payee) = tokio::join!(open_payer(&case, left, &chain), setup.accept(right, blind));
    let (payer, payee) = (payer.unwrap(), payee.unwrap());
    let answer = tokio::time::timeout(Duration::from_secs(60), payee.redeemable()).await;
    assert_eq!(answer.expect("no hang").expect("running"), None);
    drop(payer);
}

/// A payee whose own node is down accepts no payment: the expiry may have passed without its knowing. It polls
/// again on its own, and accepts the payment when it can see.
#[tokio::test(start_paused = true)]
async fn a_payee_that_cannot_see_the_chain_accepts_no_payment() {
    let case = Case::new(Example7);
    let (chain, shaky) = (FakeChain::new(), Shaky::new());
    let (payer, payee) = opening(&case, &chain, &shaky).await;
    let (payer, payee) = (payer.unwrap(), payee.unwrap());
    for chain in [&chain, &shaky.chain] {
        chain.change(|state| state.confirmations = 3);
    }
    payer
        .status()
        .wait_for(|status| status.stage == Stage::Open)
        .await
        .unwrap();
    // 1. The payee's node goes down, and the payee is not told: it finds out on its own.
    shaky.down.store(true, Ordering::Relaxed);
    let mut looks = shaky.failed_looks.subscribe();
    let looked = tokio::time::timeout(Duration::from_secs(60), looks.wait_for(|looks| *looks > 0)).await;
    looked.expect("a poll without news").unwrap();
    // 2. A payment is sent, and not accepted.
    let early = tokio::time::timeout(Duration::from_secs(10), payer.pay(sat(1_000))).await;
    early.expect_err("not acknowledged");
    assert_eq!(payee.status().borrow().paid, sat(0));
    // 3. The node is back; the payee is not told, and polls on its own.
    shaky.down.store(false, Ordering::Relaxed);
    payer.pay(sat(1_000)).await.expect("acknowledged");
    assert_eq!(payee.status().borrow().paid, sat(2_000));
}

/// 1. Payments up to 10,000 satoshi count before the funding transaction is confirmed.
/// 2. The third block is there. The payer has heard of it and pays more; the payee has not heard of it yet.
#[tokio::test(start_paused = true)]
async fn a_payer_that_hears_of_the_last_confirmation_first_can_pay() {
    let mut case = Case::new(Example7);
    case.limits.zero_conf_limit = sat(10_000);
    let (left, right) = (FakeChain::new(), FakeChain::new());
    let (a, b) = duplex(64 * 1024);
    let payee = setup("payee").limits(case.limits.clone());
    let (payer, payee) = tokio::join!(open_payer(&case, a, &left), payee.accept(b, right.clone()));
    let (payer, payee) = (payer.unwrap(), payee.unwrap());
    opens(&payer).await;
    payer.pay(sat(10_000)).await.unwrap();

    right.state.lock().unwrap().confirmations = 3;
    left.confirm(3);
    let news = *left.changes.borrow();
    until(payer.status(), "the third block", |s| s.seen == news).await;
    payer.pay(sat(10_000)).await.unwrap();
    assert_eq!(payee.status().borrow().paid, sat(20_000));
}

/// A user that stops waiting for a payment may pay again, so what was not signed by then never is.
#[tokio::test(start_paused = true)]
async fn a_payment_that_no_one_waits_for_is_not_made() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, payee) = open(&case, &chain).await;
    // 1. The request is with the payer's task, which has not read it, when its user turns away.
    let given_up = tokio::time::timeout(Duration::ZERO, payer.pay(sat(1_000))).await;
    given_up.expect_err("no time at all");
    // 2. The second attempt is the only one that counts.
    soon("a payment", payer.pay(sat(1_000))).await.unwrap();
    assert_eq!(payee.status().borrow().paid, sat(1_000));
}
