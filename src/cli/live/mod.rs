//! `spilman live`: a node, a payee and a payer as three processes, each killed on the way.

mod books;
mod channel;
mod child;
mod dice;
mod play;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use spilman::regtest::{Node, Regtest};

use super::core_option::Core;
use super::stop::{Stop, INTERRUPTED};
use play::{Plan, Play};

/// Pays in channels between two processes on a node, kills all three again and again, and counts the money at the end.
///
/// Each kill is a `kill -9` at a moment that follows from --seed. What died is started again, on the same data, and goes
/// on. Every channel is closed at last, and what the chain gave each side is compared with what the payee had
/// acknowledged.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spilman live                              # a thousand payments, nine kills
  spilman live --kills 100 --payments 2000 --seed 7
  spilman live --data out                   # keeps the stores and the logs of payer and payee in out/

Exit code 1 if an acknowledged payment is lost, more is paid than was wanted, or money is unaccounted for.")]
pub struct Live {
    /// Payments in total. A channel has 100 of them at most, then it is closed and another opened.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    payments: u32,
    /// Kills in total, of node, payee and payer in equal parts.
    #[arg(long, value_name = "N", default_value_t = 9)]
    kills: u32,
    /// Decides what is killed when: two runs with one seed have the same plan, but not the same timing.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Channels at a time.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    channels: u16,
    /// Keep stores and logs in this new folder.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    core: Core,
}

impl Live {
    pub fn run(self) -> Result<ExitCode> {
        let stop = Stop::on_signals()?;
        let core = self.core.find()?.path;
        let regtest = Regtest::builder().node(Node::builder().program(core)).start()?;
        // Beside the node's own files: whatever ends this process, they go with them.
        let folder = self
            .data
            .clone()
            .unwrap_or_else(|| regtest.node().data_dir().join("live"));
        std::fs::create_dir(&folder)
            .with_context(|| format!("cannot make {}: name a new folder", folder.display()))?;
        let plan = Plan {
            payments: self.payments,
            kills: self.kills,
            seed: self.seed,
            slots: self.channels.into(),
        };
        let Some(books) = Play::new(regtest, folder, &plan)?.run(&stop)? else {
            eprintln!("interrupted");
            return Ok(ExitCode::from(INTERRUPTED));
        };
        super::print(&if self.json {
            books.to_json()
        } else {
            books.to_text()
        })?;
        let faults = books.faults();
        for fault in &faults {
            eprintln!("spilman: {fault}");
        }
        Ok(if faults.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
