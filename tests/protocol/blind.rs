//! A party that cannot see the funding output acts on the tip with what it last knew; a payee acknowledges no payment.

use spilman::channel::{
    Action, BroadcastResult, ChainView, Construction, Envelope, Event, Notice, Protocol, SpendRole, Stage,
    BLIND_BLOCKS,
};

use crate::pair::{channels, sat, says, tip, Case, Inspect, Pair, Side, Sign, HEIGHT, MTP};
use Protocol::{Bond, Example7};

/// The tip this many blocks, of ten minutes each, after the opening.
fn blind_at(blocks: u32) -> Event {
    Event::Blind(Some(tip(HEIGHT + blocks, MTP + 600 * blocks)))
}

fn broadcasts(actions: &[Action]) -> Vec<SpendRole> {
    let role = |action: &Action| match action {
        Action::Broadcast { role, .. } => Some(*role),
        _ => None,
    };
    actions.iter().filter_map(role).collect()
}

/// No node answered the broadcast of the funding transaction.
fn unknown(pair: &Pair) -> Event {
    Event::BroadcastUnknown {
        role: SpendRole::Funding,
        txid: pair.outpoint().txid,
    }
}

/// The payer pays more, and the payee hears of it.
fn pay(pair: &mut Pair, more: u64) -> Vec<Action> {
    let sent = says(pair, Side::Payer, Event::Pay(sat(more)));
    pair.tell(Side::Payee, Event::Message(sent[0].clone())).unwrap()
}

/// The poll failed, and the tip is all that is known: the payee settles at the closing margin and not one block before, and
/// once more with every block.
#[test]
fn a_blind_payee_settles_at_the_closing_margin() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.paying(&[900_000]).open();
        let held = pair.redeemable().unwrap();
        let settles: &[SpendRole] = &[held.role()];
        for (blocks, expected) in [(107, &[][..]), (108, settles), (109, settles), (150, settles)] {
            let actions = pair.tell(Side::Payee, blind_at(blocks)).unwrap();
            assert_eq!(broadcasts(&actions), expected, "{at}: {blocks}");
        }
        assert_eq!(pair.payee.settlement(), Some(&held), "{at}");
    }
}

/// The same for the payer and its refund.
#[test]
fn a_blind_payer_refunds_at_the_lock() {
    for case in channels() {
        let (at, bond) = (case.name(), case.terms.protocol == Bond);
        let mut pair = case.paying(&[900_000]).open();
        // By the median time past the lock is over one second later.
        for (blocks, over) in [(143, false), (144, !bond), (145, true), (150, true)] {
            let actions = pair.tell(Side::Payer, blind_at(blocks)).unwrap();
            let expected: &[SpendRole] = if over { &[SpendRole::Refund] } else { &[] };
            assert_eq!(broadcasts(&actions), expected, "{at}: {blocks}");
        }
    }
}

/// Nothing is known, not even the tip: nothing is done, and nothing is lost.
#[test]
fn without_a_tip_nothing_is_decided() {
    for case in channels() {
        let mut pair = case.paying(&[1_000]).open();
        for side in [Side::Payer, Side::Payee] {
            assert_eq!(pair.tell(side, Event::Blind(None)), Ok(Vec::new()));
        }
        assert_eq!(pair.payee.stage(), Stage::Open);
    }
}

/// A payment to a blind payee is neither refused nor acknowledged. The next poll decides.
#[test]
fn a_blind_payee_acknowledges_nothing_until_it_sees() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.paying(&[1_000]).open();
        pair.tell(Side::Payee, blind_at(4)).unwrap();
        assert_eq!(pay(&mut pair, 1_000), [], "{at}");
        assert_eq!(pair.payee.paid(), sat(1_000), "{at}");
        // A later sum takes the place of the first, and both are acknowledged at once.
        assert_eq!(pay(&mut pair, 1_000), [], "{at}");
        pair.poll_both(3, None).unwrap();
        assert_eq!(
            (pair.payee.paid(), pair.payer.acknowledged()),
            (sat(3_000), sat(3_000)),
            "{at}"
        );
    }
}

/// The user is told once, after [`BLIND_BLOCKS`] blocks, and again if it happens again.
#[test]
fn a_payee_says_that_it_is_blind() {
    let mut pair = Case::new(Example7).paying(&[1_000]).open();
    let since = pair.tip;
    for _ in 0..2 {
        let told = |pair: &mut Pair, blocks| pair.tell(Side::Payee, blind_at(blocks)).unwrap();
        assert_eq!(told(&mut pair, BLIND_BLOCKS - 1), []);
        let now = tip(HEIGHT + BLIND_BLOCKS, MTP + 600 * BLIND_BLOCKS);
        let notice = Action::Notify(Notice::Blind { since, tip: now });
        assert_eq!(told(&mut pair, BLIND_BLOCKS), [notice]);
        assert_eq!(told(&mut pair, BLIND_BLOCKS + 1), []);
        pair.poll(Side::Payee, 3, None).unwrap();
    }
}

/// A relative lock counts from the block below the funding transaction. A view that has the one and not the other is no
/// view: a payee that believed it would never settle.
#[test]
fn a_confirmation_without_its_block_is_not_believed() {
    let mut pair = Case::new(Example7).on(Construction::Csv).funded();
    let baseless = ChainView {
        funding_parent: None,
        ..pair.view(3, None)
    };
    pair.apply(Side::Payee, Event::Chain(baseless.clone())).unwrap();
    assert_eq!(pair.payee.stage(), Stage::AwaitingFunding);
    // Once it has seen the block, it settles in time.
    pair.poll_both(3, None).unwrap();
    assert_eq!(pay(&mut pair, 500_000).len(), 2);
    let later = ChainView {
        tip: tip(HEIGHT + 108, MTP),
        ..baseless
    };
    let actions = pair.tell(Side::Payee, Event::Chain(later)).unwrap();
    assert_eq!(broadcasts(&actions), [SpendRole::Settlement]);
}

/// A spend of another output says nothing about this channel.
#[test]
fn a_spend_of_another_output_is_not_believed() {
    let mut pair = Case::new(Example7).paying(&[1_000]).open();
    let other = pair.payee.funding().tx().clone();
    for side in [Side::Payer, Side::Payee] {
        pair.poll(side, 3, Some((&other, 6))).unwrap();
    }
    assert_eq!(pair.stages(), [Stage::Open; 2]);
}

/// A payee whose node answers no broadcast could not settle. It counts no payment until the node has answered one: it
/// offers the funding transaction with every poll.
#[test]
fn a_payee_that_cannot_broadcast_acknowledges_nothing() {
    for case in channels().filter(|case| case.terms.protocol != Protocol::SteppedLocktime) {
        let at = case.name();
        let mut pair = case.open();
        pair.tell(Side::Payee, unknown(&pair)).unwrap();
        let (paid, more) = (pair.payee.paid(), 900_000);
        assert_eq!(pay(&mut pair, more), [], "{at}");
        for _ in 0..2 {
            let view = pair.view(3, None);
            let actions = pair.tell(Side::Payee, Event::Chain(view)).unwrap();
            assert_eq!(broadcasts(&actions), [SpendRole::Funding], "{at}");
            pair.tell(Side::Payee, unknown(&pair)).unwrap();
            assert_eq!(pair.payee.paid(), paid, "{at}");
        }
        let taken = BroadcastResult::accepted(SpendRole::Funding, pair.payee.funding().tx());
        pair.apply(Side::Payee, Event::Broadcast(taken)).unwrap();
        assert_eq!(pair.payee.paid(), sat(more), "{at}");
    }
}

/// With a limit for payments before the confirmation, nothing counts before the payee has polled the chain.
#[test]
fn nothing_counts_before_the_first_poll() {
    let mut case = Case::new(Example7).on(Construction::Cltv);
    case.limits.zero_conf_limit = sat(10_000);
    let mut pair = case.funded();
    assert_eq!(pair.payee.stage(), Stage::AwaitingFunding);
    pair.poll(Side::Payee, 0, None).unwrap();
    assert_eq!(pair.payee.stage(), Stage::Open);
    // Nor does anything count that the first poll finds in the closing margin.
    let mut late = case.funded();
    late.tip = tip(HEIGHT + 108, MTP);
    let view = late.view(0, None);
    late.tell(Side::Payee, Event::Chain(view)).unwrap();
    let payment = Envelope {
        channel: case.id,
        message: late.payment(5_000, "payer"),
    };
    let refused = late.tell(Side::Payee, Event::Message(payment)).unwrap_err();
    assert!(
        refused.to_string().contains("36 blocks before its lock"),
        "{refused}"
    );
}
