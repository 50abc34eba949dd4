//! Without a `bitcoind` a test fails, and the message says what to do.

#[cfg(not(feature = "download"))]
use std::path::Path;

use spilman::regtest::Node;
#[cfg(not(feature = "download"))]
use spilman::regtest::Regtest;

use crate::common::child::write_program;
#[cfg(not(feature = "download"))]
use crate::common::child::{child_of, is_child, CHILD};

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
    write_program(
        &program,
        "#!/bin/sh\ncase $* in *--version*) echo version v31.99.0 ;; *) exit 3 ;; esac\n",
    );
    let error = Node::builder().program(&program).start().expect_err("no node");
    let message = error.to_string();
    assert!(message.starts_with(&program.display().to_string()), "{message}");
    assert!(message.contains("it exited at once, with status 3"), "{message}");
}

/// In a process whose environment leads nowhere.
#[test]
#[cfg(not(feature = "download"))]
fn without_any_binary_the_error_says_what_to_run() {
    if is_child(|_| drop(Regtest::start().expect("a node"))) {
        return;
    }
    let nowhere = tempfile::tempdir().expect("a folder");
    let fails = |environment: &[(&str, &Path)]| {
        let output = child_of(without_any_binary_the_error_says_what_to_run, "start")
            .env_clear()
            .env(CHILD, "start")
            .envs(environment.iter().copied())
            .output()
            .expect("a child");
        let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(!output.status.success(), "it neither skips nor passes: {said:?}");
        said.concat()
    };
    let said = fails(&["HOME", "XDG_CACHE_HOME", "PATH"].map(|name| (name, nowhere.path())));
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
    let said = fails(&[("BITCOIND_EXE", Path::new("/nonexistent/bitcoind"))]);
    assert!(said.contains("BITCOIND_EXE=/nonexistent/bitcoind"), "{said}");
}
