use std::error::Error as StdError;
use std::time::Duration;

use bitcoin::{Amount, ScriptBuf, Transaction, TxOut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::channel::{
    ApplyError, Balance, ChannelId, ChannelKey, ChannelParams, Envelope, Event, FundingError, FundingTx,
    Limits, Message, Outcome, PayeeOpening, PayerOpening, Reason, RefundTx, Refusal, SettlementTx, Stage,
    Terms, TermsError,
};

use super::chain::{Chain, ChainError};
use super::connection::{Connection, ConnectionError};
use super::report::{no_observer, Observer, Report, Status};
use super::session::{Party, PayError, Request, Session};

/// How long a party waits for each message of the opening, by default. Nothing is at stake by then, so a
/// clock may decide it.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(30);

/// What a party brings to a channel.
pub struct Setup {
    /// A fresh key, for this channel alone.
    pub key: ChannelKey,
    /// Where this side's money goes in the end.
    pub payout: ScriptBuf,
    /// What this side agrees to.
    pub limits: Limits,
    /// Whom to tell what happens.
    pub observer: Observer,
    /// How long to wait for each message of the opening.
    pub opening_timeout: Duration,
}

impl Setup {
    /// Default limits, nobody to tell, [`OPENING_TIMEOUT`].
    #[must_use]
    pub fn new(key: ChannelKey, payout: ScriptBuf) -> Self {
        Self {
            key,
            payout,
            limits: Limits::default(),
            observer: no_observer(),
            opening_timeout: OPENING_TIMEOUT,
        }
    }
}

/// What a payer proposes.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The channel's number on this connection.
    pub id: ChannelId,
    /// Its terms.
    pub terms: Terms,
}

/// A connection while the channel is being opened.
struct Opening<IO> {
    connection: Connection<IO>,
    channel: Option<ChannelId>,
    timeout: Duration,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Opening<IO> {
    async fn receive(&mut self, stage: Stage) -> Result<Envelope, OpenError> {
        let after = self.timeout;
        let received = tokio::time::timeout(after, self.connection.receive())
            .await
            .map_err(|_| OpenError::Timeout { stage, after })?;
        match received {
            None => Err(OpenError::Disconnected { stage }),
            Some(Ok(Envelope {
                message: Message::Refuse { reason },
                ..
            })) => Err(OpenError::PeerRefused { stage, reason }),
            Some(Ok(envelope)) => {
                self.channel.get_or_insert(envelope.channel);
                Ok(envelope)
            }
            Some(Err(error)) => {
                self.refuse(Reason::Malformed).await;
                Err(error.into())
            }
        }
    }

    /// Tells the peer why the opening ends here, if it does.
    async fn check<T>(&mut self, result: Result<T, Refusal>) -> Result<T, OpenError> {
        if let Err(refusal) = &result {
            self.refuse(refusal.reason()).await;
        }
        Ok(result?)
    }

    async fn refuse(&mut self, reason: Reason) {
        let channel = self.channel.unwrap_or(ChannelId(0));
        self.connection
            .send(&Envelope {
                channel,
                message: Message::Refuse { reason },
            })
            .await;
    }
}

/// Opens a channel as the payer and runs it in a task of its own.
///
/// `wallet` is called once both keys are known, and has to return a signed transaction that funds the given
/// output; it must not broadcast it.
///
/// # Errors
/// If the opening fails on either side. Unless it fails after the funding transaction was handed over,
/// nothing is on chain and nothing is lost.
pub async fn open<IO, C, W, E>(
    io: IO,
    chain: C,
    setup: Setup,
    Proposal { id, terms }: Proposal,
    wallet: W,
) -> Result<PayerHandle, OpenError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Chain,
    W: FnOnce(&TxOut) -> Result<Transaction, E>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let Setup {
        key,
        payout,
        limits,
        observer,
        opening_timeout: timeout,
    } = setup;
    let mut peer = Opening {
        connection: Connection::new(io),
        channel: Some(id),
        timeout,
    };
    let tip = chain.tip().await?;
    let (opening, message) = PayerOpening::propose(id, terms, key, payout, limits, tip)?;
    peer.connection.send(&message).await;

    let accept = peer.receive(Stage::Proposing).await?;
    let opening = peer.check(opening.accept(accept)).await?;
    let params = opening.params().clone();
    let signed = wallet(&opening.funding_output()).map_err(|error| OpenError::Wallet(error.into()))?;
    let (opening, message) = opening.hold(signed)?;
    observer(Report::FundingHeld(opening.funding()));
    peer.connection.send(&message).await;

    let signature = peer.receive(Stage::SigningRefund).await?;
    let opening = peer.check(opening.verify_refund(signature)).await?;
    observer(Report::Refundable(opening.refund()));
    let (payer, actions) = opening.release();
    let (funding, refund) = (payer.funding().clone(), payer.refund().clone());

    let (mut session, status) = Session::new(payer, peer.connection, chain, observer);
    session.perform(actions).await;
    let handle = Handle::spawn(params, funding, session, status);
    Ok(PayerHandle { handle, refund })
}

/// Takes a channel as the payee and runs it in a task of its own.
///
/// # Errors
/// If the opening fails on either side. Nothing of the payee's is at stake by then.
pub async fn accept<IO, C>(io: IO, chain: C, setup: Setup) -> Result<PayeeHandle, OpenError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Chain,
{
    let Setup {
        key,
        payout,
        limits,
        observer,
        opening_timeout: timeout,
    } = setup;
    let mut peer = Opening {
        connection: Connection::new(io),
        channel: None,
        timeout,
    };
    let proposal = peer.receive(Stage::Proposing).await?;
    let tip = chain.tip().await?;
    let considered = PayeeOpening::consider(proposal, key, payout, limits, tip);
    let (opening, message) = peer.check(considered).await?;
    let params = opening.params().clone();
    peer.connection.send(&message).await;

    let request = peer.receive(Stage::SigningRefund).await?;
    let tip = chain.tip().await?;
    let (opening, messages) = peer.check(opening.sign_refund(request, tip)).await?;
    for message in messages {
        peer.connection.send(&message).await;
    }

    let funding = peer.receive(Stage::Protected).await?;
    let (payee, actions) = peer.check(opening.receive_funding(funding)).await?;
    let funding = payee.funding().clone();
    let (mut session, status) = Session::new(payee, peer.connection, chain, observer);
    session.perform(actions).await;
    Ok(PayeeHandle {
        handle: Handle::spawn(params, funding, session, status),
    })
}

/// What both handles have.
///
/// Dropping a handle does not end the channel: its task goes on until the funding output is spent.
pub struct Handle {
    params: ChannelParams,
    funding: FundingTx,
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Status>,
    task: JoinHandle<Outcome>,
}

impl Handle {
    fn spawn<P, IO, C>(
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
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Begins to close the channel together. The end comes with the chain: see [`Handle::outcome`].
    ///
    /// # Errors
    /// If the channel is not open.
    pub async fn close(&self) -> Result<(), RequestError> {
        self.apply(Event::Close).await
    }

    /// Waits until the funding output is spent, deep enough, and says how. `None` if the party's task was
    /// ended before that.
    pub async fn outcome(&self) -> Option<Outcome> {
        let mut status = self.status.clone();
        let status = status.wait_for(|status| status.outcome.is_some()).await.ok()?;
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
    handle: Handle,
    refund: RefundTx,
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

    /// Pays `amount` more, in satoshi, and waits until the payee has acknowledged it.
    ///
    /// # Errors
    /// If nothing was sent, or what was sent is not known to have been accepted.
    pub async fn pay(&self, amount: Amount) -> Result<Balance, RequestError> {
        let (reply, answer) = oneshot::channel();
        Ok(self.handle.ask(Request::Pay(amount, reply), answer).await??)
    }
}

/// A running payee.
pub struct PayeeHandle {
    handle: Handle,
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

/// Why a channel was not opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// This side's own terms are out of its own limits.
    #[error("these terms are out of your own limits: {0}")]
    Terms(#[from] TermsError),
    /// This side's wallet returned a transaction that does not fund the channel.
    #[error("the wallet's transaction does not fund the channel: {0}")]
    Funding(#[from] FundingError),
    /// This side's wallet failed.
    #[error("the wallet made no funding transaction: {0}")]
    Wallet(Box<dyn StdError + Send + Sync>),
    /// The peer's message was refused.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The peer refused.
    #[error("the peer refused while {stage}: {reason}")]
    PeerRefused {
        /// What this side was doing.
        stage: Stage,
        /// Why.
        reason: Reason,
    },
    /// The peer sent no message, but rubbish.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The peer is gone.
    #[error("the peer is gone while {stage}")]
    Disconnected {
        /// What this side was doing.
        stage: Stage,
    },
    /// The peer says nothing.
    #[error("no message within {after:?} while {stage}")]
    Timeout {
        /// What this side was doing.
        stage: Stage,
        /// How long it waited.
        after: Duration,
    },
    /// This side's own view of the chain failed.
    #[error(transparent)]
    Chain(#[from] ChainError),
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
