//! User code that panics, and parties that end early.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bitcoin::Transaction;
use spilman::channel::Protocol::{Bond, Example7};
use spilman::channel::{ChainView, Notice, Tip};
use spilman::service::{Chain, ChainError, ObserverPanic, OutcomeError, Report, Watched};
use tokio::io::{duplex, AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::watch;

use crate::chains::FakeChain;
use crate::hand::{both, loses_peer, open_payer, opens, ready, settles, setup, soon, Hand};
use crate::pair::{amounts, sat, tip, Case, HEIGHT, MTP};

/// An observer that panics does not end the party: it goes on, settles, and its status says what happened.
#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_does_not_end_the_party() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let payees = setup("payee").observer(Arc::new(|report| {
        if let Report::Notice(Notice::PaymentAccepted(balance)) = report {
            panic!("cannot book {}", balance.paid);
        }
    }));
    let (payer, payee) = ready(&case, (&chain, &chain), (&chain, &chain), payees).await;
    soon("an answer", payer.pay(sat(900_000))).await.unwrap();
    chain.reach(HEIGHT + 108, MTP);
    let status = settles(payee.status()).await;
    assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], 900_000);
    let message = format!("cannot book {}", sat(900_000));
    // The empty payment, and this one.
    assert_eq!(status.fault, Some(ObserverPanic { panics: 2, message }));
    chain.confirm_the_spend();
    assert_eq!(
        soon("the end", payee.outcome()).await.unwrap().to_payee,
        sat(900_000)
    );
}

/// A chain that panics before it returns a future.
struct Hasty {
    has_time: bool,
}

impl Chain for Hasty {
    async fn tip(&self) -> Result<Tip, ChainError> {
        Ok(tip(HEIGHT, MTP))
    }

    fn view(&self, _: Watched) -> impl Future<Output = Result<ChainView, ChainError>> + Send {
        assert!(self.has_time, "no time for that");
        std::future::pending()
    }

    fn broadcast(&self, _: &Transaction) -> impl Future<Output = Result<Option<String>, ChainError>> + Send {
        assert!(self.has_time, "no time for that");
        std::future::pending()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        panic!("no time for that")
    }
}

/// Every call to the user's chain may panic, at once or later, and the party goes on.
#[tokio::test(start_paused = true)]
async fn a_chain_that_panics_does_not_end_the_party() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let hasty = Hasty { has_time: false };
    let (failures, count) = watch::channel(0);
    let payees = setup("payee").observer(Arc::new(move |report| {
        if let Report::ChainFailed(error) = report {
            let source = std::error::Error::source(error).unwrap();
            assert_eq!(source.to_string(), "panicked: no time for that");
            failures.send_modify(|failures| *failures += 1);
        }
    }));
    let (a, b) = duplex(64 * 1024);
    let (payer, payee) = tokio::join!(open_payer(&case, a, &chain), payees.accept(b, hasty));
    let (payer, payee) = (payer.unwrap(), payee.unwrap());
    let mut count = count;
    soon("failures", count.wait_for(|failures| *failures > 4))
        .await
        .unwrap();
    assert_eq!(payee.redeemable().await.unwrap(), None, "it answers");
    assert_eq!(payee.status().borrow().fault, None);
    drop(payer);
}

/// A connection that panics: when it is read, or when it is dropped.
struct Brittle {
    io: DuplexStream,
    when_read: bool,
    broken: Arc<Mutex<bool>>,
}

impl Brittle {
    fn breaks(&self) -> bool {
        *self.broken.lock().unwrap()
    }
}

impl AsyncRead for Brittle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        assert!(!(self.when_read && self.breaks()), "broken when read");
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Brittle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Drop for Brittle {
    fn drop(&mut self) {
        assert!(self.when_read || !self.breaks(), "broken when dropped");
    }
}

/// 1. A connection that panics when it is read is lost, and the payee settles.
/// 2. One that panics when it is dropped takes the party's task with it, and the outcome says so.
#[tokio::test(start_paused = true)]
async fn a_connection_that_panics_is_told_of() {
    for when_read in [true, false] {
        let (case, chain) = (Case::new(Example7), FakeChain::new());
        let (a, io) = duplex(64 * 1024);
        let broken = Arc::new(Mutex::new(false));
        let brittle = Brittle {
            io,
            when_read,
            broken: broken.clone(),
        };
        let (payer, payee) = tokio::join!(
            open_payer(&case, a, &chain),
            setup("payee").accept(brittle, chain.clone())
        );
        let (payer, payee) = (payer.unwrap(), payee.unwrap());
        chain.confirm(3);
        opens(&payer).await;
        payer.pay(sat(1_000)).await.unwrap();
        *broken.lock().unwrap() = true;
        payer.abort();
        if when_read {
            loses_peer(payee.status()).await;
            chain.reach(HEIGHT + 108, MTP);
            settles(payee.status()).await;
            continue;
        }
        let error = soon("the end", payee.outcome()).await.unwrap_err();
        let message = "broken when dropped".to_owned();
        assert_eq!(error, OutcomeError::Panicked { message });
    }
}

/// Why there is no outcome: nothing was ever locked, or the task was ended.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_never_comes_says_why() {
    // 1. The payer turns away before the payee asks for the funding transaction.
    let (case, chain) = (Case::new(Bond), FakeChain::new());
    let (mut hand, io) = Hand::over(64 * 1024);
    let (payer, _payee) = tokio::join!(open_payer(&case, io, &chain), hand.sign_refund(&case));
    let payer = payer.unwrap();
    payer.close().await.unwrap();
    assert_eq!(payer.outcome().await, Err(OutcomeError::Abandoned));
    // 2. Both are ended.
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, payee) = both(&case, &chain).await;
    payer.abort();
    payee.abort();
    assert_eq!(soon("the end", payer.outcome()).await, Err(OutcomeError::Aborted));
    assert_eq!(soon("the end", payee.outcome()).await, Err(OutcomeError::Aborted));
}
