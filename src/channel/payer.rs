mod closing;
mod opening;

use bitcoin::{Amount, FeeRate, Transaction};

use super::amount::Balance;
use super::bump::CpfpPackage;
use super::error::{ApplyError, CommandError, PaymentError, Refusal};
use super::event::{Action, BroadcastResult, ChainView, Event, Notice, Outcome, SETTLED_DEPTH};
use super::funding::FundingTx;
use super::keys::ChannelKey;
use super::limits::{check_room, Limits};
use super::lock::Tip;
use super::message::{Envelope, Message};
use super::params::ChannelParams;
use super::payment::PaymentTemplate;
use super::reason::Reason;
use super::stage::Stage;
use super::terms::Protocol;
use super::transaction::{RefundTx, Spend, SpendRole};
use super::{for_channel, unexpected};

pub use opening::*;

/// The payer of a channel whose refund is safe.
#[derive(Debug)]
pub struct Payer {
    key: ChannelKey,
    params: ChannelParams,
    funding: FundingTx,
    refund: RefundTx,
    /// The refund with a child that pays for it, once the agreed feerate was not enough.
    raised: Option<CpfpPackage>,
    /// On the heap, because futures carry the parties about.
    payments: Box<PaymentTemplate>,
    stage: Stage,
    paid: Amount,
    /// `None` until the payee has acknowledged anything, the empty first payment of Example 7 included.
    acknowledged: Option<Amount>,
    tip: Tip,
    /// Below the block with the funding transaction, in the last view.
    base: Option<Tip>,
    /// The most that a settlement may pay, if the payee wants it to confirm sooner.
    max_feerate: FeeRate,
    broadcast_funding_after: Option<u32>,
    /// Whether the user was told that the payee sits on the funding transaction.
    overdue: bool,
    /// The total that the payee asked for last, and that the user was told.
    requested: Option<Amount>,
    /// A close with one signature was asked for, and not answered yet.
    asked_to_close: bool,
    /// The tip at which the payee got the funding transaction.
    handed_over: Option<Tip>,
    /// Whether the payee has said that payments count.
    ready: bool,
    /// Confirmations of the funding transaction in the last view.
    confirmations: u32,
    /// The tip at which the funding transaction was last given to the network: once a block is enough.
    offered: Tip,
}

/// What the payer's limits decide after the opening.
#[derive(Debug, Clone, Copy)]
struct Choices {
    settlement_feerate: FeeRate,
    malleable_funding: bool,
    broadcast_funding_after: Option<u32>,
}

impl Choices {
    const fn of(limits: &Limits) -> Self {
        Self {
            settlement_feerate: limits.settlement_feerate,
            malleable_funding: limits.malleable_funding,
            broadcast_funding_after: limits.broadcast_funding_after,
        }
    }
}

impl Payer {
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

    /// The way out.
    #[must_use]
    pub const fn refund(&self) -> &RefundTx {
        &self.refund
    }

    /// Where the channel stands.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// What has been paid in all, in satoshi, acknowledged or not.
    #[must_use]
    pub const fn paid(&self) -> Amount {
        self.paid
    }

    /// What the payee has acknowledged in all, in satoshi.
    #[must_use]
    pub fn acknowledged(&self) -> Amount {
        self.acknowledged.unwrap_or(Amount::ZERO)
    }

    /// The one way in which the state changes.
    ///
    /// # Errors
    /// If the peer's message is refused, or the user's wish cannot be done. The state is what it was before.
    pub fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError> {
        match event {
            Event::Message(envelope) => {
                let message = for_channel(self.params.id(), envelope)?;
                Ok(self.on_message(message)?)
            }
            Event::Chain(view) => Ok(self.on_chain(&view)),
            Event::Blind(tip) => Ok(self.on_blind(tip)),
            Event::Broadcast(result) => Ok(self.on_broadcast(result)),
            Event::BroadcastUnknown { role, .. } => Ok(self.on_unknown(role)),
            Event::Pay(amount) => Ok(self.pay(amount)?),
            Event::PayUpTo(total) if total <= self.paid => Ok(Vec::new()),
            Event::PayUpTo(total) => Ok(self.pay(total - self.paid)?),
            Event::FundingMalleated(tx) => Ok(self.follow(tx)?),
            Event::Close => Ok(self.close(self.params.terms().feerate)?),
            Event::CloseAt(feerate) => Ok(self.close(feerate)?),
            Event::Bump(package) => Ok(vec![self.bump(package)?]),
            // The refund is the payer's, whoever is there.
            Event::PeerGone => Ok(Vec::new()),
            Event::RequestPayment(_) => Err(self.wrong_stage("request a payment as the payer").into()),
        }
    }

    fn on_message(&mut self, message: Message) -> Result<Vec<Action>, Refusal> {
        match (self.stage, message) {
            (Stage::Protected, Message::FundingRequest) => {
                // Too late, the money would be locked for a channel that has no time for a payment.
                check_room(self.params.terms(), self.tip, self.params.confirmations())?;
                self.stage = Stage::AwaitingFunding;
                Ok(vec![self.hand_over()])
            }
            (Stage::AwaitingFunding, Message::Ready) => Ok(self.on_ready()),
            // After a reorganisation the payee says it again, and it may cross this side's wish to close.
            (Stage::Open | Stage::Closing, Message::Ready) => Ok(Vec::new()),
            (_, Message::PaymentRequest { paid }) if self.params.terms().protocol == Protocol::Bond => {
                self.on_payment_request(paid)
            }
            (Stage::Open | Stage::Closing, Message::PaymentAccepted { paid }) => self.on_accepted(paid),
            // The funding transaction was lost meanwhile.
            (Stage::AwaitingFunding, Message::PaymentAccepted { paid }) if self.ready => {
                self.on_accepted(paid)
            }
            (_, Message::CloseRequest { feerate, nonce }) => self.on_close_request(feerate, nonce),
            (stage, Message::Closed { txid })
                if matches!(stage, Stage::Open | Stage::Closing)
                    || (stage == Stage::AwaitingFunding && self.ready) =>
            {
                self.stage = Stage::Closing;
                Ok(vec![Action::Notify(Notice::PeerSettled { txid })])
            }
            (_, Message::Refuse { reason }) => Ok(self.on_refuse(reason)),
            (stage, message) => Err(unexpected(stage, &message)),
        }
    }

    fn on_payment_request(&mut self, paid: Amount) -> Result<Vec<Action>, Refusal> {
        match self.stage {
            Stage::Open => {}
            // It crossed this side's wish to close, or the news that the funding transaction was lost.
            Stage::Closing => return Ok(Vec::new()),
            Stage::AwaitingFunding if self.ready => return Ok(Vec::new()),
            stage => return Err(unexpected(stage, &Message::PaymentRequest { paid })),
        }
        let spendable = self.params.spendable();
        if paid > spendable {
            return Err(PaymentError::ExceedsCapacity {
                spendable,
                received: paid,
            }
            .into());
        }
        // A reminder may cross the payment that it asks for, and asks for nothing more.
        if paid <= self.paid || self.requested.replace(paid) == Some(paid) {
            return Ok(Vec::new());
        }
        Ok(vec![Action::Notify(Notice::PaymentRequested { paid })])
    }

    fn on_refuse(&mut self, reason: Reason) -> Vec<Action> {
        let mut actions = vec![Action::Notify(Notice::PeerRefused { reason })];
        match self.stage {
            Stage::Closed => {}
            Stage::Protected => actions.push(self.abandon()),
            _ => self.stage = Stage::Closing,
        }
        actions
    }

    fn on_ready(&mut self) -> Vec<Action> {
        self.stage = Stage::Open;
        let first = !std::mem::replace(&mut self.ready, true);
        let mut actions = vec![Action::Notify(Notice::Ready)];
        // Example 7 starts with everything on K1's output: the payee holds a way to give the payer its
        // money back before the lock, even if it is never paid.
        if self.params.terms().protocol == Protocol::Example7 && first {
            actions.push(self.payment());
        }
        actions
    }

    fn on_accepted(&mut self, received: Amount) -> Result<Vec<Action>, Refusal> {
        let acknowledged = self.acknowledged();
        let first = self.acknowledged.is_none() && self.params.terms().protocol == Protocol::Example7;
        if received > self.paid || received < acknowledged || (received == acknowledged && !first) {
            return Err(PaymentError::AcknowledgedUnsent {
                acknowledged,
                sent: self.paid,
                received,
            }
            .into());
        }
        self.acknowledged = Some(received);
        Ok(vec![Action::Notify(Notice::PaymentAccepted(
            self.balance(received),
        ))])
    }

    fn on_chain(&mut self, view: &ChainView) -> Vec<Action> {
        if !view.is_possible(&self.params, self.funding.outpoint()) {
            return self.on_blind(Some(view.tip));
        }
        (self.tip, self.base) = (view.tip, view.base);
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
            let too_late = self.params.terms().must_settle(view.tip, view.base);
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

    /// With a tip alone, the payer still refunds at the lock. Its refund conflicts with whatever else spends the output, so
    /// that it can do no harm.
    fn on_blind(&mut self, tip: Option<Tip>) -> Vec<Action> {
        let Some(tip) = tip else { return Vec::new() };
        self.tip = tip;
        match self.stage {
            Stage::Protected if self.params.terms().must_settle(tip, self.base) => vec![self.abandon()],
            Stage::Closed | Stage::Protected => Vec::new(),
            _ if self.may_refund() => self.start_refund(),
            _ => Vec::new(),
        }
    }

    fn start_refund(&mut self) -> Vec<Action> {
        self.stage = Stage::Closing;
        vec![self.broadcast_refund()]
    }

    /// From now on the channel is that of another funding output, of which nothing but the refund can be made.
    fn follow(&mut self, tx: Transaction) -> Result<Vec<Action>, CommandError> {
        let construction = self.params.terms().construction;
        if !construction.has_script_refund() {
            let signed = self.funding.outpoint().txid;
            return Err(CommandError::RefundCoSigned { signed, construction });
        }
        if self.stage == Stage::Closed {
            return Err(self.wrong_stage("refund a malleated funding transaction"));
        }
        let funding = FundingTx::find(&self.params, tx)?;
        let spend = Spend::refund(&self.params, funding.outpoint());
        let signature = spend.sign(&self.key);
        self.refund = RefundTx::complete(spend, signature, None).map_err(CommandError::Refund)?;
        *self.payments = PaymentTemplate::new(&self.params, funding.outpoint());
        (self.funding, self.base, self.raised) = (funding, None, None);
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
        let deep = view.confirmations >= self.params.confirmations();
        match self.stage {
            // Only if it was deep enough before: the payee may see a block earlier than the payer does.
            Stage::Open if !deep && !self.counts_early() && before >= self.params.confirmations() => {
                self.stage = Stage::AwaitingFunding;
                let confirmations = view.confirmations;
                let mut actions = vec![Action::Notify(Notice::FundingLost { confirmations })];
                if confirmations == 0 {
                    actions.extend(self.broadcast_funding_again(view));
                }
                actions
            }
            Stage::AwaitingFunding if self.ready && deep => {
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

    /// Whether the payee counts what was paid although the funding transaction is not confirmed.
    fn counts_early(&self) -> bool {
        let unconfirmed = self.params.unconfirmed_limit();
        unconfirmed > Amount::ZERO && self.paid <= unconfirmed && !self.funding.is_malleable()
    }

    /// Where the payee broadcasts, it may sit on the funding transaction, and keep the payer's coins busy.
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

    /// A mempool forgets, and a first broadcast may fail: whose task it is gives it to the network again.
    fn broadcast_funding_again(&mut self, view: &ChainView) -> Vec<Action> {
        let terms = self.params.terms();
        let overdue = self.overdue && self.broadcast_funding_after.is_some();
        let mine = terms.protocol == Protocol::SteppedLocktime || overdue;
        if !mine || terms.must_settle(view.tip, view.base) || self.offered == view.tip {
            return Vec::new();
        }
        self.offered = view.tip;
        vec![self.broadcast_funding()]
    }

    fn on_broadcast(&mut self, result: BroadcastResult) -> Vec<Action> {
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
    fn on_unknown(&mut self, role: SpendRole) -> Vec<Action> {
        if role == SpendRole::Funding && self.handed_over.is_none() {
            vec![self.hand_over()]
        } else {
            Vec::new()
        }
    }

    fn pay(&mut self, amount: Amount) -> Result<Vec<Action>, CommandError> {
        if self.stage != Stage::Open {
            return Err(self.wrong_stage("pay"));
        }
        let minimum = self.params.terms().minimum_payment;
        if amount < minimum {
            return Err(CommandError::BelowMinimum {
                minimum,
                asked: amount,
            });
        }
        if let Some((expiry, left)) = self.params.terms().too_late(self.tip, self.base) {
            return Err(CommandError::Expiring { expiry, left });
        }
        let left = self.params.spendable() - self.paid;
        if amount > left {
            return Err(CommandError::InsufficientBalance { left, asked: amount });
        }
        let unconfirmed = self.params.unconfirmed_limit();
        let required = self.params.confirmations();
        // Without such a limit the payee's word is enough: it may see a block earlier than the payer does.
        if unconfirmed > Amount::ZERO && self.confirmations < required && self.paid + amount > unconfirmed {
            return Err(CommandError::Unconfirmed {
                unconfirmed,
                confirmations: self.confirmations,
                required,
            });
        }
        self.paid += amount;
        Ok(vec![self.payment()])
    }

    /// Whether this side's node refused the funding transaction, so that the payee was not told of it.
    #[cfg(feature = "service")]
    pub(crate) fn is_unfunded(&self) -> bool {
        self.stage == Stage::Closing && self.handed_over.is_none()
    }

    /// The funding transaction never left this side.
    fn abandon(&mut self) -> Action {
        self.stage = Stage::Closed;
        Action::Notify(Notice::Abandoned)
    }

    fn balance(&self, paid: Amount) -> Balance {
        self.params
            .balance(paid)
            .expect("the payer never signs more than the channel can pay")
    }

    fn payment(&self) -> Action {
        let balance = self.balance(self.paid);
        let signature = self.payments.sign(&self.params, &balance, &self.key);
        self.send(Message::Payment {
            paid: self.paid,
            signature: signature.to_unverified(),
        })
    }

    fn broadcast_funding(&self) -> Action {
        Action::Broadcast {
            role: SpendRole::Funding,
            tx: self.funding.tx().clone(),
        }
    }

    fn hand_over(&mut self) -> Action {
        self.handed_over = Some(self.tip);
        self.send(Message::Funding {
            tx: self.funding.tx().clone(),
        })
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
