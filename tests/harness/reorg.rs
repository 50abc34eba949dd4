//! Blocks that are taken back and replaced.

use std::slice;

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, BlockHash, OutPoint, Transaction, Txid};
use spilman::regtest::{
    change, spend_coins, BlockContent, Cluster, Coin, CoinKind, Error, MineParams, Misuse, Node, NodeError,
    Regtest, RejectReason, Reorg, Reorganised, BLOCK_INTERVAL, START_HEIGHT,
};

use crate::{chain, locked, outputs, payee, sat, FEE};

/// The heights of the three blocks that the tests replace.
const FIRST: u32 = START_HEIGHT + 1;
const LAST: u32 = START_HEIGHT + 3;

/// A coin, its spend and the child of that, each in a block of its own, and the parent of nobody in the last.
struct Family {
    chain: Regtest,
    coin: Coin,
    parent: Transaction,
    child: Transaction,
}

impl Family {
    fn new() -> Self {
        Self::on(chain())
    }

    fn on(mut chain: Regtest) -> Self {
        let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
        let parent = coin.spend(outputs(&coin)).unwrap();
        let link = Coin {
            outpoint: OutPoint::new(parent.compute_txid(), 0),
            output: parent.output[0].clone(),
            key: payee(),
            kind: CoinKind::Segwit,
            funding: parent.clone(),
        };
        let child = link.spend(outputs(&link)).unwrap();
        for transaction in [&parent, &child] {
            chain.mine_exactly(slice::from_ref(transaction)).unwrap();
        }
        Self {
            chain,
            coin,
            parent,
            child,
        }
    }

    fn funding(&self) -> Txid {
        self.coin.outpoint.txid
    }

    /// Another spend of what the parent spends.
    fn conflict(&self) -> Transaction {
        let fee = FEE * 3;
        let rest = change(
            slice::from_ref(&self.coin),
            &[],
            fee,
            self.coin.output.script_pubkey.clone(),
        );
        self.coin.spend(vec![rest.unwrap()]).unwrap()
    }

    /// The heights of funding, parent and child.
    fn heights(&self) -> [Option<u32>; 3] {
        let heights = (FIRST..=self.chain.tip().unwrap().height).map(|height| {
            let block = self.chain.node().block_at(height).unwrap();
            (height, block.txdata)
        });
        let heights: Vec<_> = heights.collect();
        [
            self.funding(),
            self.parent.compute_txid(),
            self.child.compute_txid(),
        ]
        .map(|txid| {
            let found = heights
                .iter()
                .find(|(_, transactions)| transactions.iter().any(|tx| tx.compute_txid() == txid));
            found.map(|(height, _)| *height)
        })
    }

    fn mempool(&self) -> Vec<Txid> {
        self.chain.node().mempool().unwrap()
    }
}

fn sorted<const N: usize>(transactions: [&Transaction; N]) -> Vec<Txid> {
    let mut txids: Vec<_> = transactions.into_iter().map(Transaction::compute_txid).collect();
    txids.sort_unstable();
    txids
}

/// 1. All blocks are others, with the times of the old ones.
/// 2. All transactions are where they were.
/// 3. The chain goes on: it is mined on, and the faucet pays.
#[test]
fn a_longer_branch_keeps_transactions_where_they_were() {
    let mut family = Family::new();
    let before = family.chain.tip().unwrap();
    let Reorganised {
        from,
        to,
        old,
        new,
        dropped,
    } = family.chain.reorg(3).apply().unwrap();

    assert_eq!((from, to), (before, family.chain.tip().unwrap()));
    assert_eq!((old.len(), new.len(), dropped), (3, 4, vec![]));
    assert_eq!((to.height, to.time), (LAST + 1, before.time + BLOCK_INTERVAL));
    for (old, new) in old.iter().zip(&new) {
        assert_ne!(old.hash, new.hash);
        assert_eq!(
            (old.height, old.time, &old.txids),
            (new.height, new.time, &new.txids)
        );
        assert_eq!(family.chain.node().block_hash_at(new.height).unwrap(), new.hash);
    }
    assert_eq!(family.heights(), [Some(FIRST), Some(FIRST + 1), Some(LAST)]);
    assert_eq!(family.mempool(), []);

    let next = family.chain.mine(1).unwrap().remove(0);
    assert_eq!(
        (next.height, next.time),
        (to.height + 1, to.time + BLOCK_INTERVAL)
    );
    family.chain.fund(Amount::ONE_BTC, CoinKind::Legacy).unwrap();
}

/// 1. The child is left out, and is in the mempool again.
/// 2. So are parent and child, if both are.
/// 3. The next block takes them.
#[test]
fn what_is_dropped_returns_to_the_mempool() {
    let family = Family::new();
    let (parent, child) = (family.parent.compute_txid(), family.child.compute_txid());
    let reorg = family.chain.reorg(1).drop_tx(child).apply().unwrap();
    assert_eq!(reorg.dropped, slice::from_ref(&family.child));
    assert_eq!(family.heights(), [Some(FIRST), Some(FIRST + 1), None]);
    assert_eq!(family.mempool(), [child]);

    let reorg = family.chain.reorg(3).drop_tx(parent).apply().unwrap();
    assert_eq!(reorg.dropped, slice::from_ref(&family.parent));
    assert_eq!(family.heights(), [Some(FIRST), None, None]);
    assert_eq!(family.mempool(), sorted([&family.parent, &family.child]));

    assert_eq!(family.chain.mine(1).unwrap()[0].txids, [parent, child]);
}

/// 1. Parent and child move into the block of the funding, in whatever order they are told.
/// 2. All three move into a block that was not there before.
#[test]
fn transactions_move_to_other_blocks() {
    let family = Family::new();
    let (parent, child) = (family.parent.compute_txid(), family.child.compute_txid());
    let reorg = family.chain.reorg(3);
    let reorg = reorg
        .move_to(child, FIRST)
        .move_to(parent, FIRST)
        .apply()
        .unwrap();
    assert_eq!((reorg.new[0].txids.len(), reorg.dropped), (3, vec![]));
    assert_eq!(family.heights(), [Some(FIRST); 3]);

    let reorg = family.chain.reorg(4).length(6);
    let reorg = [family.funding(), child, parent]
        .into_iter()
        .fold(reorg, |reorg, txid| reorg.move_to(txid, FIRST + 5));
    reorg.apply().unwrap();
    assert_eq!(family.heights(), [Some(FIRST + 5); 3]);
    assert_eq!(family.mempool(), []);
}

/// 1. Another spend of the same coin takes the place of the parent; the child has to go.
/// 2. Neither is in the mempool, and the node takes neither.
#[test]
fn what_is_replaced_is_gone_for_good() {
    for case in ["longer", "by invalidation"] {
        let family = Family::new();
        let (parent, child) = (family.parent.compute_txid(), family.child.compute_txid());
        let reorg = family
            .chain
            .reorg(3)
            .replace(parent, family.conflict())
            .drop_tx(child);
        let reorg = match case {
            "longer" => reorg.apply(),
            _ => reorg.by_invalidation(),
        };
        let reorg = reorg.unwrap();
        assert_eq!(
            reorg.dropped,
            [family.parent.clone(), family.child.clone()],
            "{case}"
        );
        assert_eq!(reorg.new[1].txids, [family.conflict().compute_txid()], "{case}");
        assert_eq!(family.heights(), [Some(FIRST), None, None], "{case}");
        assert_eq!(family.mempool(), [], "{case}");
        for gone in [&family.parent, &family.child] {
            let verdict = family.chain.node().submit(gone).unwrap();
            assert!(
                verdict.rejected_for(RejectReason::MissingInputs),
                "{case}: {verdict}"
            );
        }
    }
}

/// 1. Three blocks become one; what was in the others is in the mempool again.
/// 2. The old branch does not come back, though it was longer.
/// 3. Nor does it get in the way when the new one is replaced in turn.
#[test]
fn a_chain_can_become_shorter_by_invalidation() {
    let mut family = Family::new();
    let reorg = family.chain.reorg(3).length(1).by_invalidation().unwrap();
    assert_eq!((reorg.from.height, reorg.to.height), (LAST, FIRST));
    assert_eq!(family.heights(), [Some(FIRST), None, None]);
    assert_eq!(reorg.dropped, [family.parent.clone(), family.child.clone()]);
    assert_eq!(family.mempool(), sorted([&family.parent, &family.child]));

    family.chain.reorg(1).apply().unwrap();
    let reorg = family.chain.reorg(2).length(1).by_invalidation().unwrap();
    assert_eq!(family.chain.tip().unwrap(), reorg.to);
    assert_eq!(reorg.to.height, FIRST);
    family.chain.fund(Amount::ONE_BTC, CoinKind::Segwit).unwrap();
}

/// In one call, a node takes the transactions of ten blocks back into its mempool.
#[test]
fn transactions_return_from_however_many_blocks() {
    let family = Family::new();
    family.chain.mine_empty(25).unwrap();
    let child = family.child.compute_txid();
    family.chain.reorg(26).drop_tx(child).by_invalidation().unwrap();
    assert_eq!(family.mempool(), [child]);
}

/// 1. A new node gets the old blocks up to the fork, and the branch.
/// 2. When the two connect, the first changes over.
/// 3. Connected as they are, it works the other way round, too.
#[test]
fn a_longer_branch_arrives_from_a_second_node() {
    let family = Family::new();
    let rival = Node::builder().p2p(true).start().unwrap();
    let child = family.child.compute_txid();
    let reorg = family.chain.reorg(2).drop_tx(child).by_rival(&rival).unwrap();
    assert_eq!((reorg.old.len(), reorg.new.len()), (2, 3));
    assert_eq!(family.chain.tip().unwrap(), reorg.to);
    assert_eq!(rival.tip().unwrap(), reorg.to);
    assert_eq!(family.heights(), [Some(FIRST), Some(FIRST + 1), None]);
    assert_eq!(family.mempool(), [child]);

    let clock = family.chain.clock();
    let back = Reorg::new(&rival, clock, 1)
        .by_rival(family.chain.node())
        .unwrap();
    assert_eq!(
        (rival.tip().unwrap(), family.chain.tip().unwrap()),
        (back.to, back.to)
    );
    rival.wait_for_peers(1).unwrap();
}

#[test]
fn a_cluster_follows_the_branch_of_one_node() {
    let cluster = Cluster::builder().nodes(3).start().unwrap();
    cluster.chain(0).unwrap().mine(3).unwrap();
    cluster.wait_for_same_tip().unwrap();
    let rival = cluster.chain(1).unwrap().node();
    let reorg = cluster.chain(0).unwrap().reorg(2).by_rival(rival).unwrap();
    assert_eq!(cluster.wait_for_same_tip().unwrap(), reorg.to);
    for index in 0..3 {
        cluster.chain(index).unwrap().node().wait_for_peers(2).unwrap();
    }
}

/// What a node does with a branch does not change its bytes.
#[test]
fn two_runs_give_the_same_branches() {
    let run = || -> Vec<BlockHash> {
        let family = Family::new();
        let child = family.child.compute_txid();
        let replaced = family
            .chain
            .reorg(2)
            .replace(family.parent.compute_txid(), family.conflict())
            .drop_tx(child);
        let by_length = replaced.apply().unwrap();
        let by_invalidation = family.chain.reorg(2).length(5).by_invalidation().unwrap();
        let blocks = by_length.new.iter().chain(&by_invalidation.new);
        blocks.map(|block| block.hash).collect()
    };
    let first = run();
    assert_eq!(first, run());
    let first: Vec<_> = first.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(first.join("\n"));
}

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

    let depths = "of a chain of height 104 one can replace the last 1 to 104 blocks, not";
    refused(0, &|reorg| reorg, &format!("{depths} 0"));
    refused(LAST + 1, &|reorg| reorg, &format!("{depths} 105"));
    refused(2, &|reorg| reorg.length(0), "or more, not 0");
    let message = family.chain.reorg(2).length(2).apply().unwrap_err().to_string();
    assert_eq!(message, "the new branch needs 3 blocks or more, not 2");

    let outside = "is not in the blocks 103 to 104, which are to be replaced";
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
        let expected = format!("height {height} is not in the new branch, which has 102 to 105");
        refused(3, &|reorg| reorg.move_to(child, height), &expected);
    }

    let orphan = format!("transaction {child} spends from {parent}, which is not before it");
    refused(3, &|reorg| reorg.drop_tx(parent), &orphan);
    refused(3, &|reorg| reorg.move_to(parent, LAST + 1), &orphan);
    let expected = format!("transaction {funding} cannot replace {parent}: it spends none of its coins");
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
    family.chain.node().submit(&waiting).unwrap().expect_accepted();
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

/// 1. A second node that nobody can reach brings nothing.
/// 2. One that has a chain of its own, as long as the branch, does not follow the branch.
/// 3. One that refuses the branch says why.
#[test]
fn a_rival_has_to_follow_the_branch() {
    let family = Family::new();
    let tip = family.chain.tip().unwrap();
    let hermit = Node::start().unwrap();
    let error = family.chain.reorg(1).by_rival(&hermit).unwrap_err().to_string();
    assert_eq!(
        error,
        "neither node listens for peers: start one with NodeBuilder::p2p"
    );

    let other = Regtest::builder().p2p(true).start().unwrap();
    other.mine_empty(4).unwrap();
    let error = family.chain.reorg(3).by_rival(other.node()).unwrap_err();
    assert!(
        matches!(&error, Error::Misuse(Misuse::RivalAhead { branch, tip }) if *branch == LAST + 1 && tip.height == LAST + 1),
        "{error}"
    );

    let mut dear = family.conflict();
    dear.output[0].value = sat(100_001);
    family.coin.sign(&mut dear).unwrap();
    let child = family.child.compute_txid();
    let reorg = family
        .chain
        .reorg(3)
        .drop_tx(child)
        .replace(family.parent.compute_txid(), dear);
    let fresh = Node::builder().p2p(true).start().unwrap();
    let error = reorg.by_rival(&fresh).unwrap_err();
    assert!(
        matches!(&error, Error::Node(NodeError::BlockRefused { words, .. }) if words.contains("bad-txns-in-belowout")),
        "{error}"
    );
    assert_eq!(family.chain.tip().unwrap(), tip);
}

/// 1. A transaction is in a block.
/// 2. The block is taken back: the transaction returns to the mempool.
/// 3. A branch without it becomes longer.
/// 4. The first branch does not come back by itself.
#[test]
fn a_block_can_be_taken_back_and_another_branch_mined() {
    let mut chain = chain();
    let node = chain.node().clone();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let spend = coin.spend(outputs(&coin)).unwrap();
    let fork = chain.tip().unwrap();
    let first = chain.mine_exactly(std::slice::from_ref(&spend)).unwrap();

    node.invalidate_block(first.hash).unwrap();
    assert_eq!(chain.tip().unwrap(), fork);
    assert_eq!(node.mempool().unwrap(), [spend.compute_txid()]);

    let miner = chain.clock().miner();
    let again = |content, tag: &[u8]| {
        miner.mine(
            &node,
            MineParams {
                content,
                time: Some(first.time),
                tag: tag.to_vec(),
            },
        )
    };
    let same = again(BlockContent::Exactly(vec![spend.clone()]), b"").unwrap_err();
    assert!(
        matches!(&same, Error::Node(NodeError::BlockRefused { hash, words }) if *hash == first.hash && words == "duplicate-invalid")
    );
    // With a tag, the block is another, even with the same content.
    let tagged = again(BlockContent::Exactly(vec![spend.clone()]), b"other branch").unwrap();
    assert_eq!(tagged.txids, first.txids);
    node.invalidate_block(tagged.hash).unwrap();
    let second = again(BlockContent::empty(), b"other branch").unwrap();
    assert_eq!((second.height, second.time), (first.height, first.time));
    chain.mine_empty(1).unwrap();

    node.reconsider_block(first.hash).unwrap();
    assert_eq!(chain.tip().unwrap().height, fork.height + 2);
    assert_eq!(node.block_hash_at(first.height).unwrap(), second.hash);
}
