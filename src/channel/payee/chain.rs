use bitcoin::{Amount, Transaction, Txid};

use super::Payee;
use crate::channel::event::{
    Action, BroadcastResult, ChainView, Notice, Outcome, SeenSpend, BLIND_BLOCKS, SETTLED_DEPTH,
};
use crate::channel::lock::Tip;
use crate::channel::message::Message;
use crate::channel::protocol::Protocol;
use crate::channel::stage::Stage;
use crate::channel::transaction::{SettlementTx, SpendRole};
use crate::channel::verify::SpendError;

/// How the payee acts on the chain, with a view of the funding output or without.
impl Payee {
    pub(super) fn on_chain(&mut self, view: ChainView) -> Result<Vec<Action>, SpendError> {
        if self.stage == Stage::Closed {
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
        self.see(view);
        if self.is_pointless() {
            return Ok(self.abandon());
        }
        let mut actions = self.on_depth();
        actions.extend(self.offer_funding(must_settle));
        actions.extend(self.offer_settlement(due, must_settle)?);
        Ok(actions)
    }

    fn see(&mut self, view: ChainView) {
        // What fell out of a block must be taken by the network again.
        if view.confirmations == 0 && self.confirmations() > 0 {
            (self.accepted, self.offered) = (false, None);
        }
        (self.sight.blind, self.sight.told) = (false, false);
        self.tip = view.tip;
        self.view = Some(view);
    }

    /// With the tip alone, this side still settles at the margin, with what it last knew.
    pub(super) fn on_blind(&mut self, tip: Option<Tip>) -> Result<Vec<Action>, SpendError> {
        let Some(tip) = tip.filter(|_| self.stage != Stage::Closed) else {
            self.sight.blind = true;
            return Ok(Vec::new());
        };
        let must_settle = self.params.terms().must_settle(tip, self.funding_parent());
        let due = self.due(must_settle, false)?;
        self.sight.blind = true;
        self.tip = tip;
        if self.is_pointless() {
            return Ok(self.abandon());
        }
        let since = self.view.as_ref().map_or(self.opened, |view| view.tip);
        let height = |tip: Tip| tip.height.to_consensus_u32();
        let mut actions = Vec::new();
        if !self.sight.told && height(tip) >= height(since).saturating_add(BLIND_BLOCKS) {
            self.sight.told = true;
            actions.push(Action::Notify(Notice::Blind { since, tip }));
        }
        actions.extend(self.offer_settlement(due, must_settle)?);
        Ok(actions)
    }

    /// The transaction to settle with, if it is time and that has not been done. A spend by others is a reason, too.
    fn due(&self, must_settle: bool, spent: bool) -> Result<Option<SettlementTx>, SpendError> {
        let unlocked = self.params.terms().payment_expiry.is_none();
        if self.settlement.is_some() || !(must_settle || (spent && unlocked)) {
            return Ok(None);
        }
        let payment = self.redeemable()?;
        Ok(payment.filter(|payment| payment.balance().is_enforceable()))
    }

    /// Whether this side holds nothing worth settling, and nothing more can come.
    fn is_pointless(&self) -> bool {
        let held = self
            .held()
            .is_some_and(|payment| payment.balance().is_enforceable());
        let settled = self
            .settlement
            .as_ref()
            .is_some_and(|settlement| settlement.balance().is_enforceable());
        let spent = self.view.as_ref().is_some_and(|view| view.spend.is_some());
        // A relative lock that has not begun counts from the opening: after that time, waiting is pointless.
        let lock = self.params.terms().refund_lock;
        let expiry = lock.expiry(Some(self.funding_parent().unwrap_or(self.opened)));
        let expired = expiry.is_some_and(|expiry| expiry.is_final(self.tip));
        !held && !settled && !spent && (self.peer_gone || expired)
    }

    fn abandon(&mut self) -> Vec<Action> {
        self.stage = Stage::Closed;
        vec![Action::Notify(Notice::Abandoned)]
    }

    pub(super) fn on_peer_gone(&mut self) -> Result<Vec<Action>, SpendError> {
        self.peer_gone = true;
        if self.stage == Stage::Closed || self.settlement.is_some() {
            return Ok(Vec::new());
        }
        if self.is_pointless() {
            return Ok(self.abandon());
        }
        Ok(self.settle_alone()?.into_iter().collect())
    }

    /// Gives the funding transaction to the network again, once a block: a mempool forgets, and a first broadcast may fail.
    /// Without it in the chain, no payment is worth anything. To a node that did not answer it is offered with every look,
    /// in the chain or not: to see whether the node answers.
    fn offer_funding(&mut self, must_settle: bool) -> Option<Action> {
        let terms = self.params.terms();
        let early = self.params.zero_conf_limit() > Amount::ZERO;
        let mine = terms.protocol != Protocol::SteppedLocktime || early;
        let enforceable = self
            .held()
            .is_some_and(|payment| payment.balance().is_enforceable());
        let unspent = self.view.as_ref().is_none_or(|view| view.spend.is_none());
        let missing = self.confirmations() == 0 && self.offered != Some(self.tip);
        let wanted = missing && (enforceable || (mine && !must_settle));
        let unheard = self.sight.mute && self.settlement.is_none();
        if !unspent || !(wanted || unheard) {
            return None;
        }
        self.offered = Some(self.tip);
        Some(Action::Broadcast {
            role: SpendRole::Funding,
            tx: self.funding.tx().clone(),
        })
    }

    /// Settles with what is due, or with what was broadcast before: with every block, until it is in one, because a mempool
    /// forgets, and a reorganisation gives back. From the margin on the latest payment goes out as well, whatever became of
    /// the settlement.
    fn offer_settlement(
        &mut self,
        due: Option<SettlementTx>,
        must_settle: bool,
    ) -> Result<Vec<Action>, SpendError> {
        let seen = self.view.as_ref().and_then(|view| view.spend.as_ref());
        let seen = seen
            .filter(|_| !self.sight.blind)
            .map(|spend| spend.tx.compute_txid());
        let mut actions = Vec::new();
        if let Some(settlement) = due {
            let is_out = seen == Some(settlement.tx().compute_txid());
            let broadcast = self.settle(settlement);
            return Ok(if is_out { actions } else { vec![broadcast] });
        }
        let Some(settlement) = self.settlement.as_deref() else {
            return Ok(actions);
        };
        let (txid, cooperative) = (settlement.tx().compute_txid(), settlement.is_cooperative());
        let payment = if must_settle { self.redeemable()? } else { None };
        let payment = payment
            .filter(|payment| payment.balance().is_enforceable() && payment.tx().compute_txid() != txid);
        if let Some(payment) = payment.clone().filter(|_| cooperative) {
            actions.push(Action::Notify(Notice::CooperativeCloseUnconfirmed { txid }));
            actions.push(self.settle(payment));
        } else if seen != Some(txid) {
            actions.push(self.broadcast(settlement));
            actions.extend(payment.map(|payment| Action::Broadcast {
                role: payment.role(),
                tx: payment.tx().clone(),
            }));
        }
        Ok(actions)
    }

    fn on_spent(&mut self, tx: &Transaction, confirmations: u32) -> Vec<Action> {
        self.stage = Stage::Closing;
        if confirmations < SETTLED_DEPTH {
            return Vec::new();
        }
        self.stage = Stage::Closed;
        vec![Action::Notify(Notice::Closed(Outcome::of(&self.params, tx)))]
    }

    /// Follows the funding transaction into the chain, out of it, and back; and its spend into the mempool.
    fn on_depth(&mut self) -> Vec<Action> {
        let confirmations = self.confirmations();
        let counts = self.counts(self.paid());
        let spent = self.view.as_ref().is_some_and(|view| view.spend.is_some());
        match self.stage {
            Stage::AwaitingFunding | Stage::Open if spent => {
                self.stage = Stage::Closing;
                Vec::new()
            }
            Stage::AwaitingFunding if counts => {
                (self.stage, self.ready) = (Stage::Open, true);
                let mut actions = vec![self.send(Message::Ready), Action::Notify(Notice::Ready)];
                actions.extend(self.acknowledge());
                actions
            }
            Stage::Open if !counts => {
                self.stage = Stage::AwaitingFunding;
                vec![Action::Notify(Notice::FundingLost { confirmations })]
            }
            Stage::Open | Stage::Closing => self.acknowledge(),
            _ => Vec::new(),
        }
    }

    pub(super) fn on_broadcast(&mut self, result: BroadcastResult) -> Result<Vec<Action>, SpendError> {
        let mut actions = Vec::new();
        self.sight.mute = false;
        match (result.role, result.rejected.is_none()) {
            (SpendRole::Payment | SpendRole::Settlement, true) => {
                actions.push(self.send(Message::Closed { txid: result.txid }));
            }
            (SpendRole::Funding, taken) => {
                self.accepted = taken;
                actions.extend(self.on_depth());
            }
            _ => {}
        }
        if result.rejected.is_some() {
            actions.extend(self.payment_instead_of(result.txid)?);
            actions.push(Action::Notify(Notice::BroadcastRejected(result)));
        }
        Ok(actions)
    }

    /// An unknown answer is treated like a rejection: the latest payment does not wait for another.
    pub(super) fn on_unknown(&mut self, txid: Txid) -> Result<Vec<Action>, SpendError> {
        let payment = self.payment_instead_of(txid)?;
        self.sight.mute = true;
        Ok(payment.into_iter().collect())
    }

    /// The payer chose the fee of what it signed to close, and may have chosen more than a node takes (`maxfeerate`).
    /// That must not keep the latest payment from the network until the refund's lock is over. The settlement stays, and
    /// comes first with the next block, too.
    fn payment_instead_of(&self, refused: Txid) -> Result<Option<Action>, SpendError> {
        let settlement = self
            .settlement
            .as_ref()
            .map(|settlement| settlement.tx().compute_txid());
        let locked = self.params.terms().payment_expiry.is_some() && self.too_late().is_none();
        if settlement != Some(refused) || locked {
            return Ok(None);
        }
        let payment = self.redeemable()?;
        let payment = payment.filter(|payment| payment.tx().compute_txid() != refused);
        Ok(payment.map(|payment| Action::Broadcast {
            role: payment.role(),
            tx: payment.tx().clone(),
        }))
    }
}
