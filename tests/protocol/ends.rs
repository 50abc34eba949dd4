//! A party with nothing at stake ends, and nothing holds the latest payment back for long.

use spilman::channel::{
    AcceptedProposal, Action, BroadcastResult, Construction, Envelope, Event, Message, Notice, Protocol,
    SpendRole, Stage,
};

use crate::common::assert_matches;
use crate::pair::{channels, says, tip, Case, Inspect, Pair, Side, HEIGHT, MTP};
use Protocol::{Example7, SteppedLocktime};

/// This long after the opening, the payee polls the chain. What it broadcasts is with the network, or it is told otherwise.
fn poll(pair: &mut Pair, blocks: u32, confirmations: u32) -> Vec<Action> {
    pair.tip = tip(HEIGHT + blocks, MTP + 600 * blocks);
    let view = pair.view(confirmations, None);
    pair.tell(Side::Payee, Event::Chain(view)).unwrap()
}

/// The payee holds a payment of nothing, or of dust, and its funding transaction was reorganised away and double-spent.
#[test]
fn a_payee_with_nothing_to_settle_ends_at_the_expiry() {
    for case in channels() {
        for payments in [&[][..], &[293]] {
            let at = case.name();
            let mut pair = case.clone().paying(payments).open();
            poll(&mut pair, 143, 0);
            assert_ne!(pair.payee.stage(), Stage::Closed, "{at}");
            assert_eq!(
                poll(&mut pair, 145, 0),
                [Action::Notify(Notice::Abandoned)],
                "{at}"
            );
            assert_eq!(pair.payee.stage(), Stage::Closed, "{at}");
            assert_eq!(poll(&mut pair, 146, 0), [], "{at}");
        }
    }
}

/// The funding transaction is confirmed, the payer never pays and hangs up: the refund is its own affair.
#[test]
fn a_payee_that_was_never_paid_ends_when_the_payer_is_gone() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.open();
        let ended = pair.tell(Side::Payee, Event::PeerGone).unwrap();
        assert_eq!(ended, [Action::Notify(Notice::Abandoned)], "{at}");
        assert_eq!(pair.payee.stage(), Stage::Closed, "{at}");
    }
}

/// A payee with an enforceable payment goes on, even if the payer is gone.
#[test]
fn a_payee_that_was_paid_stays_when_the_payer_is_gone() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.paying(&[1_000]).open();
        assert_eq!(pair.tell(Side::Payee, Event::PeerGone), Ok(Vec::new()), "{at}");
        let settles = poll(&mut pair, 108, 100);
        assert!(
            matches!(settles[..], [Action::Broadcast { .. }]),
            "{at}: {settles:?}"
        );
    }
}

/// A funding transaction whose input does not exist, with the longest lock that the limits allow.
#[test]
fn a_worthless_funding_transaction_does_not_occupy_the_payee() {
    let mut case = Case::new(Example7).on(Construction::Cltv);
    case.terms.refund_lock = spilman::channel::Expiry::blocks_after(case.now, 4_032)
        .unwrap()
        .into();
    let (payer, payee) = case.agreed();
    let AcceptedProposal::AwaitsFunding(payee) = payee else {
        panic!("{payee:?}");
    };
    let tx = case.funding(payer.funding_output());
    let rejected = BroadcastResult {
        rejected: Some("bad-txns-inputs-missingorspent".to_owned()),
        ..BroadcastResult::accepted(SpendRole::Funding, &tx)
    };
    let handed = Envelope {
        channel: case.id,
        message: Message::Funding { tx },
    };
    let (mut payee, _) = payee.receive_funding(handed).unwrap();
    payee.apply(Event::Broadcast(rejected)).unwrap();
    payee.apply(Event::PeerGone).unwrap();
    assert_eq!(payee.stage(), Stage::Closed);
}

/// The payee's node neither accepts nor refuses the expensive settlement that the payer chose: the broadcast fails. The
/// payment goes out at once, and with every block; where it is locked, from that lock on.
#[test]
fn a_settlement_of_unknown_fate_does_not_stand_before_the_payment() {
    for case in channels().filter(|case| !case.terms.construction.closes_with_one_key()) {
        let (at, stepped) = (case.name(), case.terms.protocol == SteppedLocktime);
        let mut pair = case.capacity(1_000_000_000).paying(&[500_000_000]).open();
        let payment = pair.redeemable().unwrap().tx().compute_txid();
        let dear = bitcoin::FeeRate::from_sat_per_kwu(300_000_000);
        let closing = says(&mut pair, Side::Payer, Event::CloseAt(dear));
        let unknown = |pair: &mut Pair, actions: Vec<Action>| {
            let mut out = Vec::new();
            let mut queue = std::collections::VecDeque::from(actions);
            while let Some(action) = queue.pop_front() {
                if let Action::Broadcast { role, tx } = action {
                    let txid = tx.compute_txid();
                    out.push(txid);
                    assert!(out.len() < 5, "{at}: without end");
                    let unknown = Event::BroadcastUnknown { role, txid };
                    queue.extend(pair.tell(Side::Payee, unknown).unwrap());
                }
            }
            out.contains(&payment)
        };
        let actions = pair
            .tell(Side::Payee, Event::Message(closing[0].clone()))
            .unwrap();
        assert_eq!(unknown(&mut pair, actions), !stepped, "{at}");
        for blocks in [10, 108, 109] {
            let actions = poll(&mut pair, blocks, 4);
            assert_eq!(
                unknown(&mut pair, actions),
                !stepped || blocks >= 108,
                "{at}: {blocks}"
            );
        }
    }
}

/// The server says that it has the settlement, and no one sees it: from the margin on the payment goes out as well.
#[test]
fn a_settlement_that_is_not_seen_does_not_stand_before_the_payment() {
    for case in channels().filter(|case| !case.terms.construction.closes_with_one_key()) {
        let at = case.name();
        let mut pair = case.paying(&[1_000]).open();
        let payment = pair.redeemable().unwrap();
        let dear = bitcoin::FeeRate::from_sat_per_kwu(2_000);
        pair.apply(Side::Payer, Event::CloseAt(dear)).unwrap();
        for (blocks, out) in [(107, false), (108, true)] {
            let before = pair.network.broadcast.len();
            let actions = poll(&mut pair, blocks, 100);
            pair.queue(Side::Payee, actions);
            pair.run().unwrap();
            let is_out = pair.network.broadcast[before..]
                .iter()
                .any(|(_, tx)| tx == payment.tx());
            assert_eq!(is_out, out, "{at}: {blocks}");
        }
    }
}

/// A settlement with one signature that is still in the mempool when the margin begins may be pinned there.
#[test]
fn a_cooperative_settlement_gives_way_at_the_closing_margin() {
    let case = Case::new(Example7).on(Construction::Taproot).paying(&[50_000]);
    for confirmed in [false, true] {
        let mut pair = case.open();
        pair.apply(Side::Payer, Event::Close).unwrap();
        let cooperative = pair.payee.settlement().unwrap().tx().clone();
        let txid = cooperative.compute_txid();
        pair.at(tip(HEIGHT + 107, MTP))
            .poll(Side::Payee, 100, Some((&cooperative, 0)))
            .unwrap();
        assert!(pair.payee.settlement().unwrap().is_cooperative());
        pair.tip = tip(HEIGHT + 108, MTP);
        let view = pair.view(101, Some((&cooperative, u32::from(confirmed))));
        let actions = pair.tell(Side::Payee, Event::Chain(view)).unwrap();
        let Some(payment) = pair.redeemable().filter(|_| !confirmed) else {
            assert_eq!(actions, []);
            continue;
        };
        let expected = [
            Action::Notify(Notice::CooperativeCloseUnconfirmed { txid }),
            Action::Broadcast {
                role: payment.role(),
                tx: payment.tx().clone(),
            },
        ];
        assert_eq!(actions, expected);
    }
}

/// The payee does not answer the payer's wish for one signature. Asked again, the payer sends a settlement with two; a third
/// time there is nothing left to send.
#[test]
fn an_unanswered_cooperative_close_is_not_stuck() {
    let mut pair = Case::new(Example7)
        .on(Construction::Taproot)
        .paying(&[50_000])
        .open();
    let asked = says(&mut pair, Side::Payer, Event::Close);
    assert_matches!(asked[0].message, Message::CloseRequest { nonce: None, .. });
    let alone = says(&mut pair, Side::Payer, Event::Close);
    assert!(matches!(alone[0].message, Message::Settlement { .. }));
    pair.tell(Side::Payer, Event::Close).unwrap_err();
    pair.apply(Side::Payee, Event::Message(alone[0].clone())).unwrap();
    assert!(!pair.payee.settlement().unwrap().is_cooperative());
}
