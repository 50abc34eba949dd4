use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use console::style;
use spilman::regtest::{find_bitcoind, find_electrs, BinaryError, Found, Regtest};

#[derive(Args)]
pub struct Doctor {}

impl Doctor {
    pub fn run() -> ExitCode {
        let bitcoind = tell(
            "bitcoind",
            "every scenario and every test on a node",
            find_bitcoind(),
        );
        let electrs = tell("electrs", "watching the chain without RPC", find_electrs());
        let node = bitcoind && node();
        if bitcoind && electrs && node {
            println!("\nEverything is there. Try: spilman demo");
            return ExitCode::SUCCESS;
        }
        println!("\nSomething is missing; see above.");
        ExitCode::FAILURE
    }
}

fn tell(program: &str, needed_for: &str, found: Result<Found, BinaryError>) -> bool {
    match found {
        Ok(found) => {
            println!("{}  {program:<9} {}", style("ok     ").green(), found.version);
            println!("         {:<9} {} ({})", "", found.path.display(), found.source);
            true
        }
        Err(error) => {
            println!(
                "{}  {program:<9} needed for {needed_for}",
                style("missing").red().bold()
            );
            println!("         {:<9} {error}", "");
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
                style("ok     ").green(),
                tip.height
            );
            true
        }
        Err(error) => {
            println!(
                "{}  a node    does not start: {error}",
                style("failed ").red().bold()
            );
            false
        }
    }
}
