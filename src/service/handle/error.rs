use thiserror::Error;

use crate::channel::{ApplyError, CpfpError};
use crate::service::request::PayError;
use crate::service::wallet::WalletError;

/// Why a party did not do what its handle asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It cannot be done.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// It was sent, and not acknowledged.
    #[error(transparent)]
    Pay(#[from] PayError),
    /// The store has failed, so that the party signs and closes nothing any more
    /// ([`Report::StoreFailed`](crate::service::Report::StoreFailed)).
    #[error("the store failed, and this process no longer owns the channel: {reason}")]
    StoreFailed {
        /// What the store said.
        reason: String,
    },
    /// The party's task has ended.
    #[error("the channel is closed, or its task was ended")]
    Ended,
}

/// Why there is no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OutcomeError {
    /// The channel was abandoned: this side had nothing left at stake.
    #[error("the channel was abandoned: this side had nothing left at stake")]
    Abandoned,
    /// The store failed ([`Report::StoreFailed`](crate::service::Report::StoreFailed)), and this process no longer follows
    /// the channel.
    #[error("the store failed, and this process no longer follows the channel: {reason}")]
    StoreFailed {
        /// What the store said.
        reason: String,
    },
    /// The party's task was ended, by [`Handle::abort`](super::Handle::abort) or with its runtime.
    /// No one settles or refunds for this side.
    #[error("the party's task was aborted: no one watches the channel any more")]
    Aborted,
    /// The party's task panicked: a defect of this crate. No one settles or refunds for this side.
    #[error("the party's task panicked: {message}; no one watches the channel any more")]
    Panicked {
        /// What the panic said.
        message: String,
    },
}

/// Why nothing was raised.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BumpError {
    /// The payee has not settled yet.
    #[error("there is no settlement whose feerate could be raised")]
    NotSettled,
    /// There is no child that does it.
    #[error(transparent)]
    Child(#[from] CpfpError),
    /// This side's wallet failed.
    #[error("the wallet did not sign the child: {0}")]
    Wallet(#[from] WalletError),
    /// The party did not take it.
    #[error(transparent)]
    Request(#[from] RequestError),
}
