//! Peers that do not read, or send what they must not.

use spilman::channel::Protocol::Example7;
use spilman::channel::{Event, Limits, Message, RefusalReason, UnverifiedSignature};
use spilman::service::{ConnectionError, OpenError};
use spilman::wire::MAX_MESSAGE;
use std::time::Duration;
use tokio::io::{duplex, AsyncWriteExt};

use crate::chains::FakeChain;
use crate::common::assert_matches;
use crate::hand::{denied, garbled, loses_peer, open_payer, payee_and_hand, settles, setup, soon, Hand};
use crate::pair::{amounts, sat, Case, HEIGHT, MTP};

/// A peer that sends, but never reads what it is sent.
#[tokio::test(start_paused = true)]
async fn an_opening_with_a_peer_that_does_not_read_ends() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (a, _b) = duplex(16);
    let error = soon("the payer gives up", open_payer(&case, a, &chain))
        .await
        .err()
        .unwrap();
    assert_matches!(error, OpenError::Disconnected { .. } | OpenError::Timeout { .. });
}

/// The payer pays and never reads an acknowledgement. When the connection is full, the payee must not
/// wait for it: it would sleep through the expiry and lose everything that it was paid.
#[tokio::test(start_paused = true)]
async fn a_payer_that_does_not_read_cannot_keep_the_payee_from_settling() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payee, mut hand, mut payer, _) = payee_and_hand(&case, (&chain, &chain), 128).await;
    // 1. Pay until the payee's answers fill the connection.
    for _ in 0..40 {
        let actions = payer.apply(Event::Pay(sat(1_000))).unwrap();
        let Ok(()) = tokio::time::timeout(Duration::from_secs(1), hand.carry_out(actions)).await else {
            break;
        };
    }
    // 2. The expiry comes near.
    chain.reach(HEIGHT + 108, MTP);
    let status = settles(payee.status()).await;
    assert!(!status.connected);
    assert!(status.paid >= sat(10_000), "{}", status.paid);
    assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], status.paid.to_sat());
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_too_long_ends_the_connection() {
    // 1. While opening.
    let (mut hand, io) = Hand::over(4_096);
    hand.io.write_all(&[0xff, 0xff]).await.unwrap();
    let error = denied(io).await;
    assert_matches!(
        error,
        OpenError::Connection(ConnectionError::FrameTooLong { limit: MAX_MESSAGE })
    );
    assert_eq!(hand.refused().await, RefusalReason::Malformed);
    // 2. One byte above the limit, and then a payee that waits for the limit's worth.
    for (len, refused) in [(MAX_MESSAGE + 1, true), (MAX_MESSAGE, false)] {
        let (mut hand, io) = Hand::over(4_096);
        hand.io.write_u16(len.try_into().unwrap()).await.unwrap();
        let error = denied(io).await;
        assert_eq!(
            matches!(error, OpenError::Connection(_)),
            refused,
            "{len}: {error}"
        );
        assert_eq!(
            matches!(error, OpenError::Timeout { .. }),
            !refused,
            "{len}: {error}"
        );
    }
    // 3. In mid-session: what was paid is still there.
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payee, mut hand, mut payer, reports) = payee_and_hand(&case, (&chain, &chain), 4_096).await;
    hand.carry_out(payer.apply(Event::Pay(sat(1_000))).unwrap()).await;
    hand.io.write_all(&[0xff, 0xff]).await.unwrap();
    assert_eq!(hand.refused().await, RefusalReason::Malformed);
    assert!(reports
        .lock()
        .unwrap()
        .iter()
        .any(|r| r.contains("Garbled(FrameTooLong { limit: 4096 })")));
    assert_eq!(
        payee.redeemable().await.unwrap().unwrap().balance().paid,
        sat(1_000)
    );
    payee.close().await.unwrap();
    assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], 1_000);
}

/// A program may end as soon as its opening has failed: the refusal is with the peer by then.
#[test]
fn a_refusal_does_not_outlive_the_opening() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let (mut hand, io) = Hand::over(4_096);
    runtime().block_on(async {
        hand.io.write_all(&[0xff, 0xff]).await.unwrap();
        denied(io).await;
    });
    assert_eq!(runtime().block_on(hand.refused()), RefusalReason::Malformed);
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_the_connection_and_nothing_else() {
    let endless: Vec<u8> = (0..2_000_u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    for garbage in [
        &[0, 0][..],
        &[0, 1, 0xff],
        &[0, 3, 0x82, 6, 7, 9, 9],
        b"GET / HTTP/1.1\r\n\r\n",
        &endless,
    ] {
        // 1. While opening.
        let (mut hand, io) = Hand::over(64 * 1024);
        hand.io.write_all(garbage).await.unwrap();
        drop(hand);
        let error = denied(io).await;
        assert_matches!(error, OpenError::Connection(_) | OpenError::Refused(_));
        // 2. In mid-session.
        let (case, chain) = (Case::new(Example7), FakeChain::new());
        let (payee, mut hand, mut payer, _) = payee_and_hand(&case, (&chain, &chain), 64 * 1024).await;
        hand.carry_out(payer.apply(Event::Pay(sat(1_000))).unwrap()).await;
        hand.io.write_all(garbage).await.unwrap();
        hand.io.shutdown().await.unwrap();
        loses_peer(payee.status()).await;
        assert_eq!(payee.status().borrow().paid, sat(1_000));
        chain.reach(HEIGHT + 108, MTP);
        settles(payee.status()).await;
        assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], 1_000);
    }
}

#[tokio::test(start_paused = true)]
async fn one_wrong_payment_ends_the_connection() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payee, mut hand, mut payer, reports) = payee_and_hand(&case, (&chain, &chain), 4_096).await;
    hand.carry_out(payer.apply(Event::Pay(sat(1_000))).unwrap()).await;
    hand.say(&case, garbled(2_000)).await;
    assert_eq!(hand.refused().await, RefusalReason::SignatureWrong);
    assert!(reports
        .lock()
        .unwrap()
        .iter()
        .any(|r| r.starts_with("Refused(Signature(Wrong")));
    assert_eq!(payee.status().borrow().paid, sat(1_000));
}

#[tokio::test(start_paused = true)]
async fn a_refused_proposal_tells_the_payer_why() {
    let (mut case, chain) = (Case::new(Example7), FakeChain::new());
    case.limits.capacity = sat(1)..=sat(1_000_000);
    let (a, b) = duplex(4_096);
    let strict = setup("payee").limits(Limits {
        capacity: sat(1)..=sat(999_999),
        ..Limits::default()
    });
    let (payer, payee) = tokio::join!(open_payer(&case, a, &chain), strict.accept(b, chain.clone()));
    let (payer, payee) = (payer.err().unwrap(), payee.err().unwrap());
    let expected = RefusalReason::TermsOutOfLimits;
    assert_matches!(payer, OpenError::PeerRefused { reason, .. } if reason == expected);
    assert!(payee.to_string().contains("0.00999999"), "{payee}");
}

/// Example 7, step 5: the payer aborts, and nothing is on chain.
#[tokio::test(start_paused = true)]
async fn a_wrong_refund_signature_aborts_with_nothing_on_chain() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (mut hand, io) = Hand::over(4_096);
    let (payer, reason) = tokio::join!(open_payer(&case, io, &chain), async {
        let (_, accept) = case.consider(hand.receive().await.unwrap()).unwrap();
        hand.send(&accept).await;
        hand.receive().await.unwrap();
        let signature = UnverifiedSignature::from_compact([1; 64]);
        let message = Message::RefundSignature { signature };
        hand.say(&case, message).await;
        hand.refused().await
    });
    assert!(matches!(payer.err().unwrap(), OpenError::Refused(_)));
    assert_eq!(reason, RefusalReason::SignatureWrong);
    assert!(chain.broadcast_so_far().is_empty());
}
