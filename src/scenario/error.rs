use std::time::Duration;

use thiserror::Error;

use crate::channel::TermsError;
use crate::regtest;
use crate::service::RequestError;
use crate::transcript::Side;

/// Why a scenario did not come to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The node or the harness failed.
    #[error(transparent)]
    Harness(#[from] regtest::Error),
    /// The story's own terms are no channel.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// A party did not do what the story asks of it.
    #[error("the {who} cannot {task}: {source}")]
    Request {
        /// The party.
        who: Side,
        /// What it should have done.
        task: &'static str,
        /// Why it did not.
        source: Box<RequestError>,
    },
    /// Something came out otherwise than the story says. Either the code is wrong, or the story.
    #[error("{what}: expected {expected}, found {found}")]
    Unexpected {
        /// What was looked at.
        what: String,
        /// What the story says.
        expected: String,
        /// What was there.
        found: String,
    },
    /// The parties did not come to rest.
    #[error("timed out after {within:?} waiting for {awaited}; last seen: {seen}")]
    Stuck {
        /// What was waited for.
        awaited: String,
        /// For how long.
        within: Duration,
        /// What was there instead.
        seen: String,
    },
    /// The operating system gave no runtime.
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    /// A value that cannot be, such as a height past the last.
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
