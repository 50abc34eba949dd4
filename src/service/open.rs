use std::time::Duration;

use bitcoin::OutPoint;
use tokio::io::{AsyncRead, AsyncWrite};

use super::chain::{in_time, Chain, TIP};
use super::connection::{Connection, Received};
use super::handle::{spawn, HandleParts, Launch, OnEnd, PayeeHandle, PayeeSide, PayerHandle, PayerSide};
use super::open_error::OpenError;
use super::report::Report;
use super::session::{Launched, Pace, Session};
use super::setup::{Proposal, Setup};
use super::teller::Teller;
use super::trace::in_opening;
use super::wallet::{signed, Wallet};
use crate::channel::{
    AcceptedProposal, Action, ChannelId, Envelope, FundedOpening, Message, Payee, PayeeOpening, Payer,
    PayerOpening, Proposed, Protected, Refusal, RefusalReason, Stage, Tip,
};

impl Setup {
    /// Opens a channel as the payer and runs it in its own task.
    ///
    /// `wallet` makes and signs a transaction that pays the funding output, which leaves this side only when the refund is
    /// signed and verified.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future never loses money. Until the refund is signed and verified, dropping it ends the opening, and
    /// the funding transaction has not left this side. After that the party lives in its own task: it asks the payee to
    /// close the channel, so that the money comes back soon, and broadcasts the refund when its lock has passed if the channel
    /// is still open then. Where the future is dropped by [`tokio::try_join!`] or a timeout, keep the runtime alive for
    /// that.
    ///
    /// # Errors
    /// If the opening fails on either side. [`OpenError::FundingRejected`] alone comes after the funding transaction was
    /// given to a node: the party goes on, and the refund is in the error. After any other error nothing is locked.
    pub async fn open<IO, C, W>(
        self,
        io: IO,
        chain: C,
        proposal: Proposal,
        wallet: W,
    ) -> Result<PayerHandle, OpenError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        C: Chain,
        W: Wallet,
    {
        // Large, and polled seldom.
        let id = proposal.id;
        let opening = async {
            let connection = Connection::new(io);
            let opened = open_as_payer(connection, chain, self, proposal, wallet).await?;
            let (handle, launch) = opened.spawn(OnEnd::nothing());
            keep_payer(&handle, launch).await?;
            Ok(handle)
        };
        Box::pin(in_opening(id, opening)).await
    }

    /// Accepts a channel as the payee and runs it in its own task.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the opening until the payee has the funding transaction. After that the party lives in its
    /// own task: it asks the payer to close the channel, and runs until that is done or the expiry has passed.
    ///
    /// # Errors
    /// If the opening fails on either side. The payee has nothing at stake by then.
    pub async fn accept<IO, C>(self, io: IO, chain: C) -> Result<PayeeHandle, OpenError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        C: Chain,
    {
        let connection = Connection::new(io);
        Box::pin(async {
            let opened = open_as_payee(connection, None, chain, self).await?;
            let (handle, mut launch) = opened.spawn(OnEnd::nothing());
            // If the node rejected the funding transaction, the state machine offers it again, and the observer knows.
            if let Launched::NotStored(error) = launch.is_under_way().await {
                return Err(error.into());
            }
            launch.keep();
            Ok(handle)
        })
        .await
    }
}

/// A connection while the channel is being opened.
struct Opening {
    connection: Connection,
    channel: Option<ChannelId>,
    timeout: Duration,
    teller: Teller,
}

impl Opening {
    fn send(&mut self, envelope: &Envelope) {
        self.connection.send(envelope);
    }

    async fn receive(&mut self, stage: Stage) -> Result<Envelope, OpenError> {
        let after = self.timeout;
        let received = tokio::time::timeout(after, async {
            loop {
                match self.connection.receive(false).await {
                    Received::Room => {}
                    received => return received,
                }
            }
        })
        .await
        .map_err(|_| OpenError::Timeout { stage, after })?;
        match received {
            Received::Gone | Received::Room => Err(OpenError::Disconnected { stage }),
            Received::Message(Envelope {
                message: Message::Refuse { reason },
                ..
            }) => Err(OpenError::PeerRefused { stage, reason }),
            Received::Message(envelope) => {
                self.channel.get_or_insert(envelope.channel);
                Ok(envelope)
            }
            Received::Garbled(error) => {
                self.refuse(RefusalReason::Malformed).await;
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

    async fn refuse(&mut self, reason: RefusalReason) {
        let channel = self.channel.unwrap_or(ChannelId(0));
        let message = Message::Refuse { reason };
        self.send(&Envelope { channel, message });
        // The program may end with the opening.
        self.connection.finish().await;
    }
}

/// A payer whose refund is safe, and whose task has not begun. From here on the funding transaction may be out, and only
/// that task may hold the refund: nothing is awaited before it has begun.
pub(super) struct OpenedPayer<C> {
    session: Session<Payer, C>,
    actions: Vec<Action>,
    wallet_timeout: Duration,
}

impl<C: Chain> OpenedPayer<C> {
    pub fn funding(&self) -> OutPoint {
        self.session.party().funding().outpoint()
    }

    pub fn spawn(self, on_end: OnEnd) -> (PayerHandle, Launch) {
        let parts = HandleParts {
            side: PayerSide::new(self.session.party().refund().clone()),
            wallet_timeout: self.wallet_timeout,
            on_end,
        };
        spawn(self.session, self.actions, parts)
    }
}

/// Waits until the funding transaction is on its way.
pub(super) async fn keep_payer(handle: &PayerHandle, mut launch: Launch) -> Result<(), OpenError> {
    match launch.is_under_way().await {
        Launched::UnderWay => {}
        Launched::NotStored(error) => return Err(error.into()),
        Launched::Rejected(reason) => {
            return Err(OpenError::FundingRejected {
                txid: handle.funding().tx().compute_txid(),
                reason,
                refund: Box::new(handle.refund().clone()),
            });
        }
    }
    launch.keep();
    Ok(())
}

pub(super) async fn open_as_payer<C: Chain, W: Wallet>(
    connection: Connection,
    chain: C,
    setup: Setup,
    Proposal { id, terms }: Proposal,
    wallet: W,
) -> Result<OpenedPayer<C>, OpenError> {
    let (pace, wallet_timeout, shelf) = (Pace::of(&setup), setup.wallet_timeout, setup.shelf.clone());
    let mut peer = Opening {
        connection,
        channel: Some(id),
        timeout: setup.opening_timeout,
        teller: Teller::new(setup.observer),
    };
    let tip = in_time(TIP, async { chain.tip().await }).await?;
    let key = setup.key.public_key();
    let (opening, message) = PayerOpening::propose(id, terms, setup.key, setup.payout, setup.limits, tip)?;
    setup.key_reuse.claim(key)?;
    peer.send(&message);
    let opening = protect(&mut peer, opening, (wallet, wallet_timeout)).await?;
    let (payer, actions) = opening.into_payer();
    let session = Session::new(payer, peer.connection, chain, peer.teller, shelf, (pace, tip));
    Ok(OpenedPayer {
        session,
        actions,
        wallet_timeout,
    })
}

/// Agrees on the channel, has the funding transaction signed, and lets it go only when the refund is safe.
async fn protect<W: Wallet>(
    peer: &mut Opening,
    opening: PayerOpening<Proposed>,
    (mut wallet, within): (W, Duration),
) -> Result<PayerOpening<Protected>, OpenError> {
    let accept = peer.receive(Stage::Proposing).await?;
    let opening = peer.check(opening.accept(accept)).await?;
    let output = opening.funding_output();
    let signed = signed(within, async { wallet.fund(&output).await }).await?;
    let opening = match opening.fund(signed)? {
        FundedOpening::Protected(opening) => {
            peer.teller.tell(Report::FundingHeld(opening.funding()));
            opening
        }
        FundedOpening::CoSigned(opening, message) => {
            peer.teller.tell(Report::FundingHeld(opening.funding()));
            peer.send(&message);
            let signature = peer.receive(Stage::SigningRefund).await?;
            peer.check(opening.verify_refund(signature)).await?
        }
    };
    peer.teller.tell(Report::Refundable(opening.refund()));
    Ok(opening)
}

/// A payee that has the funding transaction, and whose task has not begun.
pub(super) struct OpenedPayee<C> {
    session: Session<Payee, C>,
    actions: Vec<Action>,
    wallet_timeout: Duration,
}

impl<C: Chain> OpenedPayee<C> {
    pub fn funding(&self) -> OutPoint {
        self.session.party().funding().outpoint()
    }

    pub fn spawn(self, on_end: OnEnd) -> (PayeeHandle, Launch) {
        let parts = HandleParts {
            side: PayeeSide::new(),
            wallet_timeout: self.wallet_timeout,
            on_end,
        };
        spawn(self.session, self.actions, parts)
    }
}

/// `proposal` is the payer's first message, if it was read already.
pub(super) async fn open_as_payee<C: Chain>(
    connection: Connection,
    proposal: Option<Envelope>,
    chain: C,
    mut setup: Setup,
) -> Result<OpenedPayee<C>, OpenError> {
    let (pace, wallet_timeout, shelf) = (Pace::of(&setup), setup.wallet_timeout, setup.shelf.clone());
    let nonces = setup.nonces.take();
    let mut peer = Opening {
        connection,
        channel: proposal.as_ref().map(|proposal| proposal.channel),
        timeout: setup.opening_timeout,
        teller: Teller::new(setup.observer.clone()),
    };
    let proposal = match proposal {
        Some(proposal) => proposal,
        None => peer.receive(Stage::Proposing).await?,
    };
    let tip = in_time(TIP, async { chain.tip().await }).await?;
    let (mut payee, actions) = take_funding(&mut peer, &chain, setup, (proposal, tip)).await?;
    if let Some(nonces) = nonces {
        payee.provide_nonces(nonces);
    }
    let session = Session::new(payee, peer.connection, chain, peer.teller, shelf, (pace, tip));
    Ok(OpenedPayee {
        session,
        actions,
        wallet_timeout,
    })
}

/// Answers the proposal, signs the refund if that is asked for, and takes the funding transaction.
async fn take_funding<C: Chain>(
    peer: &mut Opening,
    chain: &C,
    setup: Setup,
    (proposal, tip): (Envelope, Tip),
) -> Result<(Payee, Vec<Action>), OpenError> {
    let key = setup.key.public_key();
    let considered = PayeeOpening::accept(proposal, setup.key, setup.payout, setup.limits, tip);
    let (considered, message) = peer.check(considered).await?;
    setup.key_reuse.claim(key)?;
    peer.send(&message);
    let opening = match considered {
        AcceptedProposal::AwaitsFunding(opening) => opening,
        AcceptedProposal::SignsRefund(opening) => {
            let request = peer.receive(Stage::SigningRefund).await?;
            let tip = in_time(TIP, async { chain.tip().await }).await?;
            let (opening, messages) = peer.check(opening.sign_refund(request, tip)).await?;
            for message in messages {
                peer.send(&message);
            }
            opening
        }
    };
    let funding = peer.receive(Stage::Protected).await?;
    peer.check(opening.receive_funding(funding)).await
}
