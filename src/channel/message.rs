use std::fmt;

use bitcoin::{Amount, FeeRate, ScriptBuf, Transaction, Txid};

use super::construction::Construction;
use super::hello::{Features, VersionRange};
use super::keys::{PayeeKey, PayerKey, UnverifiedSignature};
use super::musig::{PartialSignature, PublicNonce};
use super::params::{ChannelId, Confirmation};
use super::protocol::Protocol;
use super::reason::RefusalReason;
use super::resume::{Resume, Resumed, Unverified};
use super::terms::Terms;

/// A message and the channel that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The channel.
    pub channel: ChannelId,
    /// The message.
    pub message: Message,
}

/// The messages between payer and payee.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// Payer: let us open a channel; here is K1, please send K2.
    Open {
        /// The proposal.
        terms: Terms,
        /// K1.
        payer_key: PayerKey,
        /// The script for refund and change.
        payer_payout: ScriptBuf,
    },
    /// Payee: agreed, here is K2.
    Accept {
        /// K2.
        payee_key: PayeeKey,
        /// Where payments go.
        payee_payout: ScriptBuf,
        /// Confirmations of the funding transaction before payments count, and the zero-conf limit before that.
        confirmation: Confirmation,
    },
    /// Payer: please sign this refund. It is unsigned, and names the funding transaction by its hash only.
    RefundRequest {
        /// T2.
        tx: Transaction,
    },
    /// Payee: signed.
    RefundSignature {
        /// K2's signature over T2.
        signature: UnverifiedSignature,
    },
    /// Payee (`bond`): hand over the bond transaction.
    FundingRequest,
    /// Payer: the funding transaction, signed.
    Funding {
        /// T1.
        tx: Transaction,
    },
    /// Payee: the funding transaction is confirmed: payments count from now on.
    Ready,
    /// Payee (`bond`): the work is done, sign the version that pays this much in total.
    PaymentRequest {
        /// Cumulative.
        paid: Amount,
    },
    /// Payer: you have now been paid this much in total.
    Payment {
        /// Cumulative.
        paid: Amount,
        /// K1's signature over the payment transaction.
        signature: UnverifiedSignature,
    },
    /// Payee: the payment is checked and kept.
    PaymentAccepted {
        /// Cumulative.
        paid: Amount,
    },
    /// Payee: let us close, at this feerate if you like. Where both can close with one signature, the payer says it too,
    /// to be answered with a nonce.
    CloseRequest {
        /// Feerate of the settlement; at least the agreed one.
        feerate: FeeRate,
        /// For a settlement with one signature (BIP 327).
        nonce: Option<PublicNonce>,
    },
    /// Payer: let us close; the final division, without any lock.
    Settlement {
        /// Cumulative: what was last accepted.
        paid: Amount,
        /// At least the agreed one; the payer's change pays the difference.
        feerate: FeeRate,
        /// K1's signature over the settlement transaction.
        signature: UnverifiedSignature,
    },
    /// Payer: the same with one signature of both (BIP 327), and this is my part of it.
    CooperativeSettlement {
        /// Cumulative: what was last accepted.
        paid: Amount,
        /// At least the agreed one; the payer's change pays the difference.
        feerate: FeeRate,
        /// The payer's public nonce.
        nonce: PublicNonce,
        /// K1's part.
        partial: PartialSignature,
    },
    /// Payee: the settlement is with the network.
    Closed {
        /// The transaction that spends the funding output.
        txid: Txid,
    },
    /// Either: your message is refused, and this is the last message.
    Refuse {
        /// Why.
        reason: RefusalReason,
    },
    /// Either, first on a connection: this is what I speak.
    Hello {
        /// Of the conversation.
        versions: VersionRange,
        /// Besides it.
        features: Features,
        /// Fresh for this connection, so that proofs of another one are worthless here.
        random: [u8; 32],
    },
    /// Payer: let us go on with this channel.
    Resume(Unverified<Resume>),
    /// Payee: agreed, and this is what I hold.
    Resumed(Unverified<Resumed>),
}

impl Message {
    /// Returns the message's kind.
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Open { .. } => MessageKind::Open,
            Self::Accept { .. } => MessageKind::Accept,
            Self::RefundRequest { .. } => MessageKind::RefundRequest,
            Self::RefundSignature { .. } => MessageKind::RefundSignature,
            Self::FundingRequest => MessageKind::FundingRequest,
            Self::Funding { .. } => MessageKind::Funding,
            Self::Ready => MessageKind::Ready,
            Self::PaymentRequest { .. } => MessageKind::PaymentRequest,
            Self::Payment { .. } => MessageKind::Payment,
            Self::PaymentAccepted { .. } => MessageKind::PaymentAccepted,
            Self::CloseRequest { .. } => MessageKind::CloseRequest,
            Self::Settlement { .. } => MessageKind::Settlement,
            Self::CooperativeSettlement { .. } => MessageKind::CooperativeSettlement,
            Self::Closed { .. } => MessageKind::Closed,
            Self::Refuse { .. } => MessageKind::Refuse,
            Self::Hello { .. } => MessageKind::Hello,
            Self::Resume(_) => MessageKind::Resume,
            Self::Resumed(_) => MessageKind::Resumed,
        }
    }
}

/// Kinds of message, with the numbers that stand for them on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the message of the same name")]
pub enum MessageKind {
    Open = 0,
    Accept = 1,
    RefundRequest = 2,
    RefundSignature = 3,
    FundingRequest = 4,
    Funding = 5,
    Ready = 6,
    PaymentRequest = 7,
    Payment = 8,
    PaymentAccepted = 9,
    CloseRequest = 10,
    Settlement = 11,
    Closed = 12,
    Refuse = 13,
    CooperativeSettlement = 14,
    // 15 and 23 stay undefined: published fixtures have them as unknown.
    Hello = 16,
    Resume = 17,
    Resumed = 18,
}

impl MessageKind {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 18] = [
        Self::Open,
        Self::Accept,
        Self::RefundRequest,
        Self::RefundSignature,
        Self::FundingRequest,
        Self::Funding,
        Self::Ready,
        Self::PaymentRequest,
        Self::Payment,
        Self::PaymentAccepted,
        Self::CloseRequest,
        Self::Settlement,
        Self::Closed,
        Self::Refuse,
        Self::CooperativeSettlement,
        Self::Hello,
        Self::Resume,
        Self::Resumed,
    ];

    /// Returns the published name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Accept => "accept",
            Self::RefundRequest => "refund-request",
            Self::RefundSignature => "refund-signature",
            Self::FundingRequest => "funding-request",
            Self::Funding => "funding",
            Self::Ready => "ready",
            Self::PaymentRequest => "payment-request",
            Self::Payment => "payment",
            Self::PaymentAccepted => "payment-accepted",
            Self::CloseRequest => "close-request",
            Self::Settlement => "settlement",
            Self::Closed => "closed",
            Self::Refuse => "refuse",
            Self::CooperativeSettlement => "joint-settlement",
            Self::Hello => "hello",
            Self::Resume => "resume",
            Self::Resumed => "resumed",
        }
    }

    /// Returns whether a complete conversation of this protocol on this construction, closed by the payer, contains this
    /// message.
    #[must_use]
    pub const fn is_said(self, protocol: Protocol, construction: Construction) -> bool {
        match self {
            Self::Refuse | Self::Hello | Self::Resume | Self::Resumed => false,
            Self::RefundRequest | Self::RefundSignature => !construction.has_script_refund(),
            Self::FundingRequest | Self::PaymentRequest => matches!(protocol, Protocol::Bond),
            Self::Settlement => !construction.closes_with_one_key(),
            Self::CloseRequest | Self::CooperativeSettlement => construction.closes_with_one_key(),
            _ => true,
        }
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
