//! The command, and other people's programs: as a user calls it, and as `spilman conform` tests them.

mod cli;
#[path = "../common/mod.rs"]
mod common;
mod conform;
mod example_payee;
mod examples;
mod fixtures;
mod live;
mod parties;

use std::process::{Command, Output};

const SPILMAN: &str = env!("CARGO_BIN_EXE_spilman");

/// Exit code, standard output, standard error.
type Said = (Option<i32>, String, String);

/// Runs the command with these arguments.
fn spilman(arguments: &[&str]) -> Said {
    let output = Command::new(SPILMAN).args(arguments).output();
    said(&output.expect("it was built with this test"))
}

fn said(output: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
