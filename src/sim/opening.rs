use std::collections::VecDeque;

use bitcoin::{Transaction, TxOut};

use super::{Network, Pair, PairSetup, SimError};
use crate::channel::{
    AcceptedProposal, Action, Agreed, AwaitsFunding, Envelope, Event, FundedOpening, MessageKind,
    NonceSource, PayeeOpening, Payer, PayerOpening, Proposed, Protected,
};
use crate::transcript::Side;

/// Both sides between two steps of the opening; the state says which.
#[derive(Debug)]
#[must_use]
pub struct Opening<S, N> {
    /// What both brought.
    pub setup: PairSetup,
    /// What lies between them.
    pub network: N,
    /// Where they are.
    pub state: S,
}

/// The proposal is about to be sent.
#[derive(Debug)]
pub struct AtProposal {
    /// The payer.
    pub payer: PayerOpening<Proposed>,
    /// Its proposal.
    pub open: Envelope,
}

/// Both agree, and the payer's wallet is asked for the funding transaction.
#[derive(Debug)]
pub struct AtFunding {
    /// The payer.
    pub payer: PayerOpening<Agreed>,
    /// The payee.
    pub payee: AcceptedProposal,
}

/// The payer has its funding transaction, and nothing that gives the money back without it.
#[derive(Debug)]
pub struct AtRefund {
    /// The payer.
    pub payer: FundedOpening,
    /// The payee.
    pub payee: AcceptedProposal,
}

/// The payer is protected: only the lock holds its refund back.
#[derive(Debug)]
pub struct AtHandover {
    /// The payer.
    pub payer: PayerOpening<Protected>,
    /// The payee.
    pub payee: PayeeOpening<AwaitsFunding>,
    /// How the payee asks for the funding transaction, if the protocol has it ask.
    pub requests: Vec<Envelope>,
}

type Step<S, N> = Result<Opening<S, N>, SimError<<N as Network>::Error>>;

impl<N: Network> Opening<AtProposal, N> {
    /// The payer makes its proposal.
    ///
    /// # Errors
    /// If its own limits forbid it.
    pub fn propose(setup: PairSetup, network: N) -> Step<AtProposal, N> {
        let (payer, open) = setup.propose().map_err(SimError::Propose)?;
        let state = AtProposal { payer, open };
        Ok(Self {
            setup,
            network,
            state,
        })
    }

    /// The payee accepts, and the payer hears of it.
    ///
    /// # Errors
    /// If one refuses what it hears, or hears nothing.
    pub fn accept(mut self) -> Step<AtFunding, N> {
        let AtProposal { payer, open } = self.state;
        let open = deliver(&mut self.network, Side::Payer, open)?;
        let accepted = self.setup.accept(open);
        let (payee, accept) = accepted.map_err(SimError::refused(Side::Payee, MessageKind::Open))?;
        let accept = deliver(&mut self.network, Side::Payee, accept)?;
        let agreed = payer.accept(accept);
        let payer = agreed.map_err(SimError::refused(Side::Payer, MessageKind::Accept))?;
        Ok(Opening {
            setup: self.setup,
            network: self.network,
            state: AtFunding { payer, payee },
        })
    }
}

impl<N: Network> Opening<AtFunding, N> {
    /// The payer takes the funding transaction that its wallet signed, and keeps it to itself.
    ///
    /// # Errors
    /// If the transaction is of no use.
    pub fn fund(self, signed: Transaction) -> Step<AtRefund, N> {
        let AtFunding { payer, payee } = self.state;
        let payer = payer.fund(signed).map_err(SimError::Fund)?;
        Ok(Opening {
            setup: self.setup,
            network: self.network,
            state: AtRefund { payer, payee },
        })
    }
}

impl<N: Network> Opening<AtRefund, N> {
    /// The payee signs the refund, and the payer checks it, unless the script lets the payer refund alone.
    ///
    /// # Errors
    /// If one refuses what it hears, or hears nothing.
    pub fn protect(mut self) -> Step<AtHandover, N> {
        let state = match (self.state.payer, self.state.payee) {
            (FundedOpening::CoSigned(payer, request), AcceptedProposal::SignsRefund(payee)) => {
                let request = deliver(&mut self.network, Side::Payer, request)?;
                let signed = payee.sign_refund(request, self.setup.tip_at_signing);
                let refused = SimError::refused(Side::Payee, MessageKind::RefundRequest);
                let (payee, mut requests) = signed.map_err(refused)?;
                let signature = deliver(&mut self.network, Side::Payee, requests.remove(0))?;
                let refused = SimError::refused(Side::Payer, MessageKind::RefundSignature);
                let payer = payer.verify_refund(signature).map_err(refused)?;
                AtHandover {
                    payer,
                    payee,
                    requests,
                }
            }
            (FundedOpening::Protected(payer), AcceptedProposal::AwaitsFunding(payee)) => AtHandover {
                payer,
                payee,
                requests: Vec::new(),
            },
            _ => return Err(SimError::RefundDisputed),
        };
        Ok(Opening {
            setup: self.setup,
            network: self.network,
            state,
        })
    }
}

impl<N: Network> Opening<AtHandover, N> {
    /// The payer hands the funding transaction over. What the payee does then is [pending](Pair::step).
    ///
    /// # Errors
    /// If one refuses what it hears, or hears nothing, or the payer hands nothing over.
    pub fn hand_over(self) -> Result<Pair<N>, SimError<N::Error>> {
        let (setup, mut network) = (self.setup, self.network);
        let (mut payer, actions) = self.state.payer.into_payer();
        let mut actions = VecDeque::from(actions);
        for request in self.state.requests {
            let request = deliver(&mut network, Side::Payee, request)?;
            let refused = SimError::of_apply(Side::Payer, Some(MessageKind::FundingRequest));
            actions.extend(payer.apply(Event::Message(request)).map_err(refused)?);
        }
        let funding = release(&mut payer, actions, &mut network)?;
        let funding = deliver(&mut network, Side::Payer, funding)?;
        let received = self.state.payee.receive_funding(funding);
        let (mut payee, actions) = received.map_err(SimError::refused(Side::Payee, MessageKind::Funding))?;
        if let Some(seed) = setup.nonce_seed {
            payee.provide_nonces(NonceSource::fixed(seed));
        }
        let mut pair = Pair::new(payer, payee, network, setup.tip);
        pair.queue(Side::Payee, actions);
        Ok(pair)
    }
}

impl<N: Network> Pair<N> {
    /// The whole opening: both know the funding transaction, and wait for it to confirm.
    ///
    /// # Errors
    /// If one of its steps fails.
    pub fn funded(
        setup: PairSetup,
        network: N,
        wallet: impl FnOnce(TxOut) -> Transaction,
    ) -> Result<Self, SimError<N::Error>> {
        let agreed = Opening::propose(setup, network)?.accept()?;
        let signed = wallet(agreed.state.payer.funding_output());
        let mut pair = agreed.fund(signed)?.protect()?.hand_over()?;
        pair.run()?;
        Ok(pair)
    }

    /// The same, and the funding transaction has the confirmations that the payee wants.
    ///
    /// # Errors
    /// If one of the steps fails.
    pub fn open(
        setup: PairSetup,
        network: N,
        wallet: impl FnOnce(TxOut) -> Transaction,
    ) -> Result<Self, SimError<N::Error>> {
        let mut pair = Self::funded(setup, network, wallet)?;
        pair.poll_both(pair.payee.params().confirmations(), None)?;
        Ok(pair)
    }
}

fn deliver<N: Network>(network: &mut N, from: Side, said: Envelope) -> Result<Envelope, SimError<N::Error>> {
    let kind = said.message.kind();
    let heard = network.deliver(from, said).map_err(SimError::Network)?;
    heard.ok_or(SimError::Lost { from, kind })
}

/// Carries out what the payer does until it sends the funding transaction; some protocols broadcast it first.
fn release<N: Network>(
    payer: &mut Payer,
    mut actions: VecDeque<Action>,
    network: &mut N,
) -> Result<Envelope, SimError<N::Error>> {
    let mut funding = None;
    while let Some(action) = actions.pop_front() {
        let event = match action {
            Action::Persist(change) => {
                network.persist(Side::Payer, &change);
                continue;
            }
            Action::Send(envelope) => {
                funding = Some(envelope);
                continue;
            }
            Action::Broadcast { role, tx } => {
                let answer = network.broadcast(Side::Payer, role, &tx);
                answer.into_event(role, tx.compute_txid())
            }
            Action::BroadcastPackage { role, package } => {
                let answer = network.broadcast_package(Side::Payer, role, &package);
                answer.into_event(role, package.parent().compute_txid())
            }
            Action::Notify(notice) => {
                network.notify(Side::Payer, &notice);
                continue;
            }
        };
        actions.extend(
            payer
                .apply(event)
                .map_err(SimError::of_apply(Side::Payer, None))?,
        );
    }
    funding.ok_or(SimError::FundingKept)
}
