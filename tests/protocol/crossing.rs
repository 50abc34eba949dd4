//! Both sides speak at the same moment: no honest message may be taken for an attack.

use spilman::channel::{Envelope, Event, Message, Protocol, SpendRole, Stage};

use crate::pair::{amounts, assert_spends, channels, sat, says, Case, Inspect, Pair, Side};
use Protocol::{Bond, Example7, SteppedLocktime};

/// Delivers what was on its way, and everything that follows.
fn arrive(pair: &mut Pair, side: Side, envelopes: Vec<Envelope>) {
    for envelope in envelopes {
        pair.apply(side, Event::Message(envelope)).unwrap();
    }
}

/// The last broadcast settles, is valid, and pays the payee this.
fn settled(pair: &Pair, at: &str, paid: u64) {
    let (role, tx) = pair.network.broadcast.last().expect("a broadcast");
    assert_eq!(*role, SpendRole::Settlement, "{at}");
    assert_spends(pair.payee.params(), tx);
    let to_payee = tx
        .output
        .iter()
        .find(|output| *output.script_pubkey == *pair.payee.params().payee_payout());
    assert_eq!(to_payee.map_or(0, |output| output.value.to_sat()), paid, "{at}");
}

/// What is paid before a payee has to ask for a settlement: where its payments are locked, it holds none yet, or one
/// signature is smaller. `None` where it settles at once with what it holds.
fn paid_before_asking(case: &Case) -> Option<&'static [u64]> {
    match case.terms.protocol {
        SteppedLocktime => Some(&[1_000]),
        Example7 if case.terms.construction.closes_with_one_key() => Some(&[1_000]),
        Example7 => None,
        Bond => Some(&[]),
    }
}

/// 1. The payer pays, the payee asks for a settlement; neither has heard the other.
/// 2. The payment counts, and the settlement is for all of it.
fn payment_and_wish_cross(mut pair: Pair, case: &Case) {
    let (at, one_key) = (case.name(), case.terms.construction.closes_with_one_key());
    let before = pair.payee.paid().to_sat();
    let payment = says(&mut pair, Side::Payer, Event::Pay(sat(1_000)));
    let close = says(&mut pair, Side::Payee, Event::Close);
    assert!(
        matches!(close[0].message, Message::CloseRequest { nonce, .. } if nonce.is_some() == one_key),
        "{at}: {close:?}"
    );
    arrive(&mut pair, Side::Payee, payment);
    assert_eq!(pair.payee.paid(), sat(before + 1_000), "{at}");
    arrive(&mut pair, Side::Payer, close);
    settled(&pair, &at, before + 1_000);
}

#[test]
fn a_payment_crosses_the_payees_wish_to_close() {
    for case in channels() {
        let Some(paid) = paid_before_asking(&case) else {
            continue;
        };
        let case = case.paying(paid);
        payment_and_wish_cross(case.open(), &case);
    }
}

/// The same before the funding transaction is confirmed, as far as the payee counts that.
#[test]
fn a_payment_that_counts_early_crosses_the_payees_wish_to_close() {
    for mut case in channels() {
        let Some(paid) = paid_before_asking(&case) else {
            continue;
        };
        case.limits.zero_conf_limit = sat(2_000);
        let mut pair = case.funded();
        pair.poll_both(0, None).unwrap();
        for payment in paid {
            pair.apply(Side::Payer, Event::Pay(sat(*payment))).unwrap();
        }
        payment_and_wish_cross(pair, &case);
    }
}

/// Not once something spends what it would be paid from: here the refund, in the mempool.
#[test]
fn a_payment_crosses_a_wish_to_close_when_the_refund_is_out() {
    for case in channels().filter(|case| case.terms.construction.closes_with_one_key()) {
        let at = case.name();
        let mut pair = case.paying(&[1_000]).open();
        let payment = says(&mut pair, Side::Payer, Event::Pay(sat(1_000)));
        says(&mut pair, Side::Payee, Event::Close);
        let refund = pair.payer.refund().tx().clone();
        pair.poll(Side::Payee, 3, Some((&refund, 0))).unwrap();
        for envelope in payment {
            pair.tell(Side::Payee, Event::Message(envelope)).unwrap_err();
        }
        assert_eq!(pair.payee.paid(), sat(1_000), "{at}");
    }
}

#[test]
fn both_close_at_once() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.paying(&[1_000]).open();
        let settlement = says(&mut pair, Side::Payer, Event::Close);
        let close = says(&mut pair, Side::Payee, Event::Close);
        arrive(&mut pair, Side::Payee, settlement);
        arrive(&mut pair, Side::Payer, close);
        assert_eq!(pair.stages(), [Stage::Closing; 2], "{at}");
    }
}

/// The same, and each side hears the other before what it said itself is answered.
#[test]
fn both_close_at_once_and_the_answers_cross() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.paying(&[1_000]).open();
        let to_payee = says(&mut pair, Side::Payer, Event::Close);
        let to_payer = says(&mut pair, Side::Payee, Event::Close);
        let mut answers = Vec::new();
        for envelope in to_payee {
            answers.extend(says(&mut pair, Side::Payee, Event::Message(envelope)));
        }
        arrive(&mut pair, Side::Payer, to_payer);
        arrive(&mut pair, Side::Payer, answers);
        assert_eq!(pair.stages(), [Stage::Closing; 2], "{at}");
    }
}

#[test]
fn the_payer_closes_while_the_payee_says_ready() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.funded();
        let settlement = says(&mut pair, Side::Payer, Event::Close);
        let view = pair.view(3, None);
        let ready = says(&mut pair, Side::Payee, Event::Chain(view));
        arrive(&mut pair, Side::Payer, ready);
        assert_eq!(pair.payer.stage(), Stage::Closing, "{at}");
        arrive(&mut pair, Side::Payee, settlement);
        settled(&pair, &at, 0);
    }
}

#[test]
fn the_payer_closes_while_the_payee_asks_for_more() {
    let mut pair = Case::new(Bond).paying(&[1_000]).open();
    let settlement = says(&mut pair, Side::Payer, Event::Close);
    let request = says(&mut pair, Side::Payee, Event::RequestPayment(sat(1_000)));
    arrive(&mut pair, Side::Payer, request);
    arrive(&mut pair, Side::Payee, settlement);
    assert_eq!(amounts(&pair.network.broadcast.last().unwrap().1)[1], 1_000);
}

/// Once its settlement is out, a payee cannot take more: the newer payment would spend the same output.
#[test]
fn a_payment_crosses_the_payees_settlement() {
    for case in channels().filter(|case| case.terms.protocol == Example7) {
        let at = case.name();
        let mut pair = case.paying(&[1_000]).open();
        let payment = says(&mut pair, Side::Payer, Event::Pay(sat(1_000)));
        pair.tell(Side::Payee, Event::Close).unwrap();
        // Where it asked for one signature, it does not wait for the answer.
        pair.tell(Side::Payee, Event::PeerGone).unwrap();
        for envelope in payment {
            pair.tell(Side::Payee, Event::Message(envelope)).unwrap_err();
        }
        assert_eq!(pair.payee.paid(), sat(1_000), "{at}");
    }
}
