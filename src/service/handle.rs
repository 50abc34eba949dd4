use std::error::Error as StdError;

use bitcoin::{Amount, FeeRate, Transaction};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::channel::{
    Action, ApplyError, Balance, ChannelParams, ChildTx, Cpfp, CpfpError, CpfpPackage, Event, FundingTx,
    Outcome, RefundTx, SettlementTx, Stage,
};

use super::chain::Chain;
use super::guard::{catch_async, Panicked};
use super::party::Party;
use super::report::Status;
use super::request::{PayError, Payment, Request, Signed, Sum};
use super::session::{Inbox, Session, Start};
use super::timing::ACKNOWLEDGE_TIMEOUT;

/// The common part of both handles.
///
/// Dropping a handle does not end the channel: its task goes on until the funding output is spent.
pub struct Handle {
    params: ChannelParams,
    funding: FundingTx,
    requests: mpsc::Sender<Request>,
    payments: mpsc::Sender<Payment>,
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
}

/// A party whose task has begun, and whose opener still waits for the first things that it does.
pub(super) struct Launch {
    carried_out: oneshot::Receiver<Option<String>>,
    kept: oneshot::Sender<()>,
}

impl Launch {
    /// Waits until the first actions are carried out; the reason if the node rejected the funding transaction.
    pub async fn is_under_way(&mut self) -> Option<String> {
        // A task that has ended by now says so in its outcome.
        (&mut self.carried_out).await.ok().flatten()
    }

    /// Says that the opener takes the handle. A party that is never told so asks to close.
    pub fn keep(self) {
        // The party may have ended.
        let _ = self.kept.send(());
    }
}

impl Handle {
    /// Gives the party a task of its own, without waiting for anything.
    pub(super) fn spawn<P, IO, C>(session: Session<P, IO, C>, actions: Vec<Action>) -> (Self, Launch)
    where
        P: Party,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        C: Chain,
    {
        let (carried_out, is_carried_out) = oneshot::channel();
        let (kept, is_kept) = oneshot::channel();
        let (requests, requested) = mpsc::channel(64);
        let (payments, to_pay) = mpsc::channel(64);
        let (params, funding) = (
            session.party().params().clone(),
            session.party().funding().clone(),
        );
        let status = session.status().clone();
        let receiver = status.subscribe();
        let start = Start { actions, carried_out };
        let inbox = Inbox {
            requests: requested,
            payments: to_pay,
            kept: is_kept,
        };
        let task = tokio::spawn(async move {
            if let Err(Panicked { message }) = catch_async(session.run(start, inbox)).await {
                status.send_modify(|status| status.panicked = Some(message));
            }
        });
        let handle = Self {
            params,
            funding,
            requests,
            payments,
            status: receiver,
            task,
        };
        let carried_out = is_carried_out;
        (handle, Launch { carried_out, kept })
    }

    /// Returns the agreed parameters.
    #[must_use]
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// Returns the funding transaction.
    #[must_use]
    pub const fn funding(&self) -> &FundingTx {
        &self.funding
    }

    /// Returns the party's status, and a way to wait for a change.
    ///
    /// What `borrow` returns blocks the party: never keep it across an `await`.
    #[must_use]
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
    /// spends the latest payment when the closing margin begins, and a locked one once its lock is over.
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
        let is_over = |status: &Status| status.stage == Stage::Closed || status.panicked.is_some();
        // An error means that the task is gone. What it said last still stands.
        let _ = status.wait_for(is_over).await;
        let last = status.borrow();
        match (last.outcome, &last.panicked) {
            (Some(outcome), _) => Ok(outcome),
            (None, Some(message)) => Err(OutcomeError::Panicked {
                message: message.clone(),
            }),
            (None, None) if last.stage == Stage::Closed => Err(OutcomeError::Abandoned),
            (None, None) => Err(OutcomeError::Aborted),
        }
    }

    /// Aborts the party's task at once, like a power cut. The channel goes on without it: no one settles or refunds for
    /// this side.
    pub fn abort(&self) {
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
    /// Returns the payer's refund, as it was signed at the opening.
    #[must_use]
    pub const fn refund(&self) -> &RefundTx {
        &self.refund
    }

    /// Signs the refund again for a malleated funding transaction that was mined, and returns it. The party watches
    /// that transaction from now on, broadcasts the new refund when its lock is over, and pays nothing more.
    ///
    /// Cancel safe: call it again with the same transaction.
    ///
    /// # Errors
    /// If the transaction does not fund this channel; or if both parties signed the refund, which binds it to one id ([`Construction::has_script_refund`](crate::channel::Construction::has_script_refund)).
    pub async fn refund_malleated(&self, mined: Transaction) -> Result<RefundTx, RequestError> {
        self.handle.apply(Event::FundingMalleated(mined)).await?;
        self.current_refund().await
    }

    async fn current_refund(&self) -> Result<RefundTx, RequestError> {
        let (reply, answer) = oneshot::channel();
        let refund = self.handle.ask(Request::Refund(reply), answer).await?;
        refund.ok_or(RequestError::Ended)
    }

    /// Raises the feerate of the refund, once its lock is over, with a child that spends it. `wallet` signs that child.
    /// The observer learns whether the network accepts them. Not cancel safe: the package may still be broadcast.
    ///
    /// # Errors
    /// If there is no such child, the wallet does not sign it, or the lock is not over.
    pub async fn bump<W, E>(&self, cpfp: &Cpfp, wallet: W) -> Result<CpfpPackage, BumpError>
    where
        W: FnOnce(&ChildTx) -> Result<Transaction, E>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let child = cpfp.refund(self.params(), &self.current_refund().await?);
        self.handle.bump(child, wallet).await
    }

    /// Pays up to `total`, the total of all payments in this channel, and waits until the payee has acknowledged it. Most users need this call: it never pays twice, however often it is repeated.
    ///
    /// Returns at once if `total` is already acknowledged, waits for the acknowledgement if it is already signed, and
    /// otherwise signs what is missing.
    ///
    /// Cancel safe: call it again with the same total.
    ///
    /// # Errors
    /// If nothing was signed, or the payee did not acknowledge what was signed; the error names the total that the payee
    /// may hold.
    pub async fn pay_up_to(&self, total: Amount) -> Result<Balance, RequestError> {
        self.sign_and_wait(Sum::UpTo(total)).await
    }

    /// Pays `amount` more, and waits until the payee has acknowledged it. Every call adds its amount: use
    /// [`PayerHandle::pay_up_to`] where a call may be repeated.
    ///
    /// Not cancel safe: when the future is dropped, the payment may be signed or not. [`Status::paid`] is the signed
    /// sum.
    ///
    /// # Errors
    /// If nothing was signed, or the payee did not acknowledge what was signed; the error names the total that the payee
    /// may hold.
    pub async fn pay(&self, amount: Amount) -> Result<Balance, RequestError> {
        self.sign_and_wait(Sum::More(amount)).await
    }

    async fn sign_and_wait(&self, sum: Sum) -> Result<Balance, RequestError> {
        let signed = Signed::default();
        let (reply, mut answer) = oneshot::channel();
        let payment = Payment {
            sum,
            signed: signed.clone(),
            reply,
        };
        let asked = async {
            // If the party has ended, `reply` is gone, and the answer is an error.
            let _ = self.handle.payments.send(payment).await;
            (&mut answer).await
        };
        let answered = tokio::time::timeout(ACKNOWLEDGE_TIMEOUT, asked).await;
        if let Ok(Ok(answered)) = answered {
            return Ok(answered?);
        }
        let is_signed = {
            // Until here the party may sign, and from here on it does not.
            let signed = signed.lock();
            answer.close();
            *signed
        };
        if let Ok(answered) = answer.try_recv() {
            return Ok(answered?);
        }
        let paid = self.handle.status.borrow().paid;
        Err(match (answered, is_signed) {
            (_, true) => PayError::Unacknowledged { paid }.into(),
            (Err(_), false) => PayError::NotSigned { paid }.into(),
            (Ok(_), false) => RequestError::Ended,
        })
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
    /// Requests `amount` more from the payer (`bond`). Not cancel safe: the request may still be sent.
    ///
    /// # Errors
    /// If the channel is not open, or holds less.
    pub async fn request_payment(&self, amount: Amount) -> Result<(), RequestError> {
        self.handle.apply(Event::RequestPayment(amount)).await
    }

    /// Raises the feerate of the settlement that was broadcast with a child that spends the payee's output. `wallet` signs
    /// that child. The observer learns whether the network accepts them. Not cancel safe: the package may still be
    /// broadcast.
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

    /// Returns the latest payment with both signatures: what the payee would broadcast if the payer were gone. Cancel
    /// safe.
    ///
    /// # Errors
    /// If the party's task has ended.
    pub async fn redeemable(&self) -> Result<Option<SettlementTx>, RequestError> {
        let (reply, answer) = oneshot::channel();
        let redeemable = self.handle.ask(Request::Redeemable(reply), answer).await?;
        Ok(redeemable.map_err(ApplyError::Spend)?)
    }
}

/// Why a party did not execute a request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request is impossible.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The payment was sent, but not acknowledged.
    #[error(transparent)]
    Pay(#[from] PayError),
    /// The party's task has ended.
    #[error("the channel is closed, or the party's task has ended")]
    Ended,
}

/// Why there is no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OutcomeError {
    /// The channel was abandoned: this side no longer had anything at stake.
    #[error("the channel was abandoned: this side had nothing left at stake")]
    Abandoned,
    /// The party's task was ended, by [`Handle::abort`] or with its runtime. No one settles or refunds for this side.
    #[error("the party's task was aborted: the channel is no longer watched")]
    Aborted,
    /// The party's task panicked: a bug in this crate. No one settles or refunds for this side.
    #[error("the party's task panicked: {message}; the channel is no longer watched")]
    Panicked {
        /// The message of the panic.
        message: String,
    },
}

/// Why no feerate was raised.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BumpError {
    /// The payee has not settled yet.
    #[error("no settlement to raise the feerate of: the payee has not settled yet")]
    NotSettled,
    /// No child can raise it.
    #[error(transparent)]
    Child(#[from] CpfpError),
    /// This side's wallet failed.
    #[error("the wallet failed to sign the child: {0}")]
    Wallet(Box<dyn StdError + Send + Sync>),
    /// The party did not execute the request.
    #[error(transparent)]
    Request(#[from] RequestError),
}
