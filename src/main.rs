//! The `spilman` command: one-way Bitcoin payment channels, played on a real regtest node.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("spilman: {error:#}");
            ExitCode::FAILURE
        }
    }
}
