//! Without a `bitcoind` a test fails, and the message says what to do.

use std::process::Command;

use spilman::regtest::{Node, Regtest};

/// Set in the process that is to find nothing.
const CHILD: &str = "SPILMAN_TEST_FINDS_NOTHING";

#[test]
fn a_program_that_does_not_exist_is_named() {
    let error = Node::builder()
        .program("/nonexistent/bitcoind")
        .start()
        .expect_err("no such program");
    let message = error.to_string();
    assert!(message.contains("/nonexistent/bitcoind"), "{message}");
    assert!(message.contains("No such file"), "{message}");
    assert!(
        !message.contains("TMPDIR"),
        "it is not the folder that is missing: {message}"
    );
}

/// It has a version, but nothing else: it ends without a word, long before a node would have answered.
#[test]
fn a_program_that_ends_at_once_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("bitcoind");
    let script = "#!/bin/sh\ncase $* in *--version*) echo version v31.99.0 ;; *) exit 3 ;; esac\n";
    // Written by a child: what this process has open for writing could not be executed.
    let written = Command::new("/bin/sh")
        .args(["-c", r#"printf '%s' "$1" >"$2" && chmod 755 "$2""#, "sh", script])
        .arg(&program)
        .status();
    assert!(written.expect("a shell").success());
    let error = Node::builder().program(&program).start().expect_err("no node");
    let message = error.to_string();
    assert!(message.starts_with(&program.display().to_string()), "{message}");
    assert!(message.contains("it exited at once, with status 3"), "{message}");
}

/// This very test in a process of its own, whose environment leads nowhere.
#[test]
#[cfg(not(feature = "download"))]
fn without_any_binary_the_error_says_what_to_run() {
    if std::env::var_os(CHILD).is_some() {
        Regtest::start().expect("a node");
        return;
    }
    let nowhere = tempfile::tempdir().expect("a folder");
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "without_any_binary_the_error_says_what_to_run"])
        .env_clear()
        .envs([
            ("HOME", nowhere.path()),
            ("XDG_CACHE_HOME", nowhere.path()),
            ("PATH", nowhere.path()),
        ])
        .env(CHILD, "1")
        .output()
        .expect("runs");
    let said = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(!output.status.success(), "it neither skips nor passes: {said}");
    let place = nowhere.path().join("spilman").display().to_string();
    for advice in [
        "no bitcoind found",
        "ci/provision",
        "BITCOIND_EXE",
        "PATH",
        &place,
    ] {
        assert!(said.contains(advice), "no word of {advice}: {said}");
    }
    // With HOME unset altogether, and a variable that points at nothing.
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "without_any_binary_the_error_says_what_to_run"])
        .env_clear()
        .envs([(CHILD, "1"), ("BITCOIND_EXE", "/nonexistent/bitcoind")])
        .output()
        .expect("runs");
    let said = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(
        !output.status.success() && said.contains("BITCOIND_EXE=/nonexistent/bitcoind"),
        "{said}"
    );
}
