//! Several real nodes: who hears of what, who disagrees, and what comes of it.

mod mempools;

use std::sync::Arc;
use std::time::Duration;

use crate::common::assert_matches;
use crate::common::judge::Judge as _;
use crate::common::proc::signal;
use crate::common::wait::until;
use bitcoin::{Amount, TxOut};
use spilman::regtest::{
    labelled_key, wait_for_same_mempool, wait_for_same_tip, Cluster, Coin, CoinKind, Error, InvalidRequest,
    Node, NodeError, Policy, Regtest, RejectReason, Topology, BLOCK_INTERVAL, START_HEIGHT,
};

fn cluster(nodes: usize, topology: Topology) -> Cluster {
    Cluster::builder()
        .nodes(nodes)
        .topology(topology)
        .start()
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Pays a coin, less a fee, to one of two keys.
fn spend(coin: &Coin, fee: u64, label: &str) -> bitcoin::Transaction {
    let output = TxOut {
        value: coin.output.value - Amount::from_sat(fee),
        script_pubkey: CoinKind::Segwit.script(&labelled_key(label)),
    };
    coin.spend(vec![output]).unwrap()
}

/// Coins that every node knows.
fn coins<const N: usize>(cluster: &mut Cluster) -> [Coin; N] {
    let coins = [(); N].map(|()| {
        let chain = cluster.chain_mut(0).unwrap();
        chain.fund(Amount::from_sat(50_000), CoinKind::Segwit).unwrap()
    });
    cluster.wait_for_same_tip().unwrap();
    coins
}

fn peers(cluster: &Cluster) -> Vec<usize> {
    use spilman::regtest::bitcoincore_rpc::RpcApi;
    (0..cluster.len())
        .map(|index| {
            let client = cluster.node(index).unwrap().client();
            client.call::<usize>("getconnectioncount", &[]).unwrap()
        })
        .collect()
}

#[test]
fn nodes_are_connected_as_asked() {
    for (topology, wanted) in [
        (Topology::Line, [1, 2, 2, 1]),
        (Topology::Ring, [2, 2, 2, 2]),
        (Topology::Clique, [3, 3, 3, 3]),
    ] {
        assert_eq!(peers(&cluster(4, topology)), wanted, "{topology:?}");
    }
}

#[test]
fn all_begin_with_the_same_chain_and_time() {
    let cluster = cluster(8, Topology::Clique);
    let tip = cluster.wait_for_same_tip().unwrap();
    assert_eq!(tip.height, START_HEIGHT);

    // Five hours later by the clock of one: the others would refuse a block from so far in the future.
    cluster.chain(3).unwrap().mine(30).unwrap();
    let tip = cluster.wait_for_same_tip().unwrap();
    assert_eq!(tip.height, START_HEIGHT + 30);
    for index in 0..8 {
        let node = cluster.node(index).unwrap();
        assert_eq!(node.mock_time(), tip.time, "node {index}");
    }
}

#[test]
fn a_transaction_walks_down_the_line_while_the_clock_stands_still() {
    let mut cluster = cluster(4, Topology::Line);
    let [coin] = coins(&mut cluster);
    let tx = spend(&coin, 1_000, "a");
    let txid = cluster.node(0).unwrap().broadcasts(&tx);
    cluster.node(3).unwrap().wait_for_unconfirmed(txid).unwrap();
    assert_eq!(cluster.wait_for_same_mempool().unwrap(), [txid]);

    // The other end mines it.
    let block = cluster.chain(3).unwrap().mine(1).unwrap().remove(0);
    assert_eq!(block.txids, [txid]);
    assert_eq!(cluster.wait_for_same_tip().unwrap().hash, block.hash);
    cluster.node(0).unwrap().wait_for_mempool(&[]).unwrap();
}

#[test]
fn two_halves_disagree_until_they_meet() {
    let mut cluster = cluster(4, Topology::Ring);
    let [coin] = coins(&mut cluster);
    let fork = cluster.wait_for_same_tip().unwrap();
    cluster.split(&[0, 1]).unwrap();
    assert_eq!(peers(&cluster), [1, 1, 1, 1]);

    // The same coin is spent on either side.
    let (left, right) = (spend(&coin, 1_000, "left"), spend(&coin, 1_000, "right"));
    cluster.node(0).unwrap().broadcasts(&left);
    cluster.node(3).unwrap().broadcasts(&right);
    assert_eq!(
        cluster.wait_for_same_mempool_among(&[0, 1]).unwrap(),
        [left.compute_txid()]
    );
    assert_eq!(
        cluster.wait_for_same_mempool_among(&[2, 3]).unwrap(),
        [right.compute_txid()]
    );
    assert_eq!(
        cluster.chain(1).unwrap().mine(1).unwrap()[0].txids,
        [left.compute_txid()]
    );
    assert_eq!(
        cluster.chain(2).unwrap().mine(2).unwrap()[0].txids,
        [right.compute_txid()]
    );
    let short = cluster.wait_for_same_tip_among(&[0, 1]).unwrap();
    let long = cluster.wait_for_same_tip_among(&[2, 3]).unwrap();
    assert_eq!((short.height, long.height), (fork.height + 1, fork.height + 2));

    // A wait for agreement that cannot come says what each has.
    cluster.heal().unwrap();
    assert_eq!(peers(&cluster), [2, 2, 2, 2]);
    assert_eq!(cluster.wait_for_same_tip().unwrap(), long);
    // What lost is not even in the mempool: its coin is spent.
    cluster
        .node(0)
        .unwrap()
        .rejects(&left, RejectReason::MissingInputs);
}

#[test]
fn agreement_that_cannot_come_says_what_each_has() {
    let patient = |millis| Regtest::builder().node(Node::builder().timeout(Duration::from_millis(millis)));
    let mut cluster = Cluster::builder().each(patient(5_000)).start().unwrap();
    cluster.split(&[1]).unwrap();
    cluster.chain(0).unwrap().mine(1).unwrap();
    let [ahead, behind] = [0, 1].map(|index| cluster.chain(index).unwrap().tip().unwrap());
    let error = cluster.wait_for_same_tip().unwrap_err();
    let Error::Node(NodeError::Timeout { awaited, seen, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(awaited, "2 nodes to have the same tip");
    assert_eq!(
        seen,
        format!(
            "{} ({}), {} ({})",
            ahead.hash, ahead.height, behind.hash, behind.height
        )
    );
}

#[test]
fn who_was_away_catches_up() {
    let mut cluster = cluster(3, Topology::Clique);
    cluster.stop(1).unwrap();
    assert!(cluster.node(0).unwrap().is_running());
    cluster.chain(0).unwrap().mine(20).unwrap();
    cluster.wait_for_same_tip().unwrap();
    cluster.restart(1).unwrap();
    assert_eq!(peers(&cluster), [2, 2, 2]);
    let tip = cluster.wait_for_same_tip().unwrap();
    assert_eq!(
        cluster.node(1).unwrap().mock_time(),
        tip.time,
        "it has the time of the others"
    );

    // Killed, it has forgotten most, and hears of it again.
    cluster.kill(2).unwrap();
    cluster.chain(1).unwrap().mine(1).unwrap();
    cluster.restart(2).unwrap();
    let tip = cluster.wait_for_same_tip().unwrap();
    assert_eq!(tip.height, START_HEIGHT + 21);
    assert_eq!(tip.time, cluster.node(2).unwrap().mock_time());
    assert!(tip.time % BLOCK_INTERVAL == cluster.node(0).unwrap().mock_time() % BLOCK_INTERVAL);
}

#[test]
fn one_node_may_be_another() {
    let picky = Node::builder().policy(Policy {
        min_relay: bitcoin::FeeRate::from_sat_per_vb_u32(50),
        ..Policy::default()
    });
    let mut cluster = Cluster::builder().node(1, picky).start().unwrap();
    let [coin] = coins(&mut cluster);
    let cheap = spend(&coin, 500, "cheap");
    cluster.node(0).unwrap().broadcasts(&cheap);
    cluster
        .node(1)
        .unwrap()
        .rejects(&cheap, RejectReason::MinRelayFee);
}

#[test]
fn what_cannot_be_is_named_with_both_values() {
    for asked in [0, 9] {
        let error = Cluster::builder().nodes(asked).start().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a cluster must have 1 to 8 nodes, got {asked}")
        );
    }
    let error = Cluster::builder().node(2, Node::builder()).start().unwrap_err();
    assert_eq!(error.to_string(), "no node 2 in a cluster of 2");
    let mut one = Cluster::builder().nodes(1).start().unwrap();
    for error in [one.stop(1), one.split(&[0, 7]).map(drop)] {
        assert_matches!(
            error,
            Err(Error::InvalidRequest(InvalidRequest::NoSuchNode {
                index: 1 | 7,
                nodes: 1
            }))
        );
    }
    let error = one.split(&[0]).unwrap_err();
    assert_matches!(
        error,
        Error::InvalidRequest(InvalidRequest::NothingToCut { nodes: 1 })
    );
    assert!(wait_for_same_tip(&[]).is_err() && wait_for_same_mempool(&[]).is_err());
}

/// Each node mines on what the others have mined just before, however far away.
#[test]
fn nodes_take_turns() {
    let mut cluster = cluster(5, Topology::Line);
    for round in 0..20 {
        let [first, last] = [0, 4].map(|index| cluster.chain(index).unwrap().mine(1).unwrap()[0].height);
        assert_eq!(last, first + 1, "round {round}");
    }
    for index in [0, 4, 0, 4] {
        let chain = cluster.chain_mut(index).unwrap();
        chain.fund(Amount::from_sat(50_000), CoinKind::Segwit).unwrap();
    }
    let tip = cluster.wait_for_same_tip().unwrap();
    assert_eq!(tip.height, START_HEIGHT + 44);
}

/// One node is told that a block is invalid; the others go on with it until its own branch is longer.
#[test]
fn who_takes_a_block_back_can_mine_on() {
    let cluster = cluster(3, Topology::Line);
    let common = cluster.chain(0).unwrap().mine(2).unwrap();
    cluster.wait_for_same_tip().unwrap();
    let rebel = cluster.chain(1).unwrap();
    rebel.node().invalidate_block(common[0].hash).unwrap();
    rebel.mine_exactly(&[]).unwrap();
    assert_ne!(cluster.chain(2).unwrap().tip().unwrap(), rebel.tip().unwrap());

    rebel.mine(2).unwrap();
    let tip = cluster.wait_for_same_tip().unwrap();
    assert_eq!(tip, rebel.tip().unwrap());
    // Of one mind again, they take turns.
    for index in [0, 2, 0, 2] {
        cluster.chain(index).unwrap().mine(1).unwrap();
    }
    assert_eq!(cluster.wait_for_same_tip().unwrap().height, tip.height + 4);
}

/// 1. A node that was not restarted by its cluster has lost its peers; the cluster gives them back.
/// 2. A peer that is not of the cluster stays through cuts, and is in no one's way.
#[test]
fn only_the_connections_of_the_cluster_are_its_own() {
    use spilman::regtest::bitcoincore_rpc::RpcApi;

    let mut cluster = cluster(2, Topology::Clique);
    let node = cluster.node(1).unwrap();
    node.stop().unwrap();
    node.restart().unwrap();
    cluster.heal().unwrap();
    assert_eq!(peers(&cluster), [1, 1]);

    let guest = Node::builder().p2p(true).start().unwrap();
    let address = cluster.node(0).unwrap().p2p_address().unwrap().to_string();
    let client = guest.client();
    client
        .call::<()>("addnode", &[address.into(), "onetry".into()])
        .unwrap();
    guest.wait_for_peers(1).unwrap();
    cluster.split(&[0]).unwrap();
    assert_eq!(peers(&cluster), [1, 0]);
    cluster.heal().unwrap();
    assert_eq!(peers(&cluster), [2, 1]);
}

#[test]
fn the_evidence_of_all_nodes_is_kept() {
    let failure = Cluster::run(|cluster| {
        cluster.chain(0).unwrap().mine(1).unwrap();
        Err::<(), _>("as it should")
    })
    .unwrap_err();
    let folder = failure.evidence().unwrap();
    assert_eq!(
        failure.to_string(),
        format!("as it should\nevidence: {}", folder.display())
    );
    let nodes = std::fs::read_dir(folder).unwrap();
    let tips = nodes.map(|node| node.unwrap().path().join("tip.json").exists());
    assert_eq!(tips.collect::<Vec<_>>(), [true, true]);
    std::fs::remove_dir_all(folder).unwrap();
}

/// A node that exited on its own is not one that a test stopped.
#[test]
fn a_node_that_ends_by_itself_is_an_error() {
    let mut cluster = cluster(2, Topology::Clique);
    let pid = cluster.node(1).unwrap().data_dir().join("regtest/bitcoind.pid");
    let pid = std::fs::read_to_string(pid).unwrap();
    signal(pid.trim(), "KILL");
    let node = Arc::clone(cluster.node(1).unwrap());
    until("its end", Duration::from_secs(20), || {
        (!node.is_running(), "it runs")
    });
    let errors = [
        cluster.wait_for_same_tip().unwrap_err(),
        cluster.wait_for_same_mempool().unwrap_err(),
        cluster.heal().unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Node(NodeError::Ended(_))), "{error}");
    }
    cluster.restart(1).unwrap();
    cluster.wait_for_same_tip().unwrap();
}
