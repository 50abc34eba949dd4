use std::fmt::Display;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use console::style;
use spilman::regtest::{find_bitcoind, find_electrs, BinaryError, Found, Regtest};

#[derive(Args)]
pub struct Doctor {}

impl Doctor {
    pub fn run() -> ExitCode {
        let missing = style("missing ").red().bold();
        let bitcoind = tell("bitcoind", &missing, find_bitcoind());
        // Nothing in this version uses it.
        tell("electrs", &style("optional").yellow(), find_electrs());
        if bitcoind && node() {
            println!("\nEverything that is needed is there. Try: spilman demo");
            return ExitCode::SUCCESS;
        }
        println!("\nSomething is missing; see above.");
        ExitCode::FAILURE
    }
}

fn tell(program: &str, otherwise: &impl Display, found: Result<Found, BinaryError>) -> bool {
    match found {
        Ok(found) => {
            println!("{}  {program:<9} {}", style("ok      ").green(), found.version);
            println!("          {:<9} {} ({})", "", found.path.display(), found.source);
            true
        }
        Err(error) => {
            println!("{otherwise}  {program:<9} {error}");
            false
        }
    }
}

/// A program that says its version may still not start a node.
fn node() -> bool {
    let start = Instant::now();
    match Regtest::start().and_then(|chain| chain.tip()) {
        Ok(tip) => {
            let took = start.elapsed().as_secs_f32();
            println!(
                "{}  a node    starts, with {} blocks, in {took:.2} s",
                style("ok      ").green(),
                tip.height
            );
            true
        }
        Err(error) => {
            println!(
                "{}  a node    does not start: {error}",
                style("failed  ").red().bold()
            );
            false
        }
    }
}
