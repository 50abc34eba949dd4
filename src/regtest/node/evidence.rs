use std::path::PathBuf;

use super::Node;
use crate::regtest::error::Error;
use crate::regtest::evidence::Saved;

/// What is kept of a node when its test fails.
impl Node {
    /// Keeps the node's debug log, what it wrote to standard error, its mempool, tip and peers, a journal of what
    /// was done to it, and what was [attached](Node::attach), in a folder named after the test, and returns that
    /// folder.
    ///
    /// This happens automatically when a test panics, and when it returns a
    /// [`TestFailure`](crate::regtest::TestFailure); the last line of the failure then names the folder.
    /// [The guide](crate::regtest::guide#when-a-test-fails) says when exactly. Evidence goes to `spilman-evidence` in the temporary directory, or where `SPILMAN_EVIDENCE` points.
    /// Nothing is kept of a test that passes, unless `SPILMAN_KEEP` is set: then every folder stays as it was.
    ///
    /// # Errors
    ///
    /// If a file cannot be written; the others are.
    pub fn keep_evidence(&self) -> Result<PathBuf, Error> {
        Ok(self.save_evidence()?.complete()?)
    }

    pub(in crate::regtest) fn save_evidence(&self) -> Result<Saved, Error> {
        self.evidence.save()
    }

    /// Keeps no evidence of this node when its test fails: for a test that expects a panic (`#[should_panic]`), which
    /// the harness cannot tell from one that fails.
    pub fn without_evidence(&self) {
        self.evidence.is_unwanted();
    }

    /// Keeps a file of this name with the [evidence](Node::keep_evidence): for what the
    /// program under test knows, such as its own log. It replaces an earlier file of that name.
    pub fn attach(&self, name: &str, content: impl Into<Vec<u8>>) {
        self.evidence.attach(name, content.into());
    }

    /// Writes a line into the journal that is kept with the [evidence](Node::keep_evidence).
    pub fn note(&self, line: impl Into<String>) {
        self.evidence.note(&line.into());
    }
}
