//! What a payer's user is told of the sums that were signed.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::Amount;
use spilman::channel::Protocol::Example7;
use spilman::channel::{Event, Message, RefusalReason};
use spilman::service::{PayError, PayerHandle, RequestError, ACKNOWLEDGE_TIMEOUT};
use tokio::time::timeout;

use crate::chains::{FakeChain, Odd};
use crate::hand::{loses_peer, open, pay_at_once, payer_and_hand, soon, Hand};
use crate::pair::{sat, Case};

fn unacknowledged(paid: u64) -> RequestError {
    PayError::Unacknowledged { paid: sat(paid) }.into()
}

/// The sum of the next payment on the wire.
async fn read_payment(hand: &mut Hand) -> Amount {
    match soon("a payment", hand.receive())
        .await
        .expect("a payment")
        .message
    {
        Message::Payment { paid, .. } => paid,
        message => panic!("{message:?}"),
    }
}

async fn open_channel() -> (Arc<PayerHandle>, impl Sized) {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, payee) = open(&case, &chain).await;
    (Arc::new(payer), (payee, chain))
}

/// Eight payments at once to a payee that reads one message every nine seconds, and never answers: each of them is told
/// the largest sum that was signed.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_does_not_make_the_payer_tell_too_little() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, mut hand, _payee) = payer_and_hand(&case, (&chain, &chain), 80).await;
    let payer = Arc::new(payer);
    let payments = pay_at_once(&payer, 8, 1_000);
    let mut most = Amount::ZERO;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(9)).await;
        most = read_payment(&mut hand).await;
    }
    assert_eq!(most, sat(8_000));
    for payment in payments {
        assert_eq!(
            soon("an answer", payment).await.unwrap(),
            Err(unacknowledged(8_000))
        );
    }
}

/// The payer's node is slow. A payment that waits for it longer than its user does is never signed, and says so.
#[tokio::test(start_paused = true)]
async fn a_payment_that_is_not_signed_in_time_never_is() {
    let (case, odd) = (Case::new(Example7), Odd::new());
    let (payer, mut hand, _payee) = payer_and_hand(&case, (&odd, &odd.chain), 64 * 1024).await;
    // 1. News come in such a way that the payer does nothing but poll.
    odd.change(|mood| mood.view_takes = Duration::from_secs(28));
    odd.chain.confirm(4);
    let looked = *odd.looks.borrow();
    soon("a poll", odd.looks.subscribe().wait_for(|looks| *looks > looked))
        .await
        .unwrap();
    // 2. The user waits for less than one poll.
    let given_up = timeout(Duration::from_secs(20), payer.pay(sat(1_000))).await;
    given_up.expect_err("no answer yet");
    // 3. The next payment is the first.
    let (paid, first) = tokio::join!(payer.pay(sat(500)), read_payment(&mut hand));
    assert_eq!((paid, first), (Err(unacknowledged(500)), sat(500)));
}

/// A payment whose turn does not come within [`ACKNOWLEDGE_TIMEOUT`] is not signed later either.
#[tokio::test(start_paused = true)]
async fn a_payment_whose_turn_does_not_come_is_told_so() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, mut hand, _payee) = payer_and_hand(&case, (&chain, &chain), 80).await;
    let payer = Arc::new(payer);
    // 1. More payments than may wait for a payee that reads slowly: just enough to be no stall.
    let payments = pay_at_once(&payer, 1_000, 1_000);
    let mut most = Amount::ZERO;
    let reading = async {
        loop {
            most = read_payment(&mut hand).await;
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
    };
    let answers = async {
        let mut answers = Vec::new();
        for payment in payments {
            answers.push(payment.await.unwrap());
        }
        answers
    };
    let answers = tokio::select! { answers = answers => answers, () = reading => unreachable!() };
    // 2. Those that were signed may be with the payee, the others never will be.
    let signed = payer.status().borrow().paid;
    let count = answers
        .iter()
        .filter(|answer| **answer == Err(unacknowledged(signed.to_sat())))
        .count();
    assert_eq!(sat(1_000) * u64::try_from(count).unwrap(), signed);
    let unsigned = Err(PayError::NotSigned { paid: signed }.into());
    assert_eq!(
        answers.iter().filter(|answer| **answer == unsigned).count(),
        1_000 - count
    );
    assert!(count < 1_000 && signed >= most, "{count}, {signed}, {most}");
    tokio::time::sleep(ACKNOWLEDGE_TIMEOUT).await;
    assert_eq!(payer.status().borrow().paid, signed, "nothing is signed later");
}

/// A payee that refuses a good payment keeps the signature: the error says for how much.
#[tokio::test(start_paused = true)]
async fn a_refused_payment_is_not_unpaid() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, mut hand, mut payee) = payer_and_hand(&case, (&chain, &chain), 64 * 1024).await;
    let reason = RefusalReason::SignatureWrong;
    let (paid, ()) = tokio::join!(payer.pay(sat(500_000)), async {
        let payment = hand.receive().await.unwrap();
        payee.apply(Event::Message(payment)).unwrap();
        let message = Message::Refuse { reason };
        hand.say(&case, message).await;
    });
    let held = payee.redeemable().unwrap().unwrap().balance().paid;
    let error = paid.unwrap_err();
    assert_eq!(error, PayError::Refused { reason, paid: held }.into());
    assert!(error.to_string().contains("0.005"), "{error}");
}

/// The payee refuses and is gone: its reason is heard although nothing can be sent to it any more.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_heard_over_a_connection_that_is_gone() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, mut hand, _payee) = payer_and_hand(&case, (&chain, &chain), 64 * 1024).await;
    let reason = RefusalReason::Malformed;
    let message = Message::Refuse { reason };
    // The payer's task has no turn between these, and signs before it reads.
    let (paid, ()) = tokio::join!(payer.pay(sat(1_000)), async {
        hand.say(&case, message).await;
        drop(hand);
    });
    let paid_for = sat(1_000);
    assert_eq!(
        paid,
        Err(PayError::Refused {
            reason,
            paid: paid_for
        }
        .into())
    );
}

/// The payer's task ends in mid-payment: what was signed is not hidden by that.
#[tokio::test(start_paused = true)]
async fn a_payment_that_the_task_does_not_survive_names_its_sum() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, mut hand, _payee) = payer_and_hand(&case, (&chain, &chain), 64 * 1024).await;
    let (paid, ()) = tokio::join!(payer.pay(sat(1_000)), async {
        assert_eq!(read_payment(&mut hand).await, sat(1_000));
        payer.abort();
    });
    assert_eq!(paid, Err(unacknowledged(1_000)));
    assert_eq!(payer.pay(sat(1_000)).await, Err(RequestError::Ended));
}

/// A total is paid once, however often and by however many it is asked for.
#[tokio::test(start_paused = true)]
async fn a_total_is_paid_once() {
    let (payer, _keep) = open_channel().await;
    // 1. All at once: one signs, all wait for the same acknowledgement.
    let payments: Vec<_> = (0..8)
        .map(|_| {
            let payer = Arc::clone(&payer);
            tokio::spawn(async move { payer.pay_up_to(sat(1_000)).await })
        })
        .collect();
    for payment in payments {
        let balance = soon("an answer", payment).await.unwrap().unwrap();
        assert_eq!(balance.paid, sat(1_000));
    }
    // 2. Again, and less: acknowledged already.
    for total in [0, 999, 1_000] {
        assert_eq!(payer.pay_up_to(sat(total)).await.unwrap().paid, sat(1_000));
    }
    assert_eq!(payer.status().borrow().paid, sat(1_000));
    // 3. More: what is missing.
    assert_eq!(payer.pay_up_to(sat(1_500)).await.unwrap().paid, sat(1_500));
}

/// A total that was signed when no one waited for it any more is waited for, and not signed again.
#[tokio::test(start_paused = true)]
async fn a_total_that_is_signed_is_waited_for() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, mut hand, mut payee) = payer_and_hand(&case, (&chain, &chain), 64 * 1024).await;
    // 1. Signed; the answer is slow.
    let early = timeout(Duration::from_secs(1), payer.pay_up_to(sat(1_000))).await;
    early.expect_err("no answer yet");
    let payment = hand.receive().await.unwrap();
    // 2. Asked for again, and for less.
    let (same, less, ()) = tokio::join!(payer.pay_up_to(sat(1_000)), payer.pay_up_to(sat(400)), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let answers = payee.apply(Event::Message(payment)).unwrap();
        hand.carry_out(answers).await;
    });
    assert_eq!((same.unwrap().paid, less.unwrap().paid), (sat(1_000), sat(1_000)));
    // 3. The payee goes. What it acknowledged is still so; nothing more is signed.
    drop(hand);
    loses_peer(payer.status()).await;
    assert_eq!(payer.pay_up_to(sat(1_000)).await.unwrap().paid, sat(1_000));
    assert_eq!(
        payer.pay_up_to(sat(1_001)).await,
        Err(PayError::Disconnected.into())
    );
}
