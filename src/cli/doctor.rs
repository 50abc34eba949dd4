use std::fmt::Display;
use std::process::ExitCode;
use std::time::Instant;

use super::stop::{Stop, INTERRUPTED};
use anyhow::Result;
use clap::Args;
use console::style;
use spilman::regtest::{
    all_bitcoinds, check_surroundings, find_bitcoind, find_electrs, BinaryError, FoundBinary, Regtest,
    Surrounding,
};

#[derive(Args)]
pub struct Doctor {}

impl Doctor {
    pub fn run() -> Result<ExitCode> {
        let stop = Stop::on_signals()?;
        let missing = style("missing ").red().bold();
        let default = find_bitcoind();
        let default_path = default.as_ref().ok().map(|found| found.path.clone());
        let bitcoind = tell("bitcoind", &missing, default)?;
        for other in all_bitcoinds() {
            if Some(&other.path) != default_path.as_ref() {
                super::print(&line(&style("also    ").green(), "bitcoind", &other))?;
            }
        }
        let electrs = tell("electrs", &style("missing ").yellow(), find_electrs())?;
        let machine = machine()?;
        let node = bitcoind && machine && node(electrs)?;
        if stop.is_set() {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        if node {
            super::print("\nEverything needed is installed. Try: spilman demo\n")?;
            return Ok(ExitCode::SUCCESS);
        }
        super::print("\nSomething is missing; see above.\n")?;
        Ok(ExitCode::FAILURE)
    }
}

fn tell(program: &str, otherwise: &impl Display, found: Result<FoundBinary, BinaryError>) -> Result<bool> {
    let (text, is_there) = match found {
        Ok(found) => (line(&style("ok      ").green(), program, &found), true),
        Err(error) => (format!("{otherwise}  {program:<9} {error}\n"), false),
    };
    super::print(&text)?;
    Ok(is_there)
}

fn line(verdict: &impl Display, program: &str, found: &FoundBinary) -> String {
    let FoundBinary {
        path,
        source,
        version,
    } = found;
    let path = path.display();
    format!("{verdict}  {program:<9} {version}\n{:20}{path} ({source})\n", "")
}

/// What a node needs of the machine.
fn machine() -> Result<bool> {
    let mut is_well = true;
    for Surrounding { name, found } in check_surroundings() {
        let (verdict, text) = match found {
            Ok(found) => (style("ok      ").green(), found),
            Err(trouble) => {
                is_well = false;
                (style("failed  ").red().bold(), trouble)
            }
        };
        super::print(&format!("{verdict}  {name:<9} {text}\n"))?;
    }
    Ok(is_well)
}

/// A program that says its version may still not start a node. Only `--watch electrs` needs electrs, but one that is
/// there has to start.
fn node(electrs: bool) -> Result<bool> {
    let start = Instant::now();
    let started = Regtest::builder().electrs(electrs).start();
    let started = started.and_then(|chain| chain.tip());
    let took = start.elapsed().as_secs_f32();
    let text = match &started {
        Ok(tip) => {
            let ok = style("ok      ").green();
            format!(
                "{ok}  a node    starts{}, with {} blocks, in {took:.2} s\n",
                if electrs { ", and electrs with it" } else { "" },
                tip.height
            )
        }
        Err(error) => format!(
            "{}  a node    does not start: {error}\n",
            style("failed  ").red().bold()
        ),
    };
    super::print(&text)?;
    Ok(started.is_ok())
}
