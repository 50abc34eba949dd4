//! What the tables of all benchmarks say about where they were made.

use std::path::PathBuf;
use std::{env, fs, thread};

/// The word after this one on the command line.
pub fn argument(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}

/// Shows the table, and writes it where `--write` says.
pub fn publish(table: &str) {
    println!("{table}");
    if let Some(file) = argument("--write") {
        fs::write(&file, table).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

pub fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |line| {
            line.trim_start_matches([' ', '\t', ':'])
        });
    format!(
        "{cores} cores, {model}, {} {}",
        env::consts::OS,
        env::consts::ARCH
    )
}

/// As the lock file has it.
pub fn version_of(package: &str) -> String {
    let lock = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(lock).expect("the lock file is there");
    let entry = format!("name = \"{package}\"\nversion = \"");
    let from = lock.find(&entry).expect("it is a dependency") + entry.len();
    lock[from..].chars().take_while(|&letter| letter != '"').collect()
}
