mod chain;
mod closing;
mod opening;
mod state;

use bitcoin::Amount;

use super::amount::Balance;
use super::claim::Claim;
use super::error::{ApplyError, CommandError, PaymentError, Refusal};
use super::event::{Action, Event, Notice};
use super::funding::FundingTx;
use super::keys::ChannelKey;
use super::limits::check_room;
use super::lock::Tip;
use super::message::{Message, MessageKind};
use super::params::ChannelParams;
use super::payment_template::PaymentTemplate;
use super::protocol::Protocol;
use super::reason::RefusalReason;
use super::stage::Stage;
use super::transaction::{RefundTx, SpendRole};

pub use opening::*;
use state::{Custody, Promises, Rebroadcast, Seen, State, Sums};

/// The payer of a channel, with a safe refund.
#[derive(Debug)]
pub struct Payer {
    // What makes the channel.
    key: ChannelKey,
    params: ChannelParams,
    funding: FundingTx,
    refund: Claim<RefundTx>,
    promises: Promises,
    // How far it has come.
    state: State,
    custody: Custody,
    sums: Sums,
    // What follows from the parameters and the funding output. On the heap, because futures move the parties.
    template: Box<PaymentTemplate>,
    // State that the next poll restores.
    seen: Seen,
    rebroadcast: Rebroadcast,
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
        self.refund.spend()
    }

    /// Returns the stage of the channel.
    pub const fn stage(&self) -> Stage {
        self.state.stage()
    }

    /// Returns what has been paid in total, acknowledged or not.
    pub const fn paid(&self) -> Amount {
        self.sums.paid
    }

    /// Returns what the payee has acknowledged in total.
    pub fn acknowledged(&self) -> Amount {
        self.sums.acknowledged.unwrap_or(Amount::ZERO)
    }

    /// Makes the payer, and hands over the funding transaction or waits for a request, as the protocol wants it.
    fn start(
        key: ChannelKey,
        params: ChannelParams,
        funding: FundingTx,
        refund: RefundTx,
        promises: Promises,
        tip: Tip,
    ) -> (Self, Vec<Action>) {
        let mut payer = Self {
            template: Box::new(PaymentTemplate::new(&params, funding.outpoint())),
            key,
            params,
            funding,
            refund: Claim::new(refund),
            promises,
            state: State::AwaitingReady,
            custody: Custody::Kept,
            sums: Sums::default(),
            seen: Seen {
                tip,
                funding_parent: None,
                confirmations: 0,
            },
            rebroadcast: Rebroadcast {
                offered: tip,
                overdue: false,
            },
        };
        let mut actions = Vec::new();
        if payer.funding.is_malleable() {
            actions.push(Action::Notify(Notice::MalleableFunding));
        }
        match payer.params.terms().protocol {
            Protocol::SteppedLocktime => actions.push(payer.broadcast_funding()),
            Protocol::Example7 => actions.push(payer.hand_over()),
            Protocol::Bond => payer.state = State::Protected,
        }
        (payer, actions)
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
            Event::BroadcastUnknown { role, .. } => Ok(self.hand_over_kept(role)),
            Event::Pay(amount) => Ok(self.pay(amount)?),
            Event::PayUpTo(total) if total <= self.sums.paid => Ok(Vec::new()),
            Event::PayUpTo(total) => Ok(self.pay(total - self.sums.paid)?),
            Event::FundingMalleated(tx) => Ok(self.follow(tx)?),
            Event::Close => Ok(self.close(self.params.terms().feerate)?),
            Event::CloseAt(feerate) => Ok(self.close(feerate)?),
            Event::Bump(package) => Ok(vec![self.bump(package)?]),
            // The payer always has the refund.
            Event::PeerGone => Ok(Vec::new()),
            Event::RequestPayment(_) => {
                Err(CommandError::wrong_stage(self.stage(), "request a payment as the payer").into())
            }
        }
    }

    fn on_message(&mut self, message: Message) -> Result<Vec<Action>, Refusal> {
        match (self.state, message) {
            (State::Protected | State::AwaitingReady, Message::FundingRequest) if self.awaits_request() => {
                // Too late, the money would be locked for a channel that has no time for a payment.
                check_room(self.params.terms(), self.seen.tip, self.params.confirmations())?;
                self.state = State::AwaitingReady;
                Ok(vec![self.hand_over()])
            }
            (State::AwaitingReady | State::Suspended, Message::Ready) => Ok(self.on_ready()),
            // After a reorganisation the payee says it again, and it may cross this side's wish to close.
            (State::Open | State::AwaitingCooperativeClose | State::Closing, Message::Ready) => {
                Ok(Vec::new())
            }
            (_, Message::PaymentRequest { paid }) if self.params.terms().protocol == Protocol::Bond => {
                self.on_payment_request(paid)
            }
            (
                State::Open | State::Suspended | State::AwaitingCooperativeClose | State::Closing,
                Message::PaymentAccepted { paid },
            ) => self.on_accepted(paid),
            (_, Message::CloseRequest { feerate, nonce }) => self.on_close_request(feerate, nonce),
            (
                State::Open | State::Suspended | State::AwaitingCooperativeClose | State::Closing,
                Message::Closed { txid },
            ) => {
                self.state.start_closing();
                Ok(vec![Action::Notify(Notice::PeerSettled { txid })])
            }
            (_, Message::Refuse { reason }) => Ok(self.on_refuse(reason)),
            (state, message) => Err(Refusal::unexpected(state.stage(), message.kind())),
        }
    }

    /// The user may have broadcast the funding transaction before the payee requested it.
    fn awaits_request(&self) -> bool {
        self.params.terms().protocol == Protocol::Bond && self.custody.is_kept()
    }

    fn on_payment_request(&mut self, paid: Amount) -> Result<Vec<Action>, Refusal> {
        match self.state {
            State::Open => {}
            // It crossed this side's wish to close, or the news that the funding transaction was lost.
            State::Suspended | State::AwaitingCooperativeClose | State::Closing => return Ok(Vec::new()),
            State::Protected | State::AwaitingReady | State::Closed | State::Abandoned => {
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
        match self.state {
            State::Closed | State::Abandoned => {}
            State::Protected => actions.push(self.abandon()),
            _ => self.state.start_closing(),
        }
        actions
    }

    fn on_ready(&mut self) -> Vec<Action> {
        let first = self.state == State::AwaitingReady;
        self.state = State::Open;
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
        if self.state != State::Open {
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

    /// Whether this side's node rejected the funding transaction, so that the payee was not told of it.
    #[cfg(feature = "service")]
    pub(crate) fn is_unfunded(&self) -> bool {
        self.stage() == Stage::Closing && self.custody.is_kept()
    }

    /// The funding transaction never left this side.
    fn abandon(&mut self) -> Action {
        self.state = State::Abandoned;
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
        Action::broadcast(SpendRole::Funding, self.funding.tx())
    }

    fn hand_over(&mut self) -> Action {
        self.custody = Custody::HandedOver(self.seen.tip);
        let tx = self.funding.tx().clone();
        self.send(Message::Funding { tx })
    }

    const fn send(&self, message: Message) -> Action {
        Action::send(self.params.id(), message)
    }
}
