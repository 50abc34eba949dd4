//! What the faucet pays, and beside whom.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bitcoin::{Amount, FeeRate, Transaction, TxOut};
use spilman::regtest::bitcoincore_rpc::RpcApi;
use spilman::regtest::{labelled_key, Cluster, Coin, CoinKind, Faucet, Node, Policy, Regtest};

use crate::common::judge::Judge as _;
use crate::{chain, outputs, payee, sat};

/// A payment by each way to have one.
fn payments(chain: &mut Regtest) -> Vec<Transaction> {
    let output = |value| TxOut {
        value: sat(value),
        script_pubkey: CoinKind::Segwit.script(&payee()),
    };
    let mut faucet = Faucet::new();
    let (node, clock) = (chain.node().clone(), chain.clock().clone());
    let coins: Vec<Coin> = vec![
        chain.fund(sat(10_000), CoinKind::Segwit).unwrap(),
        chain.fund(sat(10_001), CoinKind::Legacy).unwrap(),
        chain.fund_key(sat(10_002), CoinKind::Segwit, payee()).unwrap(),
        faucet.fund(&node, &clock, sat(10_003), CoinKind::Segwit).unwrap(),
        faucet
            .fund_key(&node, &clock, sat(10_004), CoinKind::Legacy, payee())
            .unwrap(),
    ];
    let mut all: Vec<_> = coins.into_iter().map(|coin| coin.funding).collect();
    for (number, transaction) in (10_000..).zip(&all) {
        assert_eq!(transaction.output[0].value, sat(number), "exact");
    }
    let many: Vec<_> = (0..40).map(|number| output(20_000 + number)).collect();
    let (several, _) = chain.pay(many.clone()).unwrap();
    assert_eq!(several.output[..40], many);
    // More than a coin has, so that it takes several.
    let (large, _) = faucet.pay(&node, &clock, vec![output(7_000_000_000)]).unwrap();
    assert!(large.input.len() > 1);
    assert_eq!(large.output[0].value, sat(7_000_000_000));
    all.extend([several, large]);
    all
}

fn fee(chain: &Regtest, transaction: &Transaction) -> Amount {
    let spent = transaction.input.iter().map(|input| {
        let found = (1..=chain.tip().unwrap().height).find_map(|height| {
            let block = chain.node().block_at(height).unwrap();
            let mut made = block.txdata.into_iter();
            made.find(|tx| tx.compute_txid() == input.previous_output.txid)
        });
        found.unwrap().output[input.previous_output.vout as usize].value
    });
    let spent: Amount = spent.sum();
    spent
        - transaction
            .output
            .iter()
            .map(|output| output.value)
            .sum::<Amount>()
}

/// By every way to be paid: 1 sat/vB, or what the node asks for, and amounts are exact.
#[test]
fn a_payment_pays_an_ordinary_fee() {
    for (policy, least) in [
        (Policy::default(), 1),
        (Policy::free(), 1),
        (Policy::at_least(FeeRate::from_sat_per_vb_u32(50)), 50),
    ] {
        let node = Node::builder().policy(policy);
        let mut chain = Regtest::builder().node(node).start().unwrap();
        for transaction in payments(&mut chain) {
            let vsize = transaction.vsize() as u64;
            let fee = fee(&chain, &transaction).to_sat();
            // A signature may be some bytes shorter than was reckoned with.
            let most = least * (vsize + transaction.input.len() as u64);
            assert!(
                (least * vsize..=most).contains(&fee),
                "{fee} for {vsize} at {least}"
            );
        }
    }
}

/// 1. The test asks for none.
/// 2. What cannot be change is the fee, and what leaves less than the fee pays what it leaves.
#[test]
fn a_payment_pays_no_fee_if_it_shall_not() {
    let mut chain = Regtest::builder().faucet_feerate(FeeRate::ZERO).start().unwrap();
    let free = chain.fund(sat(10_000), CoinKind::Segwit).unwrap().funding;
    assert_eq!(fee(&chain, &free), Amount::ZERO);
    let none = Faucet::new().with_feerate(FeeRate::ZERO);
    let clock = chain.clock().clone();
    let key = labelled_key("spilman/test/free");
    let free = none
        .fund_key(chain.node(), &clock, sat(10_000), CoinKind::Segwit, key)
        .unwrap();
    assert_eq!(fee(&chain, &free.funding), Amount::ZERO);

    chain.set_faucet_feerate(FeeRate::BROADCAST_MIN);
    for left in [0, 100, 300] {
        let all = chain.faucet().balance(chain.node()).unwrap();
        let paid = chain.fund(all - sat(left), CoinKind::Segwit).unwrap().funding;
        assert_eq!((paid.output.len(), fee(&chain, &paid)), (1, sat(left)));
    }
}

/// 1. The payment of the faucet is taken back: the other node hears of it.
/// 2. It outlasts a restart.
#[test]
fn a_payment_that_is_taken_back_is_relayed_and_kept() {
    let mut cluster = Cluster::builder().start().unwrap();
    let coin = cluster
        .chain_mut(0)
        .unwrap()
        .fund(sat(10_000), CoinKind::Segwit)
        .unwrap();
    let txid = coin.outpoint.txid;
    cluster.wait_for_same_tip().unwrap();
    let reorg = cluster.chain(0).unwrap().reorg(1).drop_tx(txid).apply().unwrap();
    assert_eq!(reorg.lost, []);
    cluster.node(1).unwrap().wait_for_unconfirmed(txid).unwrap();
    assert_eq!(cluster.wait_for_same_mempool().unwrap(), [txid]);

    let mut chain = chain();
    let coin = chain.fund(sat(10_000), CoinKind::Segwit).unwrap();
    let txid = coin.outpoint.txid;
    chain.reorg(1).drop_tx(txid).apply().unwrap();
    chain.node().stop().unwrap();
    chain.node().restart().unwrap();
    chain.node().wait_for_mempool(&[txid]).unwrap();
}

/// A program under test scans all the time; the faucet pays as it would without.
#[test]
fn the_faucet_pays_beside_a_program_that_scans() {
    let mut chain = chain();
    let client = chain.node().new_client();
    let over = AtomicBool::new(false);
    let beside = thread::scope(|scope| {
        let scans = scope.spawn(|| {
            // Seconds of work, if nothing interrupts it.
            let key = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";
            let asked = serde_json::json!([{ "desc": format!("pkh({key}/*)"), "range": 20_000 }]);
            let mut scans = 0;
            while !over.load(Ordering::Relaxed) {
                let answer: serde_json::Value = client.call("scantxoutset", &["start".into(), asked.clone()]).unwrap();
                assert_eq!(answer["success"], true);
                scans += 1;
            }
            scans
        });
        let status = || -> serde_json::Value {
            chain
                .node()
                .client()
                .call("scantxoutset", &["status".into()])
                .unwrap()
        };
        while status().is_null() && !scans.is_finished() {
            thread::yield_now();
        }
        let coins: Result<Vec<Coin>, _> = (0..10)
            .map(|_| chain.fund(sat(10_000), CoinKind::Segwit))
            .collect();
        over.store(true, Ordering::Relaxed);
        assert!(scans.join().unwrap() > 0);
        coins.unwrap()
    });
    let mut alone = crate::chain();
    for coin in beside {
        assert_eq!(coin, alone.fund(sat(10_000), CoinKind::Segwit).unwrap());
        let spend = coin.spend(outputs(&coin)).unwrap();
        chain.node().broadcasts(&spend);
    }
}
