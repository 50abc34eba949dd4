//! What a node needs of the machine that it starts on: a temporary folder with room, the loopback interface, open files.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use spilman::regtest::{find_bitcoind, Regtest};

use super::TIMEOUT;
use crate::common::child::{child_of, is_child, isolated, write_program};
use crate::common::proc::entries;
use crate::common::wait::until;

/// Whatever the bytes of its name are.
#[test]
fn a_temporary_folder_may_have_any_name() {
    if is_child(|_| {
        let chain = Regtest::start().unwrap();
        chain.mine(1).unwrap();
        chain.node().stop().unwrap();
        chain.node().restart().unwrap();
    }) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    for name in [
        &b"with a space and 'quotes\""[..],
        b"\xff\xfe not UTF-8",
        b"$(touch x)\n",
    ] {
        let folder = scratch.path().join(OsStr::from_bytes(name));
        fs::create_dir(&folder).unwrap();
        let output = child_of(a_temporary_folder_may_have_any_name, "start")
            .env("TEMPDIR_ROOT", &folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        until("nothing to be left", TIMEOUT, || {
            let left = entries(&folder);
            (left.is_empty(), left)
        });
    }
}

/// A wrapper script that forgets its arguments would start a node on mainnet, with the user's own data. It is found out
/// before it has connected to anything.
#[test]
fn a_wrapper_that_forgets_its_arguments_is_refused() {
    if is_child(|expected| {
        let said = Regtest::start().unwrap_err().to_string();
        assert!(said.contains(expected), "no {expected:?} in: {said}");
        assert!(
            said.contains(r#"pass its arguments on: exec bitcoind "$@""#),
            "{said}"
        );
    }) {
        return;
    }
    let real = find_bitcoind().unwrap().path;
    for (answer, expected) in [
        ("", "it starts a node instead of printing its version"),
        (
            "[ $1 = --version ] && echo version v31.99 && exit; ",
            "it ignores its -datadir argument",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("bitcoind");
        write_program(
            &program,
            &format!("#!/bin/sh\n{answer}exec '{}'\n", real.display()),
        );
        // It finds neither a home that matters nor a network.
        let child = child_of(a_wrapper_that_forgets_its_arguments_is_refused, expected);
        let output = isolated(&["--net"], "ip link set lo up 2>/dev/null; ", &child)
            .env("HOME", folder.path())
            .env("BITCOIND_EXE", &program)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let log = fs::read_to_string(folder.path().join(".bitcoin/debug.log")).unwrap();
        assert!(!log.contains("net thread start"), "{log}");
    }
}

/// Not the program is missing, but what it needs of the machine.
#[test]
fn what_the_machine_lacks_is_named() {
    if is_child(|expected| {
        let said = Regtest::start().unwrap_err().to_string();
        for part in expected.split('|') {
            assert!(said.contains(part), "no {part:?} in: {said}");
        }
        for other in ["no bitcoind found", "did not answer within"] {
            assert!(!said.contains(other), "{said}");
        }
    }) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    let here = scratch.path().display().to_string();
    let (missing, file) = (format!("{here}/missing"), file.display().to_string());
    #[rustfmt::skip]
    let rows = [
        ("", "TEMPDIR_ROOT", &missing, "missing (TEMPDIR_ROOT): No such file"),
        ("", "TMPDIR", &missing, "missing (TMPDIR): No such file"),
        ("", "TEMPDIR_ROOT", &file, "file (TEMPDIR_ROOT): Not a directory"),
        ("mount -t tmpfs -o ro none $0 && ", "TEMPDIR_ROOT", &here, "(TEMPDIR_ROOT): Read-only file system"),
        ("mount -t tmpfs -o size=40m none $0 && ", "TEMPDIR_ROOT", &here, "cannot use the temporary folder|MiB free, a node needs 70 MiB"),
        ("ulimit -n 100 && ", "TEMPDIR_ROOT", &here, "file descriptors|files: at most 100"),
    ];
    for (before, variable, place, expected) in rows {
        lacks(
            &["--mount"],
            before,
            what_the_machine_lacks_is_named,
            (variable, place),
            expected,
        );
    }
    // A new network has a loopback interface that is down.
    let expected = "did not start|loopback: 127.0.0.1 does not answer";
    lacks(
        &["--net"],
        "",
        what_the_machine_lacks_is_named,
        ("TEMPDIR_ROOT", &here),
        expected,
    );
}

/// What a test with a node says in such a place, and what the doctor does: the end of each part.
fn lacks(spaces: &[&str], before: &str, test: impl Fn(), (variable, place): (&str, &str), expected: &str) {
    let run = |child: Command| {
        let output = isolated(spaces, before, &child)
            .arg(place)
            .env_remove("TEMPDIR_ROOT")
            .env(variable, place)
            .env("BITCOIND_EXE", find_bitcoind().unwrap().path)
            .output()
            .expect("unshare, of the package util-linux");
        let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
        (output.status.success(), said.concat())
    };
    let (passed, said) = run(child_of(test, expected));
    assert!(passed, "{said}");
    #[cfg(feature = "cli")]
    {
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_spilman"));
        doctor.arg("doctor");
        let (passed, said) = run(doctor);
        let part = expected.rsplit(['|', ':']).next().unwrap().trim();
        assert!(
            !passed && said.contains("failed  ") && said.contains(part),
            "no {part:?} in: {said}"
        );
    }
}
