//! Blocks ahead of the clock, and rules that hold only from some height on.

use bitcoin::absolute::LockTime;
use bitcoin::Amount;
use spilman::regtest::{
    CoinKind, Error, InvalidRequest, MineParams, MinedBlock, Node, NodeError, Regtest, BLOCK_INTERVAL,
    START_HEIGHT,
};

use crate::common::judge::Judge as _;
use crate::{chain, mine_at, outputs, sat};

/// As far ahead of the node's clock as a block may be.
const AHEAD: u32 = 7_200;

/// A chain whose median time past is as far ahead of the clock as can be.
fn ahead() -> Regtest {
    let chain = chain();
    let time = chain.node().mock_time() + AHEAD;
    for _ in 0..6 {
        mine_at(&chain, time);
    }
    assert_eq!(chain.tip().unwrap().mtp, time);
    chain
}

/// A block of the time that the clock gives it.
fn mine_one(chain: &Regtest) -> MinedBlock {
    let miner = chain.clock().miner();
    miner.mine(chain.node(), MineParams::default()).unwrap()
}

/// Whatever mines, mines on, and its blocks are later than the median.
#[test]
fn mining_goes_on_ahead_of_the_clock() {
    type Mines = fn(&mut Regtest);
    let ways: [(&str, Mines); 10] = [
        ("a miner alone", |chain| {
            for _ in 0..3 {
                mine_one(chain);
            }
        }),
        ("mine", |chain| drop(chain.mine(20).unwrap())),
        ("mine_empty", |chain| drop(chain.mine_empty(20).unwrap())),
        ("mine_exactly", |chain| drop(chain.mine_exactly(&[]).unwrap())),
        ("the faucet", |chain| {
            drop(chain.fund(sat(10_000), CoinKind::Segwit).unwrap());
        }),
        ("propose", |chain| {
            assert_eq!(chain.check_block(&[]).unwrap(), None);
        }),
        ("a template", |chain| drop(chain.node().block_template().unwrap())),
        ("make_final", |chain| {
            let tip = chain.tip().unwrap();
            chain
                .make_final(LockTime::from_height(tip.height + 3).unwrap())
                .unwrap();
            chain
                .make_final(LockTime::from_time(tip.mtp + 100_000).unwrap())
                .unwrap();
        }),
        ("stop_before", |chain| {
            let lock = LockTime::from_time(chain.tip().unwrap().mtp + 60).unwrap();
            chain.stop_before(lock).unwrap();
        }),
        ("reorg", |chain| {
            chain.reorg(6).apply().unwrap();
            chain.reorg(7).by_invalidation().unwrap();
            let rival = Node::builder().p2p(true).start().unwrap();
            chain.reorg(3).by_rival(&rival).unwrap();
        }),
    ];
    for (way, mines) in ways {
        let mut chain = ahead();
        mines(&mut chain);
        mine_one(&chain);
        chain.mine(1).unwrap();
        let tip = chain.tip().unwrap();
        assert!(tip.time <= chain.node().mock_time() + AHEAD, "{way}: {tip}");
    }
}

/// With something in the mempool, of which the node makes a template.
#[test]
fn a_mempool_is_mined_ahead_of_the_clock() {
    let mut chain = chain();
    let coin = chain.fund(sat(10_000), CoinKind::Segwit).unwrap();
    let spend = coin.spend(outputs(&coin)).unwrap();
    let time = chain.node().mock_time() + AHEAD;
    for _ in 0..6 {
        mine_at(&chain, time);
    }
    let txid = chain.node().broadcasts(&spend);
    let block = mine_one(&chain);
    assert_eq!((block.txids, block.time), (vec![txid], time + 1));
}

/// A time that is asked for by name is the caller's to know.
#[test]
fn a_time_asked_for_can_be_too_late() {
    let chain = chain();
    let params = MineParams {
        time: Some(chain.node().mock_time() + AHEAD + 1),
        ..MineParams::default()
    };
    let error = chain.clock().miner().mine(chain.node(), params).unwrap_err();
    let Error::Node(NodeError::BlockRejected { words, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!(words, "time-too-new");
}

/// 1. The chain starts, and is mined through the activation.
/// 2. Before that the faucet says why it cannot pay; then it can.
/// 3. Blocks without a mempool are the same whether the node is started again or not.
#[test]
fn segwit_can_come_later() {
    let node = Node::builder().arg("-testactivationheight=segwit@110");
    let mut chain = Regtest::builder().node(node).start().unwrap();
    assert_eq!(chain.tip().unwrap().height, START_HEIGHT);
    let error = chain.fund(sat(10_000), CoinKind::Segwit).unwrap_err();
    let Error::InvalidRequest(InvalidRequest::NoSegwitYet { height, segwit }) = &error else {
        panic!("{error}")
    };
    assert_eq!((*height, *segwit), (START_HEIGHT + 1, 110));
    assert_eq!(
        error.to_string(),
        "the faucet cannot pay at height 102: its coins can be spent from height 110 on, by \
         -testactivationheight=segwit@110; mine up to height 109 first"
    );
    chain.mine(4).unwrap();
    chain.node().stop().unwrap();
    chain.node().restart().unwrap();
    chain.reorg(2).apply().unwrap();
    chain.mine_empty(3).unwrap();
    let tip = chain.tip().unwrap();
    assert_eq!(tip.height, 109);
    let node = chain.node().clone();
    let commits = |height| node.block_at(height).unwrap().txdata[0].output.len() == 2;
    assert!(!commits(109));
    let coin = chain.fund(sat(10_000), CoinKind::Segwit).unwrap();
    assert!(commits(110));
    let spend = coin.spend(outputs(&coin)).unwrap();
    let txid = chain.node().broadcasts(&spend);
    assert_eq!(chain.mine(1).unwrap()[0].txids, [txid]);
    chain.reorg(5).apply().unwrap();
    assert!(!commits(109) && commits(110));
}

/// The other rules hold for the blocks of the harness whenever they come.
#[test]
fn any_rule_can_come_later() {
    for arguments in [
        &["-testactivationheight=segwit@1"][..],
        &[
            "-testactivationheight=segwit@200",
            "-testactivationheight=segwit@50",
        ],
        &["-testactivationheight=bip34@110"],
        &["-testactivationheight=dersig@110"],
        &["-testactivationheight=cltv@110"],
        &["-testactivationheight=csv@110"],
        &["-vbparams=testdummy:0:9999999999"],
    ] {
        let node = arguments
            .iter()
            .fold(Node::builder(), |node, argument| node.arg(*argument));
        let mut chain = Regtest::builder().node(node).start().unwrap();
        let coin = chain.fund(Amount::from_sat(10_000), CoinKind::Segwit).unwrap();
        chain.node().broadcasts(&coin.spend(outputs(&coin)).unwrap());
        chain.mine(12).unwrap();
        let lock = LockTime::from_time(chain.tip().unwrap().mtp + 10 * BLOCK_INTERVAL).unwrap();
        chain.make_final(lock).unwrap();
    }
}
