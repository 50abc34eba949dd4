//! Blocks that are taken back.

use spilman::regtest::{BlockContent, CoinKind, Error, MineParams, NodeError};

use crate::{chain, outputs, sat};

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
