//! What a transaction has to pay to be relayed, and which ones are mined.

use std::slice;

use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::PushBytesBuf;
use bitcoin::{Amount, FeeRate, ScriptBuf, SignedAmount, Transaction, TxOut};
use spilman::regtest::{
    change, spend_coins, Coin, CoinKind, Error, InvalidRequest, MempoolVerdict, Node, Policy, Regtest,
    RejectReason,
};

use crate::common::assert_matches;
use crate::common::judge::Judge as _;
use crate::{chain, link, made, outputs, payee, paying, sat, FEE};

fn child_of(parent: &Transaction) -> Transaction {
    link(parent).spend(outputs(&link(parent))).unwrap()
}

/// 1. A transaction pays too little, until the node counts it for more.
/// 2. What it pays, what it counts for, and its relatives can be read.
#[test]
fn what_counts_for_more_is_accepted() {
    let mut chain = chain();
    let node = chain.node().clone();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let script = CoinKind::Segwit.script(&payee());
    let rest = change(slice::from_ref(&coin), &[], Amount::ZERO, script).unwrap();
    let free = coin.spend(vec![rest]).unwrap();
    let txid = free.compute_txid();
    node.rejects_broadcast(&free, RejectReason::MinRelayFee);
    assert_eq!(node.mempool_entry(txid).unwrap(), None);

    node.prioritise(txid, SignedAmount::from_sat(2_000)).unwrap();
    node.prioritise(txid, SignedAmount::from_sat(-500)).unwrap();
    node.broadcasts(&free);
    let child = child_of(&free);
    node.broadcasts(&child);

    let signed = SignedAmount::from_sat;
    let entry = node.mempool_entry(txid).unwrap().expect("it was accepted");
    assert_eq!((entry.wtxid, entry.weight), (free.compute_wtxid(), free.weight()));
    assert_eq!(
        (entry.vsize, entry.height),
        (free.vsize() as u64, chain.tip().unwrap().height)
    );
    assert_eq!(entry.time, u64::from(node.mock_time()));
    assert_eq!(
        (entry.fees.base, entry.fees.modified),
        (Amount::ZERO, signed(1_500))
    );
    assert_eq!(
        (entry.fees.ancestor, entry.fees.descendant),
        (signed(1_500), signed(2_500))
    );
    assert_eq!((entry.ancestor_count, entry.descendant_count), (1, 2));
    let both = (free.vsize() + child.vsize()) as u64;
    assert_eq!(
        (entry.ancestor_vsize, entry.descendant_vsize),
        (entry.vsize, both)
    );
    assert_eq!(
        (entry.parents, entry.children),
        (vec![], vec![child.compute_txid()])
    );
    let entry = node
        .mempool_entry(child.compute_txid())
        .unwrap()
        .expect("it was accepted");
    assert_eq!((entry.parents, entry.children), (vec![txid], vec![]));
}

/// A node can be stricter than others.
#[test]
fn a_node_can_ask_for_more() {
    let asked = FeeRate::from_sat_per_vb_u32(10);
    let node = Node::builder().policy(Policy::at_least(asked));
    let mut chain = Regtest::builder().node(node).start().unwrap();
    assert_eq!(chain.node().least_feerate().unwrap(), asked);
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let enough = asked.fee_vb(paying(&coin, FEE).vsize() as u64).unwrap();
    let verdict = |fee| chain.node().test_accept(&paying(&coin, fee)).unwrap();
    verdict(enough - sat(1)).expect_rejected(RejectReason::MinRelayFee);
    verdict(enough).expect_accepted();
}

/// 1. Large transactions fill the mempool, until the node drops the cheapest.
/// 2. From then on it asks for more than otherwise, and just as much is enough.
#[test]
fn a_full_mempool_asks_for_more() {
    let node = Node::builder()
        .arg("-maxmempool=5")
        .arg("-datacarriersize=100000");
    let chain = Regtest::builder().node(node).start().unwrap();
    let node = chain.node();
    let relayed = node.least_feerate().unwrap();
    assert_eq!(relayed, FeeRate::from_sat_per_vb_u32(1));

    let script = CoinKind::Segwit.script(&payee());
    let piece = TxOut {
        value: sat(300_000),
        script_pubkey: script,
    };
    let (funding, _) = chain.pay(vec![piece.clone(); 60]).unwrap();
    let coins: Vec<Coin> = (0..60).map(|vout| made(&funding, vout, payee())).collect();
    let load = PushBytesBuf::try_from(vec![0; 95_000]).unwrap();
    let load = ScriptBuf::builder()
        .push_opcode(OP_RETURN)
        .push_slice(load)
        .into_script();
    let verdicts: Vec<MempoolVerdict> = (0..)
        .zip(&coins[1..])
        .map(|(number, coin)| {
            let burnt = TxOut {
                value: Amount::ZERO,
                script_pubkey: load.clone(),
            };
            let fee = sat(150_000 + number);
            let rest = change(slice::from_ref(coin), &[], fee, coin.output.script_pubkey.clone()).unwrap();
            let large = spend_coins(slice::from_ref(coin), vec![rest, burnt]).unwrap();
            node.submit(&large).unwrap()
        })
        .collect();
    verdicts[0].expect_accepted();
    let asked = node.least_feerate().unwrap();
    assert!(
        asked > relayed,
        "{} of {} were accepted",
        node.mempool().unwrap().len(),
        verdicts.len()
    );

    let cheap = paying(&coins[0], FEE / 4);
    let rejection = node.rejects(&cheap, RejectReason::MinRelayFee);
    assert!(
        rejection.words.starts_with("mempool min fee not met"),
        "{}",
        rejection.words
    );
    let enough = asked.fee_vb(cheap.vsize() as u64).unwrap();
    node.accepts(&paying(&coins[0], enough));
}

/// 1. All but one transaction is mined, and its child stays with it.
/// 2. The block claims the fees of what is in it.
/// 3. What is not in the mempool cannot stay there.
#[test]
fn a_transaction_can_be_left_in_the_mempool() {
    let mut chain = chain();
    let node = chain.node().clone();
    let [left, mined] = [(); 2].map(|()| {
        let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
        coin.spend(outputs(&coin)).unwrap()
    });
    let (child, grandchild) = (child_of(&left), child_of(&child_of(&left)));
    for transaction in [&left, &mined, &child, &grandchild] {
        node.broadcasts(transaction);
    }
    let txids = [
        left.compute_txid(),
        child.compute_txid(),
        grandchild.compute_txid(),
    ];

    let block = chain.mine_all_but(&txids[..1]).unwrap();
    assert_eq!(block.txids, [mined.compute_txid()]);
    let coinbase = &node.block(block.hash).unwrap().txdata[0];
    assert_eq!(coinbase.output[0].value, Amount::from_int_btc(50) + FEE);
    node.wait_for_mempool(&txids).unwrap();

    let error = chain.mine_all_but(&block.txids).unwrap_err();
    assert_matches!(
        error,
        Error::InvalidRequest(InvalidRequest::NotInMempool { txid })
            if txid == mined.compute_txid()
    );
    assert_eq!(chain.mine_all_but(&txids[2..]).unwrap().txids, txids[..2]);
    assert_eq!(chain.mine_all_but(&[]).unwrap().txids, txids[2..]);
}
