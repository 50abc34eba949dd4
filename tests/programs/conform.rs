//! `spilman conform`: the library's own side passes, and bad programs get the verdict that they deserve.

mod bad;
mod contract;
mod ends;

use serde_json::Value;

use crate::{spilman, Said, SPILMAN};

/// The library's own side as a program.
fn peer() -> String {
    format!("'{SPILMAN}' peer")
}

fn conform(arguments: &[&str]) -> Said {
    spilman(&[&["conform"], arguments].concat())
}

/// The JSON report of a run with this exit code.
pub fn report(code: i32, arguments: &[&str]) -> Value {
    let (found, out, err) = conform(&[arguments, &["--json"]].concat());
    assert_eq!(found, Some(code), "{out}{err}");
    serde_json::from_str(&out).expect("JSON and nothing else")
}

/// Every kind of case, on each construction and of each protocol at least one. `ci/test` plays all of them.
#[test]
fn our_own_payee_passes() {
    passes(
        "--payee",
        &[
            "p2wsh/example-7/*-vanishes-*",
            "p2wsh/example-7/killed-*",
            "p2wsh/example-7/refuses-payment-falls",
            "p2wsh/example-7/refuses-payment-too-long",
            "p2wsh/example-7/refuses-funding-too-long",
            "p2wsh/bond/closed-by-payee",
            "p2wsh/stepped-locktime/never-closed",
            "p2sh/example-7/higher-feerate",
            "p2sh-p2wsh/bond/closed-by-payer",
            "cltv/example-7/closed-by-payee",
            "csv/example-7/never-closed",
            "taproot/example-7/closed-*",
            "taproot/example-7/payer-vanishes-before-joint-settlement",
            "p2wsh/example-7/funding-reorganised",
            "p2wsh/example-7/settlement-dropped",
            "p2wsh/example-7/resumes-*",
            "taproot/example-7/resumes-after-lost-*",
            "csv/example-7/resumes-reorganised",
            "p2wsh/bond/resumes-after-lost-pay*",
        ],
    );
}

#[test]
fn our_own_payer_passes() {
    passes(
        "--payer",
        &[
            "p2wsh/example-7/funding-reorganised",
            "p2wsh/example-7/refund-dropped",
            "p2wsh/example-7/resumes-*",
            "taproot/example-7/resumes-after-lost-*",
            "p2wsh/stepped-locktime/resumes-after-lost-*",
        ],
    );
}

/// A case does not count if the program does not do what it is about, and the report says why.
#[test]
fn a_program_that_does_not_resume_is_told_apart() {
    let command = changed("\"state\":\"[^\"]*\"", "\"state\":null");
    for (side, why) in [
        ("--payee", "it refuses hello with unexpected-message"),
        ("--payer", "it begins with open, not with hello"),
    ] {
        let cases = [
            "p2wsh/example-7/resumes-older-*",
            "p2wsh/example-7/closed-by-payer",
        ];
        let report = report(0, &[&[side, command.as_str()], &cases[..]].concat());
        assert_eq!(
            (&report["passed"], &report["failed"]),
            (&1.into(), &0.into()),
            "{report:#}"
        );
        assert_eq!(report["groups"]["resuming"]["not_applicable"], 2, "{report:#}");
        assert_eq!(report["cases"][1]["verdict"], "not-applicable", "{report:#}");
        assert_eq!(report["cases"][1]["seen"], why, "{report:#}");
        let (_, out, _) = conform(&[&[side, command.as_str()], &cases[..]].concat());
        assert!(
            out.contains(why) && out.contains("1 passed, 0 failed, 2 not applicable, on "),
            "{out}"
        );
    }
}

/// A payer without a memory opens another channel, where it should resume.
#[test]
fn a_payer_that_forgets_fails_every_case() {
    let command = changed("\"state\":\"[^\"]*\"", "\"state\":\"'$(mktemp -d)'\"");
    let all = [
        "--payer",
        &command,
        "p2wsh/example-7/resumes-*",
        "--deadline",
        "3",
    ];
    let report = report(1, &all);
    assert_eq!(report["passed"], 0, "{report:#}");
    assert_eq!(report["cases"][0]["expected"], "resume", "{report:#}");
}

/// Our own side with another assignment than the one that it is given.
fn changed(pattern: &str, to: &str) -> String {
    format!(
        "SPILMAN_CASE=$(printf %s \"$SPILMAN_CASE\" | sed 's#{pattern}#{to}#') exec {}",
        peer()
    )
}

fn passes(side: &str, filters: &[&str]) {
    let (code, out, err) = conform(&[&[side, &peer()], filters].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    for filter in filters {
        let part = filter
            .trim_matches('*')
            .split('*')
            .next_back()
            .unwrap_or_default();
        assert!(out.contains(part), "{filter} chose nothing: {out}");
    }
    assert!(!out.contains("FAILED"), "{out}");
}
