use bitcoin::{Amount, Transaction};

use super::Payer;
use crate::channel::error::CommandError;
use crate::channel::event::{Action, BroadcastResult, ChainView, Notice, Outcome, SETTLED_DEPTH};
use crate::channel::funding::FundingTx;
use crate::channel::limits::Limits;
use crate::channel::lock::Tip;
use crate::channel::payment::PaymentTemplate;
use crate::channel::protocol::Protocol;
use crate::channel::stage::Stage;
use crate::channel::transaction::{RefundTx, SpendRole, SpendTemplate};

/// How the payer acts on the chain, with a view of the funding output or without.
impl Payer {
    pub(super) fn on_chain(&mut self, view: &ChainView) -> Vec<Action> {
        if !view.is_possible(&self.params, self.funding.outpoint()) {
            return self.on_blind(Some(view.tip));
        }
        (self.tip, self.funding_parent) = (view.tip, view.funding_parent);
        if self.stage == Stage::Closed {
            return Vec::new();
        }
        if let Some(spend) = &view.spend {
            self.stage = Stage::Closing;
            if spend.confirmations >= SETTLED_DEPTH {
                self.stage = Stage::Closed;
                return vec![Action::Notify(Notice::Closed(Outcome::of(
                    &self.params,
                    &spend.tx,
                )))];
            }
            return Vec::new();
        }
        if self.stage == Stage::Protected {
            let too_late = self.params.terms().must_settle(view.tip, view.funding_parent);
            return if too_late {
                vec![self.abandon()]
            } else {
                Vec::new()
            };
        }
        if self.may_refund() {
            // The funding transaction was refused and never left this side, and it is not in the chain after all this time.
            let never_out = self.handed_over.is_none() && view.confirmations == 0;
            return if never_out {
                vec![self.abandon()]
            } else {
                self.start_refund()
            };
        }
        self.on_depth(view)
    }

    /// With the tip alone, the payer still refunds at the lock. The refund conflicts with any other spend of the
    /// output, so it does no harm.
    pub(super) fn on_blind(&mut self, tip: Option<Tip>) -> Vec<Action> {
        let Some(tip) = tip else { return Vec::new() };
        self.tip = tip;
        match self.stage {
            Stage::Protected if self.params.terms().must_settle(tip, self.funding_parent) => {
                vec![self.abandon()]
            }
            Stage::Closed | Stage::Protected => Vec::new(),
            _ if self.may_refund() => self.start_refund(),
            _ => Vec::new(),
        }
    }

    fn start_refund(&mut self) -> Vec<Action> {
        self.stage = Stage::Closing;
        vec![self.broadcast_refund()]
    }

    /// Switches to another funding output, which can only be refunded.
    pub(super) fn follow(&mut self, tx: Transaction) -> Result<Vec<Action>, CommandError> {
        let construction = self.params.terms().construction;
        if !construction.has_script_refund() {
            let signed = self.funding.outpoint().txid;
            return Err(CommandError::RefundCoSigned { signed, construction });
        }
        if self.stage == Stage::Closed {
            return Err(self.wrong_stage("refund a malleated funding transaction"));
        }
        let funding = FundingTx::find(&self.params, tx)?;
        let spend = SpendTemplate::refund(&self.params, funding.outpoint());
        let signature = spend.sign(&self.key);
        self.refund = RefundTx::complete(spend, signature, None).map_err(CommandError::Refund)?;
        *self.payments = PaymentTemplate::new(&self.params, funding.outpoint());
        (self.funding, self.funding_parent, self.raised) = (funding, None, None);
        self.stage = Stage::Closing;
        Ok(if self.may_refund() {
            vec![self.broadcast_refund()]
        } else {
            Vec::new()
        })
    }

    /// Follows the funding transaction into the chain, out of it, and back.
    fn on_depth(&mut self, view: &ChainView) -> Vec<Action> {
        let before = std::mem::replace(&mut self.confirmations, view.confirmations);
        let confirmed = view.confirmations >= self.params.confirmations();
        match self.stage {
            // Only if it had enough confirmations before: the payee may see a block earlier than the payer does.
            Stage::Open if !confirmed && !self.counts_early() && before >= self.params.confirmations() => {
                self.stage = Stage::AwaitingFunding;
                let confirmations = view.confirmations;
                let mut actions = vec![Action::Notify(Notice::FundingLost { confirmations })];
                if confirmations == 0 {
                    actions.extend(self.broadcast_funding_again(view));
                }
                actions
            }
            Stage::AwaitingFunding if self.ready && confirmed => {
                self.stage = Stage::Open;
                vec![Action::Notify(Notice::Ready)]
            }
            Stage::AwaitingFunding | Stage::Open if view.confirmations == 0 => {
                let mut actions = self.tell_overdue();
                actions.extend(self.broadcast_funding_again(view));
                actions
            }
            _ => Vec::new(),
        }
    }

    /// Whether the payee counts what was paid although the funding transaction has not as many confirmations as agreed.
    fn counts_early(&self) -> bool {
        let unconfirmed = self.params.zero_conf_limit();
        unconfirmed > Amount::ZERO && self.paid <= unconfirmed && !self.funding.is_malleable()
    }

    /// A payee that broadcasts the funding transaction may sit on it, and tie up the payer's coins.
    fn tell_overdue(&mut self) -> Vec<Action> {
        let after = self.broadcast_funding_after;
        let after = after.unwrap_or(Limits::BROADCAST_FUNDING_AFTER);
        let height = |tip: Tip| tip.height.to_consensus_u32();
        let since = height(self.handed_over.unwrap_or(self.tip));
        let blocks = height(self.tip).saturating_sub(since);
        if self.params.terms().protocol == Protocol::SteppedLocktime || self.overdue || blocks < after {
            return Vec::new();
        }
        self.overdue = true;
        vec![Action::Notify(Notice::FundingOverdue { blocks })]
    }

    /// A mempool forgets, and a first broadcast may fail: the side that broadcasts does it again.
    fn broadcast_funding_again(&mut self, view: &ChainView) -> Vec<Action> {
        let terms = self.params.terms();
        let overdue = self.overdue && self.broadcast_funding_after.is_some();
        let mine = terms.protocol == Protocol::SteppedLocktime || overdue;
        if !mine || terms.must_settle(view.tip, view.funding_parent) || self.offered == view.tip {
            return Vec::new();
        }
        self.offered = view.tip;
        vec![self.broadcast_funding()]
    }

    pub(super) fn on_broadcast(&mut self, result: BroadcastResult) -> Vec<Action> {
        if result.rejected.is_some() {
            if result.role == SpendRole::Funding && self.handed_over.is_none() {
                // A later attempt would lock money for a payee that has stopped waiting. This side watches on until the
                // lock, because a node may refuse what the network has.
                self.stage = Stage::Closing;
            }
            return vec![Action::Notify(Notice::BroadcastRejected(result))];
        }
        match result.role {
            // The article's step 4: only now is there something to tell the payee.
            SpendRole::Funding if self.handed_over.is_none() => vec![self.hand_over()],
            _ => Vec::new(),
        }
    }

    /// The refund is safe, and a second holder of the funding transaction can only help it into the chain.
    pub(super) fn on_unknown(&mut self, role: SpendRole) -> Vec<Action> {
        if role == SpendRole::Funding && self.handed_over.is_none() {
            vec![self.hand_over()]
        } else {
            Vec::new()
        }
    }
}
