//! Reorganisations that cannot be.

use bitcoin::absolute::LockTime;
use bitcoin::Amount;
use spilman::regtest::{
    spend_coins, CoinKind, Error, InvalidRequest, Node, NodeError, Regtest, Reorg, START_HEIGHT,
};

use crate::common::assert_matches;
use crate::common::judge::Judge as _;
use crate::reorg::{sorted, Family, FIRST, LAST};
use crate::{locked, outputs, sat};

type Plan<'p> = dyn for<'a> Fn(Reorg<'a>) -> Reorg<'a> + 'p;

/// By neither way does the branch come about, the error says why, and the chain and the mempool are as before.
fn refused(chain: &Regtest, depth: u32, plan: &Plan<'_>, expected: &str) {
    let state = || (chain.tip().unwrap(), chain.node().mempool().unwrap());
    let before = state();
    for case in ["longer", "by invalidation"] {
        let reorg = plan(chain.reorg(depth));
        let result = match case {
            "longer" => reorg.apply(),
            _ => reorg.by_invalidation(),
        };
        let message = result.unwrap_err().to_string();
        assert!(
            message.contains(expected),
            "{case}: {message}, expected: {expected}"
        );
        assert_eq!(state(), before, "{case}, after {message}");
    }
}

#[test]
fn a_plan_that_cannot_be_is_refused() {
    let family = Family::new();
    let [funding, parent, child] = [
        family.funding(),
        family.parent.compute_txid(),
        family.child.compute_txid(),
    ];
    let refused = |depth, plan: &Plan<'_>, expected: &str| refused(&family.chain, depth, plan, expected);

    for depth in [0, LAST + 1, u32::MAX] {
        let expected = format!("cannot replace the last {depth} blocks of a chain of height 104: ");
        refused(depth, &|reorg| reorg, &expected);
    }
    refused(2, &|reorg| reorg.length(0), "blocks, got 0");
    let message = family.chain.reorg(2).length(2).apply().unwrap_err().to_string();
    assert_eq!(message, "the new branch must have at least 3 blocks, got 2");

    let outside = "is not in the replaced blocks 103 to 104, or was already dropped, moved or replaced";
    refused(
        2,
        &|reorg| reorg.drop_tx(funding),
        &format!("{funding} {outside}"),
    );
    refused(
        2,
        &|reorg| reorg.drop_tx(child).drop_tx(child),
        &format!("{child} {outside}"),
    );
    for height in [FIRST - 1, LAST + 2] {
        let expected = format!("height {height} is outside the new branch, which has heights 102 to 105");
        refused(3, &|reorg| reorg.move_to(child, height), &expected);
    }

    let orphan = format!("transaction {child} spends an output of {parent}, which does not precede it");
    refused(3, &|reorg| reorg.drop_tx(parent).move_to(child, LAST), &orphan);
    refused(3, &|reorg| reorg.move_to(parent, LAST + 1), &orphan);
    let expected = format!("transaction {funding} cannot replace {parent}: they share no input");
    refused(
        3,
        &|reorg| reorg.replace(parent, family.coin.funding.clone()),
        &expected,
    );
}

/// 1. A block of the branch breaks a rule: the node says which.
/// 2. So it does if the blocks before that one have pushed something out of its mempool.
/// 3. What can be still can.
#[test]
fn a_branch_that_breaks_a_rule_changes_nothing() {
    let mut family = Family::new();
    let second = family.chain.fund(sat(50_000), CoinKind::Segwit).unwrap();
    let third = family.chain.fund(sat(50_000), CoinKind::Segwit).unwrap();
    let waiting = second.spend(outputs(&second)).unwrap();
    family.chain.node().broadcasts(&waiting);
    let [parent, child] = [family.parent.compute_txid(), family.child.compute_txid()];

    let early = locked(&family.coin, LockTime::from_height(LAST).unwrap());
    let plan: &Plan<'_> = &|reorg| reorg.drop_tx(child).replace(parent, early.clone());
    refused(&family.chain, 5, plan, "bad-txns-nonfinal");

    let mut generous = third.funding.clone();
    generous.output[0].value = Amount::from_int_btc(100);
    let both = spend_coins(&[family.coin.clone(), second.clone()], outputs(&family.coin)).unwrap();
    let plan: &Plan<'_> = &|reorg| {
        let reorg = reorg.drop_tx(child).move_to(second.outpoint.txid, FIRST);
        let reorg = reorg.replace(parent, both.clone());
        reorg.replace(third.outpoint.txid, generous.clone())
    };
    refused(&family.chain, 5, plan, "bad-txns-in-belowout");

    family.chain.reorg(5).drop_tx(child).apply().unwrap();
    assert_eq!(family.mempool(), sorted([&family.child, &waiting]));
}

/// 1. A second node without a port for peers brings nothing.
/// 2. One that has another chain, as long as the branch, does not follow the branch.
/// 3. One that refuses the branch says why, whether it has the old blocks or not.
#[test]
fn a_rival_has_to_follow_the_branch() {
    let family = Family::new();
    let tip = family.chain.tip().unwrap();
    let hermit = Node::start().unwrap();
    let error = family.chain.reorg(1).by_rival(&hermit).unwrap_err().to_string();
    assert_eq!(
        error,
        "no node listens for peers: start one with NodeBuilder::p2p(true)"
    );

    let other = Regtest::builder().p2p(true).start().unwrap();
    other.mine_empty(4).unwrap();
    let error = family.chain.reorg(3).by_rival(other.node()).unwrap_err();
    assert_matches!(
        &error,
        Error::InvalidRequest(InvalidRequest::RivalAhead { branch, tip })
            if *branch == LAST + 1 && tip.height == LAST + 1
    );

    let mut dear = family.conflict();
    dear.output[0].value = sat(100_001);
    family.coin.sign(&mut dear).unwrap();
    let child = family.child.compute_txid();
    let fresh = Node::builder().p2p(true).start().unwrap();
    let informed = Node::builder().p2p(true).start().unwrap();
    for height in 1..=tip.height {
        informed
            .submit_block(&family.chain.node().block_at(height).unwrap())
            .unwrap();
    }
    for rival in [fresh, informed] {
        let reorg = family.chain.reorg(3).drop_tx(child);
        let reorg = reorg.replace(family.parent.compute_txid(), dear.clone());
        let error = reorg.by_rival(&rival).unwrap_err();
        assert_matches!(
            &error,
            Error::Node(NodeError::BlockRejected { words, .. })
                if words.contains("bad-txns-in-belowout")
        );
    }
    assert_eq!(family.chain.tip().unwrap(), tip);
}

/// The node has changed over to the first three blocks by the time it comes to the fourth.
#[test]
fn a_rule_broken_late_in_a_branch_changes_nothing() {
    let mut chain = crate::chain();
    let coin = chain.fund(sat(50_000), CoinKind::Segwit).unwrap();
    chain.mine(1).unwrap();
    let mut unsigned = coin.funding.clone();
    unsigned.output[0].value = sat(40_000);
    let [funding, unsigned_id] = [&coin.funding, &unsigned].map(bitcoin::Transaction::compute_txid);
    let fourth = chain.tip().unwrap().height + 2;
    let plan: &Plan<'_> = &|reorg| {
        let reorg = reorg.replace(funding, unsigned.clone());
        reorg.move_to(unsigned_id, fourth).length(4)
    };
    refused(&chain, 2, plan, "the node rejected block");

    let rival = Regtest::builder().p2p(true).start().unwrap();
    let before = chain.tip().unwrap();
    let error = plan(chain.reorg(2)).by_rival(rival.node()).unwrap_err();
    assert_matches!(error, Error::Node(NodeError::BlockRejected { .. }));
    assert_eq!(chain.tip().unwrap(), before, "after {error}");
    let kept = rival.tip().unwrap().height;
    assert_eq!(kept, START_HEIGHT, "after {error}");
}
