//! Tests that return an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{error, fmt};

use super::cluster::{Cluster, ClusterBuilder};
use super::error::Error;
use super::evidence::{keep_all_of_this_test, Saved};
use super::node::Node;
use super::regtest::{Regtest, RegtestBuilder};

/// The error of a test that returns one, and where its [evidence](super::Node::keep_evidence) is.
///
/// Every error becomes one by `?`. At that moment, while the nodes still run, it keeps the evidence of each node that
/// this thread has started or called.
///
/// ```
/// use spilman::regtest::{Regtest, TestFailure};
///
/// // #[test]
/// fn two_blocks() -> Result<(), TestFailure> {
///     let chain = Regtest::start()?;
///     chain.mine(2)?;
///     let seven: u32 = "7".parse()?;
///     if chain.tip()?.height < seven {
///         return Err(TestFailure::new("the chain is too short"));
///     }
///     Ok(())
/// }
/// # two_blocks()?;
/// # Ok::<(), TestFailure>(())
/// ```
///
/// What a test returns is printed as by `{:?}`, so that this says the same in both forms: the error, and as the last
/// line the folder. It is no [`std::error::Error`] itself, or not every error could become one, but it becomes a
/// `Box<dyn Error>`.
#[derive(Clone)]
pub struct TestFailure {
    message: String,
    evidence: Option<PathBuf>,
}

impl TestFailure {
    /// Creates a failure without an error. It keeps the evidence, too.
    #[must_use]
    pub fn new(message: impl fmt::Display) -> Self {
        Self::with_evidence(message.to_string(), keep_all_of_this_test())
    }

    /// Returns the folder with the evidence; `None` if no node started.
    pub fn evidence(&self) -> Option<&Path> {
        self.evidence.as_deref()
    }
}

fn evidence_line(folder: &Path) -> String {
    format!("\nevidence: {}", folder.display())
}

impl fmt::Display for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let evidence = self.evidence.as_ref();
        evidence.map_or(Ok(()), |folder| f.write_str(&evidence_line(folder)))
    }
}

impl fmt::Debug for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: error::Error> From<E> for TestFailure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let said = error.to_string();
            // Many errors have the words of their source in their own.
            if !message.contains(&said) {
                message = format!("{message}: {said}");
            }
            source = error.source();
        }
        Self::new(message)
    }
}

impl From<TestFailure> for Box<dyn error::Error> {
    fn from(failure: TestFailure) -> Self {
        failure.to_string().into()
    }
}

impl From<TestFailure> for Box<dyn error::Error + Send + Sync> {
    fn from(failure: TestFailure) -> Self {
        failure.to_string().into()
    }
}

impl Regtest {
    /// Runs a test that returns an error instead of panicking, and keeps the evidence if it does.
    ///
    /// A node cannot know that the test it was dropped in has failed, unless by a panic. Here it does, whatever the type
    /// of the error; where every error becomes a [`TestFailure`] by `?`, this is not needed.
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
    /// As [`Regtest::run`], with this builder's settings.
    ///
    /// # Errors
    ///
    /// As the linked method.
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
    /// As the linked method.
    pub fn run<T, E: fmt::Display>(test: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, TestFailure> {
        Self::builder().run(test)
    }
}

impl ClusterBuilder {
    /// As [`Regtest::run`], with these nodes; the evidence of all of them is kept.
    ///
    /// # Errors
    ///
    /// As the linked method.
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
        let saved = nodes.iter().map(|node| node.save_evidence()).collect();
        Self::with_evidence(error.to_string(), saved)
    }

    fn with_evidence(message: String, saved: Vec<Result<Saved, Error>>) -> Self {
        let mut failure = Self {
            message,
            evidence: None,
        };
        for saved in saved {
            match saved {
                Ok(Saved { folder, lost }) => {
                    for lost in lost {
                        failure.add(&format!("could not keep this part of the evidence: {lost}"));
                    }
                    // All nodes of a test share a folder.
                    failure.evidence = Some(folder);
                }
                Err(lost) => failure.add(&lost.to_string()),
            }
        }
        if let Some(folder) = &failure.evidence {
            // It is there already if the error was such a failure.
            if let Some(before) = failure.message.strip_suffix(&evidence_line(folder)) {
                failure.message = before.to_owned();
            }
        }
        failure
    }

    /// A place where nothing can be written is named once, however many nodes there are.
    fn add(&mut self, line: &str) {
        if !self.message.ends_with(line) {
            self.message = format!("{}\n{line}", self.message);
        }
    }
}
