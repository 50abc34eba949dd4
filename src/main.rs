//! The `spilman` command: one-way Bitcoin payment channels, played on a real regtest node.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        // As if the signal had ended it that most programs die of here.
        Err(error) if cli::is_closed_pipe(&error) => ExitCode::from(141),
        Err(error) => {
            eprintln!("spilman: {}", cli::told(&error));
            ExitCode::FAILURE
        }
    }
}
