//! What the program is told, what the report says, and how the command ends.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{json, Value};
use spilman::bitcoin::consensus::encode::deserialize_hex;
use spilman::bitcoin::Transaction;

use super::{conform, peer, report};
use crate::{said, SPILMAN};

const GOOD: &str = "p2wsh/example-7/closed-by-payer";

/// Every field is there, and no other.
#[test]
fn the_json_report_is_closed() {
    let command = format!(
        "case $SPILMAN_CASE in *{GOOD}*) exec {};; *) exit 4;; esac",
        peer()
    );
    let filter = [
        "p2wsh/example-7/closed-*",
        "p2wsh/bond/killed-after-payment-accepted",
    ];
    let report = report(1, &[&["--payee", command.as_str()], &filter[..]].concat());
    let keys = |value: &Value| {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(&report),
        [
            "cases",
            "command",
            "failed",
            "generator",
            "groups",
            "not_applicable",
            "passed",
            "role",
            "version"
        ]
    );
    assert_eq!(report["version"], 1);
    assert_eq!(
        (&report["role"], &report["command"]),
        (&json!("payee"), &json!(command))
    );
    let counts =
        |passed: u32, failed: u32| json!({ "passed": passed, "failed": failed, "not_applicable": 0 });
    assert_eq!(
        report["groups"],
        json!({ "good": counts(1, 1), "vanishing": counts(0, 1), "chain": counts(0, 0), "malicious": counts(0, 0), "resuming": counts(0, 0) })
    );
    assert_eq!((&report["passed"], &report["failed"]), (&json!(1), &json!(2)));
    let cases = report["cases"].as_array().expect("a list");
    for case in cases {
        assert_eq!(
            keys(case),
            [
                "case",
                "expected",
                "group",
                "seen",
                "stage",
                "stderr",
                "transactions",
                "verdict"
            ]
        );
    }
    let verdicts: Vec<_> = cases
        .iter()
        .map(|case| json!([case["case"], case["group"], case["verdict"], case["stage"]]))
        .collect();
    assert_eq!(
        verdicts,
        [
            json!([GOOD, "good", "passed", null]),
            json!(["p2wsh/example-7/closed-by-payee", "good", "failed", "opening"]),
            json!([
                "p2wsh/bond/killed-after-payment-accepted",
                "vanishing",
                "failed",
                "opening"
            ]),
        ]
    );
    let transactions = cases[0]["transactions"].as_array().expect("a list");
    let mut names = Vec::new();
    for tx in transactions {
        assert_eq!(keys(tx), ["by", "hex", "name", "txid"]);
        let decoded: Transaction = deserialize_hex(tx["hex"].as_str().expect("hex")).expect("a transaction");
        assert_eq!(tx["txid"], decoded.compute_txid().to_string());
        names.push((
            tx["name"].as_str().unwrap_or_default(),
            tx["by"].as_str().unwrap_or_default(),
        ));
    }
    assert_eq!(
        names,
        [("funding", "payer"), ("refund", "payer"), ("settlement", "payee")]
    );
}

/// `--out` leaves what `spilman run --out` does.
#[test]
fn every_transaction_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("text");
    let (code, text, err) = conform(&["--payer", &peer(), GOOD, "--out", out]);
    assert_eq!(code, Some(0), "{text}{err}");
    let mut files: Vec<_> = std::fs::read_dir(folder.path().join(GOOD))
        .expect("a folder for the case")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .filter(|name| Path::new(name).extension().is_none_or(|end| end != "txt"))
        // The settlement at the agreed feerate is the last payment, and has the name under which it was seen first.
        .map(|name| name.replace("05-settlement", "05-payment-4"))
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            ".spilman-files",
            "01-funding.hex",
            "02-payment-1.hex",
            "03-payment-2.hex",
            "04-payment-3.hex",
            "05-payment-4.hex",
            "transcript.json"
        ]
    );
}

#[test]
fn a_wrong_command_line_is_told_before_anything_starts() {
    for (arguments, words) in [
        (&["p2wsh"][..], "<--payee <COMMAND>|--payer <COMMAND>>"),
        (&["--payee", "x", "--payer", "y"], "cannot be used with"),
        (
            &["--payee", "x", "--construction", "p2pkh"],
            "[possible values: p2sh, p2sh-p2wsh, p2wsh, cltv, csv, taproot]",
        ),
        (&["--payee", "x", "--deadline", "0"], "0 is not in 1..=3600"),
        (
            &["--payee", "x", "closed-by-nobody"],
            "no case for a payee is named 'closed-by-nobody'",
        ),
        (
            &["--payer", "x", "--construction", "csv", "--protocol", "bond"],
            "match no case",
        ),
    ] {
        let (code, out, err) = conform(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {out}{err}");
        assert_eq!(out, "", "{arguments:?}");
        assert!(err.contains(words), "{words:?} is not in {err:?}");
    }
}

#[test]
fn help_says_where_to_learn_how() {
    let (code, out, err) = conform(&["--help"]);
    assert_eq!(code, Some(0), "{err}");
    for words in [
        "fixtures/WIRE.md",
        "SPILMAN_CASE",
        "spilman conform --payee 'python3 payee.py'",
    ] {
        assert!(out.contains(words), "{words:?} is not in {out}");
    }
}

/// What a program of this role is told in a real run.
fn told(role: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("told");
    let command = format!("printf %s \"$SPILMAN_CASE\" >'{}'", file.display());
    report(1, &[role, &command, GOOD]);
    let told = std::fs::read_to_string(file).expect("it was told something");
    serde_json::from_str(&told).expect("JSON")
}

/// The names in the table of `fixtures/WIRE.md` that comes after this text, as paths. In the rows of `below`, what is
/// marked in the explanation is a field of that field, but for `others`.
fn specified(after: &str, below: &str, others: &[&str]) -> Vec<String> {
    let (_, text) = include_str!("../../../fixtures/WIRE.md")
        .split_once(after)
        .expect("it is there");
    let rows = text.lines().skip_while(|line| !line.starts_with('|'));
    let marked = |cell: &str| -> Vec<String> {
        let between = cell.split('`').skip(1).step_by(2);
        between.map(str::to_owned).collect()
    };
    let mut names = Vec::new();
    for row in rows.skip(2).take_while(|line| line.starts_with('|')) {
        let (fields, meaning) = row[1..].split_once('|').expect("two cells");
        for field in marked(fields) {
            if below.split(' ').any(|parent| parent == field) {
                let of_it = marked(meaning).into_iter();
                names.extend(of_it.map(|inner| format!("{field}.{inner}")));
            }
            names.push(field);
        }
    }
    names.retain(|name| !others.contains(&name.as_str()));
    names.sort();
    names
}

/// Its fields and theirs, as paths.
fn fields(object: &Value, below: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (field, value) in object.as_object().expect("an object") {
        if below.split(' ').any(|parent| parent == field) {
            let value = value.get(0).unwrap_or(value);
            let of_it = value.as_object().expect("an object").keys();
            names.extend(of_it.map(|inner| format!("{field}.{inner}")));
        }
        names.push(field.clone());
    }
    names.sort();
    names
}

/// Every field that a program is told is in the specification, and the other way round; and so for the report.
#[test]
fn the_specification_has_every_field() {
    let below = "node limits terms coin";
    let named = specified(
        "holds one JSON object",
        below,
        &["limits.[least, most]", "coin.payout"],
    );
    assert_eq!(fields(&told("--payer"), below), named);

    let below = "generator cases";
    // Verdicts, and the fields of each transaction.
    let others = ["passed", "failed", "not-applicable", "name", "by", "txid", "hex"]
        .map(|name| format!("cases.{name}"));
    let others = others.each_ref().map(String::as_str);
    let report = report(1, &["--payee", "exit 1", GOOD]);
    assert_eq!(
        fields(&report, below),
        specified("`--json` prints one object", below, &others)
    );
}

/// What the library's own side says of an assignment.
fn peer_about(told: Option<&str>) -> (Option<i32>, String) {
    let mut peer = Command::new(SPILMAN);
    peer.arg("peer").stdin(Stdio::null()).env_remove("SPILMAN_CASE");
    if let Some(told) = told {
        peer.env("SPILMAN_CASE", told);
    }
    let (code, out, err) = said(&peer.output().expect("it starts"));
    assert_eq!(out, "");
    (code, err)
}

#[test]
fn a_program_without_a_case_says_what_is_missing() {
    let (code, err) = peer_about(None);
    assert_eq!(code, Some(1));
    assert!(err.contains("SPILMAN_CASE is not set"), "{err}");
    assert!(err.contains("fixtures/WIRE.md"), "{err}");

    let (payee, payer) = (told("--payee"), told("--payer"));
    let with = |told: &Value, pointer: &str, value: Value| {
        let mut told = told.clone();
        *told.pointer_mut(pointer).expect("it is there") = value;
        told.to_string()
    };
    let without = |told: &Value, field: &str| {
        let mut told = told.clone();
        told.as_object_mut()
            .expect("an object")
            .remove(field)
            .expect("it is there");
        told.to_string()
    };
    let mut unknown = payee.clone();
    unknown["colour"] = json!("red");
    #[rustfmt::skip]
    let rows = [
        (without(&payee, "payout"), "missing field `payout`"),
        (unknown.to_string(), "field `colour`: unknown field"),
        (with(&payee, "/limits/capacity", json!([1])), "field `limits.capacity"),
        (with(&payee, "/protocol", json!("example-8")), "field `protocol`: unknown protocol `example-8`"),
        (with(&payee, "/secret_key", json!("00")), "field `secret_key`"),
        (with(&payee, "/version", json!(2)), "has version 2, expected version 1"),
        (with(&payer, "/coin", Value::Null), "field `coin`: is null or missing"),
        (with(&payer, "/payments", Value::Null), "field `payments`: is null or missing"),
        (with(&payer, "/terms/capacity", json!(0)), "field `terms.capacity`"),
        (with(&payer, "/terms/expiry", json!("soon")), "field `terms.expiry`"),
        ("{".to_owned(), "SPILMAN_CASE, field `"),
    ];
    for (told, words) in rows {
        let (code, err) = peer_about(Some(&told));
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(words), "{words:?} is not in {err:?}");
    }
}
