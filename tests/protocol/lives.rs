//! Honest lives, with the documents' numbers.

use bitcoin::Transaction;
use spilman::channel::{Action, BroadcastResult, ChainView, Event, Notice, Protocol, SpendRole, Stage};

use crate::pair::{
    amounts, assert_spends, channels, co_signed, once_stored, sat, tip, Case, Inspect, Pair, Side, HEIGHT,
    MTP, SETTLES,
};

#[track_caller]
fn say(news: impl AsRef<[String]>, expected: &[&str]) {
    assert_eq!(
        news.as_ref(),
        expected,
        "what happened, on the left, is not what the document says"
    );
}

/// A payment was made and acknowledged, and leaves the payer this.
#[track_caller]
fn accepted(pair: &mut Pair, change: u64, paid: u64) {
    let accepted = format!("{change}/{paid} accepted");
    say(
        pair.network.news(),
        &[
            &format!("payer says payment {paid}"),
            &format!("payee says payment-accepted {paid}"),
            &format!("payee learns {accepted}"),
            &format!("payer learns {accepted}"),
        ],
    );
}

/// The last broadcast, checked as a spend of the funding output.
fn last_spend(pair: &Pair, role: SpendRole) -> Transaction {
    let (last, tx) = pair.network.broadcast.last().expect("something was broadcast");
    assert_eq!(*last, role);
    assert_spends(pair.payer.params(), tx);
    tx.clone()
}

fn closes(pair: &mut Pair, spend: &Transaction, end: &str) {
    pair.network.news();
    pair.poll_both(20, Some((spend, 5))).unwrap();
    say(pair.network.news(), &[]);
    pair.poll_both(21, Some((spend, 6))).unwrap();
    say(
        pair.network.news(),
        &[&format!("payer learns {end}"), &format!("payee learns {end}")],
    );
    assert_eq!(pair.stages(), [Stage::Closed; 2]);
}

/// The opening's four messages are the same in all protocols, on every construction whose refund is signed in advance.
#[test]
fn opening_proposes_accepts_and_co_signs_the_refund() {
    let signed = |case: &Case| !case.terms.construction.has_script_refund();
    for case in channels().filter(signed) {
        let (at, protocol) = (case.name(), case.terms.protocol);
        // 1. The two keys.
        let (payer, open) = case.propose();
        let (payee, accept) = case.consider(open.clone()).unwrap();
        assert_eq!(
            (open.message.kind().name(), accept.message.kind().name()),
            ("open", "accept")
        );
        // 2. and 3. The payer holds the funding transaction and sends the unsigned refund.
        let payer = payer.accept(accept).unwrap();
        let funding = case.funding(payer.funding_output());
        let (payer, request) = co_signed(payer.fund(funding).unwrap());
        assert_eq!(request.message.kind().name(), "refund-request");
        let (_, answers) = payee.sign_refund(request, case.now).unwrap();
        let kinds: Vec<_> = answers
            .iter()
            .map(|answer| answer.message.kind().name())
            .collect();
        let expected: &[_] = match protocol {
            Protocol::Bond => &["refund-signature", "funding-request"],
            _ => &["refund-signature"],
        };
        assert_eq!(kinds, expected, "{at}");
        // 4. Only a verified signature leads on, to a refund of everything but the fee, locked a day ahead.
        let payer = payer.verify_refund(answers.into_iter().next().unwrap()).unwrap();
        let refund = payer.refund().tx();
        assert_eq!(refund.lock_time, case.terms.refund_lock.to_lock_time());
        assert!(refund.input[0].sequence.enables_absolute_lock_time());
        let (payer, _) = payer.into_payer();
        assert_spends(payer.params(), payer.refund().tx());
        assert_eq!(
            amounts(payer.refund().tx()),
            [payer.params().refund_amount().to_sat()]
        );
    }
}

#[test]
fn stepped_locktime_settled_together() {
    // 1. to 4. The payer broadcasts the funding transaction once the refund is signed.
    let mut pair = Case::story(Protocol::SteppedLocktime).funded();
    say(
        pair.network.news(),
        &["payer broadcasts funding", "payer says funding"],
    );
    pair.poll_both(2, None).unwrap();
    say(pair.network.news(), &[]);
    pair.poll_both(3, None).unwrap();
    say(
        pair.network.news(),
        &["payee says ready", "payee learns ready", "payer learns ready"],
    );
    // 5. 100 satoshi a payment: 900/100, 800/200.
    for (change, paid) in [(900, 100), (800, 200)] {
        pair.apply(Side::Payer, Event::Pay(sat(100))).unwrap();
        accepted(&mut pair, change, paid);
        let payment = pair.redeemable().unwrap();
        assert_eq!(
            (payment.role(), amounts(payment.tx())),
            (SpendRole::Payment, vec![change, paid])
        );
        let lock = pair.payee.params().terms().payment_expiry.unwrap().to_lock_time();
        assert_eq!(payment.tx().lock_time, lock);
        assert_spends(pair.payee.params(), payment.tx());
    }
    // 7. No lock, the final outputs.
    pair.apply(Side::Payer, Event::Close).unwrap();
    say(
        pair.network.news(),
        &[
            "payer says settlement 200",
            "payee broadcasts settlement",
            "payee says closed",
            "payer learns peer settled",
        ],
    );
    let settlement = last_spend(&pair, SpendRole::Settlement);
    assert_eq!(amounts(&settlement), [800, 200]);
    assert!(!settlement.is_lock_time_enabled(), "the settlement has no lock");
    closes(&mut pair, &settlement, "closed 800/200");
}

#[test]
fn stepped_locktime_closed_by_the_payee() {
    let mut pair = Case::story(Protocol::SteppedLocktime).paying(&[100]).open();
    pair.network.news();
    // Its payments are locked, so the payee has to ask.
    pair.apply(Side::Payee, Event::Close).unwrap();
    say(
        pair.network.news(),
        &[
            "payee says close-request",
            "payer says settlement 100",
            "payee broadcasts settlement",
            "payee says closed",
            "payer learns peer settled",
        ],
    );
    assert_eq!(amounts(&last_spend(&pair, SpendRole::Settlement)), [900, 100]);
}

#[test]
fn stepped_locktime_payer_gone_payee_redeems_at_the_payment_expiry() {
    let mut pair = Case::story(Protocol::SteppedLocktime).paying(&[100, 100]).open();
    pair.network.news();
    let at = HEIGHT + 144 - 36;
    pair.at(tip(at - 1, MTP)).poll(Side::Payee, 100, None).unwrap();
    say(pair.network.news(), &[]);
    pair.at(tip(at, MTP)).poll(Side::Payee, 101, None).unwrap();
    say(
        pair.network.news(),
        &[
            "payee broadcasts payment",
            "payee says closed",
            "payer learns peer settled",
        ],
    );
    let payment = last_spend(&pair, SpendRole::Payment);
    assert_eq!(amounts(&payment), [800, 200]);
    assert!(payment.is_absolute_timelock_satisfied(pair.tip.height, pair.tip.mtp));
}

#[test]
fn payee_gone_payer_refunds_at_the_expiry_and_not_before() {
    for case in channels() {
        let (at, protocol) = (case.name(), case.terms.protocol);
        let mut pair = case.open();
        pair.network.news();
        let (before, over) = match protocol {
            // A time lock waits until the median time past is above it.
            Protocol::Bond => (tip(900, MTP + 86_400), tip(901, MTP + 86_401)),
            _ => (tip(HEIGHT + 143, MTP), tip(HEIGHT + 144, MTP)),
        };
        pair.at(before).poll(Side::Payer, 140, None).unwrap();
        assert_eq!(pair.network.news(), [""; 0], "{at}");
        pair.at(over).poll(Side::Payer, 141, None).unwrap();
        assert_eq!(pair.network.news(), ["payer broadcasts refund"], "{at}");
        let refund = last_spend(&pair, SpendRole::Refund);
        let owed = pair.payer.params().refund_amount().to_sat();
        closes(&mut pair, &refund, &format!("closed {owed}/0"));
    }
}

/// Where the refund is in the script, no one signs it in advance: after the keys comes the funding transaction.
#[test]
fn a_refund_in_the_script_is_not_co_signed() {
    let in_script = |case: &Case| case.terms.construction.has_script_refund();
    for case in channels().filter(in_script) {
        let at = case.name();
        let mut pair = case.funded();
        assert_eq!(
            pair.network.news(),
            ["payer says funding", "payee broadcasts funding"],
            "{at}"
        );
        pair.poll_both(3, None).unwrap();
        pair.apply(Side::Payer, Event::Pay(sat(1_000))).unwrap();
        pair.network.news();
        // Where both can close with one signature, the payee asks; otherwise it needs no one.
        pair.apply(Side::Payee, Event::Close).unwrap();
        let settled = SETTLES;
        let one_key = pair.payee.params().terms().construction.closes_with_one_key();
        let expected = if one_key {
            [
                &["payee says close-request", "payer says joint-settlement"],
                &settled[..],
            ]
            .concat()
        } else {
            settled.to_vec()
        };
        assert_eq!(pair.network.news(), expected, "{at}");
        let settlement = last_spend(&pair, SpendRole::Settlement);
        assert_eq!(amounts(&settlement)[1], 1_000, "{at}");
        assert_eq!(settlement.input[0].witness.len() == 1, one_key, "{at}");
        let end = format!("closed {}/1000", amounts(&settlement)[0]);
        closes(&mut pair, &settlement, &end);
    }
}

#[test]
fn example_7_ten_bitcoin_payee_closes_the_session() {
    // 6. The payer hands T1 over, the payee broadcasts it.
    let mut pair = Case::story(Protocol::Example7).funded();
    say(
        pair.network.news(),
        &["payer says funding", "payee broadcasts funding"],
    );
    // 7. T3 starts with everything on K1's output.
    pair.poll_both(3, None).unwrap();
    let all = 1_000_000_000 - 664;
    say(
        pair.network.news(),
        &[
            "payee says ready",
            "payee learns ready",
            "payer learns ready",
            "payer says payment 0",
            "payee says payment-accepted 0",
            &format!("payee learns {all}/0 accepted"),
            &format!("payer learns {all}/0 accepted"),
        ],
    );
    assert_eq!(amounts(pair.redeemable().unwrap().tx()), [all]);
    // 8. Value moves to K2's output.
    pair.apply(Side::Payer, Event::Pay(sat(1_000))).unwrap();
    pair.apply(Side::Payer, Event::Pay(sat(250_000_000))).unwrap();
    assert_eq!(pair.payee.paid(), sat(250_001_000));
    pair.network.news();
    // 9. The payee needs no one to close.
    pair.apply(Side::Payee, Event::Close).unwrap();
    say(pair.network.news(), &SETTLES);
    let settlement = last_spend(&pair, SpendRole::Settlement);
    assert_eq!(amounts(&settlement), [all - 250_001_000, 250_001_000]);
    closes(
        &mut pair,
        &settlement,
        &format!("closed {}/250001000", all - 250_001_000),
    );
}

#[test]
fn example_7_payee_closes_because_expiry_is_near() {
    let mut pair = Case::story(Protocol::Example7).paying(&[5_000]).open();
    pair.network.news();
    pair.at(tip(HEIGHT + 144 - 37, MTP)).poll_both(100, None).unwrap();
    say(pair.network.news(), &[]);
    pair.at(tip(HEIGHT + 144 - 36, MTP)).poll_both(101, None).unwrap();
    say(pair.network.news(), &SETTLES);
    last_spend(&pair, SpendRole::Settlement);
}

#[test]
fn bond_a_millidash_a_post() {
    // 4. The payee asks for the bond, and broadcasts it.
    let mut pair = Case::story(Protocol::Bond).funded();
    say(
        pair.network.news(),
        &[
            "payee says funding-request",
            "payer says funding",
            "payee broadcasts funding",
        ],
    );
    pair.poll_both(3, None).unwrap();
    pair.network.news();
    // 5. After each piece of work the payee asks: 1 millidash and 99 back, 2 and 98 (less the fee).
    let all = 10_000_000 - 664;
    for paid in [100_000, 200_000] {
        pair.apply(Side::Payee, Event::RequestPayment(sat(100_000)))
            .unwrap();
        say(
            pair.network.news(),
            &[
                &format!("payee says payment-request {paid}"),
                &format!("payer learns {paid} requested"),
            ],
        );
        pair.apply(Side::Payer, Event::Pay(sat(100_000))).unwrap();
        accepted(&mut pair, all - paid, paid);
    }
    // 6. At the end of the day the payee signs the final version.
    pair.apply(Side::Payee, Event::Close).unwrap();
    let settlement = last_spend(&pair, SpendRole::Settlement);
    assert_eq!(amounts(&settlement), [all - 200_000, 200_000]);
    closes(
        &mut pair,
        &settlement,
        &format!("closed {}/200000", all - 200_000),
    );
}

#[test]
fn a_legacy_input_is_warned_of() {
    let mut pair = Case::new(Protocol::Example7).legacy().funded();
    say(
        pair.network.news(),
        &[
            "payer learns malleable funding",
            "payer says funding",
            "payee learns malleable funding",
            "payee broadcasts funding",
        ],
    );
}

/// Only when the network has accepted the funding transaction is there something to tell the payee.
#[test]
fn a_rejected_funding_transaction_is_not_handed_over() {
    let (mut payer, actions) = Case::new(Protocol::SteppedLocktime).released();
    let actions = once_stored(actions);
    let Action::Broadcast { role, tx } = &actions[0] else {
        panic!("{actions:?}")
    };
    let rejected = Some("min relay fee not met".to_owned());
    let result = BroadcastResult {
        role: *role,
        txid: tx.compute_txid(),
        rejected,
    };
    // 1. The payee is told nothing, and the payer does not offer it again.
    let actions = once_stored(payer.apply(Event::Broadcast(result.clone())).unwrap());
    assert_eq!(actions, [Action::Notify(Notice::BroadcastRejected(result))]);
    assert_eq!(payer.stage(), Stage::Closing);
    let view = |height, confirmations| {
        Event::Chain(ChainView {
            tip: tip(height, MTP),
            confirmations,
            funding_parent: None,
            spend: None,
        })
    };
    assert_eq!(payer.apply(view(HEIGHT + 143, 0)).unwrap(), []);
    // 2. The network has it all the same: the refund takes the capacity back.
    let refund = Action::Broadcast {
        role: SpendRole::Refund,
        tx: payer.refund().tx().clone(),
    };
    assert_eq!(payer.apply(view(HEIGHT + 144, 100)).unwrap(), [refund]);
    // 3. It is not in the chain when the lock has passed: nothing is at stake.
    let abandoned = [Action::Notify(Notice::Abandoned)];
    assert_eq!(
        once_stored(payer.apply(view(HEIGHT + 145, 0)).unwrap()),
        abandoned
    );
    assert_eq!(payer.stage(), Stage::Closed);
}
