//! electrs beside a node, as a harness for any program, and as the only way in which a channel's parties see the chain.

#[cfg(feature = "scenario")]
mod limit;
#[cfg(feature = "scenario")]
mod parties;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use crate::common::assert_matches;
use crate::common::child::{child_of, is_child, write_program};
use crate::common::judge::Judge as _;
use crate::common::proc::{daemons_of, listening};
use bitcoin::Amount;
use spilman::regtest::electrum_client::ElectrumApi;
use spilman::regtest::{CoinKind, Electrs, Error, InvalidRequest, Node, NodeError, Regtest};

fn start() -> Regtest {
    Regtest::builder()
        .electrs(true)
        .start()
        .expect("a node and electrs")
}

fn electrs(chain: &Regtest) -> &Electrs {
    chain.electrs().expect("it was asked for")
}

/// The tip that electrs has, as its height and hash.
fn tip(electrs: &Electrs) -> (u32, bitcoin::BlockHash) {
    let tip = electrs.client().block_headers_subscribe().expect("an answer");
    (
        u32::try_from(tip.height).expect("a height"),
        tip.header.block_hash(),
    )
}

/// It has the last block when it is handed out, hash and all.
#[test]
fn it_is_ready_with_the_tip() {
    let chain = start();
    let node = chain.tip().expect("a tip");
    assert_eq!(tip(electrs(&chain)), (node.height, node.hash));
    // A second one, for a node that has its blocks already.
    let other = Electrs::start(chain.node()).expect("another electrs");
    assert_eq!(tip(&other), (node.height, node.hash));
    assert_ne!(other.address(), electrs(&chain).address());
}

/// The port for electrum and that for monitoring, and no other, on 127.0.0.1.
#[test]
fn it_listens_on_127_0_0_1_alone() {
    let chain = start();
    let address = electrs(&chain).address().to_string();
    let port = address.rsplit_once(':').expect("a port").1;
    let daemons = daemons_of(std::process::id());
    let own = daemons
        .iter()
        .find(|line| line.contains(&format!("--electrum-rpc-addr=127.0.0.1:{port} ")));
    let own = own.unwrap_or_else(|| panic!("no electrs with {address} in {daemons:?}"));
    let pid = own
        .split_once(':')
        .expect("a number")
        .0
        .parse()
        .expect("a number");
    let sockets = listening(pid);
    assert!(sockets.contains(&address), "{address} is not in {sockets:?}");
    assert_eq!(sockets.len(), 2, "{sockets:?}");
    let elsewhere = sockets.iter().find(|socket| !socket.starts_with("127.0.0.1:"));
    assert_eq!(elsewhere, None, "{sockets:?}");
}

/// 1. A coin is made, in a block: its script's history has it at that height, with a proof for that block and no other.
/// 2. It is spent: electrs catches up with the mempool, and then with the block.
/// 3. The block is replaced by one without the spend: electrs follows, and has it in the mempool again.
#[test]
fn what_electrs_knows_can_be_waited_for() {
    let mut chain = start();
    let coin = chain
        .fund(Amount::from_sat(50_000), CoinKind::Segwit)
        .expect("a coin");
    let script = coin.output.script_pubkey.clone();
    let funded = coin.outpoint.txid;
    let block = chain.tip().expect("a tip");
    let history = electrs(&chain)
        .wait_for_history(&script, &[funded])
        .expect("a history");
    assert_eq!(history[0].height, Some(block.height));
    let proof = electrs(&chain)
        .wait_for_transaction(funded, block.hash)
        .expect("a proof");
    assert_eq!(
        (proof.height, proof.header.block_hash()),
        (block.height, block.hash)
    );
    assert_eq!(
        proof,
        electrs(&chain)
            .confirmation_proof(funded, block.height)
            .expect("the same")
    );
    let error = electrs(&chain)
        .confirmation_proof(funded, block.height - 1)
        .expect_err("not there");
    assert!(error.to_string().contains("missing txid"), "{error}");

    let spend = coin.spend(vec![bitcoin::TxOut {
        value: Amount::from_sat(49_000),
        ..coin.output.clone()
    }]);
    let spend = spend.expect("signed");
    let both = [funded, spend.compute_txid()];
    chain.node().broadcasts(&spend);
    electrs(&chain).catch_up().expect("caught up");
    let heights = |chain: &Regtest| {
        let history = electrs(chain).history(&script).expect("a history");
        history
            .iter()
            .map(|entry| (entry.txid, entry.height))
            .collect::<Vec<_>>()
    };
    assert_eq!(heights(&chain), [(both[0], Some(block.height)), (both[1], None)]);
    let mined = chain.mine(1).expect("a block").remove(0);
    electrs(&chain).catch_up().expect("caught up");
    assert_eq!(
        heights(&chain),
        [(both[0], Some(block.height)), (both[1], Some(mined.height))]
    );
    electrs(&chain).wait_for_history(&script, &both).expect("both");
    electrs(&chain)
        .wait_for_transaction(both[1], mined.hash)
        .expect("a proof");

    chain.node().invalidate_block(mined.hash).expect("reorganised");
    chain.mine_empty(1).expect("another block of the same height");
    electrs(&chain).catch_up().expect("caught up");
    assert_eq!(heights(&chain), [(both[0], Some(block.height)), (both[1], None)]);
}

/// Each wait says what was awaited and what was seen.
#[test]
fn a_wait_in_vain() {
    let mut chain = start();
    let coin = chain
        .fund(Amount::from_sat(50_000), CoinKind::Segwit)
        .expect("a coin");
    let (script, funded) = (coin.output.script_pubkey, coin.outpoint.txid);
    // A block that has been replaced by another of the same height.
    let replaced = chain.mine(1).expect("a block").remove(0).hash;
    chain.node().invalidate_block(replaced).expect("reorganised");
    chain.mine_empty(1).expect("another block");
    let genesis = chain.node().block_hash_at(0).expect("the first block");
    let own = Electrs::start(chain.node())
        .expect("electrs")
        .timeout(Duration::from_millis(50));
    let tip = chain.tip().expect("a tip");
    let seen = |result: Result<(), Error>| match result.expect_err("in vain") {
        Error::Node(NodeError::Timeout { awaited, seen, .. }) => (awaited, seen),
        other => panic!("expected a timeout, found {other}"),
    };

    let (awaited, found) = seen(own.wait_for_tip(replaced));
    assert_eq!(awaited, format!("block {replaced} to be the tip of electrs"));
    assert_eq!(found, format!("{} at height {}", tip.hash, tip.height));
    let (awaited, found) = seen(own.wait_for_history(&script, &[]).map(drop));
    assert_eq!(awaited, format!("nothing in the history of script {script:x}"));
    assert_eq!(found, funded.to_string());
    let (awaited, found) = seen(own.wait_for_transaction(funded, genesis).map(drop));
    assert_eq!(awaited, format!("{funded} in block {genesis}, in electrs"));
    assert!(found.contains("missing txid"), "{found}");
}

/// electrs 0.10 leaves out what it cannot read, without a word, and Core after 30 shows it what it needs on demand only.
#[test]
fn a_mempool_that_electrs_does_not_see() {
    let node = Node::builder().arg("-deprecatedrpc=nothing");
    // The node is named last, and has a port for electrs all the same.
    let mut chain = Regtest::builder()
        .electrs(true)
        .node(node)
        .start()
        .expect("a node and electrs");
    if chain.node().version().expect("a version") < 310_000 {
        return;
    }
    let coin = chain
        .fund(Amount::from_sat(50_000), CoinKind::Segwit)
        .expect("a coin");
    let spend = coin.spend(vec![bitcoin::TxOut {
        value: Amount::from_sat(49_000),
        ..coin.output.clone()
    }]);
    let spent = chain.node().broadcasts(&spend.expect("signed"));
    let own = Electrs::start(chain.node())
        .expect("electrs")
        .timeout(Duration::from_millis(50));
    let error = own.catch_up().expect_err("in vain").to_string();
    assert!(
        error.contains(&format!(
            "{spent} in the mempool of electrs; last seen: nothing of {spent}"
        )),
        "{error}"
    );
}

/// A server with additional arguments, and one that rejects them and says so.
#[test]
fn arguments_of_electrs() {
    let chain = Regtest::builder().p2p(true).start().expect("a node");
    let address = chain.faucet().script();
    let limited = Electrs::builder()
        .arg("--index-lookup-limit=3")
        .start(chain.node());
    let error = limited
        .expect("electrs")
        .history(&address)
        .expect_err("101 blocks");
    assert!(error.to_string().contains(">3 index entries"), "{error}");
    let refused = Electrs::builder().arg("--no-such-argument").start(chain.node());
    let error = refused.expect_err("electrs does not know it").to_string();
    assert!(error.contains("--no-such-argument"), "{error}");
}

/// What electrs would wait for without a word is said.
#[test]
fn nodes_that_electrs_cannot_use() {
    let alone = Arc::new(Node::start().expect("a node"));
    let error = Electrs::start(&alone).expect_err("no port for peers");
    assert_matches!(error, Error::InvalidRequest(InvalidRequest::NoPort));
    let error = Regtest::builder()
        .height(0)
        .electrs(true)
        .start()
        .expect_err("no block");
    assert_matches!(error, Error::InvalidRequest(InvalidRequest::OldTip { .. }));
}

/// An electrs that ends says why, and one that never answers is broken off.
#[test]
fn an_electrs_that_does_not_come_up() {
    if is_child(|expected| {
        // Only what never answers is waited for in vain; the node has to come up in that time, too.
        let never_answers = expected.contains("to answer");
        let timeout = Duration::from_secs(if never_answers { 5 } else { 60 });
        let node = Node::builder().timeout(timeout);
        let error = Regtest::builder()
            .node(node)
            .electrs(true)
            .start()
            .expect_err("no electrs");
        assert!(
            error.to_string().contains(expected),
            "expected {expected:?}, found {error}"
        );
    }) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (script, expected) in [
        ("echo 'no such database' >&2; exit 3", "no such database"),
        ("while :; do sleep 1; done", "for electrs to answer"),
    ] {
        let program = folder.path().join("electrs");
        let script = format!("#!/bin/sh\nif [ \"$1\" = --version ]; then echo v0; exit; fi\n{script}\n");
        write_program(&program, &script);
        let child = child_of(an_electrs_that_does_not_come_up, expected)
            .env("ELECTRS_EXE", &program)
            .output()
            .expect("a child");
        assert!(child.status.success(), "{child:?}");
    }
}

/// What electrs said is kept with the evidence of its node.
#[test]
fn a_failure_keeps_the_words_of_electrs() {
    if is_child(|_| {
        let _chain = start();
        panic!("as it should");
    }) {
        return;
    }
    let evidence = tempfile::tempdir().expect("a folder");
    let child = child_of(a_failure_keeps_the_words_of_electrs, "panic")
        .env("SPILMAN_EVIDENCE", evidence.path())
        .output()
        .expect("a child");
    assert!(!child.status.success());
    let test = fs::read_dir(evidence.path())
        .expect("evidence")
        .next()
        .expect("of one test")
        .expect("read");
    let node = test.path().join("0-bitcoind");
    let said = fs::read_to_string(node.join("electrs.log")).expect("its words");
    assert!(said.contains("serving Electrum RPC on 127.0.0.1:"), "{said}");
}
