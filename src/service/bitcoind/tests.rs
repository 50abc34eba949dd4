//! Against a node that the test writes: what a real one does only now and then.

mod fake_node;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::absolute::{Height, LockTime};
use bitcoin::hashes::Hash;
use bitcoin::{FeeRate, OutPoint, Transaction, Txid};
use serde_json::json;
use tokio::time::timeout;

use super::calls::Rpc;
use super::view::Viewer;
use super::{BitcoindChain, Chain, Watched};
use crate::service::fees::Fees as _;
use fake_node::{funding, spend, start};

/// 1. The funding output is nowhere: only the blocks since the first tip are read, each once.
/// 2. A reorganisation brings blocks that are read, and leaves those below it known.
/// 3. The spend is found where it is.
#[tokio::test]
async fn each_block_is_read_once() {
    let (node, client) = start();
    let chain = BitcoindChain::when_announced(client);
    chain.tip().await.unwrap();
    for read in [4, 4] {
        if node.lock().unwrap().blocks_read() == 0 {
            (0..3).for_each(|_| node.lock().unwrap().mine(Vec::new()));
        }
        assert_eq!(chain.view(funding().into()).await.unwrap().spend, None);
        assert_eq!(node.lock().unwrap().blocks_read(), read);
    }
    {
        let mut node = node.lock().unwrap();
        node.blocks.pop();
        node.mine(vec![spend()]);
        node.mine(Vec::new());
    }
    let view = chain.view(funding().into()).await.unwrap();
    let seen = view.spend.expect("the spend");
    assert_eq!((seen.tx, seen.confirmations, view.confirmations), (spend(), 2, 2));
    let below = view.funding_parent.expect("the block below");
    assert_eq!(below.height, Height::from_consensus(102).unwrap());
    assert_eq!(node.lock().unwrap().blocks_read(), 6);
}

/// What was spent before this process saw the chain is found, as deep as a reorganisation may have gone below the opening.
#[tokio::test]
async fn a_spend_before_the_first_tip_is_found_from_the_opening_on() {
    let (node, client) = start();
    let client = Arc::new(client);
    node.lock().unwrap().mine(vec![spend()]);
    (0..15).for_each(|_| node.lock().unwrap().mine(Vec::new()));
    for (since, found) in [
        (None, false),
        (Some(108), false),
        (Some(107), true),
        (Some(3), true),
    ] {
        let chain = BitcoindChain::when_announced(Arc::clone(&client));
        let watched = Watched {
            funding: funding(),
            since: since.map(|height| Height::from_consensus(height).unwrap()),
        };
        let view = chain.view(watched).await.unwrap();
        assert_eq!(view.spend.is_some(), found, "since {since:?}");
    }
}

/// The views of many channels take the requests of one, and those of a second look at the same tip fewer. Blocks are read
/// once for all. A block that the node has pruned is an error for those alone that it may concern.
#[tokio::test]
async fn many_channels_cost_little_more_than_one() {
    let (node, client) = start();
    let chain = BitcoindChain::when_announced(client);
    node.lock().unwrap().mine(vec![spend()]);
    (0..10).for_each(|_| node.lock().unwrap().mine(Vec::new()));
    let unspent = |vout| OutPoint::new(Txid::from_byte_array([8; 32]), vout);
    node.lock().unwrap().unspent = (0..2_500).map(|vout| (unspent(vout), 5)).collect();
    node.lock().unwrap().pruned_below = 95;
    let ancient = OutPoint::new(Txid::from_byte_array([9; 32]), 0);
    let since = |funding, height| Watched {
        funding,
        since: Some(Height::from_consensus(height).unwrap()),
    };
    let watched: Vec<_> = [since(funding(), 101), since(ancient, 50)]
        .into_iter()
        .chain((0..2_500).map(|vout| since(unspent(vout), 101)))
        .collect();
    // 1. What is unspent (3 batches), what the mempool spends (3), what it holds (1), the blocks down to the pruned one (18),
    //    two ends of the chain (4), and the tip before and after.
    // 2. Only the two that are not unspent are looked up (1), and two blocks are read again.
    for requests in [31, 9] {
        let before = node.lock().unwrap().requests;
        let views = chain.views(&watched).unwrap().await;
        let [spent, ancient, rest @ ..] = &views[..] else {
            panic!("{} views", views.len())
        };
        assert_eq!(spent.as_ref().unwrap().spend.as_ref().unwrap().confirmations, 11);
        let error = std::error::Error::source(ancient.as_ref().unwrap_err()).unwrap();
        assert!(error.to_string().contains("pruned data"), "{error}");
        assert_eq!(rest.len(), 2_500);
        for view in rest {
            let view = view.as_ref().unwrap();
            assert_eq!((view.confirmations, &view.spend), (5, &None));
            assert_eq!(view.funding_parent.unwrap().height.to_consensus_u32(), 106);
        }
        assert_eq!(node.lock().unwrap().requests - before, requests);
    }
}

/// Both sides of a channel see the same. A search that takes long is an error for those that it is about, and the next view
/// goes on from where it ended.
#[test]
fn a_search_may_take_several_views() {
    let (node, client) = start();
    let mut viewer = Viewer::new(Rpc(Arc::new(client)));
    node.lock().unwrap().mine(vec![spend()]);
    let unspent = OutPoint::new(Txid::from_byte_array([8; 32]), 0);
    node.lock().unwrap().unspent = HashMap::from([(unspent, 5)]);
    let since = Some(Height::from_consensus(90).unwrap());
    let watched = [funding(), unspent, funding()].map(|funding| Watched { funding, since });
    viewer.search = Duration::ZERO;
    let views = viewer.views(&watched).unwrap();
    let error = views[0].as_ref().unwrap_err().to_string();
    assert_eq!(
        error,
        "still searching the blocks for the spend, down to height 84: at height 101 so far"
    );
    assert_eq!(views[1].as_ref().unwrap().confirmations, 5);
    assert!(views[2].is_err());
    viewer.search = Duration::from_secs(10);
    let views = viewer.views(&watched).unwrap();
    let spends = [0, 2].map(|at| views[at].as_ref().unwrap().spend.clone().unwrap().confirmations);
    assert_eq!(spends, [1, 1]);
}

/// A node gives a feerate in bitcoin for a thousand vbytes, or says why it has none.
#[tokio::test]
async fn the_node_estimates_the_feerate() {
    let (node, client) = start();
    let chain = BitcoindChain::when_announced(client);
    node.lock().unwrap().submitted = Ok(json!({ "feerate": 0.000_123_4, "blocks": 6 }));
    assert_eq!(chain.feerate(6).await.unwrap(), FeeRate::from_sat_per_kwu(3_085));
    let none = json!({ "errors": ["Insufficient data or no feerate found"], "blocks": 6 });
    node.lock().unwrap().submitted = Ok(none);
    let error = chain.feerate(6).await.unwrap_err();
    let error = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        error,
        "the node has no estimate: Insufficient data or no feerate found"
    );
}

/// A node that is behind the network shows the past: no channel may act on that. A new regtest node says the same of itself.
#[tokio::test]
async fn a_node_that_catches_up_is_not_believed() {
    for (chain, is_error) in [
        ("main", true),
        ("signet", true),
        ("testnet4", true),
        ("regtest", false),
    ] {
        let (node, client) = start();
        node.lock().unwrap().catches_up = Some(chain);
        let watching = BitcoindChain::when_announced(client);
        let error = watching.tip().await.err();
        let error = error.map(|error| std::error::Error::source(&error).unwrap().to_string());
        assert_eq!(error.is_some(), is_error, "{chain}: {error:?}");
        assert_eq!(
            watching.view(funding().into()).await.is_err(),
            is_error,
            "{chain}"
        );
        if let Some(error) = error {
            assert!(error.contains("it has 100 of 900 blocks"), "{error}");
        }
    }
}

/// A block that comes during a poll makes it begin anew, so that what it says belongs to one tip. A node that has blocks
/// faster than that is not waited for.
#[tokio::test]
async fn a_view_is_of_one_tip() {
    for (blocks, sees) in [(1, Some(101)), (9, Some(109)), (10, None), (50, None)] {
        let (node, client) = start();
        node.lock().unwrap().blocks_to_come = blocks;
        let view = BitcoindChain::when_announced(client).view(funding().into()).await;
        let height = view.ok().map(|view| view.tip.height.to_consensus_u32());
        assert_eq!(height, sees, "{blocks} blocks");
    }
}

/// Only what is said of the transaction itself is a rejection; all else is the node's own trouble.
#[tokio::test]
async fn a_rejection_is_told_from_a_failure() {
    let table = [
        (
            -26,
            "min relay fee not met, 0 < 110",
            Ok(Some("min relay fee not met, 0 < 110")),
        ),
        (
            -25,
            "bad-txns-inputs-missingorspent",
            Ok(Some("bad-txns-inputs-missingorspent")),
        ),
        (-26, "txn-already-known", Ok(None)),
        (-26, "txn-same-nonwitness-data-in-mempool", Ok(None)),
        (-27, "Transaction outputs already in utxo set", Ok(None)),
        (-28, "Verifying blocks…", Err(())),
        (-1, "out of memory", Err(())),
    ];
    for (code, words, expected) in table {
        let (node, client) = start();
        node.lock().unwrap().submitted = Err((code, words));
        let answer = BitcoindChain::when_announced(client).broadcast(&spend()).await;
        let answer = answer.map_err(|_| ());
        assert_eq!(
            answer.as_ref().map(Option::as_deref),
            expected.as_ref().map(|words| *words),
            "{words}"
        );
    }
}

/// Of a package, the first transaction with its own reason says why, and one that is known is no reason.
#[test]
fn a_package_is_rejected_in_the_words_of_its_transactions() {
    let child = Transaction {
        lock_time: LockTime::from_consensus(1),
        ..spend()
    };
    let package = [spend(), child];
    let [parent, child] = package.each_ref().map(|tx| tx.compute_wtxid().to_string());
    let error = |words: &str| json!({ "txid": Txid::all_zeros(), "error": words });
    let fine = json!({ "txid": Txid::all_zeros(), "vsize": 100 });
    let table = [
        ("success", fine.clone(), fine.clone(), None),
        (
            "success",
            json!({ "txid": Txid::all_zeros(), "other-wtxid": parent }),
            fine.clone(),
            None,
        ),
        (
            "transaction failed",
            error("dust"),
            error("unevaluated"),
            Some("dust"),
        ),
        (
            "transaction failed",
            fine.clone(),
            error("insufficient fee"),
            Some("insufficient fee"),
        ),
        (
            "transaction failed",
            error("txn-already-known"),
            error("missing-inputs"),
            Some("missing-inputs"),
        ),
        ("package-too-large", fine.clone(), fine, Some("package-too-large")),
    ];
    for (message, of_parent, of_child, expected) in table {
        let (node, client) = start();
        node.lock().unwrap().submitted = Ok(json!({
            "package_msg": message,
            "tx-results": { &parent: of_parent, &child: of_child },
        }));
        let rejected = Rpc(Arc::new(client)).submit_package(&package).expect("an answer");
        assert_eq!(rejected.as_deref(), expected, "{message}");
    }
}

/// 1. The first best block is news, and so is every other one; the same one is none.
/// 2. A node that does not answer has no news; back again, it has.
/// 3. No one asks the node when the chain is gone.
#[tokio::test(start_paused = true)]
async fn a_new_best_block_is_news() {
    const LONG: Duration = Duration::from_secs(600);
    let (node, client) = start();
    let chain = BitcoindChain::new(client);
    let mut changes = chain.changes();
    timeout(LONG, changes.changed())
        .await
        .expect("the first")
        .unwrap();
    timeout(LONG, changes.changed()).await.expect_err("no block came");
    node.lock().unwrap().mine(Vec::new());
    timeout(LONG, changes.changed()).await.expect("a block").unwrap();

    node.lock().unwrap().is_down = true;
    node.lock().unwrap().mine(Vec::new());
    timeout(LONG, changes.changed())
        .await
        .expect_err("no one answers");
    node.lock().unwrap().is_down = false;
    timeout(LONG, changes.changed())
        .await
        .expect("back again")
        .unwrap();
    assert_eq!(chain.announced(), 3);

    drop(chain);
    let ended = timeout(LONG, changes.changed()).await.expect("the end");
    ended.expect_err("the chain is gone");
}
