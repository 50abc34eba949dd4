//! What a node says of itself.

use std::thread;

use spilman::regtest::{MineParams, Node, BLOCK_INTERVAL, START_HEIGHT, START_TIME};

use crate::chain;

#[test]
fn a_node_says_what_it_is_and_stops() {
    let node = Node::builder()
        .start_time(START_TIME + 5)
        .arg("-txindex=1")
        .start()
        .unwrap();
    assert_eq!(node.mock_time(), START_TIME + 5);
    assert!(node.version().unwrap() >= 280_000);
    assert!(node.subversion().unwrap().starts_with("/Satoshi:"));
    let folder = node.data_dir();
    assert!(folder.join("regtest/debug.log").exists());
    drop(node);
    assert!(!folder.exists(), "{}", folder.display());
}

#[test]
fn an_unknown_argument_is_named_at_once() {
    let error = Node::builder()
        .arg("-nonsense=1")
        .start()
        .unwrap_err()
        .to_string();
    assert!(error.contains("Invalid parameter -nonsense=1"), "{error}");
}

#[test]
fn threads_that_mine_on_one_node_take_turns() {
    let chain = chain();
    let mined: Vec<_> = thread::scope(|scope| {
        let mine = || (0..20).flat_map(|_| chain.mine(1).unwrap()).collect::<Vec<_>>();
        let threads = [scope.spawn(mine), scope.spawn(mine)];
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(chain.tip().unwrap().height, START_HEIGHT + 40);
    for block in mined {
        let there = chain.node().block_hash_at(block.height).unwrap();
        assert_eq!(there, block.hash, "height {}", block.height);
    }
}

#[test]
fn blocks_may_be_ahead_of_the_clock() {
    let chain = chain();
    let ahead = chain.node().mock_time() + 7_000;
    for number in 0..11 {
        let params = MineParams {
            time: Some(ahead + number),
            ..MineParams::default()
        };
        chain.clock().miner().mine(chain.node(), params).unwrap();
    }
    let median = chain.tip().unwrap().mtp;
    assert!(median > chain.node().mock_time() + BLOCK_INTERVAL, "{median}");
    assert_eq!(chain.mine_empty(1).unwrap()[0].time, median + BLOCK_INTERVAL);
    chain.mine_exactly(&[]).unwrap();
}
