//! Channels whose parties see the chain through electrs alone.

use bitcoin::FeeRate;
use spilman::channel::{Protocol, Stage, SETTLED_DEPTH};
use spilman::regtest::{CoinKind, Regtest};
use spilman::scenario::ChainSource;
use spilman::service::{Chain, ElectrumChain, PayeeHandle, PayerHandle};
use spilman::transcript::{timeline, to_json};

use super::{electrs, start};
use crate::common::cast::{sat, Cast};
use crate::common::parties::{open_payee, open_payer, opens, redeemable, until};
use crate::common::play::{pages, play, play_watching};

/// Played with either, a scenario leaves the same bytes: timeline, JSON and every transaction.
fn is_the_same_either_way(name: &str) {
    let (node, electrs) = (play(name), play_watching(name, ChainSource::Electrs));
    assert_eq!(timeline(&node), timeline(&electrs), "{name}");
    assert_eq!(to_json(&node), to_json(&electrs), "{name}");
    assert_eq!(pages(&node), pages(&electrs), "{name}");
}

#[test]
fn settled() {
    is_the_same_either_way("p2sh/stepped-locktime/settled");
}

#[test]
fn near_expiry() {
    is_the_same_either_way("p2sh/example-7/near-expiry");
}

#[test]
fn two_days() {
    is_the_same_either_way("p2sh/bond/two-days");
}

/// The refund is mined.
#[test]
fn payee_gone() {
    is_the_same_either_way("p2sh/example-7/payee-gone-mid-session");
}

/// The lock counts from the block with the funding transaction: by height, and by the median time below it.
#[test]
fn relative_locks() {
    is_the_same_either_way("csv/example-7/near-expiry");
    is_the_same_either_way("csv/example-7/refund-by-time");
}

/// A spend that Core's library does not judge: by the key, and by a leaf.
#[test]
fn taproot() {
    is_the_same_either_way("taproot/example-7/closed-together");
    is_the_same_either_way("taproot/example-7/near-expiry");
}

/// A refund in the mempool, and a payment that the node rejects in its own words.
#[test]
fn late_payee() {
    is_the_same_either_way("p2sh/bond/late-payee");
}

/// Another transaction than the expected one is mined, and the refund spends nothing.
#[test]
fn malleated() {
    is_the_same_either_way("p2sh/bond/malleated");
}

/// A channel that is ready to pay; each party has its own connection to the server.
async fn open(chain: &Regtest, cast: &Cast) -> (PayerHandle, PayeeHandle) {
    electrs(chain).catch_up().expect("the coin is known");
    let view = || ElectrumChain::new(electrs(chain).address().to_string());
    let (left, right) = tokio::io::duplex(4_096);
    let (payer, payee) = tokio::join!(open_payer(left, cast, view()), open_payee(right, cast, view()));
    let (payer, payee) = (payer.expect("the payer opens"), payee.expect("the payee opens"));
    chain.mine(3).expect("blocks");
    opens(&payer).await;
    (payer, payee)
}

/// No one tells the parties anything: each hears of blocks, and of what the other broadcasts, from its own server.
///
/// 1. They open a channel; the third block makes payments count.
/// 2. The payer pays; the payee is gone, and its lock passes: the payer broadcasts the refund on its own.
/// 3. Six blocks later the channel is closed.
#[tokio::test(flavor = "multi_thread")]
async fn parties_that_hear_by_themselves() {
    let chain = start();
    let cast = Cast::new(&chain, "electrum-live", Protocol::Example7, sat(100_000));
    let (payer, payee) = open(&chain, &cast).await;
    payer.pay(sat(10_000)).await.expect("acknowledged");
    payee.abort();

    let refund = payer.refund().tx().compute_txid();
    let lock = cast.setup.terms.refund_lock.to_lock_time();
    chain.make_final(lock).expect("blocks");
    until(&payer, "has begun to close", |status| {
        status.stage == Stage::Closing
    })
    .await;
    chain.node().wait_for_mempool(&[refund]).expect("the refund");
    chain.mine(SETTLED_DEPTH).expect("blocks");
    until(&payer, "sees the end", |status| status.outcome.is_some()).await;
    let outcome = payer.outcome().await.expect("an end");
    assert_eq!((outcome.txid, outcome.to_payee), (refund, sat(0)));
}

/// A payee that hears from its own server settles together with the payer, and both see the same end.
#[tokio::test(flavor = "multi_thread")]
async fn both_see_the_same_end() {
    let chain = start();
    let cast = Cast::new(&chain, "electrum-end", Protocol::Bond, sat(100_000));
    let (payer, payee) = open(&chain, &cast).await;
    payer.pay(sat(10_000)).await.expect("acknowledged");
    payee.close().await.expect("closing");
    let settlement = redeemable(&payee).await;
    let settlement = settlement.tx().compute_txid();
    chain
        .node()
        .wait_for_mempool(&[settlement])
        .expect("the settlement");
    chain.mine(SETTLED_DEPTH).expect("blocks");
    until(&payer, "sees the end", |status| status.outcome.is_some()).await;
    until(&payee, "sees the end", |status| status.outcome.is_some()).await;
    let (payer, payee) = (payer.outcome().await, payee.outcome().await);
    assert_eq!(payer, payee);
    assert_eq!(payer.map(|end| end.txid), Ok(settlement));
}

/// A node accepts no transaction from its users that pays more than 0.1 BTC per 1,000 vbytes, and electrs is one of them.
///
/// 1. The payer pays, and then settles at 20,000 sat/vB out of its change: nothing is wrong with that but the fee.
/// 2. The server rejects it. The payee gives the latest payment to the network instead, long before the refund's lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_pays_too_much_is_not_waited_for() {
    let chain = start();
    let cast = Cast::new(&chain, "electrum-dear", Protocol::Example7, sat(100_000_000));
    let (payer, payee) = open(&chain, &cast).await;
    payer.pay(sat(10_000_000)).await.expect("acknowledged");

    payer
        .close_at(FeeRate::from_sat_per_vb_u32(20_000))
        .await
        .expect("its change pays for it");
    let payment = redeemable(&payee).await;
    let payment = payment.tx().compute_txid();
    chain.node().wait_for_mempool(&[payment]).expect("the payment");
    chain.mine(SETTLED_DEPTH).expect("blocks");
    until(&payee, "sees the end", |status| status.outcome.is_some()).await;
    let outcome = payee.outcome().await.expect("an end");
    assert_eq!((outcome.txid, outcome.to_payee), (payment, sat(10_000_000)));
}

/// A chain that is replaced by one with as much work is believed, headers, proofs and all. (While the node has less, electrs
/// stays with the old one.)
#[tokio::test]
async fn another_branch() {
    let mut chain = start();
    let coin = chain.fund(sat(50_000), CoinKind::Segwit).expect("a coin");
    let old = chain.mine(2).expect("blocks").remove(0);
    electrs(&chain).catch_up().expect("indexed");
    let watched = ElectrumChain::new(electrs(&chain).address().to_string());
    let depth = || async {
        let view = watched.view(coin.outpoint.into()).await.expect("a view");
        (view.tip.height.to_consensus_u32(), view.confirmations)
    };
    let height = chain.tip().expect("a tip").height;
    assert_eq!(depth().await, (height, 3));
    chain.node().invalidate_block(old.hash).expect("two blocks less");
    chain.mine_empty(2).expect("two others");
    electrs(&chain).catch_up().expect("indexed");
    assert_eq!(depth().await, (height, 3));
}
