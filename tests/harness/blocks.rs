//! Starting, funds and blocks.

use std::fs;

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, OutPoint, TxOut};
use spilman::regtest::{
    find_bitcoind, labelled_key, CoinKind, Error, InvalidRequest, MineParams, Miner, Node, Regtest,
    BLOCK_INTERVAL, START_HEIGHT, START_TIME,
};

use crate::common::assert_matches;
use crate::common::judge::Judge as _;
use crate::{chain, chain_hashes, outputs, sat};

#[test]
fn harness_is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Regtest>();
    check::<Node>();
    check::<Error>();
}

#[test]
fn two_runs_give_the_same_chain() {
    let run = || {
        let mut chain = chain();
        let legacy = chain.fund(sat(50_000), CoinKind::Legacy).unwrap();
        let segwit = chain.fund(sat(60_000), CoinKind::Segwit).unwrap();
        for coin in [&legacy, &segwit] {
            let spend = coin.spend(outputs(coin)).unwrap();
            chain.node().broadcasts(&spend);
        }
        chain.mine(2).unwrap();
        chain
            .stop_before(LockTime::from_consensus(START_TIME + 86_400))
            .unwrap();
        chain_hashes(&chain)
    };
    let first = run();
    assert_eq!(first, run());
    let last: Vec<String> = first
        .iter()
        .rev()
        .take(12)
        .rev()
        .map(ToString::to_string)
        .collect();
    insta::assert_snapshot!(last.join("\n"));
}

#[test]
fn starts_with_mature_funds_at_a_fixed_time() {
    let mut chain = chain();
    let tip = chain.tip().unwrap();
    assert_eq!(
        (tip.height, tip.time, chain.node().mock_time()),
        (START_HEIGHT, START_TIME, START_TIME)
    );
    assert_eq!(
        chain.faucet().balance(chain.node()).unwrap(),
        Amount::from_int_btc(100)
    );
    // 319900 in the RPC, v31.99.0 on the command line.
    let version = chain.node().version().unwrap();
    let said = format!("v{}.{}.", version / 10_000, version / 100 % 100);
    let found = find_bitcoind().unwrap().version;
    assert!(found.contains(&said), "{said} in {found}");

    // All that there is can be paid out, and not a satoshi more.
    let error = chain
        .fund(Amount::from_int_btc(100) + sat(1), CoinKind::Legacy)
        .unwrap_err();
    assert_matches!(
        error,
        Error::InvalidRequest(InvalidRequest::FundsShort { needed, available })
            if needed == available + sat(1) && available == Amount::from_int_btc(100)
    );
    let coin = chain.fund(Amount::from_int_btc(100), CoinKind::Legacy).unwrap();
    assert_eq!(coin.funding.output, std::slice::from_ref(&coin.output));
    // That block made the next coinbase spendable.
    assert_eq!(
        chain.faucet().balance(chain.node()).unwrap(),
        Amount::from_int_btc(50)
    );
}

#[test]
fn coins_are_exact_confirmed_and_spendable() {
    let mut chain = chain();
    for (number, kind) in [CoinKind::Legacy, CoinKind::Segwit].into_iter().enumerate() {
        let coin = chain.fund(sat(123_456), kind).unwrap();
        assert_eq!(coin.key, labelled_key(&format!("spilman/faucet/{number}")));
        let utxo = chain
            .node()
            .utxo(coin.outpoint)
            .unwrap()
            .expect("the coin exists");
        assert_eq!(
            (&utxo.output, utxo.confirmations, utxo.coinbase),
            (&coin.output, 1, false)
        );
        assert_eq!(utxo.output.value, sat(123_456));

        let spend = coin.spend(outputs(&coin)).unwrap();
        let txid = chain.node().broadcasts(&spend);
        assert_eq!(chain.node().utxo(coin.outpoint).unwrap(), None);
        assert_eq!(
            chain
                .node()
                .confirmed_utxo(coin.outpoint)
                .unwrap()
                .map(|utxo| utxo.output),
            Some(coin.output)
        );
        assert_eq!(chain.node().mempool_spender(coin.outpoint).unwrap(), Some(txid));
        assert_eq!(chain.node().mempool().unwrap(), [txid]);
        assert_eq!(chain.node().transaction_in_mempool(txid).unwrap(), Some(spend));
        let unconfirmed = chain
            .node()
            .utxo(OutPoint::new(txid, 0))
            .unwrap()
            .expect("it is in the mempool");
        assert_eq!(unconfirmed.confirmations, 0);

        assert_eq!(chain.mine(1).unwrap()[0].txids, [txid]);
        assert_eq!(chain.node().transaction_in_mempool(txid).unwrap(), None);
    }
}

#[test]
fn a_spend_cannot_pay_out_more_than_its_coins() {
    let mut chain = chain();
    let coin = chain.fund(sat(1_000), CoinKind::Segwit).unwrap();
    let too_much = vec![TxOut {
        value: sat(1_001),
        script_pubkey: coin.output.script_pubkey.clone(),
    }];
    let message = coin.spend(too_much).unwrap_err().to_string();
    assert_eq!(
        message,
        "outputs of 0.00001001 BTC exceed the inputs of 0.00001000 BTC"
    );

    let mut foreign = chain
        .fund(sat(1_000), CoinKind::Segwit)
        .unwrap()
        .spend(vec![])
        .unwrap();
    assert_matches!(
        coin.sign(&mut foreign),
        Err(InvalidRequest::NotSpent { outpoint, .. })
            if outpoint == coin.outpoint
    );
}

/// A miner without a clock takes the node's time, and a second more than the median if that stands still.
#[test]
fn a_miner_alone_finds_times_by_itself() {
    let node = Node::start().unwrap_or_else(|error| panic!("{error}"));
    let miner = Miner::new(CoinKind::Legacy.script(&labelled_key("spilman/test/miner")));
    let mine = || miner.mine(&node, MineParams::default()).unwrap();
    assert_eq!(mine().time, START_TIME);
    for height in 2..=20 {
        let mtp = node.tip().unwrap().mtp;
        let block = mine();
        assert_eq!((block.height, block.time), (height, START_TIME.max(mtp + 1)));
    }
    node.set_mock_time(START_TIME + BLOCK_INTERVAL).unwrap();
    assert_eq!(mine().time, START_TIME + BLOCK_INTERVAL);
}

/// 1. What is in the mempool goes into the first of many blocks.
/// 2. All are ten minutes apart, and the node's clock is where the last one is.
#[test]
fn many_blocks_are_ten_minutes_apart() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let spend = coin.spend(outputs(&coin)).unwrap();
    let txid = chain.node().broadcasts(&spend);
    let from = chain.tip().unwrap();
    let mut blocks = chain.mine(30).unwrap();
    blocks.extend(chain.mine_empty(30).unwrap());

    assert_eq!((blocks.len(), &blocks[0].txids), (60, &vec![txid]));
    for (number, block) in (1..).zip(&blocks) {
        let expected = (from.height + number, from.time + number * BLOCK_INTERVAL);
        assert_eq!((block.height, block.time), expected);
        assert_eq!(chain.node().block_hash_at(block.height).unwrap(), block.hash);
    }
    assert_eq!(blocks[1..].iter().flat_map(|block| &block.txids).count(), 0);
    let tip = chain.tip().unwrap();
    assert_eq!((tip.hash, tip.time), (blocks[59].hash, chain.node().mock_time()));
}

/// 1. The first blocks differ with height and time, also for several nodes in one process.
/// 2. They are imported once: a restart needs nothing but the node's own data.
#[test]
fn first_blocks_are_as_asked_for_and_outlast_a_restart() {
    for (height, time) in [
        (0, START_TIME),
        (1, START_TIME),
        (30, START_TIME),
        (30, START_TIME + 1),
    ] {
        let node = Node::builder().start_time(time);
        let chain = Regtest::builder().node(node).height(height).start().unwrap();
        let tip = chain.tip().unwrap();
        assert_eq!(tip.height, height);
        if height > 0 {
            assert_eq!(tip.time, time, "of height {height}");
        }
        chain.node().stop().unwrap();
        chain.node().restart().unwrap();
        assert_eq!(chain.tip().unwrap(), tip);
        let log = fs::read_to_string(chain.node().data_dir().join("regtest/debug.log")).unwrap();
        assert_eq!(
            log.matches("Importing blocks file").count(),
            usize::from(height > 0)
        );
    }
}
