//! The command line.

mod choose;
mod conform;
mod core_option;
mod demo;
mod doctor;
mod fixtures;
mod list;
mod live;
mod out;
mod party;
mod payee;
mod payer;
mod peer;
mod run;
mod side_by_side;
mod stop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One-way Bitcoin payment channels (Spilman channels) on a real Bitcoin Core regtest node.
///
/// Each scenario starts a bitcoind. Two parties open, use and close a channel on it. The scenario mines blocks
/// across the lock times and checks every answer of the node. Only `payee` and `payer` use a node of yours, and none on mainnet.
#[derive(Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Start with:
  spilman doctor                  check that everything needed is installed
  spilman demo                    the documented channels, explained step by step
  spilman list                    every scenario: six constructions, three protocols
  spilman run taproot --out out   play some, keep every raw transaction
  spilman fixtures check          check the reference fixtures on a real node
  spilman conform --help          test your own payer or payee
  spilman payer --help            open channels and pay on regtest, signet or testnet4
  spilman live                    payments between two processes that are killed on the way

Exit codes: 0 success, 1 a scenario or a check failed, 2 the command line is wrong, 130 interrupted."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the scenarios.
    List(list::List),
    /// Plays scenarios, each on a separate node.
    Run(run::Run),
    /// Tests another implementation's payer or payee on a real node.
    Conform(conform::Conform),
    /// Runs this crate's own payer or payee as a program under test, for `conform`.
    Peer(peer::PeerArgs),
    /// Accepts payments in channels, on a test network.
    Payee(payee::PayeeArgs),
    /// Opens channels and pays in them, on a test network.
    Payer(payer::PayerArgs),
    /// Runs a node, a payee and a payer, kills each of them again and again, and counts the money.
    Live(live::Live),
    /// Explains the three documented channels, and one on Taproot: who does what, why, and what the node answers.
    Demo(demo::Demo),
    /// Lists the programs found, what is missing, and how to get it.
    Doctor(doctor::Doctor),
    /// Writes and checks the reference fixtures for implementations in other languages.
    #[command(subcommand)]
    Fixtures(fixtures::Fixtures),
}

impl Cli {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Run(run) => run.run(),
            Command::Conform(conform) => conform.run(),
            Command::Peer(_) => peer::PeerArgs::run(),
            Command::Payee(payee) => payee.run(),
            Command::Payer(payer) => payer.run(),
            Command::Live(live) => live.run(),
            Command::Demo(demo) => demo.run(),
            Command::Doctor(_) => doctor::Doctor::run(),
            Command::Fixtures(fixtures) => fixtures.run(),
        }
    }
}

/// The exit code for a command line that asks for what does not exist, as `clap` has it.
const USAGE: u8 = 2;

/// Prints text as it is.
fn print(text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Returns an error with its causes. What has the words of its cause in its own is not followed by them again.
pub fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let said = cause.to_string();
        match told.as_str() {
            "" => said,
            _ if told.contains(&said) => told,
            _ => format!("{told}: {said}"),
        }
    })
}

/// Returns whether the output is closed (`spilman list | head -1`): not a failure.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}
