use thiserror::Error;

use crate::scenario::ScenarioError;

/// Why a case failed: the stage, what was expected, and what was seen instead.
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

    /// Returns the same failure, with another observation.
    pub(super) fn but(self, also: &str) -> Self {
        let seen = format!("{}; {also}", self.seen);
        Self { seen, ..self }
    }

    /// Returns a failure of the runner, not of the program.
    #[allow(clippy::needless_pass_by_value)] // callers give their error away
    pub(super) fn runner(error: impl std::fmt::Display) -> Self {
        Self::new(
            "runner",
            "a working node and a working side of ours",
            error.to_string(),
        )
    }

    /// Returns where the case ended.
    pub const fn stage(&self) -> &str {
        self.stage
    }

    /// Returns what was expected.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// Returns what was seen instead.
    pub fn seen(&self) -> &str {
        &self.seen
    }
}

impl From<ScenarioError> for CaseFailure {
    fn from(error: ScenarioError) -> Self {
        Self::runner(error)
    }
}

/// Why a conversation did not finish.
pub(super) enum Stop {
    Failed(CaseFailure),
    /// As the case requires: a side vanished, or ours sent a forged message.
    Cut,
    /// The program says that it does not do what the case is about.
    NotApplicable(String),
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
