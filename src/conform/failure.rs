use thiserror::Error;

use crate::scenario::ScenarioError;

/// Why a case was not passed: what was awaited at which stage, and what there was instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{stage}: expected {expected}; seen: {seen}")]
pub struct CaseFailure {
    pub(super) stage: &'static str,
    pub(super) expected: String,
    pub(super) seen: String,
}

impl CaseFailure {
    pub(super) fn new(stage: &'static str, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            stage,
            expected: expected.into(),
            seen: seen.into(),
        }
    }

    /// The same, with something else that there was.
    pub(super) fn but(self, also: &str) -> Self {
        let seen = format!("{}; {also}", self.seen);
        Self { seen, ..self }
    }

    /// No fault of the program's.
    #[allow(clippy::needless_pass_by_value)] // whoever has an error gives it away
    pub(super) fn runner(error: impl std::fmt::Display) -> Self {
        Self::new(
            "runner",
            "a working node and a working side of ours",
            error.to_string(),
        )
    }

    /// Where the case ended.
    #[must_use]
    pub const fn stage(&self) -> &str {
        self.stage
    }

    /// What was awaited.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What there was instead.
    #[must_use]
    pub fn seen(&self) -> &str {
        &self.seen
    }
}

impl From<ScenarioError> for CaseFailure {
    fn from(error: ScenarioError) -> Self {
        Self::runner(error)
    }
}

/// Why a conversation did not come to its end.
pub(super) enum Stop {
    Failed(CaseFailure),
    /// As the case has it: somebody is gone, or our side has lied.
    Cut,
}

impl From<CaseFailure> for Stop {
    fn from(failure: CaseFailure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ScenarioError> for Stop {
    fn from(error: ScenarioError) -> Self {
        Self::Failed(error.into())
    }
}
