//! What a node says of itself.

use std::thread;

use bitcoin::relative;
use spilman::regtest::{
    CoinKind, Error, InvalidRequest, Lock, Node, Regtest, BLOCK_INTERVAL, START_HEIGHT, START_TIME,
};

use crate::common::assert_matches;
use crate::{chain, mine_at};

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
        mine_at(&chain, ahead + number);
    }
    let median = chain.tip().unwrap().mtp;
    assert!(median > chain.node().mock_time() + BLOCK_INTERVAL, "{median}");
    assert_eq!(chain.mine_empty(1).unwrap()[0].time, median + BLOCK_INTERVAL);
    chain.mine_exactly(&[]).unwrap();
}

/// Whatever a test adds to them, the harness and the test can both log in.
#[test]
fn logins_add_up() {
    let node = Node::builder().arg("-rpcauth=alice:73616c74$00").start().unwrap();
    assert_eq!(node.tip().unwrap().height, 0);
}

/// Header times have 32 bits.
#[test]
fn the_end_of_time_is_named() {
    let mut chain = chain();
    let coin = chain.fund(crate::sat(50_000), CoinKind::Segwit).unwrap();
    chain.node().set_mock_time(u32::MAX - 20_000_000).unwrap();
    chain.mine(7).unwrap();
    let other = chain.fund(crate::sat(50_000), CoinKind::Segwit).unwrap();
    let year = relative::LockTime::from_512_second_intervals(u16::MAX);
    let lock = Lock::relative(other.outpoint, year);
    let error = chain.make_final(lock).unwrap_err().to_string();
    assert!(error.contains("is too far from"), "{error}");
    let met = chain.make_final(Lock::relative(coin.outpoint, year)).unwrap();
    assert_eq!(met.blocks, []);

    chain.node().set_mock_time(u32::MAX - 599).unwrap();
    let named = format!(
        "no block time 600 s after {}: it would not fit into 32 bits",
        u32::MAX - 599
    );
    for error in [
        chain.mine(1).unwrap_err(),
        chain.mine_exactly(&[]).unwrap_err(),
        chain.reorg(1).apply().unwrap_err(),
    ] {
        assert_eq!(error.to_string(), named);
    }
}

#[test]
fn a_chain_cannot_begin_before_the_genesis_block() {
    // The time of the genesis block of regtest, and of the first block after it.
    let earliest = 1_296_688_602 + 101 * BLOCK_INTERVAL;
    let start = |time| Regtest::builder().node(Node::builder().start_time(time)).start();
    let error = start(earliest - 1).unwrap_err();
    assert_matches!(
        error,
        Error::InvalidRequest(InvalidRequest::StartTooEarly { now, height: 101, earliest: found })
            if now == earliest - 1 && found == earliest
    );
    assert_eq!(start(earliest).unwrap().tip().unwrap().time, earliest);
}
