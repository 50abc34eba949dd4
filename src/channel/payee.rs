mod closing;
mod opening;

use bitcoin::{Amount, Transaction, Txid};

use super::bump::CpfpPackage;
use super::error::{ApplyError, CommandError, PaymentError, Refusal};
use super::event::{
    Action, BroadcastResult, ChainView, Event, Notice, Outcome, SeenSpend, BLIND_BLOCKS, SETTLED_DEPTH,
};
use super::funding::FundingTx;
use super::keys::{ChannelKey, UnverifiedSignature};
use super::lock::{Expiry, Tip};
use super::message::{Envelope, Message};
use super::musig::{NonceSource, SecretNonce};
use super::params::ChannelParams;
use super::payment::PaymentTemplate;
use super::stage::Stage;
use super::terms::Protocol;
use super::transaction::{PaymentTx, SettlementTx, SpendRole};
use super::verify::SpendError;
use super::{for_channel, unexpected};

pub use opening::*;

/// The payee of a channel.
#[derive(Debug)]
pub struct Payee {
    key: ChannelKey,
    params: ChannelParams,
    funding: FundingTx,
    /// On the heap, because futures carry the parties about.
    payments: Box<PaymentTemplate>,
    stage: Stage,
    /// The newest payment that counts.
    best: Option<PaymentTx>,
    /// A newer one that came while payments did not count: it is settled with, and acknowledged when they count again.
    parked: Option<PaymentTx>,
    settlement: Option<Box<SettlementTx>>,
    /// The settlement with a child that pays for it, once the agreed feerate was not enough.
    raised: Option<CpfpPackage>,
    /// The last look at the funding output that succeeded.
    view: Option<ChainView>,
    /// The newest tip, also while the funding output cannot be seen.
    tip: Tip,
    sight: Sight,
    /// The tip at the opening.
    opened: Tip,
    /// Whether the network has taken the funding transaction from here.
    taken: bool,
    /// Whether this side has said that payments count.
    ready: bool,
    peer_gone: bool,
    nonces: Option<NonceSource>,
    /// This side asked to close with one signature, and will use this nonce for that and for nothing else.
    asked: Option<Box<SecretNonce>>,
    /// The tip at which the funding transaction was last given to the network: once a block is enough.
    offered: Option<Tip>,
}

/// What this side can see of the chain, and do there. Payments are acknowledged only with both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sight {
    /// The last look failed.
    blind: bool,
    /// The user was told.
    told: bool,
    /// No node answered the last broadcast.
    mute: bool,
}

impl Payee {
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

    /// Where the channel stands.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// The newest payment.
    #[must_use]
    pub const fn best(&self) -> Option<&PaymentTx> {
        self.best.as_ref()
    }

    /// What has been paid in all, in satoshi.
    #[must_use]
    pub fn paid(&self) -> Amount {
        self.best.map_or(Amount::ZERO, |payment| payment.balance().paid)
    }

    /// The newest payment with both signatures: what the payee would broadcast if the payer were gone. It may be for more
    /// than [`Payee::paid`], if it came while payments do not count.
    ///
    /// # Errors
    /// Never for a payment that was accepted; the property is tested against the node.
    pub fn redeemable(&self) -> Result<Option<SettlementTx>, SpendError> {
        let redeem = |payment: PaymentTx| payment.redeem(&self.params, self.funding.outpoint(), &self.key);
        self.held().map(redeem).transpose()
    }

    /// The newest payment that can be settled with, whether it counts or not.
    fn held(&self) -> Option<PaymentTx> {
        self.parked.or(self.best)
    }

    /// What a settlement is for.
    fn held_sum(&self) -> Amount {
        self.held().map_or(Amount::ZERO, |payment| payment.balance().paid)
    }

    /// What this side has broadcast to close, or broadcasts again with every block.
    #[must_use]
    pub fn settlement(&self) -> Option<&SettlementTx> {
        self.settlement.as_deref()
    }

    /// Lets this side close with one signature where the construction can. Without it, a close takes two.
    pub fn provide_nonces(&mut self, source: NonceSource) {
        self.nonces = Some(source);
    }

    /// The one way in which the state changes.
    ///
    /// # Errors
    /// If the peer's message is refused, or the user's wish cannot be done. The state is what it was before, but that a
    /// secret nonce which met a wrong partial signature is not used again.
    pub fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError> {
        match event {
            Event::Message(envelope) => {
                let message = for_channel(self.params.id(), envelope)?;
                Ok(self.on_message(message)?)
            }
            Event::Chain(view) => Ok(self.on_chain(view)?),
            Event::Blind(tip) => Ok(self.on_blind(tip)?),
            Event::Broadcast(result) => Ok(self.on_broadcast(result)?),
            Event::BroadcastUnknown { txid, .. } => Ok(self.on_unknown(txid)?),
            Event::RequestPayment(amount) => Ok(self.request_payment(amount)?),
            Event::Close => self.close(None),
            Event::CloseAt(feerate) => self.close(Some(feerate)),
            Event::Bump(package) => Ok(self.bump(package)?),
            Event::PeerGone => Ok(self.on_peer_gone()?),
            Event::Pay(_) | Event::PayUpTo(_) => Err(self.wrong_stage("pay as the payee").into()),
            Event::FundingMalleated(_) => Err(self.wrong_stage("refund as the payee").into()),
        }
    }

    fn on_message(&mut self, message: Message) -> Result<Vec<Action>, Refusal> {
        match (self.stage, message) {
            (Stage::Open, Message::Payment { paid, signature }) => self.accept(paid, signature),
            // It crossed this side's wish to close; the settlement will be for all of it.
            (Stage::Closing, Message::Payment { paid, signature }) if self.awaits_settlement() => {
                self.accept(paid, signature)
            }
            // It crossed the news that the funding transaction was lost.
            (Stage::AwaitingFunding, Message::Payment { paid, signature }) if self.ready => {
                self.accept(paid, signature)
            }
            (Stage::AwaitingFunding, Message::Payment { .. }) => Err(self.unconfirmed().into()),
            (
                Stage::AwaitingFunding | Stage::Open | Stage::Closing,
                Message::Settlement {
                    paid,
                    feerate,
                    signature,
                },
            ) if self.settlement.is_none() => self.accept_settlement(paid, feerate, signature),
            (
                Stage::Closing,
                Message::JointSettlement {
                    paid,
                    feerate,
                    nonce,
                    partial,
                },
            ) if self.asked.is_some() => self.accept_joint(paid, feerate, &nonce, &partial),
            (
                Stage::AwaitingFunding | Stage::Open | Stage::Closing,
                Message::CloseRequest { feerate, nonce: None },
            ) if self.params.joint_key().is_some() => self.on_close_request(feerate),
            // Both closed at the same moment, and this side's settlement is on its way.
            (Stage::Closing, Message::Settlement { .. } | Message::JointSettlement { .. })
                if self.settlement.is_some() =>
            {
                Ok(Vec::new())
            }
            (_, Message::Refuse { reason }) => Ok(vec![Action::Notify(Notice::PeerRefused { reason })]),
            (stage, message) => Err(unexpected(stage, &message)),
        }
    }

    /// Whether this side asked for a settlement, and takes payments until it comes.
    fn awaits_settlement(&self) -> bool {
        let unspent = self.view.as_ref().is_none_or(|view| view.spend.is_none());
        self.settlement.is_none() && unspent && self.ready
    }

    fn confirmations(&self) -> u32 {
        self.view.as_ref().map_or(0, |view| view.confirmations)
    }

    /// Whether payments up to this sum count: not before the first look, and not once a spend is on its way, which divides the
    /// capacity already.
    fn counts(&self, paid: Amount) -> bool {
        let limit = self.params.unconfirmed_limit();
        let early = self.taken && !self.funding.is_malleable() && paid <= limit && limit > Amount::ZERO;
        let unspent = self.view.as_ref().is_some_and(|view| view.spend.is_none());
        unspent && (early || self.confirmations() >= self.params.confirmations())
    }

    fn accept(&mut self, paid: Amount, signature: UnverifiedSignature) -> Result<Vec<Action>, Refusal> {
        if let Some((expiry, left)) = self.too_late() {
            return Err(PaymentError::Expiring { expiry, left }.into());
        }
        self.check_increase(paid)?;
        if self.counts(self.paid()) && !self.counts(paid) {
            return Err(self.unconfirmed().into());
        }
        let balance = self.params.balance(paid).ok_or_else(|| self.exceeds(paid))?;
        let payment = self.payments.verify(&self.params, balance, signature)?;
        if self.held().is_none() {
            // The first one goes through full script verification; the next differ in amounts alone.
            payment.redeem(&self.params, self.funding.outpoint(), &self.key)?;
        }
        self.parked = Some(payment);
        Ok(self.acknowledge())
    }

    /// The parked payment counts from now on, if payments do.
    fn acknowledge(&mut self) -> Vec<Action> {
        let can_tell = !self.sight.blind && !self.sight.mute;
        let counts = |payment: &PaymentTx| can_tell && self.counts(payment.balance().paid);
        let Some(payment) = self.parked.filter(counts) else {
            return Vec::new();
        };
        self.parked = None;
        self.best = Some(payment);
        let balance = *payment.balance();
        vec![
            self.send(Message::PaymentAccepted { paid: balance.paid }),
            Action::Notify(Notice::PaymentAccepted(balance)),
        ]
    }

    fn too_late(&self) -> Option<(Expiry, u32)> {
        self.params.terms().too_late(self.tip, self.base())
    }

    /// Where a relative lock counts from, as far as this side has seen it.
    fn base(&self) -> Option<Tip> {
        self.view.as_ref().and_then(|view| view.base)
    }

    fn unconfirmed(&self) -> PaymentError {
        PaymentError::Unconfirmed {
            unconfirmed: self.params.unconfirmed_limit(),
            confirmations: self.confirmations(),
            required: self.params.confirmations(),
        }
    }

    fn check_increase(&self, received: Amount) -> Result<(), PaymentError> {
        let previous = self.held_sum();
        let empty_start = self.held().is_none() && self.params.terms().protocol == Protocol::Example7;
        if received < previous {
            return Err(PaymentError::Decreased { previous, received });
        }
        if received == previous && !empty_start {
            return Err(PaymentError::Repeated { previous, received });
        }
        let (minimum, received) = (self.params.terms().minimum_payment, received - previous);
        if received > Amount::ZERO && received < minimum {
            return Err(PaymentError::BelowMinimum { minimum, received });
        }
        Ok(())
    }

    fn exceeds(&self, received: Amount) -> PaymentError {
        PaymentError::ExceedsCapacity {
            spendable: self.params.spendable(),
            received,
        }
    }

    fn on_chain(&mut self, view: ChainView) -> Result<Vec<Action>, SpendError> {
        if self.stage == Stage::Closed {
            return Ok(Vec::new());
        }
        if !view.is_possible(&self.params, self.funding.outpoint()) {
            return self.on_blind(Some(view.tip));
        }
        if let Some(SeenSpend {
            tx,
            confirmations: deep @ 1..,
        }) = &view.spend
        {
            let (tx, deep) = (tx.clone(), *deep);
            self.see(view);
            return Ok(self.on_spent(&tx, deep));
        }
        // Before anything is changed, because it may fail.
        let must_settle = self.params.terms().must_settle(view.tip, view.base);
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
        // What fell out of a block has to be taken by the network again.
        if view.confirmations == 0 && self.confirmations() > 0 {
            (self.taken, self.offered) = (false, None);
        }
        (self.sight.blind, self.sight.told) = (false, false);
        self.tip = view.tip;
        self.view = Some(view);
    }

    /// With a tip alone, this side still settles at the margin, with what it last knew.
    fn on_blind(&mut self, tip: Option<Tip>) -> Result<Vec<Action>, SpendError> {
        let Some(tip) = tip.filter(|_| self.stage != Stage::Closed) else {
            self.sight.blind = true;
            return Ok(Vec::new());
        };
        let must_settle = self.params.terms().must_settle(tip, self.base());
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

    /// What to settle with, if that has to be done now and was not done yet. A spend of others is a reason, too.
    fn due(&self, must_settle: bool, spent: bool) -> Result<Option<SettlementTx>, SpendError> {
        let unlocked = self.params.terms().payment_expiry.is_none();
        if self.settlement.is_some() || !(must_settle || (spent && unlocked)) {
            return Ok(None);
        }
        let payment = self.redeemable()?;
        Ok(payment.filter(|payment| payment.balance().is_enforceable()))
    }

    /// Whether this side holds nothing that is worth a block's space, and nothing more can come.
    fn is_pointless(&self) -> bool {
        let held = self
            .held()
            .is_some_and(|payment| payment.balance().is_enforceable());
        let settled = self
            .settlement
            .as_ref()
            .is_some_and(|settlement| settlement.balance().is_enforceable());
        let spent = self.view.as_ref().is_some_and(|view| view.spend.is_some());
        // A relative lock that has not begun counts from the opening: so long after it, nobody has to wait any more.
        let lock = self.params.terms().refund_lock;
        let expiry = lock.expiry(Some(self.base().unwrap_or(self.opened)));
        let expired = expiry.is_some_and(|expiry| expiry.is_final(self.tip));
        !held && !settled && !spent && (self.peer_gone || expired)
    }

    fn abandon(&mut self) -> Vec<Action> {
        self.stage = Stage::Closed;
        vec![Action::Notify(Notice::Abandoned)]
    }

    fn on_peer_gone(&mut self) -> Result<Vec<Action>, SpendError> {
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
        let early = self.params.unconfirmed_limit() > Amount::ZERO;
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
    /// forgets, and a reorganisation gives back. From the margin on the newest payment goes out as well, whatever became of
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
        let (txid, joint) = (settlement.tx().compute_txid(), settlement.is_joint());
        let payment = if must_settle { self.redeemable()? } else { None };
        let payment = payment
            .filter(|payment| payment.balance().is_enforceable() && payment.tx().compute_txid() != txid);
        if let Some(payment) = payment.clone().filter(|_| joint) {
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

    fn on_broadcast(&mut self, result: BroadcastResult) -> Result<Vec<Action>, SpendError> {
        let mut actions = Vec::new();
        self.sight.mute = false;
        match (result.role, result.rejected.is_none()) {
            (SpendRole::Payment | SpendRole::Settlement, true) => {
                actions.push(self.send(Message::Closed { txid: result.txid }));
            }
            (SpendRole::Funding, taken) => {
                self.taken = taken;
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

    /// An unknown answer is treated like a rejection: the newest payment does not wait for another.
    fn on_unknown(&mut self, txid: Txid) -> Result<Vec<Action>, SpendError> {
        let payment = self.payment_instead_of(txid)?;
        self.sight.mute = true;
        Ok(payment.into_iter().collect())
    }

    /// The payer chose the fee of what it signed to close, and may have chosen more than a node takes (`maxfeerate`).
    /// That must not keep the newest payment from the network until the refund's lock is over. The settlement stays, and
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

    fn request_payment(&self, amount: Amount) -> Result<Vec<Action>, CommandError> {
        if self.stage != Stage::Open || self.params.terms().protocol != Protocol::Bond {
            return Err(self.wrong_stage("request a payment"));
        }
        let minimum = self.params.terms().minimum_payment;
        if amount < minimum {
            return Err(CommandError::BelowMinimum {
                minimum,
                asked: amount,
            });
        }
        let left = self.params.spendable() - self.held_sum();
        if amount > left {
            return Err(CommandError::InsufficientBalance { left, asked: amount });
        }
        if let Some((expiry, left)) = self.too_late() {
            return Err(CommandError::Expiring { expiry, left });
        }
        Ok(vec![self.send(Message::PaymentRequest {
            paid: self.held_sum() + amount,
        })])
    }

    fn send(&self, message: Message) -> Action {
        Action::Send(Envelope {
            channel: self.params.id(),
            message,
        })
    }

    fn wrong_stage(&self, command: &'static str) -> CommandError {
        CommandError::WrongStage {
            command,
            stage: self.stage,
        }
    }
}
