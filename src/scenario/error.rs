use std::time::Duration;

use thiserror::Error;

use crate::channel::TermsError;
use crate::regtest;
use crate::service::RequestError;
use crate::transcript::Side;

/// Why a scenario failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The node or the harness failed.
    #[error(transparent)]
    Harness(#[from] regtest::Error),
    /// The story's terms are not valid for a channel.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// A party did not execute a request of the story.
    #[error("the {who} cannot {task}: {source}")]
    Request {
        /// The party.
        who: Side,
        /// What it should have done.
        task: &'static str,
        /// Why it did not.
        source: Box<RequestError>,
    },
    /// A process cannot start, or cannot reach its peer.
    #[error("the {who} cannot {task}: {source}")]
    Process {
        /// The party.
        who: Side,
        /// What it should have done.
        task: &'static str,
        /// Why it did not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A result differs from the story: the code or the story is wrong.
    #[error("{what}: expected {expected}, found {found}")]
    Unexpected {
        /// What was checked.
        what: String,
        /// What the story says.
        expected: String,
        /// What was there.
        found: String,
    },
    /// The parties did not become idle.
    #[error("timed out after {within:?} waiting for {awaited}; last seen: {seen}")]
    Stuck {
        /// What was waited for.
        awaited: String,
        /// For how long.
        within: Duration,
        /// What was there instead.
        seen: String,
    },
    /// The runtime cannot start.
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    /// A value out of range, such as a height after the last possible one.
    #[error("the story is out of range: {0}")]
    Range(String),
}

impl From<regtest::InvalidRequest> for ScenarioError {
    fn from(misuse: regtest::InvalidRequest) -> Self {
        Self::Harness(misuse.into())
    }
}

pub(super) fn expect<T: PartialEq + std::fmt::Debug>(
    what: impl Into<String>,
    expected: &T,
    found: &T,
) -> Result<(), ScenarioError> {
    if expected == found {
        return Ok(());
    }
    Err(ScenarioError::Unexpected {
        what: what.into(),
        expected: format!("{expected:?}"),
        found: format!("{found:?}"),
    })
}
