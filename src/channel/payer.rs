mod chain;
mod closing;
mod opening;

use bitcoin::{Amount, FeeRate};

use super::amount::Balance;
use super::bump::CpfpPackage;
use super::error::{ApplyError, CommandError, PaymentError, Refusal};
use super::event::{Action, Event, Notice};
use super::funding::FundingTx;
use super::keys::ChannelKey;
use super::limits::{check_room, Limits};
use super::lock::Tip;
use super::message::{Envelope, Message, MessageKind};
use super::params::ChannelParams;
use super::payment::PaymentTemplate;
use super::protocol::Protocol;
use super::reason::RefusalReason;
use super::stage::Stage;
use super::transaction::{RefundTx, SpendRole};

pub use opening::*;

/// The payer of a channel, with a safe refund.
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
    funding_parent: Option<Tip>,
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
    /// Returns the agreed parameters.
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// Returns the funding transaction.
    pub const fn funding(&self) -> &FundingTx {
        &self.funding
    }

    /// Returns the refund.
    pub const fn refund(&self) -> &RefundTx {
        &self.refund
    }

    /// Returns the stage of the channel.
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Returns what has been paid in total, acknowledged or not.
    pub const fn paid(&self) -> Amount {
        self.paid
    }

    /// Returns what the payee has acknowledged in total.
    pub fn acknowledged(&self) -> Amount {
        self.acknowledged.unwrap_or(Amount::ZERO)
    }

    /// Applies one event: the only way to change the state.
    ///
    /// # Errors
    /// If the peer's message is refused, or the user's command is impossible. The state is then unchanged.
    pub fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError> {
        match event {
            Event::Message(envelope) => {
                let message = envelope.for_channel(self.params.id())?;
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
            // The payer always has the refund.
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
            (stage, message) => Err(Refusal::unexpected(stage, message.kind())),
        }
    }

    fn on_payment_request(&mut self, paid: Amount) -> Result<Vec<Action>, Refusal> {
        match self.stage {
            Stage::Open => {}
            // It crossed this side's wish to close, or the news that the funding transaction was lost.
            Stage::Closing => return Ok(Vec::new()),
            Stage::AwaitingFunding if self.ready => return Ok(Vec::new()),
            stage => return Err(Refusal::unexpected(stage, MessageKind::PaymentRequest)),
        }
        let spendable = self.params.spendable();
        if paid > spendable {
            return Err(PaymentError::ExceedsCapacity {
                spendable,
                received: paid,
            }
            .into());
        }
        // A reminder may cross the payment that it asks for: there is nothing more to pay.
        if paid <= self.paid || self.requested.replace(paid) == Some(paid) {
            return Ok(Vec::new());
        }
        Ok(vec![Action::Notify(Notice::PaymentRequested { paid })])
    }

    fn on_refuse(&mut self, reason: RefusalReason) -> Vec<Action> {
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
        if let Some((expiry, left)) = self.params.terms().too_late(self.tip, self.funding_parent) {
            return Err(CommandError::Expiring { expiry, left });
        }
        let left = self.params.spendable() - self.paid;
        if amount > left {
            return Err(CommandError::InsufficientBalance { left, asked: amount });
        }
        let unconfirmed = self.params.zero_conf_limit();
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

    /// Whether this side's node rejected the funding transaction, so that the payee was not told of it.
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
