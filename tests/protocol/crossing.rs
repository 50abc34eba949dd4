//! Both sides speak at the same moment: no honest message may be taken for an attack.

use spilman::channel::{Action, Envelope, Event, Message, Protocol, SpendRole, Stage};

use crate::pair::{amounts, sat, Case, Pair, Side};
use Protocol::{Bond, Example7, SteppedLocktime};

/// What a party says of its own accord, still on its way.
fn says(pair: &mut Pair, side: Side, event: Event) -> Vec<Envelope> {
    let actions = pair.raw(side, event).unwrap();
    actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Send(envelope) => Some(envelope),
            _ => None,
        })
        .collect()
}

/// Delivers what was on its way, and everything that follows.
fn arrive(pair: &mut Pair, side: Side, envelopes: Vec<Envelope>) {
    for envelope in envelopes {
        pair.apply(side, Event::Message(envelope)).unwrap();
    }
}

#[test]
fn a_payment_crosses_the_payees_wish_to_close() {
    for protocol in [SteppedLocktime, Bond] {
        let paid_before: &[u64] = if protocol == SteppedLocktime {
            &[1_000]
        } else {
            &[]
        };
        let mut pair = Case::new(protocol).paying(paid_before).open();
        let before = pair.payee.paid().to_sat();
        // 1. The payer pays, the payee asks for a settlement; neither has heard the other.
        let payment = says(&mut pair, Side::Payer, Event::Pay(sat(1_000)));
        let close = says(&mut pair, Side::Payee, Event::Close);
        assert!(matches!(
            close[0].message,
            Message::CloseRequest { nonce: None, .. }
        ));
        // 2. The payment counts, and the settlement is for all of it.
        arrive(&mut pair, Side::Payee, payment);
        assert_eq!(pair.payee.paid(), sat(before + 1_000), "{protocol}");
        arrive(&mut pair, Side::Payer, close);
        let (role, settlement) = pair.broadcast.last().unwrap();
        assert_eq!(*role, SpendRole::Settlement);
        assert_eq!(amounts(settlement).last(), Some(&(before + 1_000)));
    }
}

#[test]
fn both_close_at_once() {
    for protocol in Protocol::ALL {
        let mut pair = Case::new(protocol).paying(&[1_000]).open();
        let settlement = says(&mut pair, Side::Payer, Event::Close);
        let close = says(&mut pair, Side::Payee, Event::Close);
        arrive(&mut pair, Side::Payer, close);
        arrive(&mut pair, Side::Payee, settlement);
        assert_eq!(
            (pair.payer.stage(), pair.payee.stage()),
            (Stage::Closing, Stage::Closing),
            "{protocol}"
        );
    }
}

#[test]
fn the_payer_closes_while_the_payee_says_ready() {
    for protocol in Protocol::ALL {
        let mut pair = Case::new(protocol).funded();
        let settlement = says(&mut pair, Side::Payer, Event::Close);
        let view = pair.view(3, None);
        let ready = says(&mut pair, Side::Payee, Event::Chain(view));
        arrive(&mut pair, Side::Payer, ready);
        assert_eq!(pair.payer.stage(), Stage::Closing);
        arrive(&mut pair, Side::Payee, settlement);
        let all = pair.payer.params().spendable().to_sat();
        assert_eq!(amounts(&pair.broadcast.last().unwrap().1), [all], "{protocol}");
    }
}

#[test]
fn the_payer_closes_while_the_payee_asks_for_more() {
    let mut pair = Case::new(Bond).paying(&[1_000]).open();
    let settlement = says(&mut pair, Side::Payer, Event::Close);
    let request = says(&mut pair, Side::Payee, Event::RequestPayment(sat(1_000)));
    arrive(&mut pair, Side::Payer, request);
    arrive(&mut pair, Side::Payee, settlement);
    assert_eq!(amounts(&pair.broadcast.last().unwrap().1)[1], 1_000);
}

/// Once its settlement is out, a payee cannot take more: the newer payment would spend the same output.
#[test]
fn a_payment_crosses_the_payees_settlement() {
    let mut pair = Case::new(Example7).paying(&[1_000]).open();
    let payment = says(&mut pair, Side::Payer, Event::Pay(sat(1_000)));
    pair.raw(Side::Payee, Event::Close).unwrap();
    for envelope in payment {
        pair.raw(Side::Payee, Event::Message(envelope)).unwrap_err();
    }
    assert_eq!(pair.payee.paid(), sat(1_000));
}
