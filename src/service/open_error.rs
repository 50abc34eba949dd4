use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use bitcoin::Txid;
use thiserror::Error;

use super::chain::ChainError;
use super::connection::ConnectionError;
use super::wallet::WalletError;
use crate::channel::{FundError, RefundTx, Refusal, RefusalReason, Stage, TermsError};
use crate::store::StoreError;

/// Why a channel was not opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The proposed terms are outside this side's own limits.
    #[error("the proposed terms are outside this side's own limits: {0}")]
    Terms(#[from] TermsError),
    /// This process has already used this side's key in a channel.
    #[error("the key {key} was already used in a channel: derive a fresh key for each channel")]
    KeyReused {
        /// The public key.
        key: PublicKey,
    },
    /// This side's wallet returned a transaction that does not fund the channel.
    #[error("the wallet's transaction does not fund the channel: {0}")]
    Funding(#[from] FundError),
    /// This side's wallet failed.
    #[error("the wallet made no funding transaction: {0}")]
    Wallet(#[from] WalletError),
    /// This side's node rejected the funding transaction. The network may have it all the same: from this or another node,
    /// or later.
    ///
    /// The party keeps running: it watches the chain. When the refund's lock has passed, it broadcasts the refund if
    /// the funding transaction has appeared, and ends if it has not. Keep the refund in case this process ends before.
    #[error(
        "this side's node rejected the funding transaction {txid}: {reason}. It may still reach the network: keep the \
         refund, or spend one of its inputs in another transaction"
    )]
    FundingRejected {
        /// The transaction.
        txid: Txid,
        /// The node's words.
        reason: String,
        /// The refund, in case the funding transaction is mined.
        refund: Box<RefundTx>,
    },
    /// The peer's message was refused.
    #[error("refused the peer's message: {0}")]
    Refused(#[from] Refusal),
    /// The peer refused.
    #[error("the peer refused while {stage}: {reason}")]
    PeerRefused {
        /// What this side was doing.
        stage: Stage,
        /// Why.
        reason: RefusalReason,
    },
    /// The peer sent bytes that are not a valid message.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The peer disconnected.
    #[error("the peer disconnected while {stage}")]
    Disconnected {
        /// What this side was doing.
        stage: Stage,
    },
    /// The peer sent no message in time.
    #[error("no message from the peer within {after:?} while {stage}")]
    Timeout {
        /// What this side was doing.
        stage: Stage,
        /// How long it waited.
        after: Duration,
    },
    /// The source of scripts for payouts panicked.
    #[error("no script for the payout: its source panicked: {0}")]
    Payout(String),
    /// The operating system provides no random numbers for a key.
    #[error(transparent)]
    Randomness(#[from] super::keys::RandomnessError),
    /// This side's own view of the chain failed.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The channel could not be stored. The funding transaction has not left this side.
    #[error("the channel was not stored, and is given up before its funding transaction has left: {0}")]
    Store(#[from] StoreError),
}
