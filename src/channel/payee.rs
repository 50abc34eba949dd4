mod chain;
mod closing;
mod durable;
mod opening;
mod resuming;
mod state;

use bitcoin::Amount;

use super::claim::Claim;
use super::durable::{Change, Progress};
use super::error::{ApplyError, CommandError, PaymentError, Refusal};
use super::event::{Action, Event, Notice, Outcome};
use super::funding::FundingTx;
use super::keys::{ChannelKey, UnverifiedSignature};
use super::lock::{Expiry, Tip};
use super::message::{Message, MessageKind};
use super::musig::{NonceSource, SecretNonce};
use super::params::{ChannelId, ChannelParams};
use super::payment_template::PaymentTemplate;
use super::protocol::Protocol;
use super::resume::HelloRandoms;
use super::script_check::SpendError;
use super::stage::Stage;
use super::transaction::{PaymentTx, SettlementTx};

pub use opening::*;
use state::{Broadcasts, Payments, Sight, State};

/// The payee of a channel.
#[derive(Debug)]
pub struct Payee {
    // What makes the channel.
    key: ChannelKey,
    params: ChannelParams,
    funding: FundingTx,
    /// The tip at the opening.
    opened: Tip,
    // How far it has come.
    version: u64,
    state: State,
    payments: Payments,
    outcome: Option<Outcome>,
    // What follows from the parameters and the funding output. On the heap, because futures move the parties.
    template: Box<PaymentTemplate>,
    // What ends with the process: secrets that must not be used twice, and the connection.
    nonces: Option<NonceSource>,
    /// This side asked to close with one signature, and will use this nonce for that and for nothing else.
    asked_with: Option<Box<SecretNonce>>,
    /// The channel's number on the connection.
    channel: ChannelId,
    peer_gone: bool,
    /// The payer is back, and has not resumed the channel yet.
    resuming: Option<HelloRandoms>,
    /// The payer has resumed the channel, so it may say again what was lost on the way.
    resumed: bool,
    // State that the next poll restores.
    sight: Sight,
    broadcasts: Broadcasts,
}

impl Payee {
    fn new(key: ChannelKey, params: ChannelParams, funding: FundingTx, tip: Tip) -> Self {
        Self {
            template: Box::new(PaymentTemplate::new(&params, funding.outpoint())),
            channel: params.id(),
            key,
            params,
            funding,
            opened: tip,
            version: 0,
            state: State::AwaitingFunding,
            payments: Payments::default(),
            outcome: None,
            nonces: None,
            asked_with: None,
            peer_gone: false,
            resuming: None,
            resumed: false,
            sight: Sight::new(tip),
            broadcasts: Broadcasts {
                accepted: false,
                offered: Some(tip),
                unanswered: false,
            },
        }
    }

    /// Returns the agreed parameters.
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// Returns the funding transaction.
    pub const fn funding(&self) -> &FundingTx {
        &self.funding
    }

    /// Returns the stage of the channel.
    pub const fn stage(&self) -> Stage {
        self.state.stage()
    }

    /// Returns the latest payment.
    pub const fn latest_payment(&self) -> Option<&PaymentTx> {
        self.payments.latest.as_ref()
    }

    /// Returns what has been paid in total.
    pub fn paid(&self) -> Amount {
        self.payments.paid()
    }

    /// Returns the latest payment with both signatures: what the payee would broadcast if the payer were gone. It may
    /// be for more than [`Payee::paid`], if it came while payments do not count.
    ///
    /// # Errors
    /// Never for a payment that was accepted; the property is tested against the node.
    pub fn redeemable(&self) -> Result<Option<SettlementTx>, SpendError> {
        self.redeem(self.payments.held())
    }

    fn redeem(&self, payment: Option<PaymentTx>) -> Result<Option<SettlementTx>, SpendError> {
        let redeem = |payment: PaymentTx| payment.redeem(&self.params, self.funding.outpoint(), &self.key);
        payment.map(redeem).transpose()
    }

    /// Returns the settlement that this side has broadcast, or broadcasts again with every block.
    pub fn settlement(&self) -> Option<&SettlementTx> {
        self.state.settlement().map(Claim::spend)
    }

    /// Lets this side close with one signature, if the construction can. Without it, a close takes two signatures.
    pub fn provide_nonces(&mut self, source: NonceSource) {
        self.nonces = Some(source);
    }

    /// Applies one event: the only way to change the state.
    ///
    /// # Errors
    /// If the peer's message is refused, or the user's command is impossible. The state is then unchanged, except that a
    /// secret nonce that met a wrong partial signature is not used again.
    pub fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError> {
        let before = self.progress();
        let mut actions = self.answer(event)?;
        let mut after = self.progress();
        if after != before {
            self.version += 1;
            after.version = self.version;
            actions.insert(0, Action::Persist(Change::Update(Progress::Payee(after))));
        }
        Ok(actions)
    }

    fn answer(&mut self, event: Event) -> Result<Vec<Action>, ApplyError> {
        match event {
            Event::Message(envelope) => {
                let message = envelope.for_channel(self.channel)?;
                Ok(self.on_message(message)?)
            }
            Event::Chain(view) => Ok(self.on_chain(view)?),
            Event::Blind(tip) => Ok(self.on_blind(tip)?),
            Event::Broadcast(result) => Ok(self.on_broadcast(result)?),
            Event::BroadcastUnknown { txid, .. } => Ok(self.on_unknown(txid)?),
            Event::RequestPayment(amount) => Ok(self.request_payment(amount)?),
            Event::Close => self.close(None),
            Event::CloseAt(feerate) => self.close(Some(feerate)),
            Event::Bump(package) => Ok(vec![self.bump(package)?]),
            Event::PeerGone => Ok(self.on_peer_gone()?),
            Event::PeerAway => Ok(self.on_peer_away()?),
            Event::Reconnected { channel, randoms } => {
                self.on_reconnected(channel, randoms);
                Ok(Vec::new())
            }
            Event::Pay(_) | Event::PayUpTo(_) => {
                Err(CommandError::wrong_stage(self.stage(), "pay as the payee").into())
            }
            Event::FundingMalleated(_) => {
                Err(CommandError::wrong_stage(self.stage(), "refund as the payee").into())
            }
        }
    }

    fn on_message(&mut self, message: Message) -> Result<Vec<Action>, Refusal> {
        match (self.stage(), message) {
            (_, Message::Resume(resume)) => self.on_resume(resume),
            (stage, message) if self.resuming.is_some() && message.kind() != MessageKind::Refuse => {
                Err(Refusal::unexpected(stage, message.kind()))
            }
            (_, Message::Payment { paid, signature }) if self.takes_payments() => {
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
            ) if self.settlement().is_none() => self.accept_settlement(paid, feerate, signature),
            (
                Stage::Closing,
                Message::CooperativeSettlement {
                    paid,
                    feerate,
                    nonce,
                    partial,
                },
            ) if self.awaits_partial() => self.accept_cooperative(paid, feerate, &nonce, &partial),
            (
                Stage::AwaitingFunding | Stage::Open | Stage::Closing,
                Message::CloseRequest { feerate, nonce: None },
            ) if self.params.aggregate_key().is_some() => self.on_close_request(feerate),
            // Both closed at the same moment, and this side's settlement is on its way.
            (Stage::Closing, Message::Settlement { .. } | Message::CooperativeSettlement { .. })
                if self.settlement().is_some() =>
            {
                Ok(Vec::new())
            }
            (_, Message::Refuse { reason }) => Ok(vec![Action::Notify(Notice::PeerRefused { reason })]),
            (stage, message) => Err(Refusal::unexpected(stage, message.kind())),
        }
    }

    /// Whether payments are checked and kept. They may not count: a payment may cross the news that the funding
    /// transaction was lost, or this side's close request; then the settlement will be for all of it.
    fn takes_payments(&self) -> bool {
        match self.state {
            State::Open | State::Suspended => true,
            State::AwaitingSettlement { was_open, .. } => was_open && !self.sight.spend_seen(),
            State::AwaitingFunding | State::Settling(_) | State::Closed(_) => false,
        }
    }

    /// Whether this side asked to close with one signature.
    const fn awaits_partial(&self) -> bool {
        matches!(self.state, State::AwaitingSettlement { asked: true, .. }) && self.asked_with.is_some()
    }

    /// Whether payments up to this sum count: not before the first view, and not once a spend is on its way, because
    /// the spend already divides the capacity.
    fn counts(&self, paid: Amount) -> bool {
        let limit = self.params.zero_conf_limit();
        let malleable = self.funding.is_malleable();
        let early = self.broadcasts.accepted && !malleable && paid <= limit && limit > Amount::ZERO;
        let confirmed = self.sight.confirmations() >= self.params.confirmations();
        self.sight.has_view() && !self.sight.spend_seen() && (early || confirmed)
    }

    fn accept(&mut self, paid: Amount, signature: UnverifiedSignature) -> Result<Vec<Action>, Refusal> {
        if let Some((expiry, left)) = self.too_late() {
            return Err(PaymentError::Expiring { expiry, left }.into());
        }
        if self.resumed && self.payments.is_parked(paid, signature) {
            return Ok(self.acknowledge());
        }
        self.check_increase(paid)?;
        if self.counts(self.paid()) && !self.counts(paid) {
            return Err(self.unconfirmed().into());
        }
        let balance = self.params.balance(paid).ok_or_else(|| self.exceeds(paid))?;
        let payment = self.template.verify(&self.params, balance, signature)?;
        if self.payments.held().is_none() {
            // The first one goes through full script verification; later ones differ only in their amounts.
            payment.redeem(&self.params, self.funding.outpoint(), &self.key)?;
        }
        self.payments.parked = Some(payment);
        Ok(self.acknowledge())
    }

    /// The parked payment counts from now on, if payments do. From the closing margin on it is settled with, but never
    /// acknowledged: the refund may win.
    fn acknowledge(&mut self) -> Vec<Action> {
        let can_tell = !self.sight.is_blind() && !self.broadcasts.unanswered && self.too_late().is_none();
        let counts = can_tell && self.counts(self.payments.held_sum());
        let Some(balance) = self.payments.count_parked(counts) else {
            return Vec::new();
        };
        vec![
            self.send(Message::PaymentAccepted { paid: balance.paid }),
            Action::Notify(Notice::PaymentAccepted(balance)),
        ]
    }

    fn too_late(&self) -> Option<(Expiry, u32)> {
        let funding_parent = self.sight.funding_parent();
        self.params.terms().too_late(self.sight.tip, funding_parent)
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
        self.sight.tip
    }

    /// Returns the lock at which this side settles without its peer: one closing margin before the refund's. `None` once the
    /// channel is closed, and for a relative lock before the funding transaction is confirmed.
    pub fn deadline(&self) -> Option<Expiry> {
        let is_over = self.stage() == Stage::Closed;
        let lock = self.params.terms().settle_from(self.sight.funding_parent());
        lock.filter(|_| !is_over)
    }

    /// Whether the closing margin has begun, so that no payment is accepted any more.
    #[cfg(feature = "service")]
    pub(crate) fn is_too_late(&self) -> bool {
        self.too_late().is_some()
    }

    fn unconfirmed(&self) -> PaymentError {
        PaymentError::Unconfirmed {
            unconfirmed: self.params.zero_conf_limit(),
            confirmations: self.sight.confirmations(),
            required: self.params.confirmations(),
        }
    }

    fn check_increase(&self, received: Amount) -> Result<(), PaymentError> {
        let previous = self.payments.held_sum();
        let empty_start =
            self.payments.held().is_none() && self.params.terms().protocol == Protocol::Example7;
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

    fn request_payment(&self, amount: Amount) -> Result<Vec<Action>, CommandError> {
        if self.stage() != Stage::Open || self.params.terms().protocol != Protocol::Bond {
            return Err(CommandError::wrong_stage(self.stage(), "request a payment"));
        }
        let minimum = self.params.terms().minimum_payment;
        if amount < minimum {
            return Err(CommandError::BelowMinimum {
                minimum,
                asked: amount,
            });
        }
        let left = self.params.spendable() - self.payments.held_sum();
        if amount > left {
            return Err(CommandError::InsufficientBalance { left, asked: amount });
        }
        if let Some((expiry, left)) = self.too_late() {
            return Err(CommandError::Expiring { expiry, left });
        }
        Ok(vec![self.send(Message::PaymentRequest {
            paid: self.payments.held_sum() + amount,
        })])
    }

    const fn send(&self, message: Message) -> Action {
        Action::send(self.channel, message)
    }
}
