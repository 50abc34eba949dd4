use bitcoin::hex::DisplayHex;
use serde_json::{json, Map, Value};

use super::case::{Case, Group};
use super::runner::{CaseResult, Verdict};
use crate::transcript::{RecordedTx, Side};

/// Returns the report of a run as one closed JSON object.
///
/// - `version`: 1; `generator`: name and version of this crate; `role` and `command` of the program;
/// - `groups`: for `good`, `vanishing`, `chain`, `malicious` and `resuming`, how many `passed`, `failed` and are `not_applicable`;
/// - `passed`, `failed`, `not_applicable`: the sums;
/// - `cases`, in the order of the list: `case` (its name), `group`, `verdict` (`passed`, `failed` or `not-applicable`);
///   `stage`, `expected` and `seen` of a case that failed, `seen` of one that is not applicable, else null; `stderr`, the end
///   of the program's standard error; `transactions` of both sides, each with `name`, `by`, `txid` and `hex`, in the order in
///   which they were made.
#[must_use]
pub fn to_json(command: &str, program: Side, played: &[(&Case, CaseResult)]) -> Value {
    let count = |group: Option<Group>, wanted: Verdict| {
        let of_group = played
            .iter()
            .filter(|(case, _)| group.is_none_or(|group| case.group == group));
        of_group.filter(|(_, played)| played.outcome() == wanted).count()
    };
    let groups: Map<_, _> = Group::ALL
        .into_iter()
        .map(|group| {
            let counts = json!({
                "passed": count(Some(group), Verdict::Passed),
                "failed": count(Some(group), Verdict::Failed),
                "not_applicable": count(Some(group), Verdict::NotApplicable),
            });
            (group.name().to_owned(), counts)
        })
        .collect();
    json!({
        "version": 1,
        "generator": { "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") },
        "role": program.to_string(),
        "command": command,
        "groups": groups,
        "passed": count(None, Verdict::Passed),
        "failed": count(None, Verdict::Failed),
        "not_applicable": count(None, Verdict::NotApplicable),
        "cases": played.iter().map(|(case, played)| entry(case, played)).collect::<Vec<_>>(),
    })
}

fn entry(case: &Case, played: &CaseResult) -> Value {
    let failure = played.verdict.as_ref().err();
    json!({
        "case": case.name,
        "group": case.group.name(),
        "verdict": played.outcome().name(),
        "stage": failure.map(|failure| failure.stage),
        "expected": failure.map(|failure| &failure.expected),
        "seen": failure.map(|failure| &failure.seen).or(played.not_applicable.as_ref()),
        "stderr": played.stderr,
        "transactions": played.transcript.transactions.iter().map(transaction).collect::<Vec<_>>(),
    })
}

fn transaction(tx: &RecordedTx) -> Value {
    let decoded = bitcoin::consensus::deserialize::<bitcoin::Transaction>(&tx.raw).ok();
    json!({
        "name": tx.name,
        "by": tx.by.name(),
        "txid": decoded.map(|tx| tx.compute_txid().to_string()),
        "hex": tx.raw.to_lower_hex_string(),
    })
}
