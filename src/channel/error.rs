use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Sequence, Txid};
use thiserror::Error;

use super::construction::Construction;
use super::funding::FundingError;
use super::keys::SignatureError;
use super::limits::TermsError;
use super::lock::{Expiry, RefundLock};
use super::message::{Envelope, Message, MessageKind};
use super::musig::MusigError;
use super::params::ChannelId;
use super::params_error::ParamsError;
use super::reason::RefusalReason;
use super::resume::ProofError;
use super::script_check::SpendError;
use super::stage::Stage;

/// The peer's message was refused. The state is unchanged, except that a secret nonce that met a wrong partial signature
/// is deleted.
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
    /// The message does not belong at this stage.
    #[error("unexpected message {received} while {stage}")]
    Unexpected {
        /// What this side is doing.
        stage: Stage,
        /// The kind received.
        received: MessageKind,
    },
    /// The proposal is outside this side's limits.
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
    /// A partial signature is wrong.
    #[error(transparent)]
    Musig(#[from] MusigError),
    /// The network would not accept the finished spend.
    #[error(transparent)]
    Spend(#[from] SpendError),
    /// The payment's amount or time is wrong.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// The payee claims a payment that this payer did not make.
    #[error("the payee claims to hold {held}, and the payer has signed {signed} at most: {error}")]
    ResumeDiffers {
        /// The highest sum that this side knows of.
        signed: Amount,
        /// The claimed sum.
        held: Amount,
        /// What is wrong with the signature.
        error: SignatureError,
    },
    /// The payer claims that more was acknowledged than it has signed.
    #[error("the payer says that {acknowledged} was acknowledged, and that it has signed {signed} at most")]
    AcknowledgedUnsigned {
        /// What it says was acknowledged.
        acknowledged: Amount,
        /// What it says it has signed.
        signed: Amount,
    },
    /// The payer wants to resume another channel.
    #[error("no channel here has the funding output {funding}")]
    UnknownChannel {
        /// What the payer named.
        funding: OutPoint,
    },
    /// The peer did not prove that it holds its key.
    #[error(transparent)]
    Proof(#[from] ProofError),
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
    /// The refund must arrive unsigned.
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
    /// The sequence is not the agreed one.
    #[error("the refund has sequence {received:#010x}, expected {expected:#010x}")]
    Sequence {
        /// Agreed.
        expected: Sequence,
        /// Received.
        received: Sequence,
    },
    /// The refund has no lock.
    #[error("the refund has no lock, expected one until {expected}")]
    MissingLock {
        /// Agreed.
        expected: RefundLock,
    },
    /// The lock is not the agreed one.
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
    /// The null outpoint, which no transaction can have.
    #[error("the refund spends the null outpoint {received}")]
    NullOutpoint {
        /// Received.
        received: OutPoint,
    },
}

/// Why a payment is refused.
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
    /// Exactly what was already paid.
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
        /// Capacity less fee and reserve.
        spendable: Amount,
        /// Cumulative.
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
    /// The funding transaction is not confirmed.
    #[error(
        "the funding transaction has {confirmations} confirmations, but {required} are needed for more than {unconfirmed} in total"
    )]
    Unconfirmed {
        /// The total that needs no confirmation.
        unconfirmed: Amount,
        /// Seen.
        confirmations: u32,
        /// Agreed.
        required: u32,
    },
    /// It adds less than the agreed minimum.
    #[error("the payment adds {received}, less than the agreed minimum of {minimum}")]
    BelowMinimum {
        /// Agreed.
        minimum: Amount,
        /// What the payment adds.
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
        /// Cumulative.
        paid: Amount,
        /// Received, in sat/kwu.
        feerate: FeeRate,
    },
    /// Too close to the expiry to accept more.
    #[error(
        "the channel is {} before its lock at {expiry}: it accepts no more payments",
        .expiry.kind().length(*.left)
    )]
    Expiring {
        /// The lock.
        expiry: Expiry,
        /// How far ahead, in blocks or seconds.
        left: u32,
    },
}

/// Why a command of this side's user failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// More than is left.
    #[error("cannot pay {asked}: only {left} left in the channel")]
    InsufficientBalance {
        /// What is left.
        left: Amount,
        /// The increment asked for.
        asked: Amount,
    },
    /// A payment of nothing, or of less than was agreed.
    #[error("cannot pay {asked}: a payment must be at least {minimum}")]
    BelowMinimum {
        /// The agreed least increment.
        minimum: Amount,
        /// The increment asked for.
        asked: Amount,
    },
    /// The funding transaction is not confirmed.
    #[error(
        "the funding transaction has {confirmations} confirmations, but {required} are needed for more than {unconfirmed} in total"
    )]
    Unconfirmed {
        /// The total that needs no confirmation.
        unconfirmed: Amount,
        /// Seen.
        confirmations: u32,
        /// Agreed.
        required: u32,
    },
    /// The payer's change does not pay for a settlement at this feerate, or it is below the agreed one.
    #[error("cannot settle {paid} at {feerate} sat/kwu: only {change} left for change and fee")]
    SettlementFeerate {
        /// Cumulative.
        paid: Amount,
        /// Asked for, in sat/kwu.
        feerate: FeeRate,
        /// What is not paid.
        change: Amount,
    },
    /// The payee has not said yet what it holds.
    #[error("the channel is being resumed: repeat this when the payee has answered")]
    Resuming,
    /// The child does not spend the transaction that this side broadcasts.
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
    /// The new refund is invalid: a bug in this crate.
    #[error("the new refund is invalid (a bug in this crate): {0}")]
    Refund(SpendError),
    /// Not possible at this stage.
    #[error("cannot {command} while {stage}")]
    WrongStage {
        /// What was asked for.
        command: &'static str,
        /// What this side is doing.
        stage: Stage,
    },
    /// Too close to the expiry.
    #[error("too late for a payment: the channel is {} before its lock at {expiry}", .expiry.kind().length(*.left))]
    Expiring {
        /// The lock.
        expiry: Expiry,
        /// How far ahead, in blocks or seconds.
        left: u32,
    },
}

impl CommandError {
    pub(super) const fn wrong_stage(stage: Stage, command: &'static str) -> Self {
        Self::WrongStage { command, stage }
    }
}

/// Why an event was not applied. The state is unchanged, with the exception that [`Refusal`] describes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// The peer is at fault.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The user is at fault.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// An accepted payment cannot be completed. Acceptance checks that it can, so this is a bug in this crate.
    #[error("cannot settle an accepted payment (a bug in this crate): {0}")]
    Spend(#[from] SpendError),
}

impl Envelope {
    /// Returns the message, if it is for this channel.
    pub(crate) fn for_channel(self, expected: ChannelId) -> Result<Message, Refusal> {
        if self.channel == expected {
            Ok(self.message)
        } else {
            Err(Refusal::WrongChannel {
                expected,
                received: self.channel,
            })
        }
    }
}

impl Refusal {
    pub(crate) const fn unexpected(stage: Stage, received: MessageKind) -> Self {
        Self::Unexpected { stage, received }
    }

    /// Returns the reason of the closed list, as sent to the peer.
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
            Self::Proof(_) => RefusalReason::ProofWrong,
            Self::ResumeDiffers { .. } | Self::AcknowledgedUnsigned { .. } => RefusalReason::ResumeDiffers,
            Self::UnknownChannel { .. } => RefusalReason::UnknownChannel,
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
