//! Programs that hang, flood, leave, and talk rubbish.

use super::{conform, peer, report};

/// What a bad program does in the case `closed-by-payer`, and what is said of it.
#[rustfmt::skip]
const BAD: &[(&str, &str, &str)] = &[
    ("exit 3", "opening", "exited with status 3"),
    ("exec yes", "opening", r#"wrote text to standard output: "y\ny\n"#),
    (
        "echo 'INFO listening on 127.0.0.1'; exec sleep 600",
        "opening",
        r#"wrote text to standard output: "INFO listening on 127.0.0.1\n" (write only frames there"#,
    ),
    (
        "exec python3 -c 'import sys; sys.stderr = sys.stdout; print(1 / 0)'",
        "opening",
        r#"wrote text to standard output: "Traceback (most recent call last):\n"#,
    ),
    // As a length, a line feed and a capital letter are short enough for a message.
    (r"printf '\n'; exec printf 'Bye'", "opening", r#"wrote text to standard output: "\nBye" "#),
    // A whole frame of text.
    (
        r#"exec python3 -c 'print("\n" + "a" * 3000)'"#,
        "opening",
        r#"wrote text to standard output: "\naaaa"#,
    ),
    (r"printf '\377\377'; exec sleep 600", "opening", "announced a message of 65535 bytes"),
    (r"printf '\000\003abc'; exec sleep 600", "opening", "sent 3 bytes that do not decode as a message"),
    (r"printf '\000\003ab'", "opening", "closed its output in the middle of a frame, after 2 of 3 bytes"),
    // 1 GB of empty frames, and 1 GB of a message in its wrong place.
    ("head -c 1000000000 /dev/zero; exec sleep 600", "opening", "sent 0 bytes that do not decode as a message"),
    (
        r#"exec python3 -c 'import os
while True: os.write(1, b"\x00\x03\x82\x06\x01" * 10000)'"#,
        "opening",
        "one that our side must refuse with unexpected-message",
    ),
    ("exec >&-; exec sleep 600", "opening", "closed its output, but is still running"),
    ("exec nonexistent-program", "opening", "exited with status 127"),
];

/// The next case is played as if nothing had been, and passed.
#[test]
fn a_bad_program_is_told_apart_and_the_next_case_is_played() {
    std::thread::scope(|scope| {
        for (bad, stage, words) in BAD {
            scope.spawn(move || {
                let command = format!(
                    "case $SPILMAN_CASE in *closed-by-payer*) echo evil >&2; {bad};; *) exec {};; esac",
                    peer()
                );
                let report = report(
                    1,
                    &["--payee", &command, "p2wsh/example-7/closed-*", "--jobs", "1"],
                );
                assert_eq!(
                    (&report["passed"], &report["failed"]),
                    (&1.into(), &1.into()),
                    "{report:#}"
                );
                let case = &report["cases"][0];
                let text = |field: &str| case[field].as_str().unwrap_or_default().to_owned();
                assert_eq!(text("verdict"), "failed", "{bad}");
                assert_eq!(text("stage"), *stage, "{bad}: {case:#}");
                assert!(
                    text("seen").contains(words),
                    "{bad}: {words:?} is not in {case:#}"
                );
                assert!(text("stderr").starts_with("evil\n"), "{bad}: {case:#}");
            });
        }
    });
}

/// A program that does not come along, whatever the reason, is given up at the deadline, which is named; and no more of
/// its standard error is kept than 64 KiB.
#[test]
fn a_program_that_hangs_is_given_up() {
    for hangs in [
        "exec sleep 600",
        "trap '' TERM INT HUP; sleep 600; sleep 600",
        "cat >/dev/null; exec sleep 600",
        "yes >&2",
    ] {
        let report = report(
            1,
            &[
                "--payee",
                hangs,
                "p2wsh/example-7/closed-by-pay*",
                "--deadline",
                "1",
            ],
        );
        assert_eq!(report["failed"], 2, "{report:#}");
        for case in report["cases"].as_array().expect("a list") {
            let seen = case["seen"].as_str().expect("a text");
            assert_eq!(case["expected"], "accept", "{hangs}");
            assert_eq!(
                seen, "no message; still running at the deadline, after 1 s",
                "{hangs}"
            );
            let kept = case["stderr"].as_str().expect("a text").len();
            assert!(kept <= 64 * 1024, "{hangs}: {kept} bytes");
            assert_eq!(
                kept == 64 * 1024,
                hangs.starts_with("yes"),
                "{hangs}: {kept} bytes"
            );
        }
    }
}

/// Of a frame that is begun, it is said how much there is.
#[test]
fn an_unfinished_frame_at_the_deadline_is_told() {
    for (begins, words) in [
        (
            r"printf '\000\003ab'",
            "left a frame unfinished after 2 of 3 bytes; ",
        ),
        (
            r"printf '\000'",
            "left a frame unfinished after 1 of the 2 bytes of the length; ",
        ),
        (
            r"printf '\nBye'",
            r#"left a frame unfinished after 2 of 2626 bytes; as text: "\nBye"; "#,
        ),
    ] {
        let command = format!("{begins}; exec sleep 600");
        let case = "p2wsh/example-7/closed-by-payer";
        let report = report(1, &["--payee", &command, case, "--deadline", "1"]);
        let seen = report["cases"][0]["seen"].as_str().expect("a text");
        let whole = format!("no message; {words}still running at the deadline, after 1 s");
        assert_eq!(seen, whole, "{begins}");
    }
}

/// An honest payee with one fault.
fn spoilt(fault: &str) -> String {
    let relay = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/conform/relay.py");
    format!("exec python3 '{relay}' {fault} \"{}\"", peer())
}

/// A lie has to be refused, for what is wrong with it, and with nothing after it; a payee has to settle in time, and to
/// say with what.
#[test]
fn an_otherwise_honest_payee_fails_for_its_one_fault() {
    let (lie, gone, closed) = (
        "p2wsh/example-7/refuses-payment-falls",
        "p2wsh/example-7/payer-vanishes-before-payment",
        "p2wsh/example-7/closed-by-payer",
    );
    #[rustfmt::skip]
    let rows = [
        ("other-reason", lie, "refusal", "refuse with paid-decreased", "refuse with malformed"),
        ("lavish", lie, "refusal", "refuse with paid-decreased", "payment-accepted"),
        ("silent", lie, "refusal", "refuse with paid-decreased", "last message: payment-accepted for 100000 sat in total; still running"),
        (
            "speaks-on",
            "p2wsh/example-7/refuses-open-lock-far",
            "end",
            "an exit with status 0",
            "sent payment-accepted after refuse, which must be its last message",
        ),
        ("curt", closed, "closing", "closed with ", "last message: payment-accepted for 300000 sat in total; still running"),
        ("other-closed", closed, "closing", "closed with ", "closed with "),
        (
            "careless",
            gone,
            "protection",
            "the payment of 100000 sat in the mempool",
            "last message: payment-accepted for 100000 sat in total; exited with status 0",
        ),
    ];
    for (fault, case, stage, expected, seen) in rows {
        // Only who says nothing has to be waited for.
        let deadline = if ["silent", "curt"].contains(&fault) {
            "5"
        } else {
            "20"
        };
        let report = report(1, &["--payee", &spoilt(fault), case, "--deadline", deadline]);
        let case = &report["cases"][0];
        assert_eq!(case["stage"], stage, "{fault}: {case:#}");
        let awaited = case["expected"].as_str().expect("a text");
        assert!(awaited.starts_with(expected), "{fault}: {case:#}");
        let found = case["seen"].as_str().expect("a text");
        // What else it did may be told, too.
        assert!(found.contains(seen), "{fault}: {seen:?} is not in {found:?}");
    }
}

/// It settles alone where it was told to close with one signature of both: a valid spend, but another one.
#[test]
fn another_settlement_than_the_agreed_one_is_told_apart() {
    let command = format!(
        "SPILMAN_CASE=$(printf %s \"$SPILMAN_CASE\" | sed s/.joint.:true/\\\"joint\\\":false/) exec {}",
        peer()
    );
    let report = report(1, &["--payee", &command, "taproot/example-7/closed-by-payee"]);
    let case = &report["cases"][0];
    assert_eq!(case["stage"], "closing", "{case:#}");
    let expected = "the settlement with one signature that pays 300000 sat at 500 sat/kwu in the mempool";
    assert_eq!(case["expected"], expected);
    let seen = case["seen"].as_str().expect("a text");
    assert!(seen.ends_with(" with version 3, expected 2"), "{seen}");
}

/// Only its own money is lost, but the rest of the coin belongs where the case says.
#[test]
fn a_payer_that_sends_the_change_elsewhere_fails() {
    let other = "0014aa3453a82eff52a61e040581d2192c1dabaa35ac";
    let command = format!(
        "SPILMAN_CASE=$(printf %s \"$SPILMAN_CASE\" | sed 's/\"payout\":\"[0-9a-f]*\"/\"payout\":\"{other}\"/') exec {}",
        peer()
    );
    let report = report(1, &["--payer", &command, "p2wsh/example-7/closed-by-payer"]);
    let case = &report["cases"][0];
    assert_eq!(case["stage"], "funding", "{case:#}");
    let seen = case["seen"].as_str().expect("a text");
    assert!(seen.contains(&format!(" sat to {other}")), "{seen}");
}

/// A payer that refuses what its payee says on a new connection, and for another reason.
#[test]
fn a_payer_that_refuses_for_another_reason_fails() {
    let refusing = "p2wsh/example-7/resumes-after-refusing-*";
    let report = report(1, &["--payer", &spoilt("other-reason"), refusing]);
    let cases = report["cases"].as_array().expect("a list");
    assert_eq!(cases.len(), 4);
    for case in cases {
        assert_eq!(case["stage"], "refusal", "{case:#}");
        assert_eq!(case["seen"], "refuse with malformed", "{case:#}");
    }
}

/// However many messages come, no more are read than any case has.
#[test]
fn a_flood_of_messages_ends_the_case() {
    let gone = "p2wsh/example-7/payer-vanishes-before-payment";
    let report = report(1, &["--payee", &spoilt("flooding"), gone]);
    // It may have settled by then; the flood is noticed all the same.
    let seen = report["cases"][0]["seen"].as_str().expect("a text");
    assert_eq!(seen, "sent more than 200 messages; last message: ready");
}

/// The report of a person names what the one for programs does.
#[test]
fn a_failure_is_explained() {
    let (code, out, err) = conform(&["--payee", "echo no >&2", "p2wsh/example-7/closed-by-payer"]);
    assert_eq!(code, Some(1), "{out}{err}");
    let words = "\
       program:   echo no >&2
       at stage:  opening
       expected:  accept
       seen:      no message; exited with status 0
       stderr:    no
       use --out DIR to keep the timeline and every transaction

good       0 of 1
0 passed, 1 failed, on ";
    assert!(
        out.starts_with("FAILED p2wsh/example-7/closed-by-payer "),
        "{out}"
    );
    assert!(out.contains(words), "{words:?} is not in {out:?}");
}
