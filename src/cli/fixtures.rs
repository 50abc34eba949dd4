//! `spilman fixtures`.

mod check;
mod compare;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use spilman::fixtures::Set;
use spilman::regtest::NodeBuilder;

use super::print;

/// What to do with the fixtures.
#[derive(Subcommand)]
#[command(after_help = "\
The fixtures are JSON files with whole channels in them: keys, scripts, messages, transactions, and everything that is
hashed and signed on the way, for whoever writes the same in another language. fixtures/README.md says how to read them.

Start with:
  spilman fixtures check                    are those in ./fixtures right, on a real node?
  spilman fixtures check --no-node DIR      the same without a node: rebuilt, but not replayed
  spilman fixtures write                    make them anew; git diff shows what changed
  spilman fixtures compare OLD NEW          does every test of an earlier version still say the same?")]
pub enum Fixtures {
    /// Writes every fixture; the same bytes, whenever and wherever.
    Write(Write),
    /// Checks fixtures: reads them, makes them again from what they give, and replays them on a real node.
    Check(check::Check),
    /// Compares two versions: no test may change or go without a new major version, and no id be used again.
    Compare(compare::Compare),
}

#[derive(Args)]
pub struct Write {
    /// The folder to write into.
    #[arg(default_value = "fixtures")]
    dir: PathBuf,
}

impl Fixtures {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Write(write) => write.run(),
            Self::Check(check) => check.run(),
            Self::Compare(compare) => compare.run(),
        }
    }
}

impl Write {
    fn run(self) -> anyhow::Result<ExitCode> {
        let set = Set::build(NodeBuilder::default())?;
        let dir = self.dir;
        set.write(&dir)
            .with_context(|| format!("cannot write into {}", dir.display()))?;
        print(&format!("{} files in {}\n", set.files().len(), dir.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
