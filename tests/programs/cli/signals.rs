//! Ctrl-C and its kin while the start of a program hangs.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::child::write_program;
use crate::common::proc::{entries, signal as signal_process};
use crate::common::wait::until;
use crate::SPILMAN;

/// More than the second within which it ends, for a machine that is busy, and less than any start is waited for.
const SOON: Duration = Duration::from_secs(5);

/// Says that it was called, with what, and does nothing more.
fn hanging(version: &str, called: &Path) -> String {
    format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && {version}\ntouch '{}'\nsleep 1000\n",
        called.display()
    )
}

/// The processes that have this text in their environment.
fn processes_of(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("Linux");
    let own = std::process::id().to_string();
    entries
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let name = folder.file_name()?.to_str()?.to_owned();
            let environment = fs::read(folder.join("environ")).ok()?;
            let has = String::from_utf8_lossy(&environment).contains(text);
            let line = fs::read(folder.join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (has && name != own && !line.is_empty()).then(|| format!("{name}: {line}"))
        })
        .collect()
}

fn ends(arguments: &[&str], version: &str, signal: &str) {
    let (scratch, programs) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let (bitcoind, called) = (programs.path().join("bitcoind"), programs.path().join("called"));
    write_program(&bitcoind, &hanging(version, &called));
    // Tests that run in the background of a script ignore Ctrl-C, and so would the child.
    let mut run = Command::new("/usr/bin/env")
        .arg("--default-signal=INT,HUP")
        .arg(SPILMAN)
        .args(arguments)
        .env("BITCOIND_EXE", &bitcoind)
        .env("TEMPDIR_ROOT", scratch.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it was built with this test");
    let what = format!("{arguments:?} with {version:?} after {signal}");
    until(&format!("the start of {what}"), SOON, || (called.exists(), ()));
    signal_process(&run.id().to_string(), signal);
    let mut ended = None;
    until(&format!("the end of {what}"), SOON, || {
        ended = run.try_wait().expect("a child");
        (ended.is_some(), "it runs")
    });
    let code = ended.expect("it has ended").code();
    assert_eq!(code, Some(130), "{what}");
    let place = scratch.path().to_str().expect("text");
    until(&format!("nothing to be left of {what}"), SOON, || {
        let left = (entries(scratch.path()), processes_of(place));
        (left.0.is_empty() && left.1.is_empty(), left)
    });
}

/// In every command that starts a node.
#[test]
fn a_signal_ends_a_start_that_hangs() {
    const STARTS: [&[&str]; 6] = [
        &["run", super::SCENARIO],
        &["demo"],
        &["doctor"],
        &["live"],
        &["conform", "--payee", "true", "p2wsh/example-7/closed-by-payer"],
        &[
            "fixtures",
            "check",
            concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures"),
        ],
    ];
    const ANSWERS: &str = "echo 'Bitcoin Core daemon version v29.0.0' && exit";
    std::thread::scope(|scope| {
        for arguments in STARTS {
            scope.spawn(move || {
                ends(arguments, ANSWERS, "INT");
                ends(arguments, "true", "INT");
            });
        }
        for signal in ["TERM", "HUP"] {
            scope.spawn(move || ends(STARTS[0], ANSWERS, signal));
        }
    });
}
