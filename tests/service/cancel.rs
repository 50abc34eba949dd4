//! Futures that are dropped, and funding transactions that the payer's node rejects.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::Transaction;
use spilman::channel::Notice;
use spilman::channel::Protocol::{Bond, Example7, SteppedLocktime};
use spilman::service::{OpenError, Report};
use tokio::io::duplex;
use tokio::time::timeout;

use crate::chains::{Answer, FakeChain, Odd};
use crate::hand::{open_payer, open_with, opening, settles, setup, soon, Hand};
use crate::pair::{Case, HEIGHT, MTP};

/// Waits until the network has a transaction.
async fn out(chain: &FakeChain, what: &str, is: impl Fn(&Transaction) -> bool) -> Transaction {
    let mut changes = chain.changes.subscribe();
    let wait = async {
        loop {
            if let Some(tx) = chain.broadcast_so_far().into_iter().find(&is) {
                return tx;
            }
            changes.changed().await.unwrap();
        }
    };
    soon(what, wait).await
}

fn is_refund(tx: &Transaction) -> bool {
    tx.lock_time.to_consensus_u32() == HEIGHT + 144
}

fn expire(chain: &FakeChain) {
    chain.change(|state| state.confirmations = 150);
    chain.reach(HEIGHT + 150, MTP);
}

/// 1. The network has the funding transaction, the payer's node is slow to say so, and the payer's user stops
///    waiting.
/// 2. No one will use the channel: the party closes it, and the money is back long before the expiry.
#[tokio::test(start_paused = true)]
async fn a_timeout_around_open_brings_the_money_back_soon() {
    let (case, odd) = (Case::new(SteppedLocktime), Odd::new());
    odd.change(|mood| mood.broadcast_takes = Duration::from_secs(25));
    let (a, b) = duplex(64 * 1024);
    let (opened, payee) = tokio::join!(
        timeout(Duration::from_secs(10), open_payer(&case, a, &odd)),
        setup("payee").accept(b, odd.chain.clone()),
    );
    assert!(opened.is_err(), "no one waits any more");
    let funding = out(&odd.chain, "the funding transaction", |_| true)
        .await
        .compute_txid();
    let spends = |tx: &Transaction| tx.input[0].previous_output.txid == funding;
    let close = out(&odd.chain, "the settlement", spends).await;
    assert!(!is_refund(&close), "the lock has not passed");
    odd.chain.confirm_the_spend();
    let end = soon("the end", payee.unwrap().outcome()).await.unwrap();
    assert_eq!(end.txid, close.compute_txid());
}

/// The pattern of the crate's front page: the other side's opening fails, and `try_join!` drops this one. With no peer
/// left, the refund is the way out.
#[tokio::test(start_paused = true)]
async fn an_open_that_is_dropped_keeps_its_refund() {
    let (case, odd) = (Case::new(SteppedLocktime), Odd::new());
    odd.change(|mood| mood.broadcast_takes = Duration::from_secs(25));
    let (a, b) = duplex(64 * 1024);
    let payees = setup("payee").opening_timeout(Duration::from_secs(20));
    let opened = async { tokio::try_join!(open_payer(&case, a, &odd), payees.accept(b, odd.chain.clone())) };
    let error = opened.await.err().expect("the payee gives up");
    assert!(matches!(error, OpenError::Timeout { .. }), "{error}");
    assert_eq!(
        odd.chain.broadcast_so_far().len(),
        1,
        "the funding transaction is out"
    );
    expire(&odd.chain);
    out(&odd.chain, "the refund", is_refund).await;
}

/// Before the refund is safe, dropping the future ends everything, and nothing was let go.
#[tokio::test(start_paused = true)]
async fn an_open_that_is_dropped_early_lets_nothing_go() {
    for protocol in [SteppedLocktime, Example7, Bond] {
        let (case, chain) = (Case::new(protocol), FakeChain::new());
        let (mut hand, io) = Hand::over(64 * 1024);
        let (opened, ()) = tokio::join!(
            timeout(Duration::from_secs(10), open_payer(&case, io, &chain)),
            async {
                let (_, accept) = case.consider(hand.receive().await.unwrap()).unwrap();
                hand.send(&accept).await;
                hand.receive().await.expect("the refund to sign");
                assert!(soon("the end", hand.receive()).await.is_none(), "hangs up");
            }
        );
        assert!(opened.is_err(), "no one waits any more");
        expire(&chain);
        assert!(chain.broadcast_so_far().is_empty(), "{protocol}");
    }
}

/// The payee broadcasts the funding transaction; its user stops waiting. The channel is closed, and both see the end.
#[tokio::test(start_paused = true)]
async fn a_timeout_around_accept_closes_the_channel() {
    for protocol in [Example7, Bond] {
        let (case, odd) = (Case::new(protocol), Odd::new());
        odd.change(|mood| mood.broadcast_takes = Duration::from_secs(25));
        let (a, b) = duplex(64 * 1024);
        let (payer, accepted) = tokio::join!(
            open_payer(&case, a, &odd.chain),
            timeout(Duration::from_secs(10), setup("payee").accept(b, odd.clone())),
        );
        assert!(accepted.is_err(), "no one waits any more");
        let payer = payer.unwrap();
        let status = settles(payer.status()).await;
        assert!(status.connected, "{protocol}: by agreement");
        odd.change(|mood| mood.broadcast_takes = Duration::ZERO);
        let funding = payer.funding().tx().compute_txid();
        let spends = |tx: &Transaction| tx.input[0].previous_output.txid == funding;
        let close = out(&odd.chain, "the settlement", spends).await;
        assert!(!is_refund(&close), "{protocol}: the lock has not passed");
        odd.chain.confirm_the_spend();
        soon("the end", payer.outcome()).await.unwrap();
    }
}

/// The payer's node rejects the funding transaction, and the network has it all the same: the error has the refund, does
/// not claim that nothing is locked, and the party broadcasts the refund when its lock has passed.
#[tokio::test(start_paused = true)]
async fn a_funding_transaction_that_is_refused_falsely_is_refunded() {
    let (case, odd) = (Case::new(SteppedLocktime), Odd::new());
    odd.change(|mood| mood.broadcast = Answer::RefusedFalsely);
    let (payer, payee) = opening(&case, &odd, &odd.chain).await;
    let error = payer.err().expect("refused");
    let said = error.to_string();
    assert!(
        said.contains("mempool full") && !said.contains("nothing is locked"),
        "{said}"
    );
    let OpenError::FundingRejected { txid, refund, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(odd.chain.broadcast_so_far()[0].compute_txid(), txid);
    drop(payee);
    expire(&odd.chain);
    assert_eq!(out(&odd.chain, "the refund", is_refund).await, *refund.tx());
}

/// The same, and the network really does not have it: after the lock the party ends.
#[tokio::test(start_paused = true)]
async fn a_funding_transaction_that_is_refused_ends_after_the_lock() {
    let (case, odd) = (Case::new(SteppedLocktime), Odd::new());
    odd.change(|mood| mood.broadcast = Answer::Refused);
    let (a, b) = duplex(64 * 1024);
    let notices = Arc::new(Mutex::new(Vec::new()));
    let (sink, (gone, mut is_gone)) = (notices.clone(), tokio::sync::mpsc::unbounded_channel());
    let payers = setup("payer").observer(Arc::new(move |report: Report<'_>| {
        if let Report::Notice(notice) = report {
            sink.lock().unwrap().push(notice.clone());
        }
        // Dropped with the party's task.
        let _ = &gone;
    }));
    let (_, error) = {
        let (payer, payee) = tokio::join!(
            open_with(&case, a, &odd, payers),
            setup("payee").accept(b, odd.chain.clone())
        );
        (
            payee.err().expect("nothing to accept"),
            payer.err().expect("refused"),
        )
    };
    assert!(matches!(error, OpenError::FundingRejected { .. }), "{error}");
    let early = timeout(Duration::from_secs(3_600), is_gone.recv()).await;
    early.expect_err("the party watches");
    odd.chain.reach(HEIGHT + 150, MTP);
    let end: Option<()> = soon("the end", is_gone.recv()).await;
    assert_eq!(end, None);
    assert_eq!(notices.lock().unwrap().last(), Some(&Notice::Abandoned));
    assert!(odd.chain.broadcast_so_far().is_empty());
}
