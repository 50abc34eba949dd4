//! Folders that are written and read, and errors, each of which is said once.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::SCENARIO;
use crate::common::child::write_program;
use crate::{said, spilman, SPILMAN};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// What a run has not written stays as it was, and what is in its way is named.
#[test]
fn out_leaves_files_that_are_not_its_own() {
    let peer = format!("'{SPILMAN}' peer");
    let case = "p2wsh/example-7/closed-by-payer";
    for (command, name) in [
        (&["run", SCENARIO][..], SCENARIO),
        (&["conform", "--payee", &peer, case], case),
    ] {
        let out = tempfile::tempdir().expect("a folder");
        let folder = out.path().join(name);
        let run = || spilman(&[command, &["--out", text(out.path())]].concat());
        assert_eq!(run().0, Some(0), "{command:?}");
        let json = folder.join("transcript.json");

        // Beside the run's own files, and what an earlier run has left.
        fs::write(folder.join("notes.txt"), "mine").expect("it can be written");
        fs::create_dir(folder.join("mine")).expect("it can be made");
        let (code, told, err) = run();
        assert_eq!(code, Some(0), "{told}{err}");
        assert!(json.exists());
        assert_eq!(
            fs::read_to_string(folder.join("notes.txt")).expect("it is there"),
            "mine"
        );
        assert!(folder.join("mine").is_dir());

        // In the way of a file.
        fs::write(&json, "mine now").expect("it can be written");
        let (code, told, err) = run();
        assert_eq!(code, Some(1), "{told}{err}");
        let words = format!("spilman: {} was not written by spilman", json.display());
        assert!(err.contains(&words), "{words:?} is not in {err:?}");
        assert_eq!(fs::read_to_string(&json).expect("it is there"), "mine now");
        assert!(folder.join("timeline.txt").exists(), "nothing was removed");
    }
}

#[test]
fn fixtures_are_not_written_over_other_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = folder.path().join("manifest.json");
    fs::write(&manifest, "{}").expect("it can be written");
    let (code, out, err) = spilman(&["fixtures", "write", text(folder.path())]);
    assert_eq!(code, Some(1), "{out}{err}");
    let words = format!("{} was not written by spilman", manifest.display());
    assert!(err.contains(&words), "{words:?} is not in {err:?}");
    assert_eq!(fs::read_to_string(&manifest).expect("it is there"), "{}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

/// Outside a checkout there is no folder `fixtures`.
#[test]
fn fixtures_that_are_not_there_are_told_with_the_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = fs::canonicalize(folder.path()).expect("it is there");
    for (arguments, place, option) in [
        (&["check", "--no-node"][..], here.join("fixtures"), "check DIR"),
        (&["check", "nowhere"], here.join("nowhere"), "check DIR"),
    ] {
        let output = Command::new(SPILMAN)
            .arg("fixtures")
            .args(arguments)
            .current_dir(&here)
            .output();
        let (code, out, err) = said(&output.expect("it was built with this test"));
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        let words = format!("spilman: no fixtures in {}: ", place.display());
        assert!(err.starts_with(&words) && err.contains(option), "{err}");
    }
}

/// No part of an error is repeated, whatever is wrong.
#[test]
fn each_error_is_said_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, broken) = (folder.path().join("file"), folder.path().join("bitcoind"));
    fs::write(&file, "no folder").expect("it can be written");
    write_program(
        &broken,
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'Bitcoin Core daemon version v29.0.0' && exit\n\
         echo 'Error: the disk is on fire' >&2; exit 1\n",
    );
    let below = file.join("out");
    #[rustfmt::skip]
    let rows = [
        (&["run", SCENARIO, "--out", text(&file)][..], "cannot create the folder"),
        (&["run", SCENARIO, "--out", text(&below)], "cannot create the folder"),
        (&["demo", "--out", text(&file)], "cannot create the folder"),
        (&["conform", "--payee", "true", "--out", text(&file)], "cannot create the folder"),
        (&["run", "no-such-story"], "no scenario is named"),
        (&["list", "no-such-story"], "no scenario is named"),
        (&["run", SCENARIO, "--core", "/nonexistent"], "No such file"),
        (&["demo", "--core", "/nonexistent"], "No such file"),
        (&["conform", "--payee", "true", "--core", "/nonexistent"], "No such file"),
        (&["fixtures", "check", "--core", "/nonexistent"], "No such file"),
        (&["demo", "--core", text(&broken)], "the disk is on fire"),
        (&["run", SCENARIO, "--core", text(&broken)], "the disk is on fire"),
        (&["run", "--all", "--core", text(&broken)], "the disk is on fire"),
        (&["conform", "--payee", "true", "--core", text(&broken)], "the disk is on fire"),
        (&["fixtures", "check", "--core", text(&broken)], "the disk is on fire"),
        (&["fixtures", "write", text(&below)], "Not a directory"),
        (&["fixtures", "check", text(&below)], "no fixtures in"),
        (&["peer"], "SPILMAN_CASE"),
    ];
    for (arguments, words) in rows {
        let (code, out, err) = spilman(arguments);
        assert!(code == Some(1) || code == Some(2), "{arguments:?}: {out}{err}");
        let all = out + &err;
        assert_eq!(all.matches(words).count(), 1, "{arguments:?}: {words:?} in {all}");
    }
}
