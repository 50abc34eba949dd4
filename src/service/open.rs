use std::error::Error as StdError;
use std::time::Duration;

use bitcoin::{ScriptBuf, Transaction, TxOut, Txid};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::channel::{
    ChannelId, ChannelKey, Considered, Envelope, Hold, HoldError, Limits, Message, NonceSource, PayeeOpening,
    PayerOpening, Reason, Refusal, Stage, Terms, TermsError,
};

use super::chain::{Chain, ChainError};
use super::connection::{Connection, ConnectionError};
use super::handle::{Handle, PayeeHandle, PayerHandle};
use super::report::{no_observer, Observer, Report};
use super::session::{in_time, Session};

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
    /// The payee: where nonces come from, to close with one signature where the construction can. Without it, a close
    /// takes two signatures. Default: the operating system's random numbers.
    pub nonces: Option<NonceSource>,
}

impl Setup {
    /// Default limits, nobody to tell, [`OPENING_TIMEOUT`], nonces from the operating system.
    #[must_use]
    pub fn new(key: ChannelKey, payout: ScriptBuf) -> Self {
        Self {
            key,
            payout,
            limits: Limits::default(),
            observer: no_observer(),
            opening_timeout: OPENING_TIMEOUT,
            nonces: random_nonces(),
        }
    }
}

/// None if the system has no random numbers to give: two signatures need none.
fn random_nonces() -> Option<NonceSource> {
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).ok()?;
    Some(NonceSource::new(fresh))
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
    proposal: Proposal,
    wallet: W,
) -> Result<PayerHandle, OpenError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Chain,
    W: FnOnce(&TxOut) -> Result<Transaction, E>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    // On the heap, because every state of the opening is in there, and whoever calls this carries it along.
    Box::pin(open_as_payer(io, chain, setup, proposal, wallet)).await
}

async fn open_as_payer<IO, C, W, E>(
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
        nonces: _,
    } = setup;
    let mut peer = Opening {
        connection: Connection::new(io),
        channel: Some(id),
        timeout,
    };
    let tip = in_time("read the tip", chain.tip()).await?;
    let (opening, message) = PayerOpening::propose(id, terms, key, payout, limits, tip)?;
    peer.connection.send(&message).await;

    let accept = peer.receive(Stage::Proposing).await?;
    let opening = peer.check(opening.accept(accept)).await?;
    let params = opening.params().clone();
    let signed = wallet(&opening.funding_output()).map_err(|error| OpenError::Wallet(error.into()))?;
    let opening = match opening.hold(signed)? {
        Hold::Protected(opening) => {
            observer(Report::FundingHeld(opening.funding()));
            opening
        }
        Hold::CoSigned(opening, message) => {
            observer(Report::FundingHeld(opening.funding()));
            peer.connection.send(&message).await;
            let signature = peer.receive(Stage::SigningRefund).await?;
            peer.check(opening.verify_refund(signature)).await?
        }
    };
    observer(Report::Refundable(opening.refund()));
    let (payer, actions) = opening.release();
    let (funding, refund) = (payer.funding().clone(), payer.refund().clone());

    let (mut session, status) = Session::new(payer, peer.connection, chain, observer);
    session.perform(actions).await;
    if session.is_unfunded() {
        return Err(OpenError::FundingRefused {
            txid: funding.tx().compute_txid(),
        });
    }
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
    Box::pin(open_as_payee(io, chain, setup)).await
}

async fn open_as_payee<IO, C>(io: IO, chain: C, setup: Setup) -> Result<PayeeHandle, OpenError>
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
        nonces,
    } = setup;
    let mut peer = Opening {
        connection: Connection::new(io),
        channel: None,
        timeout,
    };
    let proposal = peer.receive(Stage::Proposing).await?;
    let tip = in_time("read the tip", chain.tip()).await?;
    let considered = PayeeOpening::consider(proposal, key, payout, limits, tip);
    let (considered, message) = peer.check(considered).await?;
    let params = considered.params().clone();
    peer.connection.send(&message).await;
    let opening = match considered {
        Considered::AwaitsFunding(opening) => opening,
        Considered::SignsRefund(opening) => {
            let request = peer.receive(Stage::SigningRefund).await?;
            let tip = in_time("read the tip", chain.tip()).await?;
            let (opening, messages) = peer.check(opening.sign_refund(request, tip)).await?;
            for message in messages {
                peer.connection.send(&message).await;
            }
            opening
        }
    };

    let funding = peer.receive(Stage::Protected).await?;
    let (mut payee, actions) = peer.check(opening.receive_funding(funding)).await?;
    if let Some(nonces) = nonces {
        payee.provide_nonces(nonces);
    }
    let funding = payee.funding().clone();
    let (mut session, status) = Session::new(payee, peer.connection, chain, observer);
    session.perform(actions).await;
    Ok(PayeeHandle {
        handle: Handle::spawn(params, funding, session, status),
    })
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
    Funding(#[from] HoldError),
    /// This side's wallet failed.
    #[error("the wallet made no funding transaction: {0}")]
    Wallet(Box<dyn StdError + Send + Sync>),
    /// This side's node refused the funding transaction; the observer has its words.
    #[error("the network refused the funding transaction {txid}: nothing is locked")]
    FundingRefused {
        /// The transaction.
        txid: Txid,
    },
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
