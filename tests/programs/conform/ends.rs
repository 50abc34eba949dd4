//! Nothing of a program is left, however the run ends.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::proc::{is_alive, signal};
use crate::common::wait::until;
use crate::SPILMAN;

/// For what takes hundredths of a second.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Starts a run with a program that ignores every signal, and waits until it and its child have written their numbers.
///
/// `before` stands before the child's command.
fn start(folder: &Path, before: &str) -> (Child, Vec<i32>) {
    let file = folder.join("pids");
    let child = "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 600; done'";
    let script = format!("trap '' TERM INT HUP; {before} {child} & echo $$; wait; wait");
    let command = format!("({script}) >'{}'; sleep 600", file.display());
    let run = Command::new(SPILMAN)
        .args(["conform", "--payee", &command, "p2wsh/example-7/closed-by-payer"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut pids = Vec::new();
    until("two processes", TIMEOUT, || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        pids = text.lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() == 2, text)
    });
    (run, pids)
}

#[test]
fn no_process_is_left_when_the_run_is_broken_off() {
    for (name, code) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut run, pids) = start(folder.path(), "");
        assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
        signal(&run.id().to_string(), name);
        assert_eq!(run.wait().expect("it ends").code(), code, "after {name}");
        gone(name, &pids);
    }
}

/// Nor what has left the process group of the program.
#[test]
fn no_process_is_left_that_has_gone_its_own_way() {
    for name in ["INT", "KILL"] {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut run, pids) = start(folder.path(), "setsid");
        signal(&run.id().to_string(), name);
        run.wait().expect("it ends");
        gone(name, &pids);
    }
}

fn gone(name: &str, pids: &[i32]) {
    until(&format!("the end of the program after {name}"), TIMEOUT, || {
        let left: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).collect();
        (left.is_empty(), left)
    });
}
