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
        ],
    );
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
