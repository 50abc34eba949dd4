//! An electrs that refuses scripts with many transactions, and someone who sends dust to the script of a channel.

use std::error::Error;
use std::time::Duration;

use bitcoin::{ScriptBuf, TxOut};
use spilman::channel::Protocol;
use spilman::regtest::{CoinKind, Electrs, Regtest};
use spilman::service::{Backoff, Chain, ChainError, ElectrumChain};

use crate::common::cast::{sat, Cast};
use crate::common::parties::{open_payer, opens, redeemable, setup};

/// How many blocks with transactions of a script this electrs looks up.
const LIMIT: u32 = 3;

fn start() -> (Regtest, Electrs) {
    let chain = Regtest::builder().p2p(true).start().expect("a node");
    let limit = format!("--index-lookup-limit={LIMIT}");
    let electrs = Electrs::builder().arg(limit).start(chain.node());
    (chain, electrs.expect("electrs"))
}

const AT_ONCE: Backoff = Backoff {
    first: Duration::ZERO,
    most: Duration::ZERO,
    jitter: 0,
};

/// How soon a payee polls again.
const SOON: Backoff = Backoff {
    first: Duration::from_millis(100),
    most: Duration::from_millis(100),
    jitter: 0,
};

/// electrs hangs up once when a script that it watches passes the limit.
fn watch(electrs: &Electrs) -> ElectrumChain {
    ElectrumChain::new(electrs.address().to_string()).backoff(AT_ONCE)
}

/// Sends dust to a script, in one block more than electrs looks up.
fn send_dust(chain: &Regtest, electrs: &Electrs, script_pubkey: &ScriptBuf) {
    for _ in 0..=LIMIT {
        let output = TxOut {
            value: sat(330),
            script_pubkey: script_pubkey.clone(),
        };
        chain.pay(vec![output]).expect("a block with dust");
    }
    electrs
        .wait_for_tip(chain.tip().expect("a tip").hash)
        .expect("indexed");
}

fn told(error: &ChainError) -> String {
    format!("{error}: {}", error.source().expect("a source"))
}

/// 1. An output is in a block: the view shows it, over a connection that lasts.
/// 2. With the dust, electrs refuses all that it knows of the script, and the view says what that means.
/// 3. The tip and other outputs are seen, and what is given to the network is accepted.
#[tokio::test]
async fn what_a_view_says_when_electrs_refuses_the_script() {
    let (mut chain, electrs) = start();
    let mut fund = || chain.fund(sat(50_000), CoinKind::Segwit).expect("a coin");
    let (coin, other) = (fund(), fund());
    electrs
        .wait_for_tip(chain.tip().expect("a tip").hash)
        .expect("indexed");
    let watched = watch(&electrs);
    let view = watched.view(coin.outpoint.into()).await.expect("a view");
    assert_eq!((view.confirmations, view.spend), (2, None));

    send_dust(&chain, &electrs, &coin.output.script_pubkey);
    let error = loop {
        // The connection ends when electrs finds out, and the loss may come during a poll.
        let error = told(&watched.view(coin.outpoint.into()).await.expect_err("refused"));
        if error.contains("does not tell") {
            break error;
        }
        assert!(
            error.contains("lost the connection to the electrum server"),
            "{error}"
        );
    };
    let refusal = format!("with error 1: >{LIMIT} index entries, query may take too long");
    for part in [
        format!("does not tell whether {} is spent", coin.outpoint),
        format!("blockchain.scripthash.listunspent {refusal}"),
        format!("blockchain.scripthash.get_history {refusal}"),
    ] {
        assert!(error.contains(&part), "expected {part:?}, found {error:?}");
    }

    let tip = watched.tip().await.expect("the tip").height;
    assert_eq!(tip.to_consensus_u32(), chain.tip().expect("a tip").height);
    let view = watched.view(other.outpoint.into()).await.expect("another script");
    assert_eq!((view.confirmations, view.spend), (2 + LIMIT, None));
    let spend = coin.spend(vec![TxOut {
        value: sat(49_000),
        ..other.output
    }]);
    let spend = spend.expect("signed");
    assert_eq!(watched.broadcast(&spend).await.expect("a verdict"), None);
    assert_eq!(
        watched.broadcast(&spend).await.expect("a verdict"),
        None,
        "it has it"
    );
    chain
        .node()
        .wait_for_mempool(&[spend.compute_txid()])
        .expect("taken");
    let error = told(&watched.view(coin.outpoint.into()).await.expect_err("refused"));
    assert!(error.contains("does not tell"), "a spend goes unnoticed: {error}");
}

/// The payer makes its payee blind, and waits for its refund.
///
/// 1. The parties open a channel through electrs; the payer pays.
/// 2. Dust goes to the funding script until electrs refuses it.
/// 3. The lock comes near: at the margin, the payee gives the payment to the network, on the tip alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_dust_made_blind_settles_at_the_margin() {
    let (chain, electrs) = start();
    let cast = Cast::new(&chain, "electrum-dust", Protocol::Example7, sat(100_000));
    electrs
        .wait_for_tip(chain.tip().expect("a tip").hash)
        .expect("indexed");
    let (left, right) = tokio::io::duplex(4_096);
    let setup = setup(&cast.setup.payee).backoff(SOON);
    let (payer, payee) = tokio::join!(
        open_payer(left, &cast, watch(&electrs)),
        setup.accept(right, watch(&electrs))
    );
    let (payer, payee) = (payer.expect("the payer opens"), payee.expect("the payee opens"));
    chain.mine(3).expect("blocks");
    opens(&payer).await;
    payer.pay(sat(10_000)).await.expect("acknowledged");
    let payment = redeemable(&payee).await;

    let funding = payee.funding().outpoint();
    let script = &payee.funding().tx().output[funding.vout as usize].script_pubkey;
    send_dust(&chain, &electrs, script);
    let error = watch(&electrs).view(funding.into()).await.expect_err("refused");
    assert!(told(&error).contains("does not tell"), "{}", told(&error));

    chain
        .stop_before(cast.setup.terms.refund_lock.to_lock_time())
        .expect("blocks");
    let payment = payment.tx().compute_txid();
    chain.node().wait_for_mempool(&[payment]).expect("the payment");
}
