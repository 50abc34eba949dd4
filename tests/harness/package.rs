//! Transactions that are judged together.

use bitcoin::transaction::Version;
use bitcoin::{Amount, Transaction, Txid};
use spilman::regtest::{change, Coin, CoinKind, PackageVerdict, Regtest, RejectReason};

use crate::common::judge::Judge as _;
use crate::mempool::malleated;
use crate::{chain, link, outputs, payee, sat, FEE};

/// A spend of `coin` that pays this fee and goes to the payee, and the coin that it makes.
fn spend(coin: &Coin, fee: Amount, version: Version) -> (Transaction, Coin) {
    let script = CoinKind::Segwit.script(&payee());
    let rest = change(std::slice::from_ref(coin), &[], fee, script).unwrap();
    let mut transaction = coin.spend(vec![rest.clone()]).unwrap();
    transaction.version = version;
    coin.sign(&mut transaction).unwrap();
    let made = link(&transaction);
    (transaction, made)
}

fn family(chain: &mut Regtest, fees: [Amount; 2], version: Version) -> [Transaction; 2] {
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let (parent, link) = spend(&coin, fees[0], version);
    let (child, _) = spend(&link, fees[1], version);
    [parent, child]
}

fn reasons(verdict: &PackageVerdict) -> Vec<Option<RejectReason>> {
    let verdicts = verdict.transactions.iter();
    verdicts
        .map(|verdict| verdict.rejection().map(|rejection| rejection.reason))
        .collect()
}

fn sorted(mut txids: Vec<Txid>) -> Vec<Txid> {
    txids.sort_unstable();
    txids
}

/// 1. Alone, the child has nothing to spend.
/// 2. With its parent, both would be accepted, and are.
/// 3. Submitted again, they count as accepted.
#[test]
fn a_child_comes_with_its_parent() {
    let mut chain = chain();
    let node = chain.node().clone();
    let package = family(&mut chain, [FEE; 2], Version::TWO);
    let txids = [package[0].compute_txid(), package[1].compute_txid()];
    node.rejects(&package[1], RejectReason::MissingInputs);

    let verdict = node.test_accept_package(&package).unwrap();
    assert!(verdict.is_accepted(), "{verdict:?}");
    assert_eq!(verdict.expect_accepted(), txids);
    assert_eq!(node.mempool().unwrap(), [], "it was only a test");

    for _ in 0..2 {
        assert_eq!(node.submit_package(&package).unwrap().expect_accepted(), txids);
        assert_eq!(node.mempool().unwrap(), sorted(txids.to_vec()));
    }
}

/// 1. A parent without a fee is refused, alone and before its child.
/// 2. In a package with it, the child pays for both.
/// 3. Transactions of version 3 may do so in every Core version (BIP 431).
#[test]
fn a_child_pays_for_its_parent() {
    let mut chain = chain();
    let node = chain.node().clone();
    let package = family(&mut chain, [Amount::ZERO, FEE], Version::non_standard(3));
    node.rejects_broadcast(&package[0], RejectReason::MinRelayFee);
    let verdict = node.test_accept_package(&package).unwrap();
    let expected = [Some(RejectReason::MinRelayFee), Some(RejectReason::NotValidated)];
    assert_eq!(reasons(&verdict), expected, "{verdict:?}");
    assert_eq!(verdict.rejection.unwrap().reason, RejectReason::MinRelayFee);

    let txids = node.submit_package(&package).unwrap().expect_accepted();
    assert_eq!(chain.mine(1).unwrap()[0].txids, txids);
}

/// A valid parent is accepted, although its child is not.
#[test]
fn a_package_can_be_accepted_in_part() {
    let mut chain = chain();
    let node = chain.node().clone();
    let [parent, mut child] = family(&mut chain, [FEE; 2], Version::TWO);
    child.output[0].value -= FEE;
    let verdict = node.submit_package(&[parent.clone(), child]).unwrap();
    assert!(!verdict.is_accepted(), "{verdict:?}");
    assert_eq!(
        reasons(&verdict),
        [None, Some(RejectReason::ScriptFailed)],
        "{verdict:?}"
    );
    let rejection = verdict.rejection.unwrap();
    assert_eq!(
        (rejection.reason, &*rejection.words),
        (RejectReason::Package, "transaction failed")
    );
    assert_eq!(node.mempool().unwrap(), [parent.compute_txid()]);
}

/// What is no package is refused as a whole, and the mempool stays empty.
#[test]
fn what_is_no_package_is_refused_whole() {
    let mut chain = chain();
    let node = chain.node().clone();
    let [parent, child] = family(&mut chain, [FEE; 2], Version::TWO);
    let [stranger, _] = family(&mut chain, [FEE; 2], Version::TWO);
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let (one, _) = spend(&coin, FEE, Version::TWO);
    let (other, _) = spend(&coin, FEE * 2, Version::TWO);

    let cases = [
        ("unrelated", node.submit_package(&[parent.clone(), stranger])),
        (
            "child first",
            node.test_accept_package(&[child.clone(), parent.clone()]),
        ),
        ("conflict", node.test_accept_package(&[one, other])),
    ];
    for (case, verdict) in cases {
        let verdict = verdict.unwrap();
        assert_eq!(
            verdict.rejection.as_ref().unwrap().reason,
            RejectReason::Package,
            "{case}: {verdict:?}"
        );
        assert_eq!(
            reasons(&verdict),
            [Some(RejectReason::NotValidated); 2],
            "{case}: {verdict:?}"
        );
        assert_eq!(node.mempool().unwrap(), [], "{case}");
    }
}

/// A package pushes a cheaper spend of the same coin out of the mempool, and the node names it.
#[test]
fn a_package_replaces_what_pays_less() {
    let mut chain = chain();
    let node = chain.node().clone();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let cheap = coin.spend(outputs(&coin)).unwrap();
    let replaced = node.broadcasts(&cheap);
    let (parent, link) = spend(&coin, FEE * 3, Version::TWO);
    let (child, _) = spend(&link, FEE, Version::TWO);
    let verdict = node.submit_package(&[parent, child]).unwrap();
    let txids = verdict.expect_accepted();
    assert_eq!(verdict.replaced, [replaced]);
    assert_eq!(node.mempool().unwrap(), sorted(txids));
}

/// A transaction in the mempool stays there if it comes again with another witness, and its child is accepted.
#[test]
fn another_witness_does_not_replace() {
    let mut chain = chain();
    let node = chain.node().clone();
    let [parent, child] = family(&mut chain, [FEE; 2], Version::TWO);
    node.broadcasts(&parent);
    let verdict = node.submit_package(&[malleated(&parent), child]).unwrap();
    assert_eq!(
        reasons(&verdict),
        [Some(RejectReason::AlreadyInMempool), None],
        "{verdict:?}"
    );
    assert!(!verdict.is_accepted(), "{verdict:?}");
    assert_eq!(
        node.transaction_in_mempool(parent.compute_txid()).unwrap(),
        Some(parent)
    );
}
