mod chain;
mod closing;
mod durable;
mod opening;
mod resuming;
mod state;

use bitcoin::Amount;

use super::amount::Balance;
use super::claim::Claim;
use super::durable::{Change, ChannelState, PayerPhase, Progress};
use super::error::{ApplyError, CommandError, PaymentError, Refusal};
use super::event::{Action, Event, Notice, Outcome};
use super::funding::FundingTx;
use super::keys::ChannelKey;
use super::limits::check_room;
use super::lock::Tip;
use super::message::{Message, MessageKind};
use super::params::{ChannelId, ChannelParams};
use super::payment_template::PaymentTemplate;
use super::protocol::Protocol;
use super::reason::RefusalReason;
use super::resume::HelloRandoms;
use super::stage::Stage;
use super::transaction::{RefundTx, SpendRole};

pub use opening::*;
use state::{Custody, Promises, Rebroadcast, Seen, Sums};

/// The payer of a channel, with a safe refund.
#[derive(Debug)]
pub struct Payer {
    // What makes the channel.
    key: ChannelKey,
    params: ChannelParams,
    funding: FundingTx,
    /// The tip at the opening.
    opened: Tip,
    // How far it has come.
    version: u64,
    promises: Promises,
    refund: Claim<RefundTx>,
    /// The funding transaction in the form in which it was mined, under another id.
    malleated: Option<FundingTx>,
    outcome: Option<Outcome>,
    phase: PayerPhase,
    custody: Custody,
    /// The funding transaction had enough confirmations when it was last seen.
    confirmed: bool,
    sums: Sums,
    // What follows from the parameters and the funding output. On the heap, because futures move the parties.
    template: Box<PaymentTemplate>,
    // What ends with the connection.
    /// The channel's number on it.
    channel: ChannelId,
    /// The payee was asked to resume, and has not answered.
    resuming: Option<HelloRandoms>,
    /// The payee does not hold the latest payment, and gets it when payments count.
    pays_when_ready: bool,
    // State that the next poll restores.
    seen: Seen,
    rebroadcast: Rebroadcast,
}

impl Payer {
    /// Returns the agreed parameters.
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// Returns the funding transaction, in the form in which it was mined if others changed its id.
    pub fn funding(&self) -> &FundingTx {
        self.malleated.as_ref().unwrap_or(&self.funding)
    }

    /// Returns the refund.
    pub const fn refund(&self) -> &RefundTx {
        self.refund.spend()
    }

    /// Returns the stage of the channel.
    pub const fn stage(&self) -> Stage {
        self.phase.stage()
    }

    /// Returns what has been paid in total, acknowledged or not.
    pub const fn paid(&self) -> Amount {
        self.sums.paid
    }

    /// Returns what the payee has acknowledged in total.
    pub fn acknowledged(&self) -> Amount {
        self.sums.acknowledged.unwrap_or(Amount::ZERO)
    }

    /// Hands over the funding transaction or waits for a request, as the protocol wants it.
    fn start(mut self) -> (Self, Vec<Action>) {
        let mut actions = Vec::new();
        if self.funding.is_malleable() {
            actions.push(Action::Notify(Notice::MalleableFunding));
        }
        match self.params.terms().protocol {
            Protocol::SteppedLocktime => actions.push(self.broadcast_funding()),
            Protocol::Example7 => actions.push(self.hand_over()),
            Protocol::Bond => self.phase = PayerPhase::Protected,
        }
        let state = Box::new(ChannelState::Payer(self.state()));
        actions.insert(0, Action::Persist(Change::Insert(state)));
        (self, actions)
    }

    /// Applies one event: the only way to change the state.
    ///
    /// # Errors
    /// If the peer's message is refused, or the user's command is impossible. The state is then unchanged.
    pub fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError> {
        let before = self.progress();
        let mut actions = self.answer(event)?;
        let mut after = self.progress();
        if after.must_follow(before) {
            self.version += 1;
            after.version = self.version;
            actions.insert(0, Action::Persist(Change::Update(Progress::Payer(after))));
        }
        Ok(actions)
    }

    fn answer(&mut self, event: Event) -> Result<Vec<Action>, ApplyError> {
        match event {
            Event::Pay(_) | Event::PayUpTo(_) | Event::Close | Event::CloseAt(_)
                if self.resuming.is_some() =>
            {
                Err(CommandError::Resuming.into())
            }
            Event::Message(envelope) => {
                let message = envelope.for_channel(self.channel)?;
                Ok(self.on_message(message)?)
            }
            Event::Chain(view) => Ok(self.on_chain(&view)),
            Event::Blind(tip) => Ok(self.on_blind(tip)),
            Event::Broadcast(result) => Ok(self.on_broadcast(result)),
            Event::BroadcastUnknown { role, .. } => Ok(self.hand_over_kept(role)),
            Event::Pay(amount) => Ok(self.pay(amount)?),
            Event::PayUpTo(total) if total <= self.sums.paid => Ok(Vec::new()),
            Event::PayUpTo(total) => Ok(self.pay(total - self.sums.paid)?),
            Event::FundingMalleated(tx) => Ok(self.follow(tx)?),
            Event::Close => Ok(self.close(self.params.terms().feerate)?),
            Event::CloseAt(feerate) => Ok(self.close(feerate)?),
            Event::Bump(package) => Ok(vec![self.bump(package)?]),
            // The payer always has the refund.
            Event::PeerGone | Event::PeerAway => {
                (self.resuming, self.pays_when_ready) = (None, false);
                Ok(Vec::new())
            }
            Event::Reconnected { channel, randoms } => Ok(self.on_reconnected(channel, randoms)),
            Event::RequestPayment(_) => {
                Err(CommandError::wrong_stage(self.stage(), "request a payment as the payer").into())
            }
        }
    }

    fn on_message(&mut self, message: Message) -> Result<Vec<Action>, Refusal> {
        match (self.phase, message) {
            (_, Message::Resumed(resumed)) => self.on_resumed(resumed),
            (_, Message::Refuse { reason }) => Ok(self.on_refuse(reason)),
            // Nothing is said in between.
            (phase, message) if self.resuming.is_some() => {
                Err(Refusal::unexpected(phase.stage(), message.kind()))
            }
            (PayerPhase::Protected | PayerPhase::AwaitingReady, Message::FundingRequest)
                if self.awaits_request() =>
            {
                // Too late, the money would be locked for a channel that has no time for a payment.
                check_room(self.params.terms(), self.seen.tip, self.params.confirmations())?;
                self.phase = PayerPhase::AwaitingReady;
                Ok(vec![self.hand_over()])
            }
            (PayerPhase::AwaitingReady | PayerPhase::Suspended, Message::Ready) => Ok(self.on_ready()),
            // After a reorganisation the payee says it again, and it may cross this side's wish to close.
            (
                PayerPhase::Open | PayerPhase::AwaitingCooperativeClose | PayerPhase::Closing,
                Message::Ready,
            ) => Ok(self.pay_when_ready()),
            (_, Message::PaymentRequest { paid }) if self.params.terms().protocol == Protocol::Bond => {
                self.on_payment_request(paid)
            }
            (
                PayerPhase::Open
                | PayerPhase::Suspended
                | PayerPhase::AwaitingCooperativeClose
                | PayerPhase::Closing,
                Message::PaymentAccepted { paid },
            ) => self.on_accepted(paid),
            (_, Message::CloseRequest { feerate, nonce }) => self.on_close_request(feerate, nonce),
            (
                PayerPhase::Open
                | PayerPhase::Suspended
                | PayerPhase::AwaitingCooperativeClose
                | PayerPhase::Closing,
                Message::Closed { txid },
            ) => {
                self.phase.start_closing();
                Ok(vec![Action::Notify(Notice::PeerSettled { txid })])
            }
            (phase, message) => Err(Refusal::unexpected(phase.stage(), message.kind())),
        }
    }

    /// The user may have broadcast the funding transaction before the payee requested it.
    fn awaits_request(&self) -> bool {
        self.params.terms().protocol == Protocol::Bond && self.custody.is_kept()
    }

    fn on_payment_request(&mut self, paid: Amount) -> Result<Vec<Action>, Refusal> {
        match self.phase {
            PayerPhase::Open => {}
            // It crossed this side's wish to close, or the news that the funding transaction was lost.
            PayerPhase::Suspended | PayerPhase::AwaitingCooperativeClose | PayerPhase::Closing => {
                return Ok(Vec::new())
            }
            PayerPhase::Protected
            | PayerPhase::AwaitingReady
            | PayerPhase::Closed
            | PayerPhase::Abandoned => {
                return Err(Refusal::unexpected(self.stage(), MessageKind::PaymentRequest));
            }
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
        if paid <= self.sums.paid || self.sums.requested.replace(paid) == Some(paid) {
            return Ok(Vec::new());
        }
        Ok(vec![Action::Notify(Notice::PaymentRequested { paid })])
    }

    fn on_refuse(&mut self, reason: RefusalReason) -> Vec<Action> {
        let mut actions = vec![Action::Notify(Notice::PeerRefused { reason })];
        match self.phase {
            PayerPhase::Closed | PayerPhase::Abandoned => {}
            // Another connection or process serves the channel, and this side can try again.
            _ if reason == RefusalReason::ChannelBusy => {}
            PayerPhase::Protected => actions.push(self.abandon()),
            // The refusal came without a proof, perhaps from a stranger at a wrong address.
            _ if self.resuming.is_some() => {}
            _ => self.phase.start_closing(),
        }
        actions
    }

    fn on_ready(&mut self) -> Vec<Action> {
        let first = self.phase == PayerPhase::AwaitingReady;
        self.phase = PayerPhase::Open;
        let mut actions = vec![Action::Notify(Notice::Ready)];
        // Example 7 starts with everything on K1's output: the payee holds a way to give the payer its
        // money back before the lock, even if it is never paid.
        let begins = self.params.terms().protocol == Protocol::Example7 && first;
        if begins || std::mem::take(&mut self.pays_when_ready) {
            actions.push(self.payment());
        }
        actions
    }

    fn on_accepted(&mut self, received: Amount) -> Result<Vec<Action>, Refusal> {
        let acknowledged = self.acknowledged();
        let first = self.sums.acknowledged.is_none() && self.params.terms().protocol == Protocol::Example7;
        if received > self.sums.paid || received < acknowledged || (received == acknowledged && !first) {
            return Err(PaymentError::AcknowledgedUnsent {
                acknowledged,
                sent: self.sums.paid,
                received,
            }
            .into());
        }
        self.sums.acknowledged = Some(received);
        Ok(vec![Action::Notify(Notice::PaymentAccepted(
            self.balance(received),
        ))])
    }

    fn pay(&mut self, amount: Amount) -> Result<Vec<Action>, CommandError> {
        if self.phase != PayerPhase::Open {
            return Err(CommandError::wrong_stage(self.stage(), "pay"));
        }
        let minimum = self.params.terms().minimum_payment;
        if amount < minimum {
            return Err(CommandError::BelowMinimum {
                minimum,
                asked: amount,
            });
        }
        if let Some((expiry, left)) = self
            .params
            .terms()
            .too_late(self.seen.tip, self.seen.funding_parent)
        {
            return Err(CommandError::Expiring { expiry, left });
        }
        let left = self.params.spendable() - self.sums.paid;
        if amount > left {
            return Err(CommandError::InsufficientBalance { left, asked: amount });
        }
        let unconfirmed = self.params.zero_conf_limit();
        let required = self.params.confirmations();
        // Without such a limit the payee's word is enough: it may see a block earlier than the payer does.
        if unconfirmed > Amount::ZERO
            && self.seen.confirmations < required
            && self.sums.paid + amount > unconfirmed
        {
            return Err(CommandError::Unconfirmed {
                unconfirmed,
                confirmations: self.seen.confirmations,
                required,
            });
        }
        self.sums.paid += amount;
        Ok(vec![self.payment()])
    }

    /// Returns the channel's number on the latest connection.
    #[cfg(feature = "service")]
    pub(crate) const fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Returns the tip when the channel was opened.
    #[cfg(feature = "service")]
    pub(crate) const fn opened(&self) -> Tip {
        self.opened
    }

    /// Returns the latest tip that this side has heard of.
    #[cfg(feature = "service")]
    pub(crate) const fn tip(&self) -> Tip {
        self.seen.tip
    }

    /// Returns the funding transaction as it was signed, whatever became of its id.
    #[cfg(feature = "service")]
    pub(crate) const fn signed_funding(&self) -> &FundingTx {
        &self.funding
    }

    /// Whether this side's node rejected the funding transaction, so that the payee was not told of it.
    #[cfg(feature = "service")]
    pub(crate) fn is_unfunded(&self) -> bool {
        self.stage() == Stage::Closing && self.custody.is_kept()
    }

    /// The funding transaction never left this side.
    fn abandon(&mut self) -> Action {
        self.phase = PayerPhase::Abandoned;
        Action::Notify(Notice::Abandoned)
    }

    fn balance(&self, paid: Amount) -> Balance {
        self.params
            .balance(paid)
            .expect("the payer never signs more than the channel can pay")
    }

    fn payment(&self) -> Action {
        let balance = self.balance(self.sums.paid);
        let signature = self.template.sign(&self.params, &balance, &self.key);
        self.send(Message::Payment {
            paid: self.sums.paid,
            signature: signature.to_unverified(),
        })
    }

    fn broadcast_funding(&self) -> Action {
        Action::broadcast(SpendRole::Funding, self.funding().tx())
    }

    fn hand_over(&mut self) -> Action {
        self.custody = Custody::HandedOver(self.seen.tip);
        let tx = self.funding().tx().clone();
        self.send(Message::Funding { tx })
    }

    const fn send(&self, message: Message) -> Action {
        Action::send(self.channel, message)
    }
}
