use std::collections::VecDeque;

use bitcoin::{OutPoint, Transaction};

use super::{Network, SimError};
use crate::channel::{Action, ApplyError, ChainView, Event, MessageKind, Payee, Payer, SeenSpend, Tip};
use crate::transcript::Side;

/// Both parties of a channel whose funding transaction was handed over.
///
/// The fields are open, so that a caller can come between any two steps: put back a party that it saved, move the tip,
/// or talk to one side alone.
#[derive(Debug)]
pub struct Pair<N> {
    /// The payer.
    pub payer: Payer,
    /// The payee.
    pub payee: Payee,
    /// What lies between them.
    pub network: N,
    /// The chain's end, as both see it.
    pub tip: Tip,
    /// Below the block with the funding transaction, while it is in one; at first the tip of the proposal, so that a
    /// relative lock ends with an absolute one of the same length.
    pub funding_parent: Tip,
    pending: VecDeque<(Side, Action)>,
}

impl<N: Network> Pair<N> {
    pub(super) const fn new(payer: Payer, payee: Payee, network: N, tip: Tip) -> Self {
        Self {
            payer,
            payee,
            network,
            tip,
            funding_parent: tip,
            pending: VecDeque::new(),
        }
    }

    /// Applies an event to one side, has its store keep what changed, and hands back what that side would do then. No one
    /// does it until it is [queued](Self::queue).
    ///
    /// # Errors
    /// If that side refuses the event.
    pub fn tell(&mut self, side: Side, event: Event) -> Result<Vec<Action>, ApplyError> {
        let mut actions = match side {
            Side::Payer => self.payer.apply(event)?,
            Side::Payee => self.payee.apply(event)?,
        };
        if let Some(Action::Persist(change)) = actions.first() {
            self.network.persist(side, change);
            actions.remove(0);
        }
        Ok(actions)
    }

    /// Applies an event to one side, and carries out everything that follows on both.
    ///
    /// # Errors
    /// If a side refuses something, or the network gives up. What is still pending stays so.
    pub fn apply(&mut self, side: Side, event: Event) -> Result<(), SimError<N::Error>> {
        self.take(side, event)?;
        self.run()
    }

    /// What one side has to do, behind everything that is pending.
    pub fn queue(&mut self, side: Side, actions: Vec<Action>) {
        self.pending
            .extend(actions.into_iter().map(|action| (side, action)));
    }

    /// What is still to be done, by whom, the next first.
    pub const fn pending(&self) -> &VecDeque<(Side, Action)> {
        &self.pending
    }

    /// Carries out the next pending action, if there is one, and queues what follows from it.
    ///
    /// # Errors
    /// If a side refuses what it hears, or the network gives up.
    pub fn step(&mut self) -> Result<(), SimError<N::Error>> {
        let Some((side, action)) = self.pending.pop_front() else {
            return Ok(());
        };
        match action {
            Action::Persist(change) => {
                self.network.persist(side, &change);
                Ok(())
            }
            Action::Send(envelope) => {
                let heard = self.network.deliver(side, envelope).map_err(SimError::Network)?;
                heard.map_or(Ok(()), |envelope| {
                    self.take(side.peer(), Event::Message(envelope))
                })
            }
            Action::Broadcast { role, tx } => {
                let answer = self.network.broadcast(side, role, &tx);
                self.take(side, answer.into_event(role, tx.compute_txid()))
            }
            Action::BroadcastPackage { role, package } => {
                let answer = self.network.broadcast_package(side, role, &package);
                self.take(side, answer.into_event(role, package.parent().compute_txid()))
            }
            Action::Notify(notice) => {
                self.network.notify(side, &notice);
                Ok(())
            }
        }
    }

    /// Carries out all that is pending, and all that follows from it.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn run(&mut self) -> Result<(), SimError<N::Error>> {
        while !self.pending.is_empty() {
            self.step()?;
        }
        Ok(())
    }

    /// One side's process dies: what it had to do is not done. The caller replaces the party with what it had saved.
    pub fn crash(&mut self, side: Side) {
        self.pending.retain(|(by, _)| *by != side);
    }

    /// The view of the chain at the current tip: this many confirmations of the funding transaction, and what spends its
    /// output, with the confirmations of that.
    pub fn view(&self, confirmations: u32, spend: Option<(&Transaction, u32)>) -> ChainView {
        let spend = spend.map(|(tx, confirmations)| SeenSpend {
            tx: tx.clone(),
            confirmations,
        });
        ChainView {
            tip: self.tip,
            confirmations,
            funding_parent: (confirmations > 0).then_some(self.funding_parent),
            spend,
        }
    }

    /// One side polls the chain.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn poll(
        &mut self,
        side: Side,
        confirmations: u32,
        spend: Option<(&Transaction, u32)>,
    ) -> Result<(), SimError<N::Error>> {
        let view = self.view(confirmations, spend);
        self.apply(side, Event::Chain(view))
    }

    /// Both sides poll the chain, the payer first.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn poll_both(
        &mut self,
        confirmations: u32,
        spend: Option<(&Transaction, u32)>,
    ) -> Result<(), SimError<N::Error>> {
        self.poll(Side::Payer, confirmations, spend)?;
        self.poll(Side::Payee, confirmations, spend)
    }

    /// The output that locks the capacity.
    pub fn outpoint(&self) -> OutPoint {
        self.payer.funding().outpoint()
    }

    fn take(&mut self, side: Side, event: Event) -> Result<(), SimError<N::Error>> {
        let failed = SimError::of_apply(side, kind(&event));
        let actions = self.tell(side, event).map_err(failed)?;
        self.queue(side, actions);
        Ok(())
    }
}

const fn kind(event: &Event) -> Option<MessageKind> {
    match event {
        Event::Message(envelope) => Some(envelope.message.kind()),
        _ => None,
    }
}
