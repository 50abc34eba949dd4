//! More of something than a party can take at once: payments, news, messages that are not read, time.

use std::sync::Arc;
use std::time::Duration;

use spilman::channel::Payer;
use spilman::channel::Protocol::{Bond, Example7, SteppedLocktime};
use spilman::channel::{Action, Construction, Event, Message, NonceSource, RefusalReason, SeenSpend};
use spilman::service::{PayError, RequestError};
use spilman::wire;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::chains::{FakeChain, Odd};
use crate::hand::{
    garbled, loses_peer, opening, opening_over, opens, pay_at_once, payee_and_hand, payer_and_hand, ready,
    settles, setup, soon, until, Hand,
};
use crate::pair::{amounts, once_stored, sat, Case, HEIGHT, MTP};

/// Both sides have more to say than the connection holds, and neither waits for the other to read.
#[tokio::test(start_paused = true)]
async fn many_payments_at_once_do_not_end_the_connection() {
    for (buffer, many) in [(64, 1_500), (8_192, 1_500), (8_192, 6_000)] {
        let (case, chain) = (Case::new(Example7), FakeChain::new());
        let (payer, payee) = opening_over(&case, buffer, &chain, &chain).await;
        let (payer, payee) = (Arc::new(payer.unwrap()), payee.unwrap());
        chain.confirm(3);
        opens(&payer).await;
        let payments = pay_at_once(&payer, many, 1);
        for payment in payments {
            let paid = soon("an answer", payment).await.unwrap();
            paid.unwrap_or_else(|error| panic!("{many} payments over {buffer} bytes: {error}"));
        }
        assert_eq!(payee.status().borrow().paid, sat(many));
    }
}

/// News come faster than the node answers; the peer's messages are dealt with all the same.
#[tokio::test(start_paused = true)]
async fn news_without_pause_do_not_shut_out_the_peer() {
    let (case, chain, odd) = (Case::new(Example7), FakeChain::new(), Odd::new());
    let (payer, _payee) = ready(&case, (&chain, &chain), (&odd, &odd.chain), setup("payee")).await;
    odd.change(|mood| mood.view_takes = Duration::from_millis(200));
    let news = odd.chain.changes.clone();
    let flood = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            news.send_modify(|serial| *serial += 1);
        }
    };
    let paying = async {
        for _ in 0..10 {
            // Some time within a poll.
            tokio::time::sleep(Duration::from_millis(770)).await;
            let paid = timeout(Duration::from_secs(1), payer.pay(sat(1_000))).await;
            paid.expect("an answer between two polls").unwrap();
        }
    };
    tokio::select! { () = flood => unreachable!(), () = paying => {} }
}

/// A payee reads every payment and answers none: what had to wait for room in the queue is sent when there is some.
#[tokio::test(start_paused = true)]
async fn payments_that_wait_for_room_are_sent_when_there_is_some() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, mut hand, _payee) = payer_and_hand(&case, (&chain, &chain), 4_096).await;
    let payer = Arc::new(payer);
    let _payments = pay_at_once(&payer, 1_000, 1);
    // 1. The payer signs what the queue has room for, and no more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(payer.status().borrow().paid < sat(500));
    // 2. All of them arrive, before anything but the room in the queue makes the payer go on.
    let arrive = async {
        for _ in 0..1_000 {
            hand.receive().await.expect("a payment");
        }
    };
    timeout(Duration::from_secs(10), arrive)
        .await
        .expect("all payments");
    assert_eq!(payer.status().borrow().paid, sat(1_000));
}

/// Sends payments until the connection is full; the last of them may be cut short.
async fn pay_without_reading(hand: &mut Hand, payer: &mut Payer, most: u64) -> u64 {
    for sent in 0..most {
        let actions = payer.apply(Event::Pay(sat(100))).unwrap();
        let Ok(()) = timeout(Duration::from_secs(1), hand.carry_out(actions)).await else {
            return sent;
        };
    }
    most
}

/// A payer pays, and never reads. The payee stops reading, watches the chain all the same, and hangs up in the end.
#[tokio::test(start_paused = true)]
async fn a_payer_that_never_reads_is_left_waiting_and_cut_off() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payee, mut hand, mut payer, _) = payee_and_hand(&case, (&chain, &chain), 128).await;
    let sent = pay_without_reading(&mut hand, &mut payer, 10_000).await;
    assert!(sent < 10_000, "the payee's queue has an end");
    let status = payee.status().borrow().clone();
    assert!(status.connected && status.paid > sat(0), "{status:?}");
    chain.reach(HEIGHT + 108, MTP);
    let settled = settles(payee.status()).await;
    assert!(settled.connected, "settled while the peer was waited for");
    assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], settled.paid.to_sat());
    loses_peer(payee.status()).await;
}

/// A payee takes a payment's bytes, and reads no further: it is cut off, and the payer is told what it signed.
#[tokio::test(start_paused = true)]
async fn a_payee_that_never_reads_is_cut_off() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, _hand, _payee) = payer_and_hand(&case, (&chain, &chain), 80).await;
    let (first, second) = tokio::join!(payer.pay(sat(1_000)), payer.pay(sat(1_000)));
    let told: Result<_, RequestError> = Err(PayError::Unacknowledged { paid: sat(2_000) }.into());
    assert_eq!((&first, &second), (&told, &told));
    assert!(!payer.status().borrow().connected);
    chain.reach(HEIGHT + 144, MTP);
    settles(payer.status()).await;
    assert_eq!(chain.broadcast_so_far().last(), Some(payer.refund().tx()));
}

/// The payer answers every close request. A payee that asks without end and reads no answer is cut off, before its
/// answers fill the payer's memory.
#[tokio::test(start_paused = true)]
async fn a_payee_that_asks_without_end_is_cut_off() {
    let (case, chain) = (Case::new(Example7).on(Construction::Taproot), FakeChain::new());
    let (payer, mut hand, mut payee) = payer_and_hand(&case, (&chain, &chain), 4_096).await;
    payee.provide_nonces(NonceSource::fixed([7; 32]));
    let actions = once_stored(payee.apply(Event::Close).unwrap());
    let [Action::Send(request)] = &actions[..] else {
        panic!("{actions:?}");
    };
    let bytes = wire::encode(request);
    let frame = [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), &bytes[..]].concat();
    let mut asked = 0;
    while asked < 10_000 && hand.io.write_all(&frame).await.is_ok() {
        asked += 1;
    }
    assert!(asked < 10_000, "the payer's queue has an end");
    let status = loses_peer(payer.status()).await;
    assert_eq!(status.paid, sat(0));
    // The settlement does not come, and the refund is the way out.
    chain.reach(HEIGHT + 144, MTP);
    soon("the refund", async {
        let mut changes = chain.changes.subscribe();
        while chain.broadcast_so_far().last() != Some(payer.refund().tx()) {
            changes.changed().await.unwrap();
        }
    })
    .await;
}

/// The payee hangs up while it still has answers to send: it watches the chain without waiting for the peer, and the peer
/// that reads late gets every answer, and the refusal last.
#[tokio::test(start_paused = true)]
async fn the_last_messages_arrive_after_the_party_has_moved_on() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payee, mut hand, mut payer, _) = payee_and_hand(&case, (&chain, &chain), 128).await;
    // 1. More answers than the connection holds, and then a payment that is refused.
    assert_eq!(pay_without_reading(&mut hand, &mut payer, 40).await, 40);
    hand.say(&case, garbled(4_100)).await;
    loses_peer(payee.status()).await;
    // 2. It acts on the chain before anything is read.
    payee.close().await.unwrap();
    assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], 4_000);
    // 3. Every answer, and the refusal last.
    let mut accepted = 0;
    loop {
        match soon("a message", hand.receive())
            .await
            .expect("the refusal")
            .message
        {
            Message::PaymentAccepted { .. } => accepted += 1,
            Message::Refuse { reason } => {
                assert_eq!(reason, RefusalReason::SignatureWrong);
                break;
            }
            message => panic!("{message:?}"),
        }
    }
    assert_eq!(accepted, 41, "the empty payment, and forty");
    assert!(soon("the end", hand.receive()).await.is_none());
}

/// A poll takes its time; what was queued before goes out meanwhile.
#[tokio::test(start_paused = true)]
async fn a_slow_poll_does_not_hold_back_what_was_said_before() {
    let (case, odd) = (Case::new(Example7), Odd::new());
    let (payee, mut hand, mut payer, _) = payee_and_hand(&case, (&odd, &odd.chain), 128).await;
    // 1. More answers than the connection holds.
    assert_eq!(pay_without_reading(&mut hand, &mut payer, 40).await, 40);
    until(payee.status(), "all payments", |s| s.paid == sat(4_000)).await;
    // 2. The payee polls the chain, and its node takes its time.
    odd.change(|mood| mood.view_takes = Duration::from_secs(28));
    let (before, news) = (*odd.looks.borrow(), odd.chain.changes.clone());
    news.send_modify(|serial| *serial += 1);
    let mut looks = odd.looks.subscribe();
    soon("a poll", looks.wait_for(|looks| *looks > before))
        .await
        .unwrap();
    // 3. The payer reads every answer before the poll is over.
    let answers = async {
        for _ in 0..41 {
            hand.receive().await.expect("an answer");
        }
    };
    timeout(Duration::from_secs(20), answers)
        .await
        .expect("during the poll");
    assert_ne!(
        payee.status().borrow().seen,
        *news.borrow(),
        "the poll is not over"
    );
}

/// The poll that ends the channel is still under way when a message comes that has no place after the end: it is not
/// refused, because it is not read.
#[tokio::test(start_paused = true)]
async fn a_message_that_waits_for_the_end_is_not_refused() {
    let (case, odd) = (Case::new(Example7), Odd::new());
    let (payer, mut hand, _payee) = payer_and_hand(&case, (&odd, &odd.chain), 4_096).await;
    odd.change(|mood| mood.view_takes = Duration::from_secs(1));
    let refund = payer.refund().tx().clone();
    odd.chain.change(|state| {
        state.spend = Some(SeenSpend {
            tx: refund,
            confirmations: 6,
        });
    });
    let message = Message::Ready;
    hand.say(&case, message).await;
    soon("the end", payer.outcome()).await.unwrap();
    assert!(soon("the end of the connection", hand.receive()).await.is_none());
}

/// With every default, a payee waits for whatever an honest payer's node may take: the funding transaction is never out
/// for a payee that has stopped waiting.
#[tokio::test(start_paused = true)]
async fn a_slow_node_of_the_payer_does_not_lock_its_money_in_vain() {
    for (protocol, takes) in [
        (SteppedLocktime, 29),
        (SteppedLocktime, 31),
        (Bond, 29),
        (Bond, 31),
        (Example7, 31),
    ] {
        let (case, odd) = (Case::new(protocol), Odd::new());
        odd.change(|mood| {
            mood.broadcast_takes = Duration::from_secs(takes);
            mood.view_takes = Duration::from_secs(takes);
        });
        let (payer, payee) = opening(&case, &odd, &odd.chain).await;
        let opened = payer.map(drop).and(payee.map(drop));
        opened.unwrap_or_else(|error| panic!("{protocol}, {takes} s: {error}"));
    }
}
