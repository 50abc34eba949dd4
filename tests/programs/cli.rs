//! The command, as a user calls it.

mod out;
mod signals;

use spilman::regtest::find_bitcoind;

use crate::common::child::write_program;
use crate::spilman;

const SCENARIO: &str = "p2sh/example-7/session-end";

/// By the number that it says of itself, or by its path, here that of a script which writes down how it is called.
#[test]
fn a_scenario_is_played_on_the_core_that_is_asked_for() {
    let here = find_bitcoind().expect("a bitcoind");
    let folder = tempfile::tempdir().expect("a folder");
    let (script, calls) = (folder.path().join("core"), folder.path().join("calls"));
    let text = format!(
        "#!/bin/sh\necho \"$@\" >>'{}'\nexec '{}' \"$@\"\n",
        calls.display(),
        here.path.display()
    );
    write_program(&script, &text);

    let number = here.number().expect("Bitcoin Core says its number");
    for core in [number, script.to_str().expect("text")] {
        let (code, out, err) = spilman(&["run", SCENARIO, "--core", core]);
        assert_eq!(code, Some(0), "{out}{err}");
        let end = format!("1 passed, 0 failed, on {}\n", here.version);
        assert!(out.ends_with(&end), "{out:?} does not end with {end:?}");
    }
    let calls = std::fs::read_to_string(calls).expect("it was called");
    assert!(calls.contains("-regtest"), "no node was started with it: {calls}");
}

#[test]
fn a_core_that_is_not_there_is_named_before_anything_starts() {
    for command in [&["run", SCENARIO][..], &["demo"]] {
        for (core, words) in [
            ("/nonexistent/bitcoind", "/nonexistent/bitcoind does not start: "),
            ("9.5", "no bitcoind 9.5 found; tried: "),
        ] {
            let (code, out, err) = spilman(&[command, &["--core", core]].concat());
            assert_eq!(code, Some(1), "{out}{err}");
            assert!(err.contains(words), "{words:?} is not in {err:?}");
            assert_eq!(out, "", "nothing was played");
        }
    }
}

/// `doctor` shows where the programs of every version are.
#[test]
fn doctor_lists_every_bitcoind() {
    let (code, out, err) = spilman(&["doctor"]);
    assert_eq!(code, Some(0), "{out}{err}");
    for found in spilman::regtest::all_bitcoinds() {
        for part in [
            &found.version,
            &format!("{} ({})", found.path.display(), found.source),
        ] {
            assert!(out.contains(part), "{part:?} is not in {out}");
        }
    }
}

/// `taproot` is all on that construction, `p2wsh/bond` one protocol of one, `malleated` one story wherever it is told.
#[test]
fn scenarios_are_chosen_by_parts_of_their_names() {
    let all: Vec<_> = spilman::scenario::all();
    for (part, belongs) in [
        (
            "taproot",
            (|name| name.starts_with("taproot/")) as fn(&str) -> bool,
        ),
        ("p2wsh/bond", |name| name.starts_with("p2wsh/bond/")),
        ("malleated", |name| name.ends_with("/malleated")),
        ("example-7/pay*-gone-*", |name| {
            name.contains("/example-7/pay") && name.contains("-gone-")
        }),
    ] {
        let (code, out, err) = spilman(&["list", "--json", part]);
        assert_eq!(code, Some(0), "{out}{err}");
        for name in all.iter().map(spilman::scenario::Scenario::name) {
            let listed = out.contains(&format!("\"{name}\""));
            assert_eq!(listed, belongs(name), "`list {part}` and {name}");
        }
    }
    for command in ["list", "run"] {
        let (code, out, err) = spilman(&[command, "p2sh/session-end"]);
        assert_eq!(code, Some(2), "{out}{err}");
        let words = "no scenario is named 'p2sh/session-end'; did you mean p2sh/example-7/session-end, ";
        assert!(err.contains(words), "{words:?} is not in {err:?}");
        assert_eq!(out, "", "nothing was played");
    }
}

/// A reader sees at a glance on which constructions a protocol runs.
#[test]
fn the_list_begins_with_how_many_there_are() {
    let (code, out, err) = spilman(&["list"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let all = spilman::scenario::all();
    for construction in spilman::channel::Construction::ALL {
        let counts = spilman::channel::Protocol::ALL.map(|protocol| {
            let is_in = |s: &&spilman::scenario::Scenario| {
                s.construction() == construction && s.protocol() == protocol
            };
            match all.iter().filter(is_in).count() {
                0 => "–".to_owned(),
                count => count.to_string(),
            }
        });
        let row = [
            &[construction.name().to_owned()],
            &counts[..],
            &[construction.template().to_owned()],
        ]
        .concat();
        let found = out
            .lines()
            .find(|line| line.starts_with(&format!("{construction} ")));
        let found = found.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(found, Some(row), "the row of {construction}");
    }
}
