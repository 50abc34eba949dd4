//! A lock that counts from the confirmation: the channel's life begins with the block of the funding transaction, and
//! with another one after a reorganisation.

use spilman::channel::{Construction, Event, Protocol, RefundLock, SpendRole, Stage, Tip};

use crate::pair::{sat, tip, Case, Inspect, Pair, Side, HEIGHT, MTP};
use Side::{Payee, Payer};

fn case() -> Case {
    Case::new(Protocol::Example7).on(Construction::Csv)
}

fn at(pair: &mut Pair, tip: Tip, base: Tip) {
    (pair.tip, pair.funding_parent) = (tip, base);
}

/// The roles of what was broadcast since the funding transaction.
fn spends(pair: &Pair) -> Vec<SpendRole> {
    let roles = pair.network.broadcast.iter().map(|(role, _)| *role);
    roles.filter(|role| *role != SpendRole::Funding).collect()
}

/// 1. The funding transaction waits 100 blocks for its own: they do not count.
/// 2. 107 blocks later there is still a payment, and at 108 none, and the payee settles.
/// 3. 143 blocks later there is no refund, and at 144 there is.
#[test]
fn the_life_begins_at_the_confirmation() {
    let base = tip(HEIGHT + 100, MTP);
    let mut pair = case().funded();
    pair.at(base).poll_both(0, None).unwrap();
    assert_eq!(pair.payee.stage(), Stage::AwaitingFunding);

    at(&mut pair, tip(HEIGHT + 207, MTP), base);
    pair.poll_both(107, None).unwrap();
    pair.apply(Payer, Event::Pay(sat(1_000))).unwrap();
    assert_eq!(pair.payee.paid(), sat(1_000));
    assert_eq!(spends(&pair), []);
    pair.at(tip(HEIGHT + 208, MTP)).poll(Payer, 108, None).unwrap();
    let refused = pair.tell(Payer, Event::Pay(sat(1_000))).unwrap_err().to_string();
    assert!(
        refused.contains("36 blocks before its lock at height 444"),
        "{refused}"
    );
    pair.poll(Payee, 108, None).unwrap();
    assert_eq!(spends(&pair), [SpendRole::Settlement]);

    let mut pair = case().open();
    for (height, expected) in [(343, &[][..]), (344, &[SpendRole::Refund])] {
        at(&mut pair, tip(height, MTP + 10_000_000), tip(HEIGHT, MTP));
        pair.poll(Payer, 100, None).unwrap();
        assert_eq!(spends(&pair), expected, "{height}");
    }
}

/// While the funding transaction is in no block, no lock runs, however long that takes: neither side settles or takes
/// the refund, which could not be mined.
#[test]
fn nothing_is_due_before_the_confirmation() {
    let mut case = case();
    case.limits.zero_conf_limit = sat(5_000);
    let mut pair = case.funded();
    // 1. A payment that counts without a confirmation.
    pair.poll(Payee, 0, None).unwrap();
    pair.apply(Payer, Event::Pay(sat(1_000))).unwrap();
    assert_eq!(pair.payee.paid(), sat(1_000));
    // 2. Long after the lock would be over if it had begun at the opening.
    pair.at(tip(HEIGHT + 1_000, MTP + 600_000))
        .poll_both(0, None)
        .unwrap();
    assert_eq!(spends(&pair), []);
    assert_eq!(pair.stages(), [Stage::Open; 2]);
    pair.apply(Payer, Event::Pay(sat(1_000))).unwrap();
    assert_eq!(pair.payee.paid(), sat(2_000));
    // 3. It confirms, and the life begins now.
    let base = pair.tip;
    at(&mut pair, tip(HEIGHT + 1_107, MTP + 600_000), base);
    pair.poll_both(107, None).unwrap();
    assert_eq!(spends(&pair), []);
    pair.at(tip(HEIGHT + 1_108, MTP + 600_000))
        .poll_both(108, None)
        .unwrap();
    assert_eq!(spends(&pair), [SpendRole::Settlement]);
}

/// 1. One block before the payee has to settle, the funding transaction comes to lie in a block 20 higher.
/// 2. Both have 20 blocks more; the refund that would have been final waits.
/// 3. And it can come to lie lower: then the payee settles at once.
#[test]
fn a_reorganisation_moves_the_locks() {
    let mut pair = case().paying(&[1_000]).open();
    let moved = tip(HEIGHT + 20, MTP);
    at(&mut pair, tip(HEIGHT + 127, MTP), moved);
    pair.poll_both(107, None).unwrap();
    pair.apply(Payer, Event::Pay(sat(1_000))).unwrap();
    assert_eq!((pair.payee.paid(), spends(&pair)), (sat(2_000), vec![]));
    pair.at(tip(HEIGHT + 128, MTP)).poll(Payee, 108, None).unwrap();
    assert_eq!(spends(&pair), [SpendRole::Settlement]);

    let mut pair = case().paying(&[1_000]).open();
    at(&mut pair, tip(HEIGHT + 144, MTP), moved);
    pair.poll(Payer, 124, None).unwrap();
    assert_eq!(spends(&pair), [], "final in the old chain, not in this one");
    pair.at(tip(HEIGHT + 164, MTP)).poll(Payer, 144, None).unwrap();
    assert_eq!(spends(&pair), [SpendRole::Refund]);

    let mut pair = case().paying(&[1_000]).open();
    at(&mut pair, tip(HEIGHT + 105, MTP), tip(HEIGHT - 3, MTP));
    pair.poll(Payee, 108, None).unwrap();
    assert_eq!(spends(&pair), [SpendRole::Settlement]);
}

/// In no block any more, the lock stops; nothing is due until it is back.
#[test]
fn out_of_the_chain_the_lock_stops() {
    let mut pair = case().paying(&[1_000]).open();
    pair.at(tip(HEIGHT + 500, MTP + 300_000))
        .poll_both(0, None)
        .unwrap();
    assert_eq!(spends(&pair), []);
    assert_eq!(pair.stages(), [Stage::AwaitingFunding; 2]);
    assert!(pair.redeemable().is_some(), "what was paid is still held");
}

/// By time it counts from the median time past below the block, in units of 512 seconds.
#[test]
fn a_relative_lock_of_time() {
    let mut case = case();
    case.terms.refund_lock = RefundLock::after_seconds(170 * 512).unwrap();
    let base = tip(HEIGHT + 50, MTP + 30_000);
    let over = base.mtp.to_consensus_u32() + 170 * 512;
    for (mtp, expected) in [
        (over - 21_602, &[][..]),
        (over - 21_601, &[SpendRole::Settlement]),
    ] {
        let mut pair = case.clone().paying(&[1_000]).open();
        at(&mut pair, tip(HEIGHT + 60, mtp), base);
        pair.poll(Payee, 10, None).unwrap();
        assert_eq!(spends(&pair), expected, "{mtp}");
    }
    for (mtp, expected) in [(over - 1, &[][..]), (over, &[SpendRole::Refund])] {
        let mut pair = case.clone().paying(&[1_000]).open();
        at(&mut pair, tip(HEIGHT + 60, mtp), base);
        pair.poll(Payer, 10, None).unwrap();
        assert_eq!(spends(&pair), expected, "{mtp}");
    }
}
