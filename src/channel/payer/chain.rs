use bitcoin::{Amount, Transaction};

use super::{Payer, Seen};
use crate::channel::claim::Claim;
use crate::channel::durable::PayerPhase;
use crate::channel::error::CommandError;
use crate::channel::event::{Action, BroadcastResult, ChainView, Notice, Outcome, SETTLED_DEPTH};
use crate::channel::funding::FundingTx;
use crate::channel::limits::Limits;
use crate::channel::lock::Tip;
use crate::channel::payment_template::PaymentTemplate;
use crate::channel::stage::Stage;
use crate::channel::transaction::{RefundTx, SpendRole, SpendTemplate};

/// How the payer acts on the chain, with a view of the funding output or without.
impl Payer {
    pub(super) fn on_chain(&mut self, view: &ChainView) -> Vec<Action> {
        if !view.is_possible(&self.params, self.funding().outpoint()) {
            return self.on_blind(Some(view.tip));
        }
        let is_news = self.seen.tip != view.tip;
        self.seen = Seen {
            tip: view.tip,
            funding_parent: view.funding_parent,
            confirmations: view.confirmations,
        };
        if self.phase == PayerPhase::Closed {
            return Vec::new();
        }
        let is_funded = view.confirmations > 0 || view.spend.is_some();
        let mut actions = if is_funded { self.on_funded() } else { Vec::new() };
        actions.extend(self.on_view(view, is_news));
        actions
    }

    /// The network has the funding transaction. From here on, only a payer that watches the chain gets its money back.
    fn on_funded(&mut self) -> Vec<Action> {
        match self.phase {
            PayerPhase::Protected => {
                self.phase = PayerPhase::AwaitingReady;
                Vec::new()
            }
            PayerPhase::Abandoned => {
                self.phase = PayerPhase::Closing;
                vec![Action::Notify(Notice::FundedAfterAll)]
            }
            _ => Vec::new(),
        }
    }

    fn on_view(&mut self, view: &ChainView, is_news: bool) -> Vec<Action> {
        if self.phase == PayerPhase::Abandoned {
            return Vec::new();
        }
        if let Some(spend) = &view.spend {
            self.phase.start_closing();
            if spend.confirmations >= SETTLED_DEPTH {
                self.phase = PayerPhase::Closed;
                let outcome = Outcome::of(&self.params, &spend.tx);
                self.outcome = Some(outcome);
                return vec![Action::Notify(Notice::Closed(outcome))];
            }
            // Nobody knows whether the child is in the mempool with it.
            let waits = spend.confirmations == 0
                && spend.tx.compute_txid() == self.refund.spend().tx().compute_txid();
            let is_raised = self.refund.child().is_some();
            return if waits && is_raised && is_news {
                vec![self.refund.broadcast()]
            } else {
                Vec::new()
            };
        }
        if self.phase == PayerPhase::Protected {
            return self.abandon_if_late();
        }
        if self.may_refund() {
            // The funding transaction was rejected, was never handed over, and is still not in the chain.
            let never_out = self.custody.is_kept() && view.confirmations == 0;
            return if never_out {
                vec![self.abandon()]
            } else {
                self.start_refund()
            };
        }
        self.on_confirmations(view)
    }

    /// With the tip alone, the payer still refunds at the lock. The refund conflicts with any other spend of the
    /// output, so it does no harm.
    pub(super) fn on_blind(&mut self, tip: Option<Tip>) -> Vec<Action> {
        let Some(tip) = tip else { return Vec::new() };
        self.seen.tip = tip;
        match self.phase {
            PayerPhase::Protected => self.abandon_if_late(),
            PayerPhase::Closed | PayerPhase::Abandoned => Vec::new(),
            _ if self.may_refund() => self.start_refund(),
            _ => Vec::new(),
        }
    }

    /// A payee that requests the funding transaction now has no time left for a payment.
    fn abandon_if_late(&mut self) -> Vec<Action> {
        let Seen {
            tip, funding_parent, ..
        } = self.seen;
        if self.params.terms().must_settle(tip, funding_parent) {
            vec![self.abandon()]
        } else {
            Vec::new()
        }
    }

    fn start_refund(&mut self) -> Vec<Action> {
        self.phase.start_closing();
        vec![self.refund.broadcast()]
    }

    /// Switches to another funding output, which can only be refunded.
    pub(super) fn follow(&mut self, tx: Transaction) -> Result<Vec<Action>, CommandError> {
        let construction = self.params.terms().construction;
        if !construction.has_script_refund() {
            let signed = self.funding().outpoint().txid;
            return Err(CommandError::RefundCoSigned { signed, construction });
        }
        if self.phase == PayerPhase::Closed {
            let command = "refund a malleated funding transaction";
            return Err(CommandError::wrong_stage(self.stage(), command));
        }
        let funding = FundingTx::find(&self.params, tx)?;
        let spend = SpendTemplate::refund(&self.params, funding.outpoint());
        let signature = spend.sign(&self.key);
        let refund = RefundTx::complete(spend, signature, None).map_err(CommandError::Refund)?;
        *self.template = PaymentTemplate::new(&self.params, funding.outpoint());
        (self.malleated, self.refund) = (Some(funding), Claim::new(refund));
        self.seen.funding_parent = None;
        self.phase.start_closing();
        Ok(if self.may_refund() {
            vec![self.refund.broadcast()]
        } else {
            Vec::new()
        })
    }

    /// Follows the funding transaction into the chain, out of it, and back.
    fn on_confirmations(&mut self, view: &ChainView) -> Vec<Action> {
        let confirmed = view.confirmations >= self.params.confirmations();
        let was_confirmed = std::mem::replace(&mut self.confirmed, confirmed);
        match self.phase {
            // Only if it had enough confirmations before: the payee may see a block earlier than the payer does.
            PayerPhase::Open if !confirmed && !self.counts_early() && was_confirmed => {
                self.phase = PayerPhase::Suspended;
                let confirmations = view.confirmations;
                let mut actions = vec![Action::Notify(Notice::FundingLost { confirmations })];
                if confirmations == 0 {
                    actions.extend(self.broadcast_funding_again(view));
                }
                actions
            }
            PayerPhase::Suspended if confirmed => {
                self.phase = PayerPhase::Open;
                vec![Action::Notify(Notice::Ready)]
            }
            PayerPhase::AwaitingReady | PayerPhase::Open | PayerPhase::Suspended
                if view.confirmations == 0 =>
            {
                let mut actions = self.tell_overdue();
                actions.extend(self.broadcast_funding_again(view));
                actions
            }
            _ => Vec::new(),
        }
    }

    /// Whether the payee counts what was paid although the funding transaction has fewer confirmations than agreed.
    fn counts_early(&self) -> bool {
        let unconfirmed = self.params.zero_conf_limit();
        unconfirmed > Amount::ZERO && self.sums.paid <= unconfirmed && !self.funding.is_malleable()
    }

    /// A payee that should broadcast the funding transaction may withhold it and tie up the payer's coins.
    fn tell_overdue(&mut self) -> Vec<Action> {
        let after = self.promises.broadcast_funding_after;
        let after = after.unwrap_or(Limits::BROADCAST_FUNDING_AFTER);
        let blocks = self.custody.blocks_handed_over(self.seen.tip);
        let mine = self.params.terms().protocol.payer_broadcasts_funding();
        if mine || self.rebroadcast.overdue || blocks < after {
            return Vec::new();
        }
        self.rebroadcast.overdue = true;
        vec![Action::Notify(Notice::FundingOverdue { blocks })]
    }

    /// A mempool forgets, and a first broadcast may fail: the side that broadcasts does it again.
    fn broadcast_funding_again(&mut self, view: &ChainView) -> Vec<Action> {
        let terms = self.params.terms();
        let overdue = self.rebroadcast.overdue && self.promises.broadcast_funding_after.is_some();
        let mine = terms.protocol.payer_broadcasts_funding() || overdue;
        let offered = self.rebroadcast.offered == Some(view.tip);
        if !mine || offered || terms.must_settle(view.tip, view.funding_parent) {
            return Vec::new();
        }
        self.rebroadcast.offered = Some(view.tip);
        vec![self.broadcast_funding()]
    }

    pub(super) fn on_broadcast(&mut self, result: BroadcastResult) -> Vec<Action> {
        if result.rejected.is_none() {
            return self.hand_over_kept(result.role);
        }
        let undecided = result.role == SpendRole::Funding && self.custody.is_kept();
        if undecided && self.stage() != Stage::Closed {
            // A later attempt would lock money for a payee that has stopped waiting. This side watches on until the
            // lock, because a node may reject what the network has.
            self.phase.start_closing();
        }
        vec![Action::Notify(Notice::BroadcastRejected(result))]
    }

    /// The article's step 4: the network has the funding transaction, so there is something to tell the payee.
    /// The same holds if no node answered: the refund is safe, and a second holder of the funding transaction can only
    /// help it into the chain.
    pub(super) fn hand_over_kept(&mut self, broadcast: SpendRole) -> Vec<Action> {
        if broadcast == SpendRole::Funding && self.custody.is_kept() && self.phase != PayerPhase::Closed {
            let mut actions = self.on_funded();
            actions.push(self.hand_over());
            actions
        } else {
            Vec::new()
        }
    }
}
