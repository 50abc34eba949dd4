//! What a party does when something around it is wrong: its view of the chain, its node, its keys.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use spilman::channel::Protocol::Example7;
use spilman::channel::{ChannelKeys, KeyRole, Stage};
use spilman::service::{fresh_key, Backoff, KeyReuse, OpenError, Report, Setup};
use tokio::io::{duplex, AsyncReadExt};
use tokio::time::timeout;

use crate::chains::{Answer, FakeChain, Odd};
use crate::hand::{open_payer, open_with, ready, settles, setup, soon, until};
use crate::pair::{amounts, payout, sat, Case, HEIGHT, MTP};

/// The poll of the funding output fails, takes too long, or panics; the tip is known, and broadcasts work. The payee
/// settles at the closing margin.
#[tokio::test(start_paused = true)]
async fn a_blind_payee_still_settles_at_the_closing_margin() {
    for (view, takes) in [(Answer::Error, 0), (Answer::Panic, 0), (Answer::True, 31)] {
        let (case, chain, odd) = (Case::new(Example7), FakeChain::new(), Odd::new());
        let (payer, payee) = ready(&case, (&chain, &chain), (&odd, &odd.chain), setup("payee")).await;
        soon("a payment", payer.pay(sat(900_000))).await.unwrap();
        // 1. The payee cannot see its funding output any more, and acknowledges nothing more.
        odd.change(|mood| (mood.view, mood.view_takes) = (view, Duration::from_secs(takes)));
        until(payee.status(), "a poll that fails", |s| s.blind).await;
        let more = timeout(Duration::from_secs(600), payer.pay(sat(50_000))).await;
        more.expect("an answer").expect_err("not acknowledged");
        assert_eq!(payee.status().borrow().paid, sat(900_000));
        // 2. One block before the margin it waits, and at the margin it settles with all that it holds.
        odd.chain.reach(HEIGHT + 107, MTP);
        let news = *odd.chain.changes.borrow();
        until(payee.status(), "the last block before", |s| s.seen >= news).await;
        assert_eq!(odd.chain.broadcast_so_far().len(), 1, "the funding transaction");
        odd.chain.reach(HEIGHT + 108, MTP);
        settles(payee.status()).await;
        assert_eq!(amounts(&odd.chain.broadcast_so_far()[1])[1], 950_000);
    }
}

/// The same for the payer, at the refund's lock.
#[tokio::test(start_paused = true)]
async fn a_blind_payer_still_refunds_at_the_lock() {
    for (view, takes) in [(Answer::Error, 0), (Answer::Panic, 0), (Answer::True, 31)] {
        let (case, chain, odd) = (Case::new(Example7), FakeChain::new(), Odd::new());
        let (payer, payee) = ready(&case, (&odd, &odd.chain), (&chain, &chain), setup("payee")).await;
        payee.abort();
        odd.change(|mood| (mood.view, mood.view_takes) = (view, Duration::from_secs(takes)));
        odd.chain.reach(HEIGHT + 143, MTP);
        let news = *odd.chain.changes.borrow();
        let status = until(payer.status(), "the last block before", |s| {
            s.blind && s.seen >= news
        })
        .await;
        assert_eq!(status.stage, Stage::Open);
        odd.chain.reach(HEIGHT + 144, MTP);
        settles(payer.status()).await;
        assert_eq!(odd.chain.broadcast_so_far().last(), Some(payer.refund().tx()));
    }
}

/// A blind payee still listens: the payer closes the channel, and the settlement goes out.
#[tokio::test(start_paused = true)]
async fn a_blind_payee_still_accepts_a_settlement() {
    let (case, chain, odd) = (Case::new(Example7), FakeChain::new(), Odd::new());
    let (payer, payee) = ready(&case, (&chain, &chain), (&odd, &odd.chain), setup("payee")).await;
    soon("a payment", payer.pay(sat(1_000))).await.unwrap();
    odd.change(|mood| (mood.view, mood.tip) = (Answer::Error, Answer::Error));
    until(payee.status(), "a poll that fails", |s| s.blind).await;
    payer.close().await.unwrap();
    settles(payee.status()).await;
    assert_eq!(amounts(&odd.chain.broadcast_so_far()[1])[1], 1_000);
}

/// A payee whose node accepts no broadcast could not settle: it acknowledges no payment until the node answers again.
#[tokio::test(start_paused = true)]
async fn a_payee_that_cannot_broadcast_accepts_no_payment() {
    for answer in [Answer::Error, Answer::Panic] {
        let (case, chain, odd) = (Case::new(Example7), FakeChain::new(), Odd::new());
        odd.change(|mood| mood.broadcast = answer);
        let (payer, payee) = ready(&case, (&chain, &chain), (&odd, &odd.chain), setup("payee")).await;
        let early = timeout(Duration::from_secs(100), payer.pay_up_to(sat(900_000))).await;
        early.expect_err("not acknowledged");
        assert_eq!(payee.status().borrow().paid, sat(0));
        odd.change(|mood| mood.broadcast = Answer::True);
        let paid = soon("an answer", payer.pay_up_to(sat(900_000))).await.unwrap();
        assert_eq!(paid.paid, sat(900_000));
    }
}

/// The payee sees a reorganisation a moment before the payer does, and a payment is on its way. Two blocks later the
/// channel goes on, and the payment counts.
#[tokio::test(start_paused = true)]
async fn a_payment_that_crosses_a_reorganisation_does_not_end_the_channel() {
    let (case, left, right) = (Case::new(Example7), FakeChain::new(), FakeChain::new());
    let (payer, payee) = ready(&case, (&left, &left), (&right, &right), setup("payee")).await;
    soon("a payment", payer.pay(sat(1_000))).await.unwrap();
    right.confirm(2);
    until(payee.status(), "lost", |s| s.stage == Stage::AwaitingFunding).await;
    let crossing = timeout(Duration::from_secs(60), payer.pay_up_to(sat(2_000))).await;
    crossing.expect_err("not acknowledged");
    assert_eq!(payee.status().borrow().paid, sat(1_000));
    right.confirm(3);
    let paid = soon("an answer", payer.pay_up_to(sat(2_000))).await.unwrap();
    assert_eq!(paid.paid, sat(2_000));
    // Again; and this time the payee hears nothing, but the payer pays.
    right.confirm(2);
    until(payee.status(), "lost", |s| s.stage == Stage::AwaitingFunding).await;
    right.state.lock().unwrap().confirmations = 3;
    let paid = timeout(Duration::from_secs(2), payer.pay_up_to(sat(3_000))).await;
    assert_eq!(paid.expect("a poll for the payment").unwrap().paid, sat(3_000));
}

/// A key serves one channel: the second opening ends before the peer hears of it.
#[tokio::test(start_paused = true)]
async fn a_key_is_not_used_twice() {
    let keys = ChannelKeys::new([7; 32]);
    let fresh = |role| fresh_key(&keys, role).unwrap().0;
    let (k1, k2) = (fresh(KeyRole::Payer), fresh(KeyRole::Payee));
    let setup = |role, key_reuse| {
        let (id, label) = match role {
            KeyRole::Payer => (k1, "payer"),
            KeyRole::Payee => (k2, "payee"),
        };
        Setup::new(keys.derive(role, id), payout(label)).key_reuse(key_reuse)
    };
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    // 1. Fresh keys open a channel.
    let (a, b) = duplex(64 * 1024);
    let (payer, payee) = tokio::join!(
        open_with(&case, a, &chain, setup(KeyRole::Payer, KeyReuse::Refuse)),
        setup(KeyRole::Payee, KeyReuse::Refuse).accept(b, chain.clone())
    );
    assert!(payer.is_ok() && payee.is_ok());
    // 2. The payer's does not open another, and the peer hears nothing of it.
    let (a, mut b) = duplex(64 * 1024);
    let again = open_with(&case, a, &chain, setup(KeyRole::Payer, KeyReuse::Refuse)).await;
    let k1 = keys.derive(KeyRole::Payer, k1).public_key();
    assert!(matches!(again.err(), Some(OpenError::KeyReused { key }) if key == k1));
    assert_eq!(b.read(&mut [0; 1]).await.unwrap(), 0, "nothing was said");
    // 3. Nor does the payee's, unless it is allowed to.
    for (key_reuse, allowed) in [(KeyReuse::Refuse, false), (KeyReuse::Allow, true)] {
        let (a, b) = duplex(64 * 1024);
        let (payer, payee) = tokio::join!(
            open_payer(&case, a, &chain),
            setup(KeyRole::Payee, key_reuse).accept(b, chain.clone())
        );
        assert_eq!(
            (payer.is_ok(), payee.is_ok()),
            (allowed, allowed),
            "{key_reuse:?}"
        );
        let reused = matches!(payee.err(), Some(OpenError::KeyReused { .. }));
        assert_eq!(reused, !allowed, "{key_reuse:?}");
    }
}

/// News every second from a node that fails: it is asked at a pace that slows down, and at the usual pace once it
/// answers.
#[tokio::test(start_paused = true)]
async fn a_node_that_fails_is_asked_less_and_less() {
    let (case, chain, odd) = (Case::new(Example7), FakeChain::new(), Odd::new());
    let payees = setup("payee").backoff(Backoff {
        jitter: 0,
        ..Backoff::default()
    });
    let (_payer, payee) = ready(&case, (&chain, &chain), (&odd, &odd.chain), payees).await;
    odd.change(|mood| mood.view = Answer::Error);
    let began = tokio::time::Instant::now();
    let news = odd.chain.changes.clone();
    let flood = tokio::spawn(async move {
        loop {
            news.send_modify(|serial| *serial += 1);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut looks = odd.looks.subscribe();
    looks.mark_unchanged();
    let mut pauses = Vec::new();
    let mut last = began;
    for _ in 0..8 {
        looks.changed().await.unwrap();
        pauses.push((last.elapsed()).as_secs());
        last = tokio::time::Instant::now();
    }
    assert_eq!(pauses, [0, 2, 4, 8, 16, 30, 30, 30]);
    odd.change(|mood| mood.view = Answer::True);
    until(payee.status(), "a poll", |s| !s.blind).await;
    looks.mark_unchanged();
    looks.changed().await.unwrap();
    let last = tokio::time::Instant::now();
    looks.changed().await.unwrap();
    assert_eq!(last.elapsed().as_secs(), 1, "with each piece of news");
    flood.abort();
}

/// A tip after which nothing comes for hours is told once, and decides nothing.
#[tokio::test(start_paused = true)]
async fn a_stale_tip_is_told_once() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let stale = Arc::new(Mutex::new(Vec::new()));
    let sink = stale.clone();
    let payees = setup("payee").observer(Arc::new(move |report| {
        if let Report::StaleTip { tip, unchanged } = report {
            assert!(unchanged >= 3 * HOUR);
            sink.lock().unwrap().push(tip.height.to_consensus_u32());
        }
    }));
    let (payer, _payee) = ready(&case, (&chain, &chain), (&chain, &chain), payees).await;
    let told = || stale.lock().unwrap().clone();
    tokio::time::sleep(Duration::from_secs(179 * 60)).await;
    assert!(told().is_empty());
    tokio::time::sleep(5 * HOUR).await;
    assert_eq!(told(), [HEIGHT]);
    chain.reach(HEIGHT + 1, MTP);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(told(), [HEIGHT]);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(told(), [HEIGHT, HEIGHT + 1]);
    soon("a payment", payer.pay(sat(1_000))).await.unwrap();
}
