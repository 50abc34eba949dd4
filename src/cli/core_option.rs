use std::path::Path;

use clap::Args;
use spilman::regtest::{
    bitcoind_at, find_bitcoind, find_bitcoind_version, BinaryError, Error, FoundBinary, Node,
};

#[derive(Args)]
pub struct Core {
    /// The bitcoind to play on: a version of Bitcoin Core, such as 29 or 29.99, or the path of a program.
    ///
    /// A version is the one that the program reports. The search covers `BITCOIND_EXE`, PATH and the versions that
    /// `ci/provision 28 29 31` builds; `spilman doctor` lists all that were found. Every version gives the same
    /// transactions and blocks, to the byte. Without this option, the first of: `BITCOIND_EXE`, PATH, and the newest
    /// version that `ci/provision` builds.
    #[arg(long = "core", value_name = "VERSION|PATH")]
    wanted: Option<String>,
}

impl Core {
    pub fn find(&self) -> Result<FoundBinary, BinaryError> {
        match &self.wanted {
            None => find_bitcoind(),
            // A program in this folder whose name is a number is `./29`, as in a shell.
            Some(version) if version.starts_with(|c: char| c.is_ascii_digit()) && !version.contains('/') => {
                find_bitcoind_version(version)
            }
            Some(path) => bitcoind_at(Path::new(path)),
        }
    }

    /// As above, for a list of plays with a node for each. A node that does not start, as in a full
    /// folder, is said once before a long list, and not by every play.
    pub fn find_for(&self, plays: usize) -> Result<FoundBinary, Error> {
        let core = self.find()?;
        if plays > 1 {
            Node::builder().program(&core.path).start()?;
        }
        Ok(core)
    }
}
