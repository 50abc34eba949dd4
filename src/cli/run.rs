use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use console::style;
use spilman::regtest::{find_electrs, FoundBinary, Node};
use spilman::scenario::{self, ChainSource, Scenario, ScenarioFailure};
use spilman::transcript::{timeline, Transcript};

use super::choose::{choose, HOW};
use super::core_option::Core;
use super::out;
use super::side_by_side::{default_jobs, play_in_order, progress};
use super::stop::{Stop, INTERRUPTED};

#[derive(Args)]
#[command(after_help = HOW)]
pub struct Run {
    /// Names of scenarios, or parts of names, such as `taproot` or `p2wsh/bond`.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    scenarios: Vec<String>,
    /// Every scenario.
    #[arg(long)]
    all: bool,
    /// Write timeline, JSON and every raw transaction into this folder, a folder for each scenario.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print each timeline.
    #[arg(long, short)]
    verbose: bool,
    /// How the parties see the chain; the output does not depend on it.
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    watch: Through,
    #[command(flatten)]
    core: Core,
    /// How many nodes to run at once.
    #[arg(long, value_name = "N", default_value_t = default_jobs(), value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Through {
    /// The node's RPC.
    #[default]
    Node,
    /// An electrum server beside each node.
    Electrs,
}

impl From<Through> for ChainSource {
    fn from(through: Through) -> Self {
        match through {
            Through::Node => Self::Node,
            Through::Electrs => Self::Electrs,
        }
    }
}

struct TimedRun {
    result: Result<Transcript, ScenarioFailure>,
    took: Duration,
}

impl Run {
    pub fn run(self) -> Result<ExitCode> {
        let chosen = match self.choose() {
            Ok(chosen) => chosen,
            Err(unknown) => {
                eprintln!("spilman: {unknown}");
                return Ok(ExitCode::from(super::USAGE));
            }
        };
        let stop = Stop::on_signals()?;
        // What is missing is said once and not by every scenario.
        let core = self.core.find_for(chosen.len())?;
        if self.watch == Through::Electrs {
            find_electrs()?;
        }
        if let Some(dir) = &self.out {
            out::prepare(dir)?;
        }
        let Some(failed) = self.play(&chosen, &core, &stop)? else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        let passed = chosen.len() - failed.len();
        super::print(&format!(
            "\n{passed} passed, {} failed, on {}\n",
            failed.len(),
            core.version
        ))?;
        if failed.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("failed: {}", failed.join(", "));
        Ok(ExitCode::FAILURE)
    }

    /// Plays the scenarios, tells each result at once, and returns the names of those that failed. None if interrupted.
    fn play<'a>(
        &self,
        chosen: &'a [Scenario],
        core: &FoundBinary,
        stop: &Stop,
    ) -> Result<Option<Vec<&'a str>>> {
        let bar = progress(chosen.len(), "scenarios");
        let mut failed = Vec::new();
        let play = |scenario: &Scenario| {
            let start = Instant::now();
            let result = scenario.run(Node::builder().program(&core.path));
            let took = start.elapsed();
            TimedRun { result, took }
        };
        play_in_order(self.jobs, chosen, stop, play, |scenario, played| {
            // What a Ctrl-C broke, its node or itself, is no failure of the scenario.
            if stop.is_set() && played.result.is_err() {
                return Ok(());
            }
            bar.suspend(|| self.tell(scenario, &played))?;
            if played.result.is_err() {
                failed.push(scenario.name());
            }
            bar.inc(1);
            Ok(())
        })?;
        bar.finish_and_clear();
        if stop.is_set() {
            eprintln!("interrupted");
            return Ok(None);
        }
        Ok(Some(failed))
    }

    fn choose(&self) -> Result<Vec<Scenario>, String> {
        let chosen = if self.all {
            scenario::all()
        } else {
            choose(&self.scenarios)?
        };
        let watch = |scenario: Scenario| scenario.watch(self.watch.into());
        Ok(chosen.into_iter().map(watch).collect())
    }

    fn tell(&self, scenario: &Scenario, played: &TimedRun) -> Result<()> {
        let (verdict, transcript) = match &played.result {
            Ok(transcript) => (style("ok    ").green(), transcript),
            Err(failure) => (style("FAILED").red().bold(), failure.transcript()),
        };
        let folder = match &self.out {
            Some(dir) => Some(out::write(dir, transcript)?),
            None => None,
        };
        let count = transcript.transactions.len();
        super::print(&format!(
            "{verdict} {:<58} {:>5.2} s  {count} transactions\n",
            scenario.name(),
            played.took.as_secs_f32(),
        ))?;
        if self.verbose || played.result.is_err() {
            super::print(&format!("\n{}\n", timeline(transcript)))?;
        }
        if let Err(failure) = &played.result {
            super::print(&format!("{} {failure}\n", style("failed:").red().bold()))?;
            if let Some(folder) = folder {
                super::print(&format!("its transactions are in {}\n", folder.display()))?;
            }
        }
        Ok(())
    }
}
