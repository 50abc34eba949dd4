use bitcoin::{Amount, Transaction, Txid};

use super::{Payee, State};
use crate::channel::event::{
    Action, BroadcastResult, ChainView, Notice, Outcome, SeenSpend, BLIND_BLOCKS, SETTLED_DEPTH,
};
use crate::channel::lock::Tip;
use crate::channel::message::Message;
use crate::channel::script_check::SpendError;
use crate::channel::transaction::{SettlementTx, SpendRole};

/// How the payee acts on the chain, with a view of the funding output or without.
impl Payee {
    pub(super) fn on_chain(&mut self, view: ChainView) -> Result<Vec<Action>, SpendError> {
        if self.state.is_closed() {
            return Ok(Vec::new());
        }
        if !view.is_possible(&self.params, self.funding.outpoint()) {
            return self.on_blind(Some(view.tip));
        }
        if let Some(SeenSpend {
            tx,
            confirmations: confirmations @ 1..,
        }) = &view.spend
        {
            let (tx, confirmations) = (tx.clone(), *confirmations);
            self.see(view);
            return Ok(self.on_spent(&tx, confirmations));
        }
        // Before anything is changed, because it may fail.
        let must_settle = self.params.terms().must_settle(view.tip, view.funding_parent);
        let due = self.due(must_settle, view.spend.is_some())?;
        let is_news = self.sight.viewed_at() != Some(view.tip);
        self.see(view);
        if self.is_pointless() {
            return Ok(self.abandon());
        }
        let mut actions = self.on_confirmations();
        actions.extend(self.broadcast_funding_again(must_settle));
        actions.extend(self.broadcast_settlement(due, must_settle, is_news)?);
        Ok(actions)
    }

    fn see(&mut self, view: ChainView) {
        // What fell out of a block must be accepted by the network again.
        if view.confirmations == 0 && self.sight.confirmations() > 0 {
            (self.broadcasts.accepted, self.broadcasts.offered) = (false, None);
        }
        self.sight.see(view);
    }

    /// With the tip alone, this side still settles at the margin, with what it last knew.
    pub(super) fn on_blind(&mut self, tip: Option<Tip>) -> Result<Vec<Action>, SpendError> {
        let Some(tip) = tip.filter(|_| !self.state.is_closed()) else {
            self.sight.go_blind();
            return Ok(Vec::new());
        };
        let funding_parent = self.sight.funding_parent();
        let must_settle = self.params.terms().must_settle(tip, funding_parent);
        let due = self.due(must_settle, false)?;
        self.sight.go_blind();
        self.sight.tip = tip;
        if self.is_pointless() {
            return Ok(self.abandon());
        }
        let since = self.sight.viewed_at().unwrap_or(self.opened);
        let height = |tip: Tip| tip.height.to_consensus_u32();
        let long = height(tip) >= height(since).saturating_add(BLIND_BLOCKS);
        let mut actions = Vec::new();
        if self.sight.tell_blind(long) {
            actions.push(Action::Notify(Notice::Blind { since, tip }));
        }
        actions.extend(self.broadcast_settlement(due, must_settle, true)?);
        Ok(actions)
    }

    /// The transaction to settle with, if it is time and that has not been done. A spend by others is a reason, too.
    fn due(&self, must_settle: bool, spent: bool) -> Result<Option<SettlementTx>, SpendError> {
        let unlocked = self.params.terms().payment_expiry.is_none();
        if self.settlement().is_some() || !(must_settle || (spent && unlocked)) {
            return Ok(None);
        }
        self.redeem(self.payments.enforceable())
    }

    /// Whether this side holds nothing worth settling, and nothing more can come.
    fn is_pointless(&self) -> bool {
        let held = self.payments.enforceable().is_some();
        let settled = self
            .settlement()
            .is_some_and(|settlement| settlement.balance().is_enforceable());
        // A relative lock that has not begun counts from the opening: after that time, waiting is pointless.
        let lock = self.params.terms().refund_lock;
        let expiry = lock.expiry(Some(self.sight.funding_parent().unwrap_or(self.opened)));
        let expired = expiry.is_some_and(|expiry| expiry.is_final(self.sight.tip));
        !held && !settled && !self.sight.spend_seen() && (self.peer_gone || expired)
    }

    fn close_for_good(&mut self) {
        self.state.close();
        self.asked_with = None;
    }

    fn abandon(&mut self) -> Vec<Action> {
        self.close_for_good();
        vec![Action::Notify(Notice::Abandoned)]
    }

    pub(super) fn on_peer_gone(&mut self) -> Result<Vec<Action>, SpendError> {
        self.peer_gone = true;
        if !self.state.is_closed() && self.settlement().is_none() && self.is_pointless() {
            return Ok(self.abandon());
        }
        self.on_peer_away()
    }

    /// What the peer was asked for does not come any more.
    pub(super) fn on_peer_away(&mut self) -> Result<Vec<Action>, SpendError> {
        if self.state.is_closed() || self.settlement().is_some() {
            return Ok(Vec::new());
        }
        Ok(self.settle_alone()?.into_iter().collect())
    }

    /// Gives the funding transaction to the network again, once a block: a mempool forgets, and a first broadcast may fail.
    /// Without it in the chain, no payment is worth anything. If the node did not answer, the payee offers it at every
    /// poll, in the chain or not, to see whether the node answers.
    fn broadcast_funding_again(&mut self, must_settle: bool) -> Option<Action> {
        let terms = self.params.terms();
        let early = self.params.zero_conf_limit() > Amount::ZERO;
        let mine = !terms.protocol.payer_broadcasts_funding() || early;
        let enforceable = self.payments.enforceable().is_some();
        let missing = self.sight.confirmations() == 0 && self.broadcasts.offered != Some(self.sight.tip);
        let wanted = missing && (enforceable || (mine && !must_settle));
        let unheard = self.broadcasts.unanswered && self.settlement().is_none();
        if self.sight.spend_seen() || !(wanted || unheard) {
            return None;
        }
        self.broadcasts.offered = Some(self.sight.tip);
        Some(Action::broadcast(SpendRole::Funding, self.funding.tx()))
    }

    /// Settles with what is due, or with what was broadcast before: with every block, until it is in one, because a mempool
    /// forgets, and a reorganisation undoes a block. From the closing margin on, the latest payment is broadcast as well,
    /// whatever became of the settlement. A child goes out again while its parent waits in the mempool, because nobody knows
    /// whether it is there.
    fn broadcast_settlement(
        &mut self,
        due: Option<SettlementTx>,
        must_settle: bool,
        is_news: bool,
    ) -> Result<Vec<Action>, SpendError> {
        let seen = self.sight.visible_spend();
        if let Some(settlement) = due {
            let is_out = seen == Some(settlement.tx().compute_txid());
            let broadcast = self.settle(settlement);
            return Ok(if is_out { Vec::new() } else { vec![broadcast] });
        }
        let Some(claim) = self.state.settlement() else {
            return Ok(Vec::new());
        };
        let txid = claim.spend().tx().compute_txid();
        let payment = self.redeem(self.payments.enforceable().filter(|_| must_settle))?;
        let other = payment.filter(|payment| payment.tx().compute_txid() != txid);
        Ok(match other {
            Some(payment) if claim.spend().is_cooperative() => vec![
                Action::Notify(Notice::CooperativeCloseUnconfirmed { txid }),
                self.settle(payment),
            ],
            other if seen != Some(txid) => {
                let other = other.map(|payment| Action::broadcast(payment.role(), payment.tx()));
                [claim.broadcast()].into_iter().chain(other).collect()
            }
            _ if is_news && claim.child().is_some() => vec![claim.broadcast()],
            _ => Vec::new(),
        })
    }

    fn on_spent(&mut self, tx: &Transaction, confirmations: u32) -> Vec<Action> {
        if confirmations < SETTLED_DEPTH {
            self.state.end_payments();
            return Vec::new();
        }
        self.close_for_good();
        let outcome = Outcome::of(&self.params, tx);
        self.outcome = Some(outcome);
        vec![Action::Notify(Notice::Closed(outcome))]
    }

    /// Follows the funding transaction into the chain, out of it, and back; and its spend into the mempool.
    fn on_confirmations(&mut self) -> Vec<Action> {
        let confirmations = self.sight.confirmations();
        let counts = self.counts(self.paid());
        match self.state {
            State::AwaitingFunding | State::Open | State::Suspended if self.sight.spend_seen() => {
                self.state.end_payments();
                Vec::new()
            }
            State::AwaitingFunding | State::Suspended if counts => {
                self.state = State::Open;
                let mut actions = vec![self.send(Message::Ready), Action::Notify(Notice::Ready)];
                actions.extend(self.acknowledge());
                actions
            }
            State::Open if !counts => {
                self.state = State::Suspended;
                vec![Action::Notify(Notice::FundingLost { confirmations })]
            }
            State::Open | State::AwaitingSettlement { .. } | State::Settling(_) => self.acknowledge(),
            State::AwaitingFunding | State::Suspended | State::Closed(_) => Vec::new(),
        }
    }

    pub(super) fn on_broadcast(&mut self, result: BroadcastResult) -> Result<Vec<Action>, SpendError> {
        let mut actions = Vec::new();
        self.broadcasts.unanswered = false;
        match (result.role, result.rejected.is_none()) {
            (SpendRole::Payment | SpendRole::Settlement, true) => {
                actions.push(self.send(Message::Closed { txid: result.txid }));
            }
            (SpendRole::Funding, accepted) => {
                self.broadcasts.accepted = accepted;
                actions.extend(self.on_confirmations());
            }
            _ => {}
        }
        if result.rejected.is_some() {
            actions.extend(self.payment_instead_of(result.txid)?);
            actions.push(Action::Notify(Notice::BroadcastRejected(result)));
        }
        Ok(actions)
    }

    /// An unknown answer is treated like a rejection: the latest payment does not wait for another answer.
    pub(super) fn on_unknown(&mut self, txid: Txid) -> Result<Vec<Action>, SpendError> {
        let payment = self.payment_instead_of(txid)?;
        self.broadcasts.unanswered = true;
        Ok(payment.into_iter().collect())
    }

    /// The payer chose the fee of the settlement, and may have chosen more than a node accepts (`maxfeerate`).
    /// That must not keep the latest payment from the network until the refund's lock has passed. The settlement stays, and
    /// is broadcast first at the next block, too.
    fn payment_instead_of(&self, refused: Txid) -> Result<Option<Action>, SpendError> {
        let settlement = self.settlement().map(|settlement| settlement.tx().compute_txid());
        let locked = self.params.terms().payment_expiry.is_some() && self.too_late().is_none();
        if settlement != Some(refused) || locked {
            return Ok(None);
        }
        let payment = self.redeemable()?;
        let payment = payment.filter(|payment| payment.tx().compute_txid() != refused);
        Ok(payment.map(|payment| Action::broadcast(payment.role(), payment.tx())))
    }
}
