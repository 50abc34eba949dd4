//! What a party must not forget: plain data, without the secret key and without what the chain tells again.

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, FeeRate, Transaction};
use thiserror::Error;

use super::bump::CpfpError;
use super::channel_keys::KeyRole;
use super::construction::Construction;
use super::event::Outcome;
use super::funding::{FundingError, FundingTx};
use super::keys::{ChannelKey, SignatureError, UnverifiedSignature};
use super::lock::Tip;
use super::params::ChannelParams;
use super::script_check::SpendError;

/// Everything that a payer must not forget. With the channel key, [`Payer::restore`](super::Payer::restore) makes the
/// payer of it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayerState {
    /// What both sides agreed on.
    pub params: ChannelParams,
    /// T1, as it was signed.
    pub funding: FundingTx,
    /// The tip at the opening.
    pub opened: Tip,
    /// K2's signature over the refund, where the refund needs one.
    pub refund_signature: Option<UnverifiedSignature>,
    /// See [`Limits::broadcast_funding_after`](super::Limits::broadcast_funding_after).
    pub broadcast_funding_after: Option<u32>,
    /// What changes.
    pub progress: PayerProgress,
}

/// What changes of a payer during the life of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayerProgress {
    /// Counts the changes: a store replaces one version by the next, and nothing else.
    pub version: u64,
    /// How far the channel has come.
    pub phase: PayerPhase,
    /// The tip at which the payee got the funding transaction, if it has it.
    pub handed_over: Option<Tip>,
    /// The funding transaction had enough confirmations when it was last seen.
    pub confirmed: bool,
    /// The highest total that was signed.
    pub signed: Amount,
    /// The total that the payee has acknowledged. Not worth a change of its own: the payee tells it again.
    pub acknowledged: Option<Amount>,
    /// The most that a settlement may pay.
    pub max_feerate: FeeRate,
    /// What pays for the refund, once its own fee was not enough.
    pub child: Option<Box<Transaction>>,
    /// The funding transaction in the form in which it was mined, if others changed its id.
    pub malleated: Option<Box<Transaction>>,
    /// How the channel ended on chain.
    pub outcome: Option<Outcome>,
}

impl PayerProgress {
    /// Whether this must be stored before anything else is done.
    pub(super) fn must_follow(&self, mut before: Self) -> bool {
        before.acknowledged = self.acknowledged;
        *self != before
    }
}

/// The life of a channel at the payer, after the opening. Several phases are one [`Stage`](super::Stage) to the user.
///
/// Whether the payee has the funding transaction is not part of it. The user may close, and a payee may say ready, before
/// this side's node has answered, so that most phases are possible on both sides of the hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayerPhase {
    /// The payee has not requested the funding transaction (`bond`).
    Protected,
    /// The payee has not said that payments count.
    AwaitingReady,
    /// Payments count.
    Open,
    /// Payments counted until the funding transaction lost its confirmations.
    Suspended,
    /// The payee was asked to close with one signature, and has not answered.
    AwaitingCooperativeClose,
    /// A settlement is signed, the funding output is spent, or only the refund is left.
    Closing,
    /// The spend is confirmed.
    Closed,
    /// The funding transaction never left this side, as far as is known.
    Abandoned,
}

/// Everything that a payee must not forget. With the channel key, [`Payee::restore`](super::Payee::restore) makes the
/// payee of it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayeeState {
    /// What both sides agreed on.
    pub params: ChannelParams,
    /// T1.
    pub funding: FundingTx,
    /// The tip at the opening.
    pub opened: Tip,
    /// What changes.
    pub progress: PayeeProgress,
}

/// What changes of a payee during the life of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayeeProgress {
    /// Counts the changes: a store replaces one version by the next, and nothing else.
    pub version: u64,
    /// How far the channel has come.
    pub phase: PayeePhase,
    /// The latest payment that counts.
    pub latest: Option<SignedPayment>,
    /// A later one that came while payments did not count.
    pub parked: Option<SignedPayment>,
    /// What this side broadcasts, while it is settling and after.
    pub settlement: Option<Box<SignedSettlement>>,
    /// How the channel ended on chain.
    pub outcome: Option<Outcome>,
}

/// The life of a channel at the payee, after the opening. Several phases are one [`Stage`](super::Stage) to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayeePhase {
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
    Settling,
    /// The spend is confirmed, or the channel was abandoned.
    Closed,
}

/// A payment: the total and the payer's signature, as in the message `payment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedPayment {
    /// Cumulative.
    pub paid: Amount,
    /// K1's, over the payment transaction.
    pub signature: UnverifiedSignature,
}

/// A settlement, in what cannot be computed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedSettlement {
    /// Who signed what.
    pub form: SettlementForm,
    /// Cumulative.
    pub paid: Amount,
    /// What it pays, without sums that are too small for an output.
    pub fee: Amount,
    /// K1's signature, or the one of both.
    pub signature: UnverifiedSignature,
    /// What pays for it, once its own fee was not enough.
    pub child: Option<Transaction>,
}

/// Which transaction settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettlementForm {
    /// The latest payment, as the payer signed it.
    Payment,
    /// A settlement that the payer signed for the end, without the payments' lock.
    Separate,
    /// The same with one signature of both (BIP 327).
    Cooperative,
}

/// The state of either party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelState {
    /// The payer's.
    Payer(PayerState),
    /// The payee's.
    Payee(PayeeState),
}

/// What changed of either party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The payer's.
    Payer(PayerProgress),
    /// The payee's.
    Payee(PayeeProgress),
}

impl ChannelState {
    /// Returns whose it is.
    pub const fn role(&self) -> KeyRole {
        match self {
            Self::Payer(_) => KeyRole::Payer,
            Self::Payee(_) => KeyRole::Payee,
        }
    }

    /// Returns what both sides agreed on.
    pub const fn params(&self) -> &ChannelParams {
        match self {
            Self::Payer(state) => &state.params,
            Self::Payee(state) => &state.params,
        }
    }

    /// Returns the funding transaction, as it was signed.
    pub const fn funding(&self) -> &FundingTx {
        match self {
            Self::Payer(state) => &state.funding,
            Self::Payee(state) => &state.funding,
        }
    }

    /// Whether the channel has ended, on chain or before it began.
    pub const fn is_over(&self) -> bool {
        match self {
            Self::Payer(state) => matches!(state.progress.phase, PayerPhase::Closed | PayerPhase::Abandoned),
            Self::Payee(state) => matches!(state.progress.phase, PayeePhase::Closed),
        }
    }

    /// Returns the number of changes since the opening.
    pub const fn version(&self) -> u64 {
        match self {
            Self::Payer(state) => state.progress.version,
            Self::Payee(state) => state.progress.version,
        }
    }

    /// Takes a later version of the same party.
    #[cfg(feature = "service")]
    pub(crate) fn replace(&mut self, progress: Progress) {
        match (self, progress) {
            (Self::Payer(state), Progress::Payer(next)) => state.progress = next,
            (Self::Payee(state), Progress::Payee(next)) => state.progress = next,
            (Self::Payer(_) | Self::Payee(_), _) => debug_assert!(false, "a channel's name has its role"),
        }
    }
}

impl Progress {
    /// Returns whose it is.
    pub const fn role(&self) -> KeyRole {
        match self {
            Self::Payer(_) => KeyRole::Payer,
            Self::Payee(_) => KeyRole::Payee,
        }
    }

    /// Returns the number of changes since the opening.
    pub const fn version(&self) -> u64 {
        match self {
            Self::Payer(progress) => progress.version,
            Self::Payee(progress) => progress.version,
        }
    }
}

/// What a store must hold before anything that follows is done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one comes with every payment, and must not cost an allocation"
)]
pub enum Change {
    /// A new channel: nothing of it was stored before.
    Insert(Box<ChannelState>),
    /// The next version of a channel.
    Update(Progress),
}

/// Why no party could be made of what was stored. The stored channel is damaged, or belongs to another seed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The key is not the channel's.
    #[error("the channel has the key {expected}, but the seed gives {received}: open the store with the seed that it was made with")]
    WrongKey {
        /// The channel's.
        expected: PublicKey,
        /// What was given.
        received: PublicKey,
    },
    /// A sum is more than the channel can pay.
    #[error("a stored sum of {paid} is more than the capacity of {capacity} can pay")]
    Unpayable {
        /// The stored sum.
        paid: Amount,
        /// What the channel has.
        capacity: Amount,
    },
    /// The payee's signature over the refund is missing, or there is one that the construction does not need.
    #[error("on {construction} the refund {} the payee's signature, but the store has {}",
        if *stored { "does not need" } else { "needs" }, if *stored { "one" } else { "none" })]
    RefundSignature {
        /// The construction.
        construction: Construction,
        /// Whether there is one.
        stored: bool,
    },
    /// A payee that settles has a settlement, and one whose channel is not closed has no other.
    #[error("the stored payee {} a settlement", if *settling { "settles without" } else { "does not settle, but has" })]
    Settlement {
        /// Whether it settles.
        settling: bool,
    },
    /// A stored signature is wrong.
    #[error("the stored signature of a {of} is wrong: {error}")]
    Signature {
        /// What it signs.
        of: &'static str,
        /// Why.
        error: SignatureError,
    },
    /// A stored transaction does not satisfy its script.
    #[error(transparent)]
    Spend(#[from] SpendError),
    /// The stored funding transaction does not fund the channel.
    #[error(transparent)]
    Funding(#[from] FundingError),
    /// The stored child does not pay for its parent.
    #[error("the stored child is unusable: {0}")]
    Child(#[from] CpfpError),
}

/// Whether this is the key that the channel was made with.
pub(super) fn check_key(key: &ChannelKey, expected: PublicKey) -> Result<(), RestoreError> {
    let received = key.public_key();
    if received != expected {
        return Err(RestoreError::WrongKey { expected, received });
    }
    Ok(())
}

/// Whether the channel can pay this sum, if there is one.
pub(super) fn check_sum(params: &ChannelParams, paid: Option<Amount>) -> Result<(), RestoreError> {
    let unpayable = |paid: &Amount| params.balance(*paid).is_none();
    match paid.filter(unpayable) {
        None => Ok(()),
        Some(paid) => Err(RestoreError::unpayable(params, paid)),
    }
}

impl RestoreError {
    pub(super) fn unpayable(params: &ChannelParams, paid: Amount) -> Self {
        let capacity = params.terms().capacity.to_amount();
        Self::Unpayable { paid, capacity }
    }
}
