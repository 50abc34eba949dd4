use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Sequence, Txid};
use thiserror::Error;

use super::construction::Construction;
use super::funding::FundingError;
use super::keys::SignatureError;
use super::limits::TermsError;
use super::lock::{Expiry, RefundLock};
use super::message::MessageKind;
use super::musig::MusigError;
use super::params::{ChannelId, ParamsError};
use super::reason::RefusalReason;
use super::stage::Stage;
use super::verify::SpendError;

/// The peer sent something that is not accepted. The state is what it was before, but that a secret nonce which met a
/// wrong partial signature is gone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The message belongs to another channel.
    #[error("the message is for channel {received}, expected channel {expected}")]
    WrongChannel {
        /// This channel.
        expected: ChannelId,
        /// The message's.
        received: ChannelId,
    },
    /// The message has no place here.
    #[error("unexpected message {received} while {stage}")]
    Unexpected {
        /// What this side is doing.
        stage: Stage,
        /// What came.
        received: MessageKind,
    },
    /// The proposal is out of this side's limits.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// Keys, scripts and terms do not make a channel.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The refund is not the agreed one.
    #[error(transparent)]
    Refund(#[from] RefundError),
    /// The funding transaction is not the agreed one.
    #[error(transparent)]
    Funding(#[from] FundingError),
    /// A signature is wrong.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A part of the signature of both is wrong.
    #[error(transparent)]
    Musig(#[from] MusigError),
    /// The finished spend would not be taken by the network.
    #[error(transparent)]
    Spend(#[from] SpendError),
    /// The payment's amount or moment is wrong.
    #[error(transparent)]
    Payment(#[from] PaymentError),
}

/// The refund that the payer asked the payee to sign differs from the one that follows from the terms.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RefundError {
    /// Transaction version.
    #[error("the refund has version {received}, expected {expected}")]
    Version {
        /// Agreed.
        expected: Version,
        /// Received.
        received: Version,
    },
    /// A refund spends the funding output and nothing else.
    #[error("the refund has {received} inputs, expected {expected}")]
    InputCount {
        /// Agreed.
        expected: usize,
        /// Received.
        received: usize,
    },
    /// The refund has to arrive unsigned.
    #[error(
        "the refund's input is already signed: its script and witness have {received} bytes, expected none"
    )]
    AlreadySigned {
        /// Bytes of input script and witness.
        received: usize,
    },
    /// With a final sequence the lock does nothing, and the payer could take everything at once.
    #[error(
        "the refund's sequence {received:#010x} is final and disables its lock, expected {expected:#010x}"
    )]
    FinalSequence {
        /// Agreed.
        expected: Sequence,
        /// Received.
        received: Sequence,
    },
    /// Another sequence than the agreed one.
    #[error("the refund has sequence {received:#010x}, expected {expected:#010x}")]
    Sequence {
        /// Agreed.
        expected: Sequence,
        /// Received.
        received: Sequence,
    },
    /// No lock at all.
    #[error("the refund has no lock, expected {expected}")]
    MissingLock {
        /// Agreed.
        expected: RefundLock,
    },
    /// Another lock than the agreed one.
    #[error("the refund is locked until {received}, expected {expected}")]
    WrongLock {
        /// Agreed.
        expected: RefundLock,
        /// Received.
        received: LockTime,
    },
    /// The refund pays to more or fewer outputs than one.
    #[error("the refund has {received} outputs, expected {expected}")]
    OutputCount {
        /// Agreed.
        expected: usize,
        /// Received.
        received: usize,
    },
    /// The refund pays to another script.
    #[error("the refund pays to the script {received}, expected {expected}")]
    OutputScript {
        /// Agreed.
        expected: ScriptBuf,
        /// Received.
        received: ScriptBuf,
    },
    /// The refund pays another amount.
    #[error("the refund pays {received}, expected {expected}")]
    OutputAmount {
        /// Agreed.
        expected: Amount,
        /// Received.
        received: Amount,
    },
    /// An outpoint that no transaction can have.
    #[error("the refund spends the null outpoint {received}")]
    NullOutpoint {
        /// Received.
        received: OutPoint,
    },
}

/// A payment that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PaymentError {
    /// Less than what was already paid.
    #[error("the payment lowers the total from {previous} to {received}")]
    Decreased {
        /// Held.
        previous: Amount,
        /// Received.
        received: Amount,
    },
    /// Just what was already paid.
    #[error("the payment repeats the total {received}: {previous} is already paid")]
    Repeated {
        /// Held.
        previous: Amount,
        /// Received.
        received: Amount,
    },
    /// More than the channel holds.
    #[error("the payment's total of {received} exceeds the {spendable} that the channel can pay")]
    ExceedsCapacity {
        /// Capacity less fee and reserve, in satoshi.
        spendable: Amount,
        /// Cumulative, in satoshi.
        received: Amount,
    },
    /// The settlement is not for what was last accepted.
    #[error("the settlement pays {received}, expected the latest payment, {expected}")]
    SettlementDiffers {
        /// Held.
        expected: Amount,
        /// Received.
        received: Amount,
    },
    /// The payee acknowledges a sum that was not sent.
    #[error("the payee acknowledged {received}, expected {acknowledged} to {sent}")]
    AcknowledgedUnsent {
        /// Last acknowledged.
        acknowledged: Amount,
        /// Last sent.
        sent: Amount,
        /// Received.
        received: Amount,
    },
    /// The funding transaction is not deep enough.
    #[error(
        "the funding transaction has {confirmations} confirmations, {required} are needed for more than {unconfirmed} in total"
    )]
    Unconfirmed {
        /// Up to this sum none are, in satoshi.
        unconfirmed: Amount,
        /// Seen.
        confirmations: u32,
        /// Agreed.
        required: u32,
    },
    /// It adds less than one payment has to.
    #[error("the payment adds {received}, less than the agreed minimum of {minimum}")]
    BelowMinimum {
        /// Agreed, in satoshi.
        minimum: Amount,
        /// What the payment adds, in satoshi.
        received: Amount,
    },
    /// A settlement below the agreed feerate may never confirm.
    #[error("the settlement pays {received} sat/kwu, less than the agreed {expected} sat/kwu")]
    SettlementFeerate {
        /// Agreed, in sat/kwu.
        expected: FeeRate,
        /// Received, in sat/kwu.
        received: FeeRate,
    },
    /// The payer's change does not pay for a settlement at this feerate.
    #[error("a settlement of {paid} at {feerate} sat/kwu exceeds the capacity of the channel")]
    FeeAboveChange {
        /// Cumulative, in satoshi.
        paid: Amount,
        /// Received, in sat/kwu.
        feerate: FeeRate,
    },
    /// Too near to the expiry to take more.
    #[error(
        "the channel is {left} before its lock at {expiry} (blocks or seconds): it accepts no more payments"
    )]
    Expiring {
        /// The lock.
        expiry: Expiry,
        /// How far ahead, in blocks or seconds.
        left: u32,
    },
}

/// What this side's own user asked for cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// More than is left.
    #[error("cannot pay {asked}: only {left} left in the channel")]
    InsufficientBalance {
        /// What is left, in satoshi.
        left: Amount,
        /// The increment asked for, in satoshi.
        asked: Amount,
    },
    /// A payment of nothing, or of less than was agreed.
    #[error("cannot pay {asked}: a payment must be at least {minimum}")]
    BelowMinimum {
        /// The agreed least increment, in satoshi.
        minimum: Amount,
        /// The increment asked for, in satoshi.
        asked: Amount,
    },
    /// The funding transaction is not deep enough.
    #[error(
        "the funding transaction has {confirmations} confirmations, {required} are needed for more than {unconfirmed} in total"
    )]
    Unconfirmed {
        /// Up to this sum none are, in satoshi.
        unconfirmed: Amount,
        /// Seen.
        confirmations: u32,
        /// Agreed.
        required: u32,
    },
    /// The payer's change does not pay for a settlement at this feerate, or it is below the agreed one.
    #[error("cannot settle {paid} at {feerate} sat/kwu: only {change} left for change and fee")]
    SettlementFeerate {
        /// Cumulative, in satoshi.
        paid: Amount,
        /// Asked for, in sat/kwu.
        feerate: FeeRate,
        /// What is not paid, in satoshi.
        change: Amount,
    },
    /// The child is of another transaction than the one that this side broadcasts.
    #[error("wrong parent transaction: expected {expected}, got {received}")]
    AnotherParent {
        /// What this side broadcasts.
        expected: Txid,
        /// The package's parent.
        received: Txid,
    },
    /// The refund was signed by both for one transaction id, and the payer alone cannot sign another.
    #[error(
        "cannot refund a malleated funding transaction on {construction}: the refund was signed by both parties for {signed}"
    )]
    RefundCoSigned {
        /// The transaction whose output the refund spends.
        signed: Txid,
        /// The construction.
        construction: Construction,
    },
    /// The transaction does not fund this channel.
    #[error(transparent)]
    Funding(#[from] FundingError),
    /// The new refund is not valid: a defect of this crate.
    #[error("the new refund is invalid (a bug in this crate): {0}")]
    Refund(SpendError),
    /// Not in this state.
    #[error("cannot {command} while {stage}")]
    WrongStage {
        /// What was asked for.
        command: &'static str,
        /// What this side is doing.
        stage: Stage,
    },
    /// Too near to the expiry.
    #[error("too late for a payment: the channel is {left} before its lock at {expiry} (blocks or seconds)")]
    Expiring {
        /// The lock.
        expiry: Expiry,
        /// How far ahead, in blocks or seconds.
        left: u32,
    },
}

/// Why an event was not applied. The state is what it was before, with the exception of [`Refusal`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// The peer is at fault.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The user is.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// An accepted payment cannot be completed. Acceptance checks that it can, so this is a defect here.
    #[error("cannot settle an accepted payment (a bug in this crate): {0}")]
    Spend(#[from] SpendError),
}

impl Refusal {
    /// The reason's place in the closed list, as it is told to the peer.
    #[must_use]
    pub const fn reason(&self) -> RefusalReason {
        match self {
            Self::WrongChannel { .. } => RefusalReason::WrongChannel,
            Self::Unexpected { .. } => RefusalReason::UnexpectedMessage,
            Self::Terms(_) => RefusalReason::TermsOutOfLimits,
            Self::Params(_) => RefusalReason::BadParams,
            Self::Refund(RefundError::FinalSequence { .. }) => RefusalReason::RefundFinalSequence,
            Self::Refund(RefundError::MissingLock { .. } | RefundError::WrongLock { .. }) => {
                RefusalReason::RefundLock
            }
            Self::Refund(_) => RefusalReason::RefundTemplate,
            Self::Funding(_) => RefusalReason::FundingMismatch,
            Self::Signature(SignatureError::OutOfRange { .. }) => RefusalReason::SignatureOutOfRange,
            Self::Signature(SignatureError::HighS { .. }) => RefusalReason::SignatureHighS,
            Self::Signature(SignatureError::Wrong { .. }) => RefusalReason::SignatureWrong,
            Self::Musig(_) => RefusalReason::PartialSignatureWrong,
            Self::Spend(_) => RefusalReason::SpendInvalid,
            Self::Payment(error) => match error {
                PaymentError::Decreased { .. } => RefusalReason::PaidDecreased,
                PaymentError::Repeated { .. } => RefusalReason::PaidRepeated,
                PaymentError::ExceedsCapacity { .. } => RefusalReason::PaidExceedsCapacity,
                PaymentError::SettlementDiffers { .. } => RefusalReason::SettlementDiffers,
                PaymentError::AcknowledgedUnsent { .. } => RefusalReason::AcknowledgedUnsent,
                PaymentError::Unconfirmed { .. } => RefusalReason::FundingUnconfirmed,
                PaymentError::Expiring { .. } => RefusalReason::ChannelExpiring,
                PaymentError::BelowMinimum { .. } => RefusalReason::PaidBelowMinimum,
                PaymentError::SettlementFeerate { .. } | PaymentError::FeeAboveChange { .. } => {
                    RefusalReason::SettlementFeerate
                }
            },
        }
    }
}
