//! When a payment counts, and what either side says of it.

use spilman::channel::{
    Action, BroadcastResult, Construction, Event, Message, Notice, Protocol, SpendRole, Stage,
};

use crate::pair::{channels, hears, sat, says, sees_nothing, tip, Case, Inspect, Side, HEIGHT, MTP, SETTLES};
use Protocol::{Bond, Example7, SteppedLocktime};

/// The payee's own user, or a wallet that has the PSBT, gave an older payment to the network. It divides the capacity
/// already, so that nothing on top of it is acknowledged, and the latest payment goes out against it.
#[test]
fn nothing_counts_once_a_spend_is_in_the_mempool() {
    for case in channels() {
        let (at, stepped) = (case.name(), case.terms.protocol == SteppedLocktime);
        let mut pair = case.paying(&[50_000]).open();
        let older = pair.redeemable().unwrap().tx().clone();
        pair.apply(Side::Payer, Event::Pay(sat(10_000))).unwrap();
        let more = says(&mut pair, Side::Payer, Event::Pay(sat(100_000)));
        pair.network.news();
        pair.poll(Side::Payee, 4, Some((&older, 0))).unwrap();
        let newest: &[&str] = &SETTLES;
        // Payments with a separate lock are not final yet.
        assert_eq!(pair.network.news(), if stepped { &[] } else { newest }, "{at}");
        let answer = pair.tell(Side::Payee, Event::Message(more[0].clone()));
        assert!(answer.is_err() || answer == Ok(Vec::new()), "{at}: {answer:?}");
        assert_eq!(pair.payee.paid(), sat(60_000), "{at}");
    }
}

/// Where payments count before the confirmation, the network is asked with every block whether it still has the funding
/// transaction, whichever side broadcasts it in this protocol.
#[test]
fn what_the_network_took_once_is_asked_for_again() {
    for mut case in channels() {
        let at = case.name();
        case.limits.zero_conf_limit = sat(10_000);
        let mut pair = case.funded();
        pair.poll_both(0, None).unwrap();
        assert_eq!(pair.payee.stage(), Stage::Open, "{at}");
        pair.tip = tip(HEIGHT + 1, MTP);
        let view = pair.view(0, None);
        let actions = pair.tell(Side::Payee, Event::Chain(view)).unwrap();
        let [Action::Broadcast {
            role: SpendRole::Funding,
            tx,
        }] = &actions[..]
        else {
            panic!("{at}: {actions:?}");
        };
        let rejected = BroadcastResult {
            rejected: Some("bad-txns-inputs-missingorspent".to_owned()),
            ..BroadcastResult::accepted(SpendRole::Funding, tx)
        };
        pair.apply(Side::Payee, Event::Broadcast(rejected)).unwrap();
        assert_eq!(pair.payee.stage(), Stage::AwaitingFunding, "{at}");
        let before = pair.payee.paid();
        pair.apply(Side::Payer, Event::Pay(sat(10_000))).unwrap();
        assert_eq!(pair.payee.paid(), before, "{at}");
    }
}

/// The payer saw the funding transaction lost and back before the first acknowledgement arrived. The second *ready* asks
/// for nothing.
#[test]
fn ready_is_heard_twice_and_the_empty_payment_is_sent_once() {
    let case = Case::new(Example7);
    let mut pair = case.funded();
    let ready = || hears(case.id, Message::Ready);
    let first = says(&mut pair, Side::Payer, ready());
    assert!(matches!(first[0].message, Message::Payment { paid, .. } if paid == sat(0)));
    for confirmations in [3, 2] {
        pair.poll(Side::Payer, confirmations, None).unwrap();
    }
    assert_eq!(pair.payer.stage(), Stage::AwaitingFunding);
    assert_eq!(says(&mut pair, Side::Payer, ready()), []);
    assert_eq!(pair.payer.stage(), Stage::Open);
}

/// A payment crosses a short reorganisation, the channel closes before the blocks are back: the settlement is for all of it.
#[test]
fn a_parked_payment_is_settled_with() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.paying(&[1_000]).open();
        pair.poll(Side::Payee, 2, None).unwrap();
        pair.apply(Side::Payer, Event::Pay(sat(99_000))).unwrap();
        assert_eq!(pair.payee.paid(), sat(1_000), "{at}");
        pair.apply(Side::Payer, Event::Close).unwrap();
        let settlement = pair.payee.settlement().expect(&at);
        assert_eq!(settlement.balance().paid, sat(100_000), "{at}");
    }
}

/// The total is what is asked for, so that asking twice pays once.
#[test]
fn pay_up_to_is_idempotent() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.open();
        for (total, signed) in [(5_000, true), (5_000, false), (4_000, false), (6_000, true)] {
            let sent = says(&mut pair, Side::Payer, Event::PayUpTo(sat(total)));
            assert_eq!(!sent.is_empty(), signed, "{at}: {total}");
            for payment in sent {
                pair.apply(Side::Payee, Event::Message(payment)).unwrap();
            }
        }
        assert_eq!(
            (pair.payer.paid(), pair.payee.paid()),
            (sat(6_000), sat(6_000)),
            "{at}"
        );
    }
}

/// The payee reminds the payer's user five times before it answers: it is one request, and the next total is another.
#[test]
fn a_requested_total_is_told_once() {
    let case = Case::new(Bond);
    let mut pair = case.open();
    let mut told = Vec::new();
    for paid in [1_000, 1_000, 1_000, 2_000, 2_000] {
        let request = hears(case.id, Message::PaymentRequest { paid: sat(paid) });
        for action in pair.tell(Side::Payer, request).unwrap() {
            let Action::Notify(Notice::PaymentRequested { paid }) = action else {
                panic!("{action:?}");
            };
            told.push(paid.to_sat());
        }
    }
    assert_eq!(told, [1_000, 2_000]);
}

/// The lock has passed and the funding transaction is not in the chain: a payment that can be enforced is still worth a try.
#[test]
fn a_view_without_the_funding_transaction_does_not_end_what_is_enforceable() {
    let mut pair = Case::new(Example7)
        .on(Construction::P2wsh)
        .paying(&[1_000])
        .open();
    let nothing = sees_nothing(tip(HEIGHT + 200, MTP));
    pair.apply(Side::Payee, nothing).unwrap();
    assert_eq!(pair.payee.stage(), Stage::Closing);
}

/// A payment was parked, the payee asks for a settlement, and then the refund is in the mempool.
#[test]
fn a_parked_payment_does_not_count_once_a_spend_is_in_the_mempool() {
    for case in channels().filter(|case| case.terms.construction.closes_with_one_key()) {
        let mut pair = case.paying(&[1_000]).open();
        pair.poll(Side::Payee, 2, None).unwrap();
        pair.apply(Side::Payer, Event::Pay(sat(1_000))).unwrap();
        says(&mut pair, Side::Payee, Event::Close);
        let refund = pair.payer.refund().tx().clone();
        pair.poll(Side::Payee, 3, Some((&refund, 0))).unwrap();
        assert_eq!(pair.payee.paid(), sat(1_000));
        assert_eq!(pair.payee.settlement().unwrap().balance().paid, sat(2_000));
    }
}
