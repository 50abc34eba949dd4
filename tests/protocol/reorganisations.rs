//! What the chain gives and takes back.

use bitcoin::hashes::Hash;
use bitcoin::Transaction;
use spilman::channel::{
    Action, BroadcastResult, Event, Message, Notice, Protocol, SpendRole, Stage, SETTLED_DEPTH,
};

use crate::common::assert_matches;
use crate::pair::{
    channels, hears, once_stored, sat, sees_nothing, tip, Case, Inspect, Pair, Side, HEIGHT, MTP, SETTLES,
};
use Protocol::{Bond, Example7, SteppedLocktime};

fn say(pair: &mut Pair, expected: &[&str]) {
    assert_eq!(pair.network.news(), expected);
}

fn last(pair: &Pair, role: SpendRole) -> Transaction {
    let (last, tx) = pair.network.broadcast.last().unwrap();
    assert_eq!(*last, role);
    tx.clone()
}

#[test]
fn funding_reorganised_away_suspends_payments_until_it_is_back() {
    for case in channels() {
        let at = case.name();
        // 1. A payment is made on three confirmations.
        let mut pair = case.paying(&[1_000]).open();
        pair.network.news();
        // 2. Two are left: nothing counts any more, and what was paid is still held.
        pair.poll(Side::Payee, 2, None).unwrap();
        say(&mut pair, &["payee learns funding lost, 2 confirmations"]);
        assert_eq!(pair.payee.stage(), Stage::AwaitingFunding);
        let held = pair.redeemable();
        // 3. It is said once; a transaction that is in no block at all is given to the network again.
        pair.poll(Side::Payee, 1, None).unwrap();
        say(&mut pair, &[]);
        pair.at(tip(HEIGHT + 5, MTP)).poll(Side::Payee, 0, None).unwrap();
        say(&mut pair, &["payee broadcasts funding"]);
        // Once a block is enough.
        pair.poll(Side::Payee, 0, None).unwrap();
        say(&mut pair, &[]);
        assert_eq!((pair.payee.paid(), pair.redeemable()), (sat(1_000), held));
        // 4. A payment crosses the news. It is neither refused nor acknowledged, and it is what a settlement is for.
        pair.apply(Side::Payer, Event::Pay(sat(1_000))).unwrap();
        say(&mut pair, &["payer says payment 2000"]);
        assert_eq!(pair.payee.paid(), sat(1_000), "{at}");
        assert_eq!(pair.redeemable().unwrap().balance().paid, sat(2_000), "{at}");
        // 5. Back at the old depth, the payee says so again and acknowledges it. Example 7's empty start is not repeated.
        pair.poll(Side::Payee, 3, None).unwrap();
        let change = pair.payee.params().balance(sat(2_000)).unwrap().change.to_sat();
        say(
            &mut pair,
            &[
                "payee says ready",
                "payee learns ready",
                "payee says payment-accepted 2000",
                &format!("payee learns {change}/2000 accepted"),
                &format!("payer learns {change}/2000 accepted"),
            ],
        );
        pair.apply(Side::Payer, Event::Pay(sat(1_000))).unwrap();
        assert_eq!(pair.payee.paid(), sat(3_000), "{at}");
    }
}

#[test]
fn the_payer_does_not_pay_into_a_channel_whose_funding_is_gone() {
    for case in channels() {
        let (protocol, at) = (case.terms.protocol, case.name());
        // 1. The payer has seen the funding transaction in the chain, and sees it no more.
        let mut pair = case.paying(&[1_000]).open();
        pair.poll(Side::Payer, 3, None).unwrap();
        pair.network.news();
        pair.at(tip(HEIGHT + 5, MTP)).poll(Side::Payer, 0, None).unwrap();
        let again: &[&str] = match protocol {
            SteppedLocktime => &[
                "payer learns funding lost, 0 confirmations",
                "payer broadcasts funding",
            ],
            Example7 | Bond => &["payer learns funding lost, 0 confirmations"],
        };
        say(&mut pair, again);
        // 2. It does not pay; a refusal would have cost it the connection.
        assert_eq!(pair.payer.stage(), Stage::AwaitingFunding);
        pair.tell(Side::Payer, Event::Pay(sat(1))).unwrap_err();
        // 3. Back, with two confirmations; then with three.
        pair.poll(Side::Payer, 2, None).unwrap();
        say(&mut pair, &[]);
        pair.poll(Side::Payer, 3, None).unwrap();
        say(&mut pair, &["payer learns ready"]);
        pair.apply(Side::Payer, Event::Pay(sat(1_000))).unwrap();
        assert_eq!(pair.payee.paid(), sat(2_000), "{at}");
    }
}

/// No answer came to the first broadcast: it may be out, so the payee gets it too, and the payer offers it again
/// with the next block.
#[test]
fn a_funding_transaction_of_unknown_fate_is_handed_over() {
    let (mut payer, ..) = Case::new(SteppedLocktime).released();
    let txid = payer.funding().outpoint().txid;
    let unknown = || Event::BroadcastUnknown {
        role: SpendRole::Funding,
        txid,
    };
    let actions = once_stored(payer.apply(unknown()).unwrap());
    assert!(matches!(actions[..], [Action::Send(_)]), "{actions:?}");
    // 1. Once is enough.
    assert_eq!(payer.apply(unknown()).unwrap(), []);
    // 2. The next block, the next attempt; a refusal now does not end the channel, the payee has it.
    let actions = payer.apply(sees_nothing(tip(HEIGHT + 1, MTP))).unwrap();
    assert_matches!(
        actions[..],
        [Action::Broadcast {
            role: SpendRole::Funding,
            ..
        }]
    );
    let rejected = Event::Broadcast(BroadcastResult {
        role: SpendRole::Funding,
        txid: bitcoin::Txid::from_byte_array([0; 32]),
        rejected: Some("mempool full".to_owned()),
    });
    let told = payer.apply(rejected).unwrap();
    assert!(matches!(told[..], [Action::Notify(Notice::BroadcastRejected(_))]));
    // 3. Near the lock it is too late to begin.
    assert_eq!(payer.apply(sees_nothing(tip(HEIGHT + 120, MTP))).unwrap(), []);
}

/// A reminder that crosses its payment, or the loss of the funding transaction, is no offence.
#[test]
fn a_request_that_crosses_its_payment_is_met_already() {
    let mut pair = Case::new(Bond).paying(&[1_000]).open();
    let channel = pair.payer.params().id();
    let request = |paid| hears(channel, Message::PaymentRequest { paid: sat(paid) });
    assert_eq!(pair.tell(Side::Payer, request(1_000)).unwrap(), []);
    assert_eq!(pair.tell(Side::Payer, request(999)).unwrap(), []);
    pair.poll(Side::Payer, 3, None).unwrap();
    pair.poll(Side::Payer, 2, None).unwrap();
    assert_eq!(pair.payer.stage(), Stage::AwaitingFunding);
    assert_eq!(pair.tell(Side::Payer, request(2_000)).unwrap(), []);
}

#[test]
fn settlement_is_sent_again_until_it_has_its_confirmations() {
    for case in channels() {
        let mut pair = case.paying(&[1_000]).open();
        pair.apply(Side::Payer, Event::Close).unwrap();
        let settlement = last(&pair, SpendRole::Settlement);
        pair.network.news();
        // 1. In the mempool, then forgotten by it.
        pair.poll(Side::Payee, 4, Some((&settlement, 0))).unwrap();
        say(&mut pair, &[]);
        pair.poll(Side::Payee, 5, None).unwrap();
        say(&mut pair, &SETTLES);
        // 2. One confirmation short of the end, then reorganised away.
        pair.poll(Side::Payee, 9, Some((&settlement, SETTLED_DEPTH - 1)))
            .unwrap();
        say(&mut pair, &[]);
        pair.poll(Side::Payee, 9, None).unwrap();
        say(&mut pair, &SETTLES);
        assert_eq!(last(&pair, SpendRole::Settlement), settlement);
        // 3. The funding transaction too: the payee sends both again, in order.
        pair.at(tip(HEIGHT + 5, MTP)).poll(Side::Payee, 0, None).unwrap();
        say(
            &mut pair,
            &[
                "payee broadcasts funding",
                "payee broadcasts settlement",
                "payee says closed",
                "payer learns peer settled",
            ],
        );
        // 4. Deep enough: closed for good, and no view moves it any more.
        pair.poll(Side::Payee, 19, Some((&settlement, SETTLED_DEPTH)))
            .unwrap();
        assert_eq!(pair.payee.stage(), Stage::Closed);
        assert_eq!(pair.payee.settlement().unwrap().tx(), &settlement);
        pair.network.news();
        pair.poll(Side::Payee, 0, None).unwrap();
        say(&mut pair, &[]);
    }
}

#[test]
fn refund_is_sent_again_until_it_has_its_confirmations() {
    for case in channels().filter(|case| case.terms.protocol == Example7) {
        let mut pair = case.paying(&[1_000]).open();
        pair.at(tip(HEIGHT + 144, MTP))
            .poll(Side::Payer, 144, None)
            .unwrap();
        let refund = last(&pair, SpendRole::Refund);
        pair.network.news();
        pair.poll(Side::Payer, 144, Some((&refund, 0))).unwrap();
        say(&mut pair, &[]);
        for confirmations in [1, SETTLED_DEPTH - 1] {
            pair.poll(Side::Payer, 150, Some((&refund, confirmations)))
                .unwrap();
            say(&mut pair, &[]);
            pair.poll(Side::Payer, 150, None).unwrap();
            say(&mut pair, &["payer broadcasts refund"]);
        }
        pair.poll(Side::Payer, 151, Some((&refund, SETTLED_DEPTH)))
            .unwrap();
        let owed = pair.payer.params().refund_amount().to_sat();
        say(&mut pair, &[&format!("payer learns closed {owed}/0")]);
        pair.poll(Side::Payer, 0, None).unwrap();
        say(&mut pair, &[]);
    }
}

/// The refund is in the mempool and not in a block: the race is not lost yet.
#[test]
fn a_late_payee_races_the_refund_that_it_sees_in_the_mempool() {
    for case in channels() {
        let protocol = case.terms.protocol;
        let mut pair = case.paying(&[1_000]).open();
        pair.network.news();
        pair.tip = tip(HEIGHT + 144, MTP + 86_401);
        let refund = pair.payer.refund().tx().clone();
        let role = if protocol == SteppedLocktime {
            SpendRole::Payment
        } else {
            SpendRole::Settlement
        };
        let sent = [
            &format!("payee broadcasts {}", role.name()),
            "payee says closed",
            "payer learns peer settled",
        ];
        // 1. It settles, and keeps trying with every block.
        for _ in 0..2 {
            pair.poll(Side::Payee, 144, Some((&refund, 0))).unwrap();
            say(&mut pair, &sent);
        }
        // 2. The refund is mined: nothing is left to do but to wait.
        pair.poll(Side::Payee, 145, Some((&refund, 1))).unwrap();
        say(&mut pair, &[]);
        // 3. It is reorganised away: the payee tries again.
        pair.poll(Side::Payee, 145, None).unwrap();
        say(&mut pair, &sent);
        // 4. It has its confirmations: the payee has lost, and says so.
        pair.poll(Side::Payee, 150, Some((&refund, SETTLED_DEPTH)))
            .unwrap();
        let owed = refund.output[0].value.to_sat();
        say(&mut pair, &[&format!("payee learns closed {owed}/0")]);
    }
}

/// The payee was away, and finds the refund in a block when it comes back; a reorganisation gives it a chance.
#[test]
fn a_payee_that_never_settled_does_so_when_the_refund_is_reorganised_away() {
    for case in channels().filter(|case| case.terms.protocol == Example7) {
        let mut pair = case.paying(&[1_000]).open();
        pair.network.news();
        pair.tip = tip(HEIGHT + 150, MTP);
        let refund = pair.payer.refund().tx().clone();
        pair.poll(Side::Payee, 150, Some((&refund, 1))).unwrap();
        say(&mut pair, &[]);
        pair.poll(Side::Payee, 150, None).unwrap();
        say(&mut pair, &SETTLES);
    }
}

/// The payer leaves the race alone while the payee's spend is in sight, and takes its refund when it is gone.
#[test]
fn the_payer_refunds_when_the_settlement_vanishes_after_the_expiry() {
    for case in channels().filter(|case| case.terms.protocol == Example7) {
        let mut pair = case.paying(&[1_000]).open();
        pair.apply(Side::Payee, Event::Close).unwrap();
        let settlement = last(&pair, SpendRole::Settlement);
        pair.network.news();
        pair.at(tip(HEIGHT + 144, MTP))
            .poll(Side::Payer, 144, Some((&settlement, 3)))
            .unwrap();
        say(&mut pair, &[]);
        pair.poll(Side::Payer, 144, None).unwrap();
        say(&mut pair, &["payer broadcasts refund"]);
    }
}

/// A channel that never came to be ends: no one watches it for ever.
#[test]
fn a_channel_that_was_never_funded_is_abandoned() {
    // 1. The payee holds a funding transaction that never appears, and was paid nothing.
    for case in channels() {
        let at = case.name();
        let mut pair = case.funded();
        pair.network.news();
        pair.at(tip(HEIGHT + 143, MTP + 86_400))
            .poll(Side::Payee, 0, None)
            .unwrap();
        assert_eq!(pair.payee.stage(), Stage::AwaitingFunding, "{at}");
        pair.network.news();
        pair.at(tip(HEIGHT + 144, MTP + 86_401))
            .poll(Side::Payee, 0, None)
            .unwrap();
        assert_eq!(pair.payee.stage(), Stage::Closed, "{at}");
    }
    // 2. The payer of a bond that was never asked for: at the latest when no payment could be made any more, or
    //    when its user says so.
    let (mut payer, ..) = Case::new(Bond).released();
    assert_eq!(payer.apply(sees_nothing(tip(HEIGHT, MTP + 64_799))).unwrap(), []);
    assert_eq!(
        once_stored(payer.apply(sees_nothing(tip(HEIGHT, MTP + 64_800))).unwrap()),
        [Action::Notify(Notice::Abandoned)]
    );
    let (mut payer, ..) = Case::new(Bond).released();
    assert_eq!(
        once_stored(payer.apply(Event::Close).unwrap()),
        [Action::Notify(Notice::Abandoned)]
    );
}

/// A bond that is asked for when there is no time left for a payment is not handed over.
#[test]
fn a_late_request_for_the_bond_is_refused() {
    let (mut payer, ..) = Case::new(Bond).released();
    payer
        .apply(sees_nothing(tip(HEIGHT + 100, MTP + 64_799)))
        .unwrap();
    let request = hears(payer.params().id(), Message::FundingRequest);
    let refused = payer.apply(request).unwrap_err().to_string();
    assert!(
        refused.contains("closing margin and confirmations take"),
        "{refused}"
    );
    assert_eq!(payer.stage(), Stage::Protected);
}
