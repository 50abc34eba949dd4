mod chain;
mod closing;
mod opening;

use bitcoin::Amount;

use super::bump::CpfpPackage;
use super::error::{ApplyError, CommandError, PaymentError, Refusal};
use super::event::{Action, ChainView, Event, Notice};
use super::funding::FundingTx;
use super::keys::{ChannelKey, UnverifiedSignature};
use super::lock::{Expiry, Tip};
use super::message::{Envelope, Message};
use super::musig::{NonceSource, SecretNonce};
use super::params::ChannelParams;
use super::payment::PaymentTemplate;
use super::protocol::Protocol;
use super::stage::Stage;
use super::transaction::{PaymentTx, SettlementTx};
use super::verify::SpendError;

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
    /// The latest payment that counts.
    latest: Option<PaymentTx>,
    /// A newer one that came while payments did not count: it is settled with, and acknowledged when they count again.
    parked: Option<PaymentTx>,
    settlement: Option<Box<SettlementTx>>,
    /// The settlement with a child that pays for it, once the agreed feerate was not enough.
    raised: Option<CpfpPackage>,
    /// The last look at the funding output that succeeded.
    view: Option<ChainView>,
    /// The newest tip, also while the funding output cannot be seen.
    tip: Tip,
    sight: ChainAccess,
    /// The tip at the opening.
    opened: Tip,
    /// Whether the network has accepted the funding transaction from here.
    accepted: bool,
    /// Whether this side has said that payments count.
    ready: bool,
    peer_gone: bool,
    nonces: Option<NonceSource>,
    /// This side asked to close with one signature, and will use this nonce for that and for nothing else.
    asked: Option<Box<SecretNonce>>,
    /// The tip at which the funding transaction was last given to the network: once a block is enough.
    offered: Option<Tip>,
}

/// Whether this side sees the funding output and can broadcast. It acknowledges payments only if both hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct ChainAccess {
    /// The last look failed.
    blind: bool,
    /// The user was told.
    told: bool,
    /// The last broadcast got no answer.
    mute: bool,
}

impl Payee {
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
        self.stage
    }

    /// Returns the latest payment.
    pub const fn latest_payment(&self) -> Option<&PaymentTx> {
        self.latest.as_ref()
    }

    /// Returns what has been paid in total.
    pub fn paid(&self) -> Amount {
        self.latest.map_or(Amount::ZERO, |payment| payment.balance().paid)
    }

    /// Returns the latest payment with both signatures: what the payee would broadcast if the payer were gone. It may
    /// be for more than [`Payee::paid`], if it came while payments do not count.
    ///
    /// # Errors
    /// Never for a payment that was accepted; the property is tested against the node.
    pub fn redeemable(&self) -> Result<Option<SettlementTx>, SpendError> {
        let redeem = |payment: PaymentTx| payment.redeem(&self.params, self.funding.outpoint(), &self.key);
        self.held().map(redeem).transpose()
    }

    /// The latest payment that can be settled with, whether it counts or not.
    fn held(&self) -> Option<PaymentTx> {
        self.parked.or(self.latest)
    }

    /// What a settlement is for.
    fn held_sum(&self) -> Amount {
        self.held().map_or(Amount::ZERO, |payment| payment.balance().paid)
    }

    /// Returns the settlement that this side has broadcast, or broadcasts again with every block.
    pub fn settlement(&self) -> Option<&SettlementTx> {
        self.settlement.as_deref()
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
        match event {
            Event::Message(envelope) => {
                let message = envelope.for_channel(self.params.id())?;
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
                Message::CooperativeSettlement {
                    paid,
                    feerate,
                    nonce,
                    partial,
                },
            ) if self.asked.is_some() => self.accept_cooperative(paid, feerate, &nonce, &partial),
            (
                Stage::AwaitingFunding | Stage::Open | Stage::Closing,
                Message::CloseRequest { feerate, nonce: None },
            ) if self.params.aggregate_key().is_some() => self.on_close_request(feerate),
            // Both closed at the same moment, and this side's settlement is on its way.
            (Stage::Closing, Message::Settlement { .. } | Message::CooperativeSettlement { .. })
                if self.settlement.is_some() =>
            {
                Ok(Vec::new())
            }
            (_, Message::Refuse { reason }) => Ok(vec![Action::Notify(Notice::PeerRefused { reason })]),
            (stage, message) => Err(Refusal::unexpected(stage, message.kind())),
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

    /// Whether payments up to this sum count: not before the first look, and not once a spend is on its way, because
    /// that divides the capacity already.
    fn counts(&self, paid: Amount) -> bool {
        let limit = self.params.zero_conf_limit();
        let early = self.accepted && !self.funding.is_malleable() && paid <= limit && limit > Amount::ZERO;
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
        self.latest = Some(payment);
        let balance = *payment.balance();
        vec![
            self.send(Message::PaymentAccepted { paid: balance.paid }),
            Action::Notify(Notice::PaymentAccepted(balance)),
        ]
    }

    fn too_late(&self) -> Option<(Expiry, u32)> {
        self.params.terms().too_late(self.tip, self.funding_parent())
    }

    /// Where a relative lock counts from, as far as this side has seen it.
    fn funding_parent(&self) -> Option<Tip> {
        self.view.as_ref().and_then(|view| view.funding_parent)
    }

    fn unconfirmed(&self) -> PaymentError {
        PaymentError::Unconfirmed {
            unconfirmed: self.params.zero_conf_limit(),
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
