//! What nodes accept, relay and mine.

use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut, Txid, Witness};
use spilman::regtest::{change, Coin, CoinKind, Node, Policy, Regtest, RejectReason};

use crate::common::judge::Judge as _;
use crate::{chain, link, outputs, paying, sat, FEE};

/// The same signature with the other value of S, as any relaying node can make it.
pub fn malleated(original: &Transaction) -> Transaction {
    const ORDER: [u8; 32] = bitcoin::secp256k1::constants::CURVE_ORDER;
    let high = |der: &[u8]| {
        let (der, sighash) = der.split_at(der.len() - 1);
        let mut compact = Signature::from_der(der).unwrap().serialize_compact();
        let mut borrow = 0;
        for index in (0..32).rev() {
            let difference = i16::from(ORDER[index]) - i16::from(compact[32 + index]) - borrow;
            borrow = i16::from(difference < 0);
            compact[32 + index] = u8::try_from(difference.rem_euclid(256)).unwrap();
        }
        let signature = Signature::from_compact(&compact).unwrap().serialize_der();
        [signature.as_ref(), sighash].concat()
    };
    let mut malleated = original.clone();
    let input = &mut malleated.input[0];
    if input.witness.is_empty() {
        let pushes: Vec<Vec<u8>> = input
            .script_sig
            .instructions()
            .map(|instruction| instruction.unwrap().push_bytes().unwrap().as_bytes().to_vec())
            .collect();
        let signature = bitcoin::script::PushBytesBuf::try_from(high(&pushes[0])).unwrap();
        let key = bitcoin::script::PushBytesBuf::try_from(pushes[1].clone()).unwrap();
        input.script_sig = ScriptBuf::builder()
            .push_slice(signature)
            .push_slice(key)
            .into_script();
    } else {
        input.witness = Witness::from_slice(&[high(&input.witness[0]), input.witness[1].to_vec()]);
    }
    malleated
}

/// 1. The node does not relay the malleated one.
/// 2. A miner includes it.
/// 3. A legacy txid has changed, a segwit one has not.
#[test]
fn a_miner_can_take_what_nodes_do_not_relay() {
    for kind in [CoinKind::Legacy, CoinKind::Segwit] {
        let mut chain = chain();
        let coin = chain.fund(sat(100_000), kind).unwrap();
        let original = coin.spend(outputs(&coin)).unwrap();
        let malleated = malleated(&original);
        assert_ne!(malleated.compute_wtxid(), original.compute_wtxid());
        let verdict = chain.node().test_accept(&malleated).unwrap();
        let words = &verdict.expect_rejected(RejectReason::ScriptFailed).words;
        assert!(words.contains("S value is unnecessarily high"), "{words}");
        chain.node().broadcasts(&original);

        let block = chain.mine_exactly(std::slice::from_ref(&malleated)).unwrap();
        assert_eq!(block.txids, [malleated.compute_txid()]);
        assert_eq!(
            malleated.compute_txid() == original.compute_txid(),
            kind == CoinKind::Segwit
        );
        assert_eq!(chain.node().block(block.hash).unwrap().txdata[1], malleated);
        assert_eq!(chain.node().mempool().unwrap(), []);
    }
}

/// Of a limit that is no whole number, as the 294.392 satoshi at 3.004 sat/vB, every version takes the next higher one.
#[test]
fn dust_is_refused_to_the_satoshi() {
    for (sat_per_kwu, limit) in [(750, 294), (751, 295)] {
        let dust = FeeRate::from_sat_per_kwu(sat_per_kwu);
        let policy = Policy {
            dust,
            ..Policy::default()
        };
        let builder = Regtest::builder().node(Node::builder().policy(policy));
        let mut chain = builder.start().unwrap();
        let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
        let paying = |amount| {
            let output = TxOut {
                value: sat(amount),
                script_pubkey: coin.output.script_pubkey.clone(),
            };
            let rest = change(
                std::slice::from_ref(&coin),
                std::slice::from_ref(&output),
                FEE,
                output.script_pubkey.clone(),
            );
            let tx = coin.spend(vec![output, rest.unwrap()]).unwrap();
            chain.node().test_accept(&tx).unwrap()
        };
        paying(limit - 1).expect_rejected(RejectReason::Dust);
        paying(limit).expect_accepted();
    }
}

#[test]
fn the_least_feerate_is_one_satoshi_per_vbyte_unless_free() {
    let spend = |chain: &mut Regtest, fee| {
        let coin = chain.fund(sat(1_000), CoinKind::Segwit).unwrap();
        paying(&coin, sat(fee))
    };
    let mut strict = chain();
    let vsize = spend(&mut strict, 0).vsize() as u64;
    let cheap = spend(&mut strict, vsize - 2);
    strict.node().rejects(&cheap, RejectReason::MinRelayFee);
    let enough = spend(&mut strict, vsize + 1);
    strict.node().accepts(&enough);

    let mut free = Regtest::builder()
        .node(Node::builder().policy(Policy::free()))
        .start()
        .unwrap();
    let coin = free.fund(sat(200), CoinKind::Legacy).unwrap();
    let tiny = TxOut {
        value: sat(100),
        script_pubkey: coin.output.script_pubkey.clone(),
    };
    let spend = coin.spend(vec![tiny.clone(), tiny]).unwrap();
    let txid = free.node().broadcasts(&spend);
    assert_eq!(free.mine(1).unwrap()[0].txids, [txid]);
}

#[test]
fn a_replacement_has_to_pay_more() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let paying = |fee| paying(&coin, sat(fee));
    chain.node().broadcasts(&paying(1_000));
    chain
        .node()
        .rejects(&paying(1_050), RejectReason::InsufficientFee);
    chain
        .node()
        .rejects_broadcast(&paying(1_050), RejectReason::InsufficientFee);
    let txid = chain.node().broadcasts(&paying(2_000));
    assert_eq!(chain.node().mempool().unwrap(), [txid]);
}

#[test]
fn other_refusals_are_named() {
    let mut chain = chain();
    let node = chain.node().clone();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let spend = coin.spend(outputs(&coin)).unwrap();
    node.broadcasts(&spend);
    node.broadcasts(&spend);
    node.rejects(&spend, RejectReason::AlreadyInMempool);
    chain.mine(1).unwrap();
    node.rejects(&spend, RejectReason::AlreadyKnown);
    node.rejects_broadcast(&spend, RejectReason::AlreadyKnown);

    let mut orphan = spend;
    orphan.output[0].value -= FEE;
    node.rejects(&orphan, RejectReason::MissingInputs);
    node.rejects_broadcast(&orphan, RejectReason::MissingInputs);

    let coin = chain.fund(sat(100_000), CoinKind::Legacy).unwrap();
    let mut wrong = coin.spend(outputs(&coin)).unwrap();
    wrong.output[0].value -= FEE;
    node.rejects_broadcast(&wrong, RejectReason::ScriptFailed);
    wrong.input.clear();
    assert!(!node.submit(&wrong).unwrap().is_accepted());
    assert!(!node.test_accept(&wrong).unwrap().is_accepted());
}

/// 1. Parents and children come, and each is in the template at once, though one was made just before.
/// 2. The block has parents first, and its coinbase the fees.
#[test]
fn the_mempool_is_mined_whole_and_in_order() {
    let mut chain = chain();
    let node = chain.node().clone();
    let mut expected: Vec<Vec<Txid>> = vec![vec![], vec![]];
    for _ in 0..3 {
        let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
        let mut parent = coin.clone();
        for generation in &mut expected {
            let rest = change(&[parent.clone()], &[], FEE, coin.output.script_pubkey.clone()).unwrap();
            let spend = parent.spend(vec![rest.clone()]).unwrap();
            let txid = node.broadcasts(&spend);
            generation.push(txid);
            parent = Coin {
                outpoint: OutPoint::new(txid, 0),
                output: rest,
                funding: spend,
                ..parent
            };
            let template = node.block_template().unwrap();
            assert!(template
                .transactions
                .iter()
                .any(|entry| entry.transaction.compute_txid() == txid));
        }
    }
    for generation in &mut expected {
        generation.sort_unstable();
    }
    let block = &chain.mine(1).unwrap()[0];
    assert_eq!(block.txids, expected.concat());
    let coinbase = &node.block(block.hash).unwrap().txdata[0];
    assert_eq!(coinbase.output[0].value, Amount::from_int_btc(50) + FEE * 6);
    assert_eq!(coinbase.lock_time.to_consensus_u32(), block.height - 1);
}

#[test]
fn empty_blocks_leave_the_mempool_and_told_fees_are_claimed() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let parent = coin.spend(outputs(&coin)).unwrap();
    chain.node().broadcasts(&parent);
    chain.mine_empty(2).unwrap();
    assert_eq!(chain.node().mempool().unwrap(), [parent.compute_txid()]);

    let link = link(&parent);
    let child = link.spend(outputs(&link)).unwrap();
    let block = chain.mine_exactly(&[parent, child]).unwrap();
    let coinbase = &chain.node().block(block.hash).unwrap().txdata[0];
    assert_eq!(coinbase.output[0].value, Amount::from_int_btc(50) + FEE * 2);
}
