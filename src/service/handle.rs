mod error;
mod launch;
mod payee;
mod payer;

use std::time::Duration;

use bitcoin::FeeRate;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::report::Status;
use super::request::{Payment, Request};
use super::session::Attachment;
use super::wallet::{signed, ChildSigner};
use crate::channel::{
    ChannelParams, ChildTx, CpfpError, CpfpPackage, Event, FundingTx, Outcome, Raisable, Stage,
};

pub use error::{BumpError, OutcomeError, RequestError};
pub(super) use launch::{spawn, HandleParts, Launch, OnEnd};
pub use payee::{PayeeHandle, PayeeSide};
pub use payer::{PayerHandle, PayerSide};

/// A running party: a [`PayerHandle`] or a [`PayeeHandle`].
///
/// Dropping a handle does not end the channel: its task goes on until the funding output is spent.
pub struct Handle<S> {
    params: ChannelParams,
    funding: FundingTx,
    requests: mpsc::Sender<Request>,
    payments: mpsc::Sender<Payment>,
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
    wallet_timeout: Duration,
    side: S,
}

impl<S> Handle<S> {
    /// The agreed parameters.
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// Returns the funding transaction.
    pub const fn funding(&self) -> &FundingTx {
        &self.funding
    }

    /// Returns the party's status, and a way to wait for a change.
    ///
    /// What `borrow` returns blocks the party: never keep it across an `await`.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Begins to close the channel. [`Handle::outcome`] waits until the close is confirmed.
    ///
    /// The payer sends a settlement; where both can close with one signature, it asks the payee to do so first. The
    /// payee broadcasts the latest payment; where that is locked
    /// ([`Protocol::SteppedLocktime`](crate::channel::Protocol)), or where both can close with one signature
    /// ([`Construction::closes_with_one_key`](crate::channel::Construction::closes_with_one_key)), it asks the payer
    /// instead. If no answer comes, or the result does not confirm, call this again: the payee spends the latest
    /// payment alone, and the payer sends a settlement that takes two signatures. Without a second call, the payee
    /// spends the latest payment when the closing margin begins, and a locked one once its lock has passed.
    ///
    /// Not cancel safe: once the party has the request, it executes it even if no one waits for the answer.
    ///
    /// # Errors
    /// If the channel is neither open nor waiting for its funding transaction, or is closing and this side cannot do more
    /// alone.
    pub async fn close(&self) -> Result<(), RequestError> {
        self.apply(Event::Close).await
    }

    /// As [`Handle::close`], with a settlement that pays this feerate, if the peer agrees. The payer's change pays the
    /// difference. Not cancel safe.
    ///
    /// # Errors
    /// If the channel is not open, the feerate is below the agreed one, or the change does not pay for it.
    pub async fn close_at(&self, feerate: FeeRate) -> Result<(), RequestError> {
        self.apply(Event::CloseAt(feerate)).await
    }

    /// Waits until the spend of the funding output is confirmed, and returns how the capacity was divided. Cancel
    /// safe.
    ///
    /// # Errors
    /// If the channel was abandoned, or the party's task ended early.
    pub async fn outcome(&self) -> Result<Outcome, OutcomeError> {
        let mut status = self.status.clone();
        let is_over = |status: &Status| status.outcome.is_some() || status.panicked.is_some();
        // An error means that the task is gone. What it said last still stands.
        let _ = status.wait_for(is_over).await;
        let last = status.borrow();
        match (last.outcome, &last.panicked) {
            (Some(outcome), _) => Ok(outcome),
            (None, Some(message)) => Err(OutcomeError::Panicked {
                message: message.clone(),
            }),
            (None, None) => Err(match &last.store_failed {
                Some(reason) => OutcomeError::StoreFailed {
                    reason: reason.clone(),
                },
                None if last.stage == Stage::Closed => OutcomeError::Abandoned,
                None => OutcomeError::Aborted,
            }),
        }
    }

    /// Aborts the party's task at once, like a power cut. The channel goes on without it: no one settles or refunds for
    /// this side.
    pub fn abort(&self) {
        self.task.abort();
    }

    async fn apply(&self, event: Event) -> Result<(), RequestError> {
        let (reply, answer) = oneshot::channel();
        Ok(self.ask(Request::Apply(Box::new(event), reply), answer).await??)
    }

    /// Returns what this side broadcasts to get its share, until a block has it.
    pub(super) async fn raisable(&self) -> Option<Box<Raisable>> {
        let (reply, answer) = oneshot::channel();
        // A party that has ended broadcasts nothing.
        self.ask(Request::Raisable(reply), answer).await.ok().flatten()
    }

    /// Has the child signed, and broadcasts parent and child from now on.
    pub(super) async fn sign_and_bump(
        &self,
        child: Result<ChildTx, CpfpError>,
        mut signer: impl ChildSigner,
    ) -> Result<CpfpPackage, BumpError> {
        let child = child?;
        let signed = signed(self.wallet_timeout, async { signer.sign_child(&child).await }).await?;
        let package = child.complete(signed)?;
        self.apply(Event::Bump(package.clone())).await?;
        Ok(package)
    }

    async fn ask<T>(&self, request: Request, answer: oneshot::Receiver<T>) -> Result<T, RequestError> {
        // If the party has ended, `answer` is gone with the request.
        let _ = self.requests.send(request).await;
        answer.await.map_err(|_| self.ended())
    }

    /// Hands over a new connection; hands it back if the party has ended.
    pub(super) async fn attach(&self, attachment: Attachment) -> Result<(), Attachment> {
        let request = Request::Attach(Box::new(attachment));
        match self.requests.send(request).await {
            Err(SendError(Request::Attach(attachment))) => Err(*attachment),
            _ => Ok(()),
        }
    }

    /// Why the party gives no answer.
    fn ended(&self) -> RequestError {
        let reason = self.status.borrow().store_failed.clone();
        reason.map_or(RequestError::Ended, |reason| RequestError::StoreFailed { reason })
    }
}
