//! `spilman fixtures`.

mod check;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{bail, Context};
use clap::{Args, Subcommand};
use serde_json::Value;
use spilman::fixtures::Set;
use spilman::regtest::NodeBuilder;

use super::print;
use super::stop::Stop;

/// What to do with the fixtures.
#[derive(Subcommand)]
#[command(after_help = "\
The fixtures are JSON files that hold whole channels: keys, scripts, messages, transactions, and everything that is
hashed and signed on the way. They are for implementations in other languages. fixtures/README.md explains the format.

Start with:
  spilman fixtures check                    check ./fixtures on a real node
  spilman fixtures check --no-node DIR      check without a node: rebuild, but do not replay
  spilman fixtures write                    write them again; git diff shows what changed")]
pub enum Fixtures {
    /// Writes every fixture: the same bytes on every machine.
    Write(WriteArgs),
    /// Checks fixtures: reads them, rebuilds them from the given values, and replays them on a real node.
    Check(check::Check),
}

const MANIFEST: &str = "manifest.json";

#[derive(Args)]
pub struct WriteArgs {
    /// The folder to write into.
    #[arg(default_value = "fixtures")]
    dir: PathBuf,
}

impl Fixtures {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Write(write) => write.run(),
            Self::Check(check) => check.run(),
        }
    }
}

/// The files that were written into the folder before: its manifest and what that lists.
fn listed(dir: &Path) -> BTreeSet<String> {
    let manifest = fs::read(dir.join(MANIFEST)).unwrap_or_default();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
    let files = manifest["files"].as_array().into_iter().flatten();
    let mut own: BTreeSet<_> = files
        .filter_map(|file| file["path"].as_str().map(str::to_owned))
        .collect();
    if !own.is_empty() {
        own.insert(MANIFEST.to_owned());
    }
    own
}

/// Says where fixtures were looked for, if there is nothing that looks like them.
fn find(dir: &Path, option: &str) -> anyhow::Result<()> {
    if dir.join(MANIFEST).exists() || dir.join("v1").exists() {
        return Ok(());
    }
    bail!(
        "no fixtures in {}: it has neither manifest.json nor v1; pass the folder `fixtures` of the spilman checkout as \
         {option}",
        std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).display()
    )
}

impl WriteArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        Stop::on_signals()?;
        let dir = self.dir;
        let own = listed(&dir);
        let check = |path: &str| {
            if dir.join(path).exists() && !own.contains(path) {
                bail!(
                    "{} was not written by spilman: move it away, or choose another folder",
                    dir.join(path).display()
                );
            }
            Ok(())
        };
        // What is wrong is said before half a minute is spent.
        check(MANIFEST)?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot create the folder {}", dir.display()))?;
        let set = Set::build(NodeBuilder::default())?;
        set.files().keys().try_for_each(|path| check(path))?;
        set.write(&dir)
            .with_context(|| format!("cannot write into {}", dir.display()))?;
        print(&format!("{} files in {}\n", set.files().len(), dir.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So they can be written again.
    #[test]
    fn the_committed_files_are_known_as_written_here() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let own = listed(&fixtures);
        assert!(own.contains(MANIFEST) && own.len() > 20, "{own:?}");
        for path in own {
            assert!(fixtures.join(&path).is_file(), "{path}");
        }
        assert!(listed(Path::new("/nonexistent")).is_empty());
    }
}
