//! The harness on real nodes, each test on one of its own.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxOut, Txid, Witness};
use spilman::regtest::{
    change, find_bitcoind, labelled_key, BlockContent, Coin, CoinKind, Error, MineParams, Miner, Misuse,
    Node, NodeError, Policy, Regtest, RejectReason, Spend, BLOCK_INTERVAL, START_HEIGHT, START_TIME,
};

const FEE: Amount = Amount::from_sat(1_000);

fn chain() -> Regtest {
    Regtest::start().unwrap_or_else(|error| panic!("{error}"))
}

fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

/// Pays everything but a fee to a key of nobody's.
fn outputs(coin: &Coin) -> Vec<TxOut> {
    let script = CoinKind::Segwit.script(&labelled_key("spilman/test/payee"));
    vec![change(std::slice::from_ref(coin), &[], FEE, script).unwrap()]
}

fn locked(coin: &Coin, lock: LockTime) -> Transaction {
    Spend::of(std::slice::from_ref(coin))
        .to(outputs(coin))
        .lock_time(lock)
        .sign()
        .unwrap()
}

fn chain_hashes(chain: &Regtest) -> Vec<BlockHash> {
    let tip = chain.tip().unwrap().height;
    (0..=tip)
        .map(|height| chain.node().block_hash_at(height).unwrap())
        .collect()
}

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
            chain.node().submit(&spend).unwrap().expect_accepted();
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
    assert!(matches!(
        error,
        Error::Misuse(Misuse::FundsShort { needed, available })
            if needed == available + sat(1) && available == Amount::from_int_btc(100)
    ));
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
        let txid = chain.node().submit(&spend).unwrap().expect_accepted();
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
    assert!(
        matches!(coin.sign(&mut foreign), Err(Misuse::NotSpent { outpoint, .. }) if outpoint == coin.outpoint)
    );
}

/// 1. At H − 1 the lock is not final.
/// 2. At H it is, and one block more takes the transaction.
#[test]
fn a_height_lock_is_final_at_just_its_height() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let height = chain.tip().unwrap().height + 5;
    let lock = LockTime::from_height(height).unwrap();
    let refund = locked(&coin, lock);

    let crossing = chain.stop_before(lock).unwrap();
    assert_eq!((crossing.blocks, crossing.to.height), (4, height - 1));
    chain
        .node()
        .test_accept(&refund)
        .unwrap()
        .expect_rejected(RejectReason::NonFinal);
    chain
        .node()
        .submit(&refund)
        .unwrap()
        .expect_rejected(RejectReason::NonFinal);
    let early = chain.mine_exactly(std::slice::from_ref(&refund)).unwrap_err();
    assert!(
        matches!(&early, Error::Node(NodeError::BlockRefused { words, .. }) if words == "bad-txns-nonfinal")
    );

    let crossing = chain.make_final(lock).unwrap();
    assert_eq!((crossing.blocks, crossing.to.height), (1, height));
    assert_eq!(chain.make_final(lock).unwrap().blocks, 0);
    chain.node().test_accept(&refund).unwrap().expect_accepted();
    chain.mine_exactly(&[refund]).unwrap();

    let message = chain.stop_before(lock).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!(
            "lock time {height} is final already at height {}",
            height + 1
        )),
        "{message}"
    );
}

/// 1. Mock time past the lock alone changes nothing.
/// 2. Nor does a median time past of exactly the lock.
/// 3. One second more does.
#[test]
fn a_time_lock_is_final_when_the_median_time_is_past_it() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let time = chain.tip().unwrap().time + 24 * 60 * 60;
    let refund = locked(&coin, LockTime::from_time(time).unwrap());
    let node = chain.node();
    let mine_at = |time| {
        let params = MineParams {
            content: BlockContent::empty(),
            time: Some(time),
            ..MineParams::default()
        };
        chain.clock().miner().mine(node, params).unwrap();
    };

    node.set_mock_time(time + 3_600).unwrap();
    mine_at(time + 3_600);
    node.submit(&refund)
        .unwrap()
        .expect_rejected(RejectReason::NonFinal);

    while chain.tip().unwrap().mtp < time {
        mine_at(time);
    }
    assert_eq!(chain.tip().unwrap().mtp, time);
    node.test_accept(&refund)
        .unwrap()
        .expect_rejected(RejectReason::NonFinal);

    while chain.tip().unwrap().mtp == time {
        node.test_accept(&refund)
            .unwrap()
            .expect_rejected(RejectReason::NonFinal);
        mine_at(time + 1);
    }
    assert_eq!(chain.tip().unwrap().mtp, time + 1);
    node.submit(&refund).unwrap().expect_accepted();
}

#[test]
fn the_clock_comes_up_to_a_time_lock_and_crosses_it() {
    for ahead in [1, 599, 600, 601, 5_000, 24 * 60 * 60, 300 * 24 * 60 * 60] {
        let mut chain = chain();
        let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
        let lock = LockTime::from_time(chain.tip().unwrap().mtp + ahead).unwrap();
        let refund = locked(&coin, lock);

        let before = chain.stop_before(lock).unwrap();
        assert_eq!(before.to.mtp, lock.to_consensus_u32(), "{ahead} s ahead");
        assert!(
            before.blocks <= 16,
            "{ahead} s ahead took {} blocks",
            before.blocks
        );
        assert_eq!(chain.stop_before(lock).unwrap().blocks, 0);
        chain
            .node()
            .submit(&refund)
            .unwrap()
            .expect_rejected(RejectReason::NonFinal);

        let crossing = chain.make_final(lock).unwrap();
        assert_eq!(crossing.blocks, 1, "{ahead} s ahead");
        assert_eq!(chain.make_final(lock).unwrap().blocks, 0);
        assert!(matches!(
            chain.stop_before(lock),
            Err(Error::Misuse(Misuse::LockPassed { .. }))
        ));
        chain.node().submit(&refund).unwrap().expect_accepted();
    }
}

#[test]
fn a_time_lock_a_day_ahead_takes_six_blocks() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let time = chain.tip().unwrap().time + 24 * 60 * 60;
    let crossing = chain.make_final(LockTime::from_time(time).unwrap()).unwrap();
    assert_eq!((crossing.blocks, crossing.to.mtp), (6, time + 1));
    chain
        .node()
        .submit(&locked(&coin, LockTime::from_time(time).unwrap()))
        .unwrap()
        .expect_accepted();
}

#[test]
fn the_clock_refuses_what_cannot_be() {
    let chain = chain();
    let error = chain.node().set_mock_time(START_TIME - 1).unwrap_err();
    assert!(
        matches!(error, Error::Misuse(Misuse::TimeBackwards { now: START_TIME, asked }) if asked == START_TIME - 1)
    );
    for lock in [
        LockTime::from_height(499_999_999).unwrap(),
        LockTime::from_time(u32::MAX).unwrap(),
    ] {
        for result in [chain.make_final(lock), chain.stop_before(lock)] {
            assert!(
                matches!(result, Err(Error::Misuse(Misuse::LockTooFar { .. }))),
                "{result:?}"
            );
        }
    }
    assert_eq!(chain.tip().unwrap().height, START_HEIGHT);
}

#[test]
fn a_final_sequence_disables_the_lock() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Legacy).unwrap();
    let lock = LockTime::from_height(chain.tip().unwrap().height + 100).unwrap();
    chain
        .node()
        .test_accept(&locked(&coin, lock))
        .unwrap()
        .expect_rejected(RejectReason::NonFinal);
    let spend = Spend::of(std::slice::from_ref(&coin))
        .to(outputs(&coin))
        .lock_time(lock);
    let spend = spend.sequence(Sequence::MAX).sign().unwrap();
    chain.node().submit(&spend).unwrap().expect_accepted();
}

/// The same signature with the other value of S, as anybody on the way can make it.
fn twin(original: &Transaction) -> Transaction {
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
    let mut twin = original.clone();
    let input = &mut twin.input[0];
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
    twin
}

/// 1. The node does not relay the twin.
/// 2. A miner takes it.
/// 3. A legacy txid has changed, a segwit one has not.
#[test]
fn a_miner_can_take_what_nodes_do_not_relay() {
    for kind in [CoinKind::Legacy, CoinKind::Segwit] {
        let mut chain = chain();
        let coin = chain.fund(sat(100_000), kind).unwrap();
        let original = coin.spend(outputs(&coin)).unwrap();
        let twin = twin(&original);
        assert_ne!(twin.compute_wtxid(), original.compute_wtxid());
        let verdict = chain.node().test_accept(&twin).unwrap();
        let words = &verdict.expect_rejected(RejectReason::ScriptFailed).words;
        assert!(words.contains("S value is unnecessarily high"), "{words}");
        chain.node().submit(&original).unwrap().expect_accepted();

        let block = chain.mine_exactly(std::slice::from_ref(&twin)).unwrap();
        assert_eq!(block.txids, [twin.compute_txid()]);
        assert_eq!(
            twin.compute_txid() == original.compute_txid(),
            kind == CoinKind::Segwit
        );
        assert_eq!(chain.node().block(block.hash).unwrap().txdata[1], twin);
        assert_eq!(chain.node().mempool().unwrap(), []);
    }
}

#[test]
fn dust_is_refused_to_the_satoshi() {
    let mut chain = chain();
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
        coin.spend(vec![output, rest.unwrap()]).unwrap()
    };
    chain
        .node()
        .test_accept(&paying(293))
        .unwrap()
        .expect_rejected(RejectReason::Dust);
    chain.node().test_accept(&paying(294)).unwrap().expect_accepted();
}

#[test]
fn the_least_feerate_is_one_satoshi_per_vbyte_unless_free() {
    let spend = |chain: &mut Regtest, fee| {
        let coin = chain.fund(sat(1_000), CoinKind::Segwit).unwrap();
        let rest = change(
            std::slice::from_ref(&coin),
            &[],
            sat(fee),
            coin.output.script_pubkey.clone(),
        )
        .unwrap();
        coin.spend(vec![rest]).unwrap()
    };
    let mut strict = chain();
    let vsize = spend(&mut strict, 0).vsize() as u64;
    let cheap = spend(&mut strict, vsize - 2);
    strict
        .node()
        .test_accept(&cheap)
        .unwrap()
        .expect_rejected(RejectReason::MinRelayFee);
    let enough = spend(&mut strict, vsize + 1);
    strict.node().test_accept(&enough).unwrap().expect_accepted();

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
    let txid = free.node().submit(&spend).unwrap().expect_accepted();
    assert_eq!(free.mine(1).unwrap()[0].txids, [txid]);
}

#[test]
fn a_replacement_has_to_pay_more() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let paying = |fee| {
        let rest = change(
            std::slice::from_ref(&coin),
            &[],
            sat(fee),
            coin.output.script_pubkey.clone(),
        )
        .unwrap();
        coin.spend(vec![rest]).unwrap()
    };
    chain.node().submit(&paying(1_000)).unwrap().expect_accepted();
    chain
        .node()
        .test_accept(&paying(1_050))
        .unwrap()
        .expect_rejected(RejectReason::InsufficientFee);
    chain
        .node()
        .submit(&paying(1_050))
        .unwrap()
        .expect_rejected(RejectReason::InsufficientFee);
    let txid = chain.node().submit(&paying(2_000)).unwrap().expect_accepted();
    assert_eq!(chain.node().mempool().unwrap(), [txid]);
}

#[test]
fn other_refusals_are_named() {
    let mut chain = chain();
    let node = chain.node().clone();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let spend = coin.spend(outputs(&coin)).unwrap();
    node.submit(&spend).unwrap().expect_accepted();
    node.submit(&spend).unwrap().expect_accepted();
    node.test_accept(&spend)
        .unwrap()
        .expect_rejected(RejectReason::AlreadyInMempool);
    chain.mine(1).unwrap();
    node.test_accept(&spend)
        .unwrap()
        .expect_rejected(RejectReason::AlreadyKnown);
    node.submit(&spend)
        .unwrap()
        .expect_rejected(RejectReason::AlreadyKnown);

    let mut orphan = spend;
    orphan.output[0].value -= FEE;
    node.test_accept(&orphan)
        .unwrap()
        .expect_rejected(RejectReason::MissingInputs);
    node.submit(&orphan)
        .unwrap()
        .expect_rejected(RejectReason::MissingInputs);

    let coin = chain.fund(sat(100_000), CoinKind::Legacy).unwrap();
    let mut wrong = coin.spend(outputs(&coin)).unwrap();
    wrong.output[0].value -= FEE;
    node.submit(&wrong)
        .unwrap()
        .expect_rejected(RejectReason::ScriptFailed);
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
            let txid = node.submit(&spend).unwrap().expect_accepted();
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
    chain.node().submit(&parent).unwrap().expect_accepted();
    chain.mine_empty(2).unwrap();
    assert_eq!(chain.node().mempool().unwrap(), [parent.compute_txid()]);

    let key = labelled_key("spilman/test/payee");
    let output = parent.output[0].clone();
    let outpoint = OutPoint::new(parent.compute_txid(), 0);
    let child = Coin {
        outpoint,
        output,
        key,
        kind: CoinKind::Segwit,
        funding: parent.clone(),
    };
    let child = child.spend(outputs(&child)).unwrap();
    let block = chain.mine_exactly(&[parent, child]).unwrap();
    let coinbase = &chain.node().block(block.hash).unwrap().txdata[0];
    assert_eq!(coinbase.output[0].value, Amount::from_int_btc(50) + FEE * 2);
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

#[test]
fn a_miner_alone_finds_times_by_itself() {
    let node = Node::start().unwrap_or_else(|error| panic!("{error}"));
    let miner = Miner::new(CoinKind::Legacy.script(&labelled_key("spilman/test/miner")));
    let blocks = miner.mine_blocks(&node, 20).unwrap();
    assert_eq!(blocks[0].time, START_TIME);
    assert_eq!(node.tip().unwrap().height, 20);
    assert_eq!(miner.mine_empty(&node, 1).unwrap()[0].height, 21);
    node.set_mock_time(START_TIME + BLOCK_INTERVAL).unwrap();
    assert_eq!(
        miner.mine_exactly(&node, &[]).unwrap().time,
        START_TIME + BLOCK_INTERVAL
    );
}

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
