use std::error::Error as StdError;
use std::time::Duration;

use bitcoin::{Amount, FeeRate, Transaction};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::channel::{
    ApplyError, Balance, ChannelParams, ChildTx, Cpfp, CpfpError, CpfpPackage, Event, FundingTx, Outcome,
    RefundTx, SettlementTx, Stage,
};

use super::chain::Chain;
use super::party::Party;
use super::report::Status;
use super::request::{PayError, Request};
use super::session::Session;

/// How long a payer waits for the acknowledgement of a payment. The channel goes on either way.
pub const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(60);

/// What both handles have.
///
/// Dropping a handle does not end the channel: its task goes on until the funding output is spent.
pub struct Handle {
    params: ChannelParams,
    funding: FundingTx,
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
}

impl Handle {
    pub(super) fn spawn<P, IO, C>(
        params: ChannelParams,
        funding: FundingTx,
        session: Session<P, IO, C>,
        status: watch::Receiver<Status>,
    ) -> Self
    where
        P: Party,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        C: Chain,
    {
        let (requests, inbox) = mpsc::channel(64);
        Self {
            params,
            funding,
            requests,
            status,
            task: tokio::spawn(session.run(inbox)),
        }
    }

    /// The agreed parameters.
    #[must_use]
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// The funding transaction.
    #[must_use]
    pub const fn funding(&self) -> &FundingTx {
        &self.funding
    }

    /// Where the party stands now, and a way to wait for it to move.
    ///
    /// What `borrow` returns holds the party up: never keep it across an `await`.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Begins to close the channel. The end comes with the chain: see [`Handle::outcome`].
    ///
    /// The payer sends a settlement. The payee broadcasts the newest payment; where that is locked
    /// ([`Protocol::SteppedLocktime`](crate::channel::Protocol)), or where both can close with one signature
    /// ([`Construction::closes_with_one_key`](crate::channel::Construction::closes_with_one_key)), it asks the payer
    /// instead. If no answer comes, or the result does not confirm, the payee calls this again, and spends the newest
    /// payment alone; a locked one it spends by itself once the lock is over.
    ///
    /// # Errors
    /// If the channel is neither open nor waits for its funding transaction, or is closing and there is nothing that this
    /// side could do alone.
    pub async fn close(&self) -> Result<(), RequestError> {
        self.apply(Event::Close).await
    }

    /// The same, with a settlement that pays this feerate, if the peer agrees. What it costs more comes out of the payer's
    /// change.
    ///
    /// # Errors
    /// If the channel is not open, the feerate is below the agreed one, or the change does not pay for it.
    pub async fn close_at(&self, feerate: FeeRate) -> Result<(), RequestError> {
        self.apply(Event::CloseAt(feerate)).await
    }

    /// Waits until the funding output is spent, deep enough, and says how. `None` if it never was, because the
    /// channel was abandoned before anything was locked, or because the party's task was ended.
    pub async fn outcome(&self) -> Option<Outcome> {
        let mut status = self.status.clone();
        let status = status
            .wait_for(|status| status.stage == Stage::Closed)
            .await
            .ok()?;
        status.outcome
    }

    /// Ends the party's task at once, as if its machine had lost power. The channel goes on without it.
    pub fn kill(&self) {
        self.task.abort();
    }

    async fn apply(&self, event: Event) -> Result<(), RequestError> {
        let (reply, answer) = oneshot::channel();
        Ok(self.ask(Request::Apply(event, reply), answer).await??)
    }

    /// Has the child signed, and broadcasts parent and child from now on.
    async fn bump<W, E>(&self, child: Result<ChildTx, CpfpError>, wallet: W) -> Result<CpfpPackage, BumpError>
    where
        W: FnOnce(&ChildTx) -> Result<Transaction, E>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let child = child?;
        let signed = wallet(&child).map_err(|error| BumpError::Wallet(error.into()))?;
        let package = child.complete(signed)?;
        self.apply(Event::Bump(package.clone())).await?;
        Ok(package)
    }

    async fn ask<T>(&self, request: Request, answer: oneshot::Receiver<T>) -> Result<T, RequestError> {
        self.requests
            .send(request)
            .await
            .map_err(|_| RequestError::Ended)?;
        answer.await.map_err(|_| RequestError::Ended)
    }
}

/// A running payer.
pub struct PayerHandle {
    pub(super) handle: Handle,
    pub(super) refund: RefundTx,
}

impl std::ops::Deref for PayerHandle {
    type Target = Handle;
    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl PayerHandle {
    /// The payer's way out.
    #[must_use]
    pub const fn refund(&self) -> &RefundTx {
        &self.refund
    }

    /// Raises the feerate of the refund, once its lock is over, with a child that spends it. `wallet` signs that child.
    /// Whether the network takes them, the observer is told.
    ///
    /// # Errors
    /// If there is no such child, the wallet does not sign it, or the lock is not over.
    pub async fn bump<W, E>(&self, cpfp: &Cpfp, wallet: W) -> Result<CpfpPackage, BumpError>
    where
        W: FnOnce(&ChildTx) -> Result<Transaction, E>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let child = cpfp.refund(self.params(), &self.refund);
        self.handle.bump(child, wallet).await
    }

    /// Pays `amount` more, in satoshi, and waits until the payee has acknowledged it.
    ///
    /// # Errors
    /// If nothing was sent, or what was sent is not known to have been accepted.
    pub async fn pay(&self, amount: Amount) -> Result<Balance, RequestError> {
        let (reply, answer) = oneshot::channel();
        let asked = self.handle.ask(Request::Pay(amount, reply), answer);
        if let Ok(answered) = tokio::time::timeout(ACKNOWLEDGE_TIMEOUT, asked).await {
            return Ok(answered??);
        }
        let paid = self.handle.status.borrow().paid;
        Err(PayError::Unacknowledged { paid }.into())
    }
}

/// A running payee.
pub struct PayeeHandle {
    pub(super) handle: Handle,
}

impl std::ops::Deref for PayeeHandle {
    type Target = Handle;
    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl PayeeHandle {
    /// Asks the payer for `amount` more, in satoshi (`bond`).
    ///
    /// # Errors
    /// If the channel is not open, or holds less.
    pub async fn request_payment(&self, amount: Amount) -> Result<(), RequestError> {
        self.handle.apply(Event::RequestPayment(amount)).await
    }

    /// Raises the feerate of the settlement that was broadcast with a child that spends the payee's output. `wallet` signs
    /// that child. Whether the network takes them, the observer is told.
    ///
    /// # Errors
    /// If nothing was settled yet, there is no such child, or the wallet does not sign it.
    pub async fn bump<W, E>(&self, cpfp: &Cpfp, wallet: W) -> Result<CpfpPackage, BumpError>
    where
        W: FnOnce(&ChildTx) -> Result<Transaction, E>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (reply, answer) = oneshot::channel();
        let settlement = self.handle.ask(Request::Settlement(reply), answer).await?;
        let settlement = settlement.ok_or(BumpError::NotSettled)?;
        let child = cpfp.settlement(self.params(), &settlement);
        self.handle.bump(child, wallet).await
    }

    /// The newest payment with both signatures: what the payee would broadcast if the payer were gone.
    ///
    /// # Errors
    /// If the party's task has ended.
    pub async fn redeemable(&self) -> Result<Option<SettlementTx>, RequestError> {
        let (reply, answer) = oneshot::channel();
        let redeemable = self.handle.ask(Request::Redeemable(reply), answer).await?;
        Ok(redeemable.map_err(ApplyError::Spend)?)
    }
}

/// Why a party did not do what its handle asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It cannot be done.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// It was sent, and not acknowledged.
    #[error(transparent)]
    Pay(#[from] PayError),
    /// The party's task has ended.
    #[error("the channel is closed, or its task was ended")]
    Ended,
}

/// Why nothing was raised.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BumpError {
    /// The payee has not settled yet.
    #[error("there is no settlement whose feerate could be raised")]
    NotSettled,
    /// There is no child that does it.
    #[error(transparent)]
    Child(#[from] CpfpError),
    /// This side's wallet failed.
    #[error("the wallet did not sign the child: {0}")]
    Wallet(Box<dyn StdError + Send + Sync>),
    /// The party did not take it.
    #[error(transparent)]
    Request(#[from] RequestError),
}
