//! The payee in Python of `fixtures/examples` passes `spilman conform`, and each of its broken sisters fails where
//! and why it should.

use std::path::PathBuf;
use std::process::Command;

use bitcoin::hashes::{sha256, Hash};
use serde_json::Value;

use crate::conform::report;

/// A fault of `broken.py`, the cases of [`CASES`] in which it fails, and what is said of one of them.
#[rustfmt::skip]
const FAULTS: &[(&str, &[&str], &str)] = &[
    ("high-s", &["refuses-payment-high-s"], "payment-accepted"),
    ("falls", &["refuses-payment-falls", "refuses-payment-repeats"], "payment-accepted"),
    ("repeats", &["refuses-payment-repeats"], "payment-accepted"),
    ("exceeds", &["refuses-payment-exceeds"], "payment-accepted"),
    ("any-channel", &["refuses-payment-wrong-channel"], "payment-accepted"),
    ("any-refund", &["refuses-refund-no-lock", "refuses-refund-final-sequence"], "refund-signature"),
    ("any-funding", &["refuses-funding-less"], "last message: refund-signature"),
    ("any-settlement", &["refuses-settlement-less"], "closed"),
    ("settles-first", &["closed-by-payee", "never-closed", "refuses-settlement-less"], "and 100000 sat to"),
];

/// Faults in resuming: each in one case.
#[rustfmt::skip]
const FORGETFUL: &[(&str, &str, &str)] = &[
    ("early-ready", "resumes-after-lost-ready", "unexpected message ready while waiting for the funding transaction"),
    ("no-payment-again", "resumes-after-lost-payment", "refused our payment with unexpected-message"),
    ("no-payment-again", "resumes-older-payee", "refused our settlement with unexpected-message"),
    ("saves-no-payment", "resumes-after-lost-payment-accepted", "resumed with 0 sat"),
    ("no-settlement-again", "resumes-after-lost-settlement", "refused our settlement with unexpected-message"),
    ("forgets-settling", "resumes-after-lost-closed", "state 1"),
    ("believes-file", "resumes-reorganised", "state 1"),
    ("hides-payment", "resumes-older-payer", "resumed with 200000 sat"),
    ("any-proof", "resumes-after-refusing-strange-proof", "resumed"),
    ("any-proof", "resumes-after-refusing-replayed-proof", "resumed"),
    ("any-outpoint", "resumes-after-refusing-unknown-channel", "resumed"),
    ("any-sums", "resumes-after-refusing-acknowledged-unsigned", "resumed"),
    ("no-hello", "resumes-after-refusing-payment-before-resume", "refuse with signature-wrong"),
    ("no-hello", "resumes-after-refusing-resume-without-hello", "refuse with proof-wrong"),
    ("any-version", "resumes-after-refusing-no-common-version", "hello"),
    ("broadcasts-once", "settlement-dropped", "still running"),
    ("broadcasts-once", "funding-reorganised", "still running"),
];

/// What each fault of [`FAULTS`] is tried in; it passes all but those that are named there.
const CASES: &[&str] = &[
    "closed-by-payee",
    "never-closed",
    "refuses-payment-high-s",
    "refuses-payment-falls",
    "refuses-payment-repeats",
    "refuses-payment-exceeds",
    "refuses-payment-wrong-channel",
    "refuses-refund-no-lock",
    "refuses-refund-final-sequence",
    "refuses-funding-less",
    "refuses-settlement-less",
];

/// Faults that no case survives, or that only the deadline shows: each in one case alone.
#[rustfmt::skip]
const STOPPED: &[(&str, &str, &str)] = &[
    ("never-settles", "never-closed", "still running"),
    ("settles-late", "never-closed", "still running"),
    ("forgets", "never-closed", "still running"),
    ("hangs", "closed-by-payee", "no message; still running"),
    ("floods", "closed-by-payee", "one that our side must refuse with unexpected-message"),
    ("unconfirmed", "closed-by-payee", "ready before the last confirmation"),
    ("exits", "closed-by-payee", "exited with status 3"),
    ("rubbish", "closed-by-payee", "wrote text to standard output: \"Op"),
    ("long-frame", "closed-by-payee", "announced a message of 65535 bytes"),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/examples")
}

/// `SPILMAN_PYTHON`, else the one that `ci/provision` has put into the cache for just these requirements.
fn python() -> String {
    if let Ok(python) = std::env::var("SPILMAN_PYTHON") {
        return python;
    }
    let wanted = std::fs::read(folder().join("requirements.txt")).expect("it is in the repository");
    let name = format!(
        "example-python-{}",
        &sha256::Hash::hash(&wanted).to_string()[..12]
    );
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = set("SPILMAN_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("spilman")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/spilman")))
        .expect("SPILMAN_CACHE, XDG_CACHE_HOME or HOME is set");
    let python = cache.join(name).join("bin/python");
    assert!(
        python.exists(),
        "{} is missing: run `ci/provision --verifiers`, or name a Python with fixtures/examples/requirements.txt in SPILMAN_PYTHON",
        python.display()
    );
    python.display().to_string()
}

/// The case, and why it failed, if it did.
fn play(program: &str, filters: &[String], code: i32) -> Vec<(String, Option<String>)> {
    let command = format!("'{}' '{}'/{program}", python(), folder().display());
    let filters: Vec<_> = filters.iter().map(String::as_str).collect();
    let report = report(code, &[&["--payee", &command], &filters[..]].concat());
    let cases = report["cases"].as_array().expect("the cases played");
    cases.iter().map(verdict).collect()
}

fn verdict(case: &Value) -> (String, Option<String>) {
    let name = case["case"].as_str().expect("a name").to_owned();
    let seen = (case["verdict"] != "passed").then(|| case["seen"].as_str().unwrap_or_default().to_owned());
    (name, seen)
}

fn named(cases: &[&str]) -> Vec<String> {
    // As part of a name, `p2wsh/` is also the end of `p2sh-p2wsh/`.
    cases
        .iter()
        .map(|case| format!("p2wsh/example-7/{case}"))
        .collect()
}

fn is_played(name: &str) -> bool {
    name.starts_with("p2wsh/")
}

/// No case has such terms: a dust limit that is no whole number of satoshi is rounded up, as by a node.
#[test]
fn the_payee_rounds_a_dust_limit_up() {
    let code = "import payee
key, payouts = b'\\x02' + bytes(31) + b'\\x01', [b'\\0\\x14' + bytes(20), b'\\xa9\\x14' + bytes(20) + b'\\x87']
terms = payee.Terms(1, 1, payee.P2WSH, 10**6, 500, 751, 500, None, 36, 1, 0, key, payouts[0])
print(payee.Channel(terms, key, payouts[1]).dust)";
    let output = Command::new(python())
        .args(["-B", "-c", code])
        .current_dir(folder())
        .output()
        .expect("a Python");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[295, 541]\n", "{err}");
}

#[test]
fn the_payee_has_at_most_500_lines() {
    let text = std::fs::read_to_string(folder().join("payee.py")).expect("it is in the repository");
    assert!(
        text.lines().count() <= 500,
        "payee.py has {} lines",
        text.lines().count()
    );
}

#[test]
fn each_fault_is_seen_where_it_is_and_nowhere_else() {
    // Some at a time: each plays all cases, with a Python and a node for each.
    std::thread::scope(|scope| {
        for faults in FAULTS.chunks(3) {
            scope.spawn(|| faults.iter().for_each(fails_only_in_its_cases));
        }
    });
}

fn fails_only_in_its_cases((fault, cases, words): &(&str, &[&str], &str)) {
    let played = play(&format!("broken.py {fault}"), &named(CASES), 1);
    for (name, seen) in played.iter().filter(|(name, _)| is_played(name)) {
        let expected = cases.iter().any(|case| name.ends_with(&format!("/{case}")));
        assert_eq!(seen.is_some(), expected, "{fault}, {name}: {seen:?}");
        let seen = seen.as_deref().unwrap_or(words);
        assert!(seen.contains(words), "{fault}, {name}: {seen}, and no {words}");
    }
}

#[test]
fn each_program_that_stops_or_rambles_is_stopped() {
    std::thread::scope(|scope| {
        for row in STOPPED {
            scope.spawn(move || fails_in_its_case(row));
        }
    });
}

#[test]
fn each_fault_in_resuming_is_seen() {
    std::thread::scope(|scope| {
        for rows in FORGETFUL.chunks(5) {
            scope.spawn(|| rows.iter().for_each(fails_in_its_case));
        }
    });
}

fn fails_in_its_case((fault, case, words): &(&str, &str, &str)) {
    let played = play(&format!("broken.py {fault}"), &named(&[case]), 1);
    let found = played.iter().find(|(name, _)| is_played(name));
    let seen = found.and_then(|(_, seen)| seen.as_deref()).unwrap_or("nothing");
    assert!(seen.contains(words), "{fault}, {case}: {seen}, and no {words}");
}

/// A fault without a row here would be one that no test looks for.
#[test]
fn every_fault_has_its_row() {
    let output = Command::new(python())
        .arg(folder().join("broken.py"))
        .output()
        .expect("it is there");
    let listed = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut found: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let rows = FAULTS.iter().map(|row| row.0);
    let others = STOPPED.iter().chain(FORGETFUL).map(|row| row.0);
    let mut expected: Vec<&str> = rows.chain(others).collect();
    found.sort_unstable();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(found, expected);
}
