//! `spilman fixtures`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use spilman::fixtures::Set;
use spilman::regtest::NodeBuilder;

use super::print;

/// What to do with the fixtures.
#[derive(Subcommand)]
pub enum Fixtures {
    /// Writes every fixture; the same bytes, whenever and wherever.
    Write(Write),
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
