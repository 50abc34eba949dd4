//! The same on every version of Bitcoin Core: chains to the byte, and refusals by their reason. Needs all three versions
//! (`ci/provision 28 29 31`), and is run by `just matrix`.

mod typed;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxOut};
use spilman::regtest::{
    find_bitcoind_version, labelled_key, Cluster, Coin, CoinKind, MempoolVerdict, Node, Policy, Regtest,
    RejectReason as R, Spend, Topology,
};

const VERSIONS: [&str; 3] = ["28", "29", "31"];

fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

fn node(version: &str) -> spilman::regtest::NodeBuilder {
    find_bitcoind_version(version).unwrap_or_else(|error| panic!("{error}"));
    Node::builder().version(version)
}

/// Does the same on each version and compares what comes of it.
#[track_caller]
fn same_on_all<T: PartialEq + std::fmt::Debug>(story: impl Fn(&mut Regtest) -> Vec<T>) -> Vec<T> {
    let [first, rest @ ..] = VERSIONS.map(|version| {
        let mut chain = Regtest::builder().node(node(version)).start().unwrap();
        let major = chain.node().version().unwrap() / 10_000;
        assert_eq!(major.to_string(), version);
        story(&mut chain)
    });
    for (version, other) in VERSIONS[1..].iter().zip(rest) {
        assert_eq!(first.len(), other.len());
        for (left, right) in first.iter().zip(&other) {
            assert_eq!(left, right, "{} and {version}", VERSIONS[0]);
        }
    }
    first
}

fn paying(coin: &Coin, fee: u64) -> Vec<TxOut> {
    vec![TxOut {
        value: coin.output.value - sat(fee),
        script_pubkey: CoinKind::Segwit.script(&labelled_key("spilman/test/payee")),
    }]
}

#[test]
fn a_chain_is_the_same_to_the_byte() {
    let hashes = same_on_all(|chain| {
        let coins: Vec<Coin> = [CoinKind::Legacy, CoinKind::Segwit, CoinKind::Segwit]
            .map(|kind| chain.fund(sat(100_000), kind).unwrap())
            .into();
        // A mempool of several packages, which each version would order in its own way.
        for (coin, fee) in coins.iter().zip([500, 5_000, 50_000]) {
            let parent = coin.spend(paying(coin, fee)).unwrap();
            chain.node().submit(&parent).unwrap().expect_accepted();
        }
        chain.mine(3).unwrap();
        chain
            .make_final(LockTime::from_consensus(chain.tip().unwrap().mtp + 86_400))
            .unwrap();
        let coin = chain.fund(sat(70_000), CoinKind::Segwit).unwrap();
        chain.mine(1).unwrap();
        chain.reorg(2).drop_tx(coin.outpoint.txid).apply().unwrap();
        chain.mine(1).unwrap();
        let tip = chain.tip().unwrap().height;
        (0..=tip)
            .map(|height| chain.node().block_at(height).unwrap())
            .collect()
    });
    assert!(hashes.len() > 110, "{}", hashes.len());
}

type Case = (&'static str, Option<R>, MempoolVerdict);

/// Each way to be refused that the versions word differently, or might; with the reason that there should be.
#[test]
fn refusals_have_the_same_reason() {
    same_on_all(|chain| {
        let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
        let mut cases = of_themselves(chain, &coin);
        cases.extend(after_one_is_in_the_mempool(chain, &coin));
        let found = cases.into_iter().map(|(what, wanted, verdict)| {
            let reason = verdict.rejection().map(|rejection| rejection.reason);
            assert_eq!(reason, wanted, "{what}: {verdict}");
            (what, reason)
        });
        found.collect()
    });
}

fn of_themselves(chain: &Regtest, coin: &Coin) -> Vec<Case> {
    let height = chain.tip().unwrap().height;
    let output = paying(coin, 1_000).remove(0);
    let coins = std::slice::from_ref(coin);
    let spend = || Spend::of(coins).to(vec![output.clone()]);
    let good = spend().sign().unwrap();
    let to = |output: TxOut| coin.spend(vec![output]).unwrap();
    let with = |change: &dyn Fn(&mut Transaction)| {
        let mut tx = good.clone();
        change(&mut tx);
        tx
    };
    let young = chain.node().block_at(height).unwrap().txdata[0].compute_txid();
    let spending = |outpoint| with(&|tx| tx.input[0].previous_output = outpoint);
    let odd = ScriptBuf::from_bytes(vec![0x51, 0x52]);
    let at_height = spend().lock_time(LockTime::from_consensus(height + 1));
    let at_time = spend().lock_time(LockTime::from_consensus(1_800_000_000));
    let relative = spend().sequence(Sequence::from_height(2));
    #[rustfmt::skip]
    let cases = [
        ("nothing wrong", None, good.clone()),
        ("height", Some(R::NonFinal), at_height.sign().unwrap()),
        ("time", Some(R::NonFinal), at_time.sign().unwrap()),
        ("relative", Some(R::NonBip68Final), relative.sign().unwrap()),
        ("no such coin", Some(R::MissingInputs), spending(OutPoint::new(young, 7))),
        ("young coinbase", Some(R::ImmatureCoinbase), spending(OutPoint::new(young, 0))),
        ("fee", Some(R::MinRelayFee), coin.spend(paying(coin, 5)).unwrap()),
        ("dust", Some(R::Dust), to(TxOut { value: sat(100), ..output.clone() })),
        ("signature", Some(R::ScriptFailed), with(&|tx| tx.output[0].value -= sat(1))),
        ("output", Some(R::ScriptPubKey), to(TxOut { script_pubkey: odd, ..output.clone() })),
        ("version", Some(R::Other), with(&|tx| tx.version = Version(9))),
    ];
    let ask = |tx: &Transaction| chain.node().test_accept(tx).unwrap();
    cases.map(|(what, wanted, tx)| (what, wanted, ask(&tx))).into()
}

fn after_one_is_in_the_mempool(chain: &Regtest, coin: &Coin) -> Vec<Case> {
    let paying = |fee| coin.spend(paying(coin, fee)).unwrap();
    let good = paying(1_000);
    let node = chain.node();
    let ask = |tx: &Transaction| node.test_accept(tx).unwrap();
    node.submit(&good).unwrap().expect_accepted();
    let mut cases = vec![
        ("again", Some(R::AlreadyInMempool), ask(&good)),
        ("hardly better", Some(R::InsufficientFee), ask(&paying(1_001))),
        ("better", None, ask(&paying(9_000))),
    ];
    chain.mine(1).unwrap();
    cases.push(("in a block", Some(R::AlreadyKnown), ask(&good)));
    cases.push((
        "in a block, given",
        Some(R::AlreadyKnown),
        node.submit(&good).unwrap(),
    ));
    cases
}

/// One of each in a line: blocks and transactions pass through all of them, and so does a reorganisation.
#[test]
fn three_versions_agree_in_one_network() {
    let mut cluster = Cluster::builder()
        .nodes(3)
        .topology(Topology::Line)
        .node(0, node("28"))
        .node(1, node("29"))
        .node(2, node("31"))
        .start()
        .unwrap();
    let coin = cluster
        .chain_mut(0)
        .unwrap()
        .fund(sat(100_000), CoinKind::Segwit)
        .unwrap();
    cluster.wait_for_same_tip().unwrap();
    let tx = coin.spend(paying(&coin, 1_000)).unwrap();
    let txid = cluster.node(0).unwrap().submit(&tx).unwrap().expect_accepted();
    assert_eq!(cluster.wait_for_same_mempool().unwrap(), [txid]);

    cluster.split(&[0]).unwrap();
    cluster.chain(0).unwrap().mine(1).unwrap();
    cluster.chain(2).unwrap().mine_empty(3).unwrap();
    cluster.heal().unwrap();
    let tip = cluster.wait_for_same_tip().unwrap();
    assert_eq!(tip, cluster.chain(2).unwrap().tip().unwrap());
    // What the shorter branch had is unconfirmed again, everywhere.
    assert_eq!(cluster.wait_for_same_mempool().unwrap(), [txid]);
}

/// A node's own defaults fell to a tenth in version 30; with a policy they are the same.
#[test]
fn a_policy_holds_on_all() {
    let verdicts = VERSIONS.map(|version| {
        let policy = Policy {
            min_relay: FeeRate::from_sat_per_vb_u32(10),
            ..Policy::default()
        };
        let mut chain = Regtest::builder()
            .node(node(version).policy(policy))
            .start()
            .unwrap();
        let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
        [1_000, 1_200].map(|fee| {
            let tx = coin.spend(paying(&coin, fee)).unwrap();
            let verdict: MempoolVerdict = chain.node().test_accept(&tx).unwrap();
            verdict.rejection().map(|rejection| rejection.reason)
        })
    });
    assert_eq!(verdicts, [[Some(R::MinRelayFee), None]; 3]);
}
