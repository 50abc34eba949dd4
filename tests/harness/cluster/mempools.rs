//! What is in the mempools of a cluster, and how it gets from one to another.

use super::{cluster, coins, spend};

use crate::common::judge::Judge as _;
use crate::made;
use bitcoin::transaction::Version;
use bitcoin::Transaction;
use spilman::regtest::{labelled_key, Coin, Node, RejectReason, Topology, BLOCK_INTERVAL};

/// A parent without a fee, and the child that pays for it.
fn package(coin: &Coin, label: &str) -> [Transaction; 2] {
    let version_3 = |coin: &Coin, fee| {
        let mut tx = spend(coin, fee, label);
        // Before Core 30, only such a parent may pay nothing.
        tx.version = Version::non_standard(3);
        coin.sign(&mut tx).unwrap();
        tx
    };
    let parent = version_3(coin, 0);
    let child = version_3(&made(&parent, 0, labelled_key(label)), 2_000);
    [parent, child]
}

fn txids<'a>(transactions: impl IntoIterator<Item = &'a Transaction>) -> Vec<bitcoin::Txid> {
    let mut txids: Vec<_> = transactions.into_iter().map(Transaction::compute_txid).collect();
    txids.sort_unstable();
    txids
}

/// 1. A parent that pays nothing and its child reach the other nodes, whichever wait is used.
/// 2. The clock is where it was, and the blocks are those of a wait without it.
#[test]
fn a_package_walks_down_the_line() {
    let mut cluster = cluster(3, Topology::Line);
    let [first, second, third] = coins(&mut cluster);
    let now = cluster.node(0).unwrap().mock_time();
    let mut all = Vec::new();
    for (number, coin) in [first, second, third].iter().enumerate() {
        let package = package(coin, &format!("package {number}"));
        cluster
            .node(0)
            .unwrap()
            .submit_package(&package)
            .unwrap()
            .expect_accepted();
        all.extend(package);
        let far = cluster.node(2).unwrap();
        match number {
            0 => drop(cluster.wait_for_same_mempool().unwrap()),
            1 => far.wait_for_mempool(&txids(&all)).unwrap(),
            _ => far.wait_for_unconfirmed(all[5].compute_txid()).unwrap(),
        }
    }
    assert_eq!(cluster.wait_for_same_mempool().unwrap(), txids(&all));
    for index in 0..3 {
        let node = cluster.node(index).unwrap();
        assert_eq!(node.mock_time(), now, "node {index}");
        // What comes now comes at that time, by the node's own clock.
        assert_eq!(clock(node), now, "node {index}");
    }
    let block = cluster.chain(2).unwrap().mine(1).unwrap().remove(0);
    assert_eq!(block.time, now + BLOCK_INTERVAL);
}

/// What the node itself takes for the time.
fn clock(node: &Node) -> u32 {
    use spilman::regtest::bitcoincore_rpc::RpcApi;
    let asked = serde_json::json!({ "rules": ["segwit"] });
    let template: serde_json::Value = node.client().call("getblocktemplate", &[asked]).unwrap();
    u32::try_from(template["curtime"].as_u64().unwrap()).unwrap()
}

/// 1. A parent and its child, a package, and two spends of one coin are in mempools on either side of a cut.
/// 2. After it, all have all, but each keeps its own spend; the error says which node rejected which, and why.
/// 3. The same comes of a cut elsewhere.
#[test]
fn mempools_meet_again() {
    for heal in [true, false] {
        let mut cluster = cluster(3, Topology::Line);
        let [single, cheap, either, other] = coins(&mut cluster);
        cluster.split(&[2]).unwrap();
        let parent = spend(&single, 1_000, "parent");
        let child = spend(&made(&parent, 0, labelled_key("parent")), 1_000, "child");
        let package = package(&cheap, "package");
        let ours = spend(&either, 1_000, "ours");
        let theirs = spend(&either, 30_000, "theirs");
        let grandchild = spend(&made(&theirs, 0, labelled_key("theirs")), 1_000, "grandchild");
        let alone = spend(&other, 1_000, "alone");
        let [near, far] = [0, 2].map(|index| cluster.node(index).unwrap());
        for tx in [&parent, &child, &ours] {
            near.broadcasts(tx);
        }
        near.submit_package(&package).unwrap().expect_accepted();
        for tx in [&theirs, &grandchild, &alone] {
            far.broadcasts(tx);
        }
        cluster.wait_for_same_mempool_among(&[0, 1]).unwrap();
        assert_eq!(cluster.held_back(), []);

        if heal { cluster.heal() } else { cluster.split(&[0]) }.unwrap();
        let common = [&parent, &child, &package[0], &package[1], &alone];
        let with = |more: &[&Transaction]| txids(common.into_iter().chain(more.iter().copied()));
        let mempool = |index| cluster.node(index).unwrap().mempool().unwrap();
        assert_eq!(mempool(2), with(&[&theirs, &grandchild]));
        assert_eq!(mempool(1), with(&[&ours]));
        let mut held_back: Vec<_> = cluster
            .held_back()
            .iter()
            .filter(|held| held.node > 0)
            .map(|held| (held.node, held.transaction.compute_txid(), held.rejection.reason))
            .collect();
        held_back.sort_by_key(|held| (held.0, held.1));
        let mut expected = [
            (1, theirs.compute_txid(), RejectReason::MempoolConflict),
            (1, grandchild.compute_txid(), RejectReason::MissingInputs),
            (2, ours.compute_txid(), RejectReason::MempoolConflict),
        ];
        expected.sort_by_key(|held| (held.0, held.1));
        assert_eq!(held_back, expected);
        if heal {
            assert_eq!(mempool(0), with(&[&ours]));
        } else {
            assert_eq!(
                mempool(0),
                txids([&parent, &child, &package[0], &package[1], &ours])
            );
        }
    }
}

/// Started again, a node has what it had and what the others have; killed, it has forgotten, and is given it again.
#[test]
fn who_was_away_gets_the_transactions() {
    let mut cluster = cluster(2, Topology::Clique);
    let [first, second, third] = coins(&mut cluster);
    let before = spend(&first, 1_000, "before");
    cluster.node(1).unwrap().broadcasts(&before);
    cluster.wait_for_same_mempool().unwrap();
    let meanwhile = spend(&second, 1_000, "meanwhile");
    cluster.stop(1).unwrap();
    cluster.node(0).unwrap().broadcasts(&meanwhile);
    cluster.restart(1).unwrap();
    assert_eq!(
        cluster.node(1).unwrap().mempool().unwrap(),
        txids([&before, &meanwhile])
    );

    let package = package(&third, "package");
    cluster.node(1).unwrap().flush().unwrap();
    cluster.kill(1).unwrap();
    cluster
        .node(0)
        .unwrap()
        .submit_package(&package)
        .unwrap()
        .expect_accepted();
    cluster.restart(1).unwrap();
    let all = txids([&before, &meanwhile, &package[0], &package[1]]);
    assert_eq!(cluster.node(1).unwrap().mempool().unwrap(), all);
    assert_eq!(cluster.held_back(), []);
}

/// A transaction of one side is in a block of the longer branch on the other: nothing is held back.
#[test]
fn what_the_longer_branch_has_is_not_passed_on() {
    let mut cluster = cluster(2, Topology::Clique);
    let [first, second] = coins(&mut cluster);
    let tx = spend(&first, 1_000, "mined");
    cluster.split(&[1]).unwrap();
    cluster.node(0).unwrap().broadcasts(&tx);
    cluster.node(1).unwrap().broadcasts(&tx);
    cluster.chain(1).unwrap().mine(2).unwrap();
    // Taken back on one side, and cheaper than the other relays.
    let free = spend(&second, 0, "free");
    let chain = cluster.chain(0).unwrap();
    chain.mine_exactly(std::slice::from_ref(&free)).unwrap();
    chain.reorg(1).drop_all().length(1).by_invalidation().unwrap();
    cluster.heal().unwrap();
    let [held] = cluster.held_back() else {
        panic!("{:?}", cluster.held_back())
    };
    assert_eq!((held.node, &held.transaction), (1, &free));
    assert_eq!(held.rejection.reason, RejectReason::MinRelayFee);
    assert_eq!(cluster.node(0).unwrap().mempool().unwrap(), txids([&free]));
    assert_eq!(cluster.node(1).unwrap().mempool().unwrap(), []);
}
