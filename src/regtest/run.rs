//! Tests that return an error.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::regtest::{Regtest, RegtestBuilder};

/// A test that returned an error, and where its [evidence](super::Node::keep_evidence) is.
///
/// What a test returns is printed as by `{:?}`, so that this says the same in both forms: the error, and as the last
/// line the folder.
#[derive(Clone)]
pub struct TestFailure {
    message: String,
    evidence: Option<PathBuf>,
}

impl TestFailure {
    /// The folder with the evidence; there is none of a node that did not start.
    #[must_use]
    pub fn evidence(&self) -> Option<&Path> {
        self.evidence.as_deref()
    }
}

impl fmt::Display for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let evidence = self.evidence.as_ref();
        evidence.map_or(Ok(()), |folder| write!(f, "\nevidence: {}", folder.display()))
    }
}

impl fmt::Debug for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for TestFailure {}

impl Regtest {
    /// Runs a test that returns an error where another would panic, and keeps the evidence if it does.
    ///
    /// A node cannot know that the test it was dropped in has failed, unless by a panic. Here it does:
    ///
    /// ```
    /// use spilman::regtest::{Error, Regtest, TestFailure};
    ///
    /// // #[test]
    /// fn two_blocks() -> Result<(), TestFailure> {
    ///     Regtest::run(|chain| {
    ///         chain.mine(2)?;
    ///         Ok::<_, Error>(())
    ///     })
    /// }
    /// # two_blocks()?;
    /// # Ok::<(), TestFailure>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no `bitcoind`, it does not start, or the test fails.
    pub fn run<T, E: fmt::Display>(test: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, TestFailure> {
        Self::builder().run(test)
    }
}

impl RegtestBuilder {
    /// As [`Regtest::run`], with other than the defaults.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn run<T, E: fmt::Display>(
        self,
        test: impl FnOnce(&mut Regtest) -> Result<T, E>,
    ) -> Result<T, TestFailure> {
        let mut chain = self.start().map_err(|error: Error| TestFailure {
            message: error.to_string(),
            evidence: None,
        })?;
        test(&mut chain).map_err(|error| {
            let (message, evidence) = match chain.node().keep_evidence() {
                Ok(folder) => (error.to_string(), Some(folder)),
                Err(lost) => (format!("{error} ({lost})"), None),
            };
            TestFailure { message, evidence }
        })
    }
}
