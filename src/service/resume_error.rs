use std::time::Duration;

use thiserror::Error;

use super::connection::ConnectionError;
use super::timing::OPENING_TIMEOUT;
use crate::channel::{Features, Refusal, RefusalReason, VersionRange};

/// Why a connection does not begin with *hello* on both sides.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HelloError {
    /// The payee refused: usually because it speaks version 1 without *hello*, and so resumes no channel.
    #[error(
        "the payee refused hello: {reason}; it may open a channel on another connection, but resumes none"
    )]
    PeerRefused {
        /// Why.
        reason: RefusalReason,
    },
    /// The two sides speak no common version.
    #[error("the payee speaks versions {} to {}, and this side {} to {}", theirs.least(), theirs.greatest(), ours.least(), ours.greatest())]
    NoCommonVersion {
        /// This side's.
        ours: VersionRange,
        /// The payee's.
        theirs: VersionRange,
    },
    /// The payee's answer was refused.
    #[error("refused the payee's answer to hello: {0}")]
    Refused(#[from] Refusal),
    /// The payee sent bytes that are not a valid message.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The payee disconnected.
    #[error("the payee disconnected instead of answering hello")]
    Disconnected,
    /// The payee did not answer in time.
    #[error("the payee did not answer hello within {0:?}")]
    Timeout(Duration),
    /// The operating system provides no random numbers.
    #[error(transparent)]
    Randomness(#[from] super::keys::RandomnessError),
}

/// Why a connection carries no further channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// A channel of this connection has the number, or had it.
    #[error("another channel of this connection has the number, or had it: choose a different one")]
    Taken,
    /// The payee does not offer this feature.
    #[error("the payee does not offer {what} (it offers the features: {features})")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// What both sides can do.
        features: Features,
    },
    /// The connection has ended.
    #[error("the connection to the payee has ended")]
    Ended,
}

/// Why a channel was not resumed. The payer goes on alone, and may try again on another connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The connection carries no further channel.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The payee refused.
    #[error("the payee refused to resume the channel: {reason}")]
    PeerRefused {
        /// Why.
        reason: RefusalReason,
    },
    /// The payee's answer was refused.
    #[error("refused the payee's answer: {0}")]
    Refused(Box<Refusal>),
    /// The connection ended before the payee had answered.
    #[error("the payee disconnected before it had resumed the channel")]
    Disconnected,
    /// The payee did not answer in time.
    #[error("the payee did not resume the channel within {OPENING_TIMEOUT:?}")]
    Timeout,
    /// A newer connection has taken this one's place.
    #[error("a newer connection resumes the channel")]
    Replaced,
    /// The channel is over, or its store has failed, so there is nothing to resume.
    #[error(transparent)]
    Request(#[from] super::handle::RequestError),
}
