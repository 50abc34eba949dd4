use bitcoin::{Amount, Txid};

use crate::channel::amount::Balance;
use crate::channel::claim::Claim;
use crate::channel::durable::{PayeePhase, RestoreError, SignedPayment};
use crate::channel::event::ChainView;
use crate::channel::keys::UnverifiedSignature;
use crate::channel::lock::Tip;
use crate::channel::stage::Stage;
use crate::channel::transaction::{PaymentTx, SettlementTx};

/// The life of a channel after the opening. Several states are one [`Stage`] to the user.
#[derive(Debug)]
pub(super) enum State {
    /// Payments do not count, and never did.
    AwaitingFunding,
    /// Payments count.
    Open,
    /// Payments counted until the funding transaction lost its confirmations.
    Suspended,
    /// The payer was asked for a settlement, or another spend of the funding output was seen. No settlement is signed.
    AwaitingSettlement {
        /// The payer was asked.
        asked: bool,
        /// The channel was open: the settlement will be for every payment that comes before it.
        was_open: bool,
    },
    /// This side broadcasts a settlement until it is confirmed.
    Settling(Box<Claim<SettlementTx>>),
    /// The spend is confirmed, or the channel was abandoned. The settlement is this side's, if it had one.
    Closed(Option<Box<Claim<SettlementTx>>>),
}

impl State {
    pub const fn stage(&self) -> Stage {
        match self {
            Self::AwaitingFunding | Self::Suspended => Stage::AwaitingFunding,
            Self::Open => Stage::Open,
            Self::AwaitingSettlement { .. } | Self::Settling(_) => Stage::Closing,
            Self::Closed(_) => Stage::Closed,
        }
    }

    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }

    pub fn settlement(&self) -> Option<&Claim<SettlementTx>> {
        match self {
            Self::Settling(settlement) | Self::Closed(Some(settlement)) => Some(settlement),
            _ => None,
        }
    }

    /// Whether payments have ever counted.
    const fn was_open(&self) -> bool {
        match self {
            Self::Open | Self::Suspended => true,
            Self::AwaitingSettlement { was_open, .. } => *was_open,
            Self::AwaitingFunding | Self::Settling(_) | Self::Closed(_) => false,
        }
    }

    /// Another spend of the funding output was seen, so that no payment counts any more.
    pub fn end_payments(&mut self) {
        if self.stage() != Stage::Closing {
            self.await_settlement(false);
        }
    }

    pub fn await_settlement(&mut self, asked: bool) {
        let was_open = self.was_open();
        *self = Self::AwaitingSettlement { asked, was_open };
    }

    pub const fn phase(&self) -> PayeePhase {
        match *self {
            Self::AwaitingFunding => PayeePhase::AwaitingFunding,
            Self::Open => PayeePhase::Open,
            Self::Suspended => PayeePhase::Suspended,
            Self::AwaitingSettlement { asked, was_open } => {
                PayeePhase::AwaitingSettlement { asked, was_open }
            }
            Self::Settling(_) => PayeePhase::Settling,
            Self::Closed(_) => PayeePhase::Closed,
        }
    }

    pub fn restore(phase: PayeePhase, settlement: Option<Claim<SettlementTx>>) -> Result<Self, RestoreError> {
        Ok(match (phase, settlement.map(Box::new)) {
            (PayeePhase::Settling, Some(settlement)) => Self::Settling(settlement),
            (PayeePhase::Closed, settlement) => Self::Closed(settlement),
            (PayeePhase::AwaitingFunding, None) => Self::AwaitingFunding,
            (PayeePhase::Open, None) => Self::Open,
            (PayeePhase::Suspended, None) => Self::Suspended,
            (PayeePhase::AwaitingSettlement { asked, was_open }, None) => {
                Self::AwaitingSettlement { asked, was_open }
            }
            (phase, _) => {
                let settling = phase == PayeePhase::Settling;
                return Err(RestoreError::Settlement { settling });
            }
        })
    }

    pub fn close(&mut self) {
        *self = match std::mem::replace(self, Self::Closed(None)) {
            Self::Settling(settlement) => Self::Closed(Some(settlement)),
            closed @ Self::Closed(_) => closed,
            _ => Self::Closed(None),
        };
    }
}

/// The payments that the payee holds.
#[derive(Debug, Default)]
pub(super) struct Payments {
    /// The latest that counts.
    pub latest: Option<PaymentTx>,
    /// A later one that came while payments did not count. It is settled with, and acknowledged when they count again.
    pub parked: Option<PaymentTx>,
}

impl Payments {
    /// Returns the total that counts.
    pub fn paid(&self) -> Amount {
        total(self.latest)
    }

    /// Returns the latest payment, whether it counts or not.
    pub fn held(&self) -> Option<PaymentTx> {
        self.parked.or(self.latest)
    }

    /// Returns the total of the latest payment, whether it counts or not: what a settlement is for.
    pub fn held_sum(&self) -> Amount {
        total(self.held())
    }

    /// Returns the latest payment if the payee can claim it on chain.
    pub fn enforceable(&self) -> Option<PaymentTx> {
        self.held().filter(|payment| payment.balance().is_enforceable())
    }

    /// Whether this is the parked payment.
    pub fn is_parked(&self, paid: Amount, signature: UnverifiedSignature) -> bool {
        let parked = self.parked.as_ref().map(PaymentTx::signed);
        parked == Some(SignedPayment { paid, signature })
    }

    /// The parked payment counts from now on, if payments up to its sum do.
    pub fn count_parked(&mut self, counts: bool) -> Option<Balance> {
        let payment = self.parked.take_if(|_| counts)?;
        self.latest = Some(payment);
        Some(*payment.balance())
    }
}

fn total(payment: Option<PaymentTx>) -> Amount {
    payment.map_or(Amount::ZERO, |payment| payment.balance().paid)
}

/// What this side sees of the chain. Payments are acknowledged only while it sees the funding output.
#[derive(Debug)]
pub(super) struct Sight {
    /// The latest tip, also while blind.
    pub tip: Tip,
    /// The last view of the funding output.
    view: Option<ChainView>,
    blindness: Blindness,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blindness {
    None,
    /// The last poll failed.
    Blind,
    /// The user was told.
    Told,
}

impl Sight {
    pub const fn new(tip: Tip) -> Self {
        Self {
            tip,
            view: None,
            blindness: Blindness::None,
        }
    }

    pub fn see(&mut self, view: ChainView) {
        *self = Self {
            tip: view.tip,
            view: Some(view),
            blindness: Blindness::None,
        };
    }

    pub fn go_blind(&mut self) {
        if self.blindness == Blindness::None {
            self.blindness = Blindness::Blind;
        }
    }

    /// Whether the user must be told, after this poll, that this side is blind.
    pub fn tell_blind(&mut self, is_time: bool) -> bool {
        let tell = is_time && self.blindness == Blindness::Blind;
        if tell {
            self.blindness = Blindness::Told;
        }
        tell
    }

    pub fn is_blind(&self) -> bool {
        self.blindness != Blindness::None
    }

    pub const fn has_view(&self) -> bool {
        self.view.is_some()
    }

    /// Returns the tip of the last view.
    pub fn viewed_at(&self) -> Option<Tip> {
        self.view.as_ref().map(|view| view.tip)
    }

    pub fn confirmations(&self) -> u32 {
        self.view.as_ref().map_or(0, |view| view.confirmations)
    }

    /// Returns where a relative lock counts from.
    pub fn funding_parent(&self) -> Option<Tip> {
        self.view.as_ref().and_then(|view| view.funding_parent)
    }

    /// Whether the last view had a spend of the funding output.
    pub fn spend_seen(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.spend.is_some())
    }

    /// Returns the spend of the funding output that is seen now.
    pub fn visible_spend(&self) -> Option<Txid> {
        let view = self.view.as_ref().filter(|_| !self.is_blind())?;
        view.spend.as_ref().map(|spend| spend.tx.compute_txid())
    }
}

/// What became of this side's broadcasts.
#[derive(Debug)]
pub(super) struct Broadcasts {
    /// The network has accepted the funding transaction from here.
    pub accepted: bool,
    /// The tip at which the network last received the funding transaction from here: once a block is enough.
    pub offered: Option<Tip>,
    /// The last broadcast got no answer. Payments are not acknowledged until one does.
    pub unanswered: bool,
}
