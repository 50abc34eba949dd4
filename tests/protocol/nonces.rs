//! A nonce signs once, whatever the peer asks for: the settlement with one signature of both.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, Ordering};

use bitcoin::FeeRate;
use spilman::channel::{
    Action, ApplyError, Construction, Event, Message, NonceSource, Protocol, PublicNonce, RefusalReason,
    SpendRole, Stage, Terms,
};

use crate::pair::{amounts, assert_spends, hears, key, sat, Case, Inspect, Pair, Side, Sign};
use Side::{Payee, Payer};

fn case() -> Case {
    Case::new(Protocol::Example7)
        .on(Construction::Taproot)
        .paying(&[1_000])
}

fn nonce(label: &str) -> PublicNonce {
    let point = key(label).public_key().serialize();
    PublicNonce::from_bytes([point; 2].concat().try_into().unwrap()).unwrap()
}

fn ask(pair: &Pair, feerate: u64, nonce: Option<PublicNonce>) -> Event {
    let feerate = FeeRate::from_sat_per_kwu(feerate);
    hears(pair.payer.params().id(), Message::CloseRequest { feerate, nonce })
}

fn sent(actions: &[Action]) -> &Message {
    let [Action::Send(envelope)] = actions else {
        panic!("one message, not {actions:?}")
    };
    &envelope.message
}

fn asked(actions: &[Action]) -> PublicNonce {
    match sent(actions) {
        Message::CloseRequest {
            nonce: Some(nonce), ..
        } => *nonce,
        other => panic!("a nonce, not {other:?}"),
    }
}

fn reason(refused: Result<Vec<Action>, ApplyError>) -> RefusalReason {
    match refused {
        Err(ApplyError::Refused(refusal)) => refusal.reason(),
        other => panic!("refused, not {other:?}"),
    }
}

/// A snapshot of a running machine has everything that the payee had in memory. What it draws when it closes, it had not.
#[test]
fn two_copies_of_a_running_payee_close_with_different_nonces() {
    static DRAWN: AtomicU8 = AtomicU8::new(0);
    let copy = |draw| {
        let mut pair = case().open();
        pair.payee.provide_nonces(NonceSource::new(draw));
        pair
    };
    let fresh = || Some([DRAWN.fetch_add(1, Ordering::Relaxed); 32]);
    let [one, other] = [(); 2].map(|()| asked(&copy(fresh).tell(Payee, Event::Close).unwrap()));
    assert_ne!(one, other);
    // Without random numbers there is no nonce, and the close takes two signatures.
    let mut pair = copy(|| None);
    pair.apply(Payee, Event::Close).unwrap();
    assert!(!pair.payee.settlement().unwrap().is_cooperative());
}

/// 1. The same question has the same answer.
/// 2. Another feerate or another nonce makes another digest or another sum of nonces, and the payer never answers two of
///    them with one separate nonce.
#[test]
fn the_payer_is_asked_again_and_again() {
    let mut pair = case().open();
    let mut answers = HashSet::new();
    let questions = [(500, "first"), (501, "first"), (500, "second"), (1_000, "second")];
    for (feerate, label) in questions {
        let mut answer = || {
            let event = ask(&pair, feerate, Some(nonce(label)));
            sent(&pair.tell(Payer, event).unwrap()).clone()
        };
        let (first, again) = (answer(), answer());
        assert_eq!(first, again, "{feerate} {label}");
        let Message::CooperativeSettlement { nonce, .. } = first else {
            panic!("{first:?}")
        };
        assert!(
            answers.insert(nonce.to_bytes()),
            "a nonce for two digests: {nonce}"
        );
    }
    // The same question in another channel, or after another payment, has another digest.
    let mut pair = case().paying(&[1_001]).open();
    let event = ask(&pair, 500, Some(nonce("first")));
    let Message::CooperativeSettlement { nonce, .. } = sent(&pair.tell(Payer, event).unwrap()).clone() else {
        panic!("an answer")
    };
    assert!(
        answers.insert(nonce.to_bytes()),
        "a nonce for two digests: {nonce}"
    );
}

/// 1. The payee asks with a nonce, and is answered wrongly: the nonce is gone.
/// 2. The right answer to it comes too late.
/// 3. Asked by the payer, the payee makes another nonce; what answers the first is refused, and costs that one too.
/// 4. With a third, the two close.
#[test]
fn a_payee_that_was_answered_wrongly_never_uses_the_nonce_again() {
    let mut pair = case().open();
    let channel = pair.payee.params().id();
    let says = |message| hears(channel, message);
    let first = asked(&pair.tell(Payee, Event::Close).unwrap());
    let wrong = pair.cooperative_settlement(1_000, Terms::FEERATE, &first, "stranger");
    assert_eq!(
        reason(pair.tell(Payee, says(wrong))),
        RefusalReason::PartialSignatureWrong
    );

    let right = pair.cooperative_settlement(1_000, Terms::FEERATE, &first, "payer");
    assert_eq!(
        reason(pair.tell(Payee, says(right.clone()))),
        RefusalReason::UnexpectedMessage
    );

    let event = ask(&pair, 500, None);
    let second = asked(&pair.tell(Payee, event).unwrap());
    assert_ne!(second, first, "a nonce was used twice");
    assert_eq!(
        reason(pair.tell(Payee, says(right))),
        RefusalReason::PartialSignatureWrong
    );

    let event = ask(&pair, 500, None);
    let third = asked(&pair.tell(Payee, event).unwrap());
    assert!(third != first && third != second, "a nonce was used twice");
    let right = pair.cooperative_settlement(1_000, Terms::FEERATE, &third, "payer");
    pair.apply(Payee, says(right)).unwrap();
    let (role, tx) = pair.network.broadcast.last().unwrap();
    assert_eq!((*role, tx.input[0].witness.len()), (SpendRole::Settlement, 1));
    assert_spends(pair.payee.params(), tx);
}

/// A peer that answers nonsense delays nothing: the payee settles with what it holds.
#[test]
fn after_a_wrong_answer_the_payee_settles_alone() {
    for event in [Event::PeerGone, Event::Close] {
        let mut pair = case().open();
        let channel = pair.payee.params().id();
        let nonce = asked(&pair.tell(Payee, Event::Close).unwrap());
        let message = pair.cooperative_settlement(999, Terms::FEERATE, &nonce, "payer");
        let Message::CooperativeSettlement { partial, nonce, .. } = message else {
            panic!("{message:?}")
        };
        let message = Message::CooperativeSettlement {
            paid: sat(1_000),
            feerate: Terms::FEERATE,
            nonce,
            partial,
        };
        let refused = pair.tell(Payee, hears(channel, message));
        assert_eq!(reason(refused), RefusalReason::PartialSignatureWrong);
        let held = pair.redeemable().unwrap();
        pair.apply(Payee, event).unwrap();
        let (role, tx) = pair.network.broadcast.last().unwrap();
        assert_eq!((*role, tx), (SpendRole::Settlement, held.tx()));
        assert_eq!(amounts(tx)[1], 1_000);
    }
}

/// The payee's restart loses the nonce, which is the point: the answer to it is worth nothing any more.
#[test]
fn a_settlement_that_no_one_waits_for_is_refused() {
    let mut pair = case().open();
    let channel = pair.payee.params().id();
    let nonce = asked(&pair.tell(Payee, Event::Close).unwrap());
    let message = pair.cooperative_settlement(1_000, Terms::FEERATE, &nonce, "payer");
    let mut restarted = case().open();
    let answer = || hears(channel, message.clone());
    assert_eq!(
        reason(restarted.tell(Payee, answer())),
        RefusalReason::UnexpectedMessage
    );
    // Nor once the payee has settled alone.
    pair.apply(Payee, Event::PeerGone).unwrap();
    pair.apply(Payee, answer()).unwrap();
    let settlements = pair
        .network
        .broadcast
        .iter()
        .filter(|(role, _)| *role == SpendRole::Settlement);
    assert_eq!(settlements.count(), 1, "the one it settled with");
    assert_eq!(pair.payee.stage(), Stage::Closing);
}
