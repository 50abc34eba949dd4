//! Blocks that are taken back and replaced.

use std::slice;

use bitcoin::{Amount, BlockHash, Transaction, Txid};
use spilman::regtest::{
    BlockContent, Cluster, Coin, CoinKind, Error, MineParams, Node, NodeError, Regtest, RejectReason, Reorg,
    ReorgResult, BLOCK_INTERVAL, START_HEIGHT,
};

use crate::common::assert_matches;
use crate::{chain, link, outputs, paying, sat, FEE};

/// The heights of the three blocks that the tests replace.
pub const FIRST: u32 = START_HEIGHT + 1;
pub const LAST: u32 = START_HEIGHT + 3;

/// A coin, its spend and the child of that, each in a separate block.
pub struct Family {
    pub chain: Regtest,
    pub coin: Coin,
    pub parent: Transaction,
    pub child: Transaction,
}

impl Family {
    pub fn new() -> Self {
        let mut chain = chain();
        let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
        let parent = coin.spend(outputs(&coin)).unwrap();
        let link = link(&parent);
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

    pub fn funding(&self) -> Txid {
        self.coin.outpoint.txid
    }

    /// Another spend of what the parent spends.
    pub fn conflict(&self) -> Transaction {
        paying(&self.coin, FEE * 3)
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

    pub fn mempool(&self) -> Vec<Txid> {
        self.chain.node().mempool().unwrap()
    }
}

pub fn sorted<const N: usize>(transactions: [&Transaction; N]) -> Vec<Txid> {
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
    let ReorgResult {
        from,
        to,
        old,
        new,
        dropped,
        lost,
    } = family.chain.reorg(3).apply().unwrap();

    assert_eq!((from, to), (before, family.chain.tip().unwrap()));
    assert_eq!((old.len(), new.len(), dropped, lost), (3, 4, vec![], vec![]));
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
/// 3. The next block includes them.
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
/// 2. Neither is in the mempool, and the node accepts neither.
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

/// Whichever of two connected nodes brings the branch, they are connected once, and all follow.
#[test]
fn a_cluster_follows_the_branch_of_one_node() {
    let cluster = Cluster::builder().nodes(3).start().unwrap();
    cluster.chain(0).unwrap().mine(3).unwrap();
    cluster.wait_for_same_tip().unwrap();
    for (index, rival) in [(0, 1), (1, 0)] {
        let rival = cluster.chain(rival).unwrap().node();
        let reorg = cluster.chain(index).unwrap().reorg(2).by_rival(rival).unwrap();
        assert_eq!(cluster.wait_for_same_tip().unwrap(), reorg.to);
        for index in 0..3 {
            cluster.chain(index).unwrap().node().wait_for_peers(2).unwrap();
        }
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

/// 1. A transaction is in a block.
/// 2. The block is taken back: the transaction returns to the mempool.
/// 3. A branch without it becomes longer.
/// 4. The first branch does not come back on its own.
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
    assert_matches!(
        &same,
        Error::Node(NodeError::BlockRejected { hash, words })
            if *hash == first.hash && words == "duplicate-invalid"
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
