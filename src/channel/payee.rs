mod closing;
mod opening;

use bitcoin::{Amount, Transaction, Txid};

use super::bump::CpfpPackage;
use super::error::{ApplyError, CommandError, PaymentError, Refusal};
use super::event::{Action, BroadcastResult, ChainView, Event, Notice, Outcome, SeenSpend, SETTLED_DEPTH};
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
    best: Option<PaymentTx>,
    settlement: Option<Box<SettlementTx>>,
    /// The settlement with a child that pays for it, once the agreed feerate was not enough.
    raised: Option<CpfpPackage>,
    view: Option<ChainView>,
    /// The tip at the opening.
    opened: Tip,
    /// Whether the network has taken the funding transaction from here.
    taken: bool,
    nonces: Option<NonceSource>,
    /// This side asked to close with one signature, and will use this nonce for that and for nothing else.
    asked: Option<Box<SecretNonce>>,
    /// The tip at which the funding transaction was last given to the network: once a block is enough.
    offered: Tip,
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

    /// The newest payment with both signatures: what the payee would broadcast if the payer were gone.
    ///
    /// # Errors
    /// Never for a payment that was accepted; the property is tested against the node.
    pub fn redeemable(&self) -> Result<Option<SettlementTx>, SpendError> {
        let redeem = |payment: PaymentTx| payment.redeem(&self.params, self.funding.outpoint(), &self.key);
        self.best.map(redeem).transpose()
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
            Event::Broadcast(result) => Ok(self.on_broadcast(result)?),
            // What matters is offered again with every block.
            Event::BroadcastUnknown(_) => Ok(Vec::new()),
            Event::RequestPayment(amount) => Ok(self.request_payment(amount)?),
            Event::Close => self.close(None),
            Event::CloseAt(feerate) => self.close(Some(feerate)),
            Event::Bump(package) => Ok(self.bump(package)?),
            Event::PeerGone if self.settlement.is_some() => Ok(Vec::new()),
            Event::PeerGone => Ok(self.settle_alone()?.into_iter().collect()),
            Event::Pay(_) => Err(self.wrong_stage("pay as the payee").into()),
        }
    }

    fn on_message(&mut self, message: Message) -> Result<Vec<Action>, Refusal> {
        match (self.stage, message) {
            (Stage::Open, Message::Payment { paid, signature }) => self.accept(paid, signature),
            // It crossed this side's wish to close; the settlement will be for all of it.
            (Stage::Closing, Message::Payment { paid, signature }) if self.awaits_settlement() => {
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

    /// Whether this side asked for a settlement, and the channel is as good as open until it comes.
    fn awaits_settlement(&self) -> bool {
        let view = self.view.as_ref();
        let unspent = view.is_none_or(|view| view.spend.is_none());
        self.settlement.is_none() && unspent && self.counts(view.map_or(0, |view| view.confirmations))
    }

    /// Whether payments count while the funding transaction is so deep.
    fn counts(&self, confirmations: u32) -> bool {
        let limit = self.params.unconfirmed_limit();
        let early = self.taken && !self.funding.is_malleable() && self.paid() <= limit;
        confirmations >= self.params.confirmations() || (early && limit > Amount::ZERO)
    }

    fn accept(&mut self, paid: Amount, signature: UnverifiedSignature) -> Result<Vec<Action>, Refusal> {
        if let Some((expiry, left)) = self.too_late() {
            return Err(PaymentError::Expiring { expiry, left }.into());
        }
        self.check_increase(paid)?;
        let confirmations = self.view.as_ref().map_or(0, |view| view.confirmations);
        if confirmations < self.params.confirmations() && paid > self.params.unconfirmed_limit() {
            return Err(self.unconfirmed().into());
        }
        let balance = self.params.balance(paid).ok_or_else(|| self.exceeds(paid))?;
        let payment = self.payments.verify(&self.params, balance, signature)?;
        if self.best.is_none() {
            // The first one goes through full script verification; the next differ in amounts alone.
            payment.redeem(&self.params, self.funding.outpoint(), &self.key)?;
        }
        self.best = Some(payment);
        Ok(vec![
            self.send(Message::PaymentAccepted { paid }),
            Action::Notify(Notice::PaymentAccepted(balance)),
        ])
    }

    fn too_late(&self) -> Option<(Expiry, u32)> {
        let view = self.view.as_ref()?;
        self.params.terms().too_late(view.tip, view.base)
    }

    fn unconfirmed(&self) -> PaymentError {
        PaymentError::Unconfirmed {
            unconfirmed: self.params.unconfirmed_limit(),
            confirmations: self.view.as_ref().map_or(0, |view| view.confirmations),
            required: self.params.confirmations(),
        }
    }

    fn check_increase(&self, received: Amount) -> Result<(), PaymentError> {
        let previous = self.paid();
        let empty_start = self.best.is_none() && self.params.terms().protocol == Protocol::Example7;
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
        let (tip, confirmations, spend) = (view.tip, view.confirmations, view.spend.clone());
        let must_settle = self.params.terms().must_settle(tip, view.base);
        // Before anything is changed, because it may fail.
        let due = match self.settlement {
            None if must_settle => self.redeemable()?.filter(|s| s.balance().is_enforceable()),
            _ => None,
        };
        if self.never_came(&view) {
            self.stage = Stage::Closed;
            return Ok(vec![Action::Notify(Notice::Abandoned)]);
        }
        self.view = Some(view);
        if let Some(SeenSpend {
            tx,
            confirmations: deep @ 1..,
        }) = &spend
        {
            return Ok(self.on_spent(tx, *deep));
        }
        let mut actions = self.on_depth(confirmations);
        if confirmations == 0 && spend.is_none() && self.offered != tip && self.wants_funding(must_settle) {
            self.offered = tip;
            actions.push(Action::Broadcast {
                role: SpendRole::Funding,
                tx: self.funding.tx().clone(),
            });
        }
        if let Some(settlement) = due {
            actions.push(self.settle(settlement));
            return Ok(actions);
        }
        // With every block, until it is in one: a mempool forgets, and a reorganisation gives back.
        if let Some(settlement) = &self.settlement {
            if spend.is_none_or(|spend| spend.tx.compute_txid() != settlement.tx().compute_txid()) {
                actions.push(self.broadcast(settlement));
            }
        }
        Ok(actions)
    }

    /// Nothing was paid, nothing is on chain, and the refund would take it back at once if it ever were.
    fn never_came(&self, view: &ChainView) -> bool {
        let nothing = self.best.is_none() && view.confirmations == 0 && view.spend.is_none();
        // A relative lock has not begun; so long after the opening nobody has to wait for it any more.
        let expiry = self.params.terms().refund_lock.expiry(Some(self.opened));
        nothing && expiry.is_some_and(|expiry| expiry.is_final(view.tip))
    }

    /// Whether to give the funding transaction to the network again: a mempool forgets, and a first broadcast
    /// may fail. Without it in the chain, no payment is worth anything.
    fn wants_funding(&self, must_settle: bool) -> bool {
        let mine = self.params.terms().protocol != Protocol::SteppedLocktime;
        self.best.is_some() || (mine && !must_settle)
    }

    fn on_spent(&mut self, tx: &Transaction, confirmations: u32) -> Vec<Action> {
        self.stage = Stage::Closing;
        if confirmations < SETTLED_DEPTH {
            return Vec::new();
        }
        self.stage = Stage::Closed;
        vec![Action::Notify(Notice::Closed(Outcome::of(&self.params, tx)))]
    }

    fn on_depth(&mut self, confirmations: u32) -> Vec<Action> {
        let deep = self.counts(confirmations);
        match self.stage {
            Stage::AwaitingFunding if deep => {
                self.stage = Stage::Open;
                vec![self.send(Message::Ready), Action::Notify(Notice::Ready)]
            }
            Stage::Open if !deep => {
                self.stage = Stage::AwaitingFunding;
                vec![Action::Notify(Notice::FundingLost { confirmations })]
            }
            _ => Vec::new(),
        }
    }

    fn on_broadcast(&mut self, result: BroadcastResult) -> Result<Vec<Action>, SpendError> {
        let mut actions = Vec::new();
        match (result.role, result.rejected.is_none()) {
            (SpendRole::Payment | SpendRole::Settlement, true) => {
                actions.push(self.send(Message::Closed { txid: result.txid }));
            }
            (SpendRole::Funding, taken) if self.params.unconfirmed_limit() > Amount::ZERO => {
                self.taken = taken;
                actions.extend(self.on_depth(self.view.as_ref().map_or(0, |view| view.confirmations)));
            }
            _ => {}
        }
        if result.rejected.is_some() {
            actions.extend(self.payment_instead_of(result.txid)?);
            actions.push(Action::Notify(Notice::BroadcastRejected(result)));
        }
        Ok(actions)
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
        let left = self.params.spendable() - self.paid();
        if amount > left {
            return Err(CommandError::InsufficientBalance { left, asked: amount });
        }
        if let Some((expiry, left)) = self.too_late() {
            return Err(CommandError::Expiring { expiry, left });
        }
        Ok(vec![self.send(Message::PaymentRequest {
            paid: self.paid() + amount,
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
