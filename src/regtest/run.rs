//! Tests that return an error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cluster::{Cluster, ClusterBuilder};
use super::error::Error;
use super::node::Node;
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
        let mut chain = self.start().map_err(TestFailure::before)?;
        test(&mut chain).map_err(|error| TestFailure::after(&error, &[chain.node()]))
    }
}

impl Cluster {
    /// As [`Regtest::run`], with two nodes that are connected.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn run<T, E: fmt::Display>(test: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, TestFailure> {
        Self::builder().run(test)
    }
}

impl ClusterBuilder {
    /// As [`Regtest::run`], with these nodes; the evidence of all of them is kept.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn run<T, E: fmt::Display>(
        self,
        test: impl FnOnce(&mut Cluster) -> Result<T, E>,
    ) -> Result<T, TestFailure> {
        let mut cluster = self.start().map_err(TestFailure::before)?;
        test(&mut cluster).map_err(|error| {
            let nodes = (0..cluster.len()).filter_map(|index| cluster.node(index).ok());
            TestFailure::after(&error, &nodes.collect::<Vec<_>>())
        })
    }
}

impl TestFailure {
    /// There was no node yet.
    #[allow(clippy::needless_pass_by_value)] // so that it can be named where an error is mapped
    fn before(error: Error) -> Self {
        Self {
            message: error.to_string(),
            evidence: None,
        }
    }

    fn after(error: &impl fmt::Display, nodes: &[&Arc<Node>]) -> Self {
        let mut failure = Self {
            message: error.to_string(),
            evidence: None,
        };
        for node in nodes {
            match node.keep_evidence() {
                // All nodes of a test share a folder.
                Ok(folder) => failure.evidence = Some(folder),
                Err(lost) => failure.message = format!("{} ({lost})", failure.message),
            }
        }
        failure
    }
}
