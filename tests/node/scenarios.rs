//! Every scenario on a separate node, with what it leaves for review: the conversation and each raw transaction
//! as text, in `tests/snapshots/<construction>/<protocol>/`.
//!
//! Nothing is blanked out: two runs give the same bytes, or something is not deterministic.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::play::{pages, play};
use bitcoin::hashes::{sha256, Hash};
use spilman::channel::Protocol;
use spilman::regtest::NodeBuilder;
use spilman::scenario::{self, Play, Scenario, ScenarioError, World};
use spilman::transcript::{timeline, to_json, Transcript};

/// Plays a scenario and compares what it leaves with the snapshots. Where it leaves the transactions of another scenario, with
/// those of the other one.
fn review(name: &str) {
    let scenario = scenario::find(name).expect("a scenario");
    let mut transcript = play(name);
    let (folder, ending) = name.rsplit_once('/').expect("construction/protocol/story");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../snapshots/{folder}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        let text = format!("{}\n{}\n", timeline(&transcript), json_hash(&transcript));
        insta::assert_snapshot!(format!("{ending}__timeline"), text);
        let Some(other) = scenario.leaves_what() else {
            for (role, page) in pages(&transcript) {
                insta::assert_snapshot!(format!("{ending}__{role}"), page);
            }
            return;
        };
        transcript.scenario.clone_from(&other);
        let (_, other) = other.rsplit_once('/').expect("construction/protocol/story");
        for (role, page) in pages(&transcript) {
            let snapshot = format!("{other}__{role}");
            if role == "settlement" && scenario.construction().closes_with_one_key() {
                let expected = snapshots().join(folder).join(format!("{snapshot}.snap"));
                let expected = fs::read_to_string(expected).expect("the other scenario's settlement");
                assert_eq!(without_signature(&page), without_signature(&expected), "{name}");
            } else {
                insta::assert_snapshot!(snapshot, page);
            }
        }
    });
}

/// What two settlements with one signature have in common: each close takes fresh nonces.
fn without_signature(page: &str) -> Vec<&str> {
    let lines = page.lines().skip_while(|line| !line.starts_with("txid "));
    // The signature and the raw bytes are the only long lines.
    lines
        .filter(|line| !line.starts_with("wtxid ") && line.len() < 128)
        .collect()
}

/// A node's own words, each on a separate line, may differ between versions of Bitcoin Core; the rest may not.
fn json_hash(transcript: &Transcript) -> String {
    let json = format!("{:#}", to_json(transcript));
    let lines = json
        .lines()
        .filter(|line| !line.trim_start().starts_with(r#""words": "#));
    let hash = sha256::Hash::hash(lines.collect::<Vec<_>>().join("\n").as_bytes());
    format!("transcript.json, without the node's words: SHA-256 {hash}")
}

/// One test for each scenario, and the list of them: a story, and the constructions that it is told on. A hyphen in a name
/// is an underscore here.
macro_rules! scenarios {
    ($($protocol:ident { $($story:ident: $($construction:ident)+;)+ })+) => {
        const LISTED: &[[&str; 3]] = &[
            $($($([stringify!($construction), stringify!($protocol), stringify!($story)],)+)+)+
        ];
        $(mod $protocol {
            $(mod $story {
                $(#[test]
                fn $construction() {
                    use super::super::{name, review};
                    review(&name([stringify!($construction), stringify!($protocol), stringify!($story)]));
                })+
            })+
        })+
    };
}

fn name(path: [&str; 3]) -> String {
    path.join("/").replace('_', "-")
}

fn listed() -> BTreeSet<String> {
    LISTED.iter().copied().map(name).collect()
}

scenarios! {
    stepped_locktime {
        settled: p2sh p2sh_p2wsh p2wsh;
        payer_gone: p2sh p2sh_p2wsh p2wsh;
        payee_gone: p2sh p2sh_p2wsh p2wsh;
        late_payee: p2sh p2sh_p2wsh p2wsh;
        race_won_by_payee: p2sh p2sh_p2wsh p2wsh;
        ordinary_fees: p2sh p2sh_p2wsh p2wsh;
        payment_by_time: p2sh p2sh_p2wsh p2wsh;
        refund_by_time: p2sh p2sh_p2wsh p2wsh;
        payee_vanishes_before_accept: p2sh;
        payer_vanishes_before_refund_request: p2sh;
        payee_vanishes_before_refund_signature: p2sh;
        payer_vanishes_before_funding: p2sh;
        payee_vanishes_before_ready: p2sh;
        payer_vanishes_before_payment: p2sh;
        payee_vanishes_before_payment_accepted: p2sh p2sh_p2wsh p2wsh;
        payer_vanishes_before_settlement: p2sh;
        payee_vanishes_before_closed: p2sh;
        undisturbed: p2sh;
        payer_restarts_before_each_message: p2sh;
        payer_restarts_after_each_message: p2sh;
        payee_restarts_before_each_message: p2sh;
        payee_restarts_after_each_message: p2sh;
        payer_restarts_before_funding: p2sh;
        payer_restarts_around_refund: p2sh;
    }
    example_7 {
        session_end: p2sh p2sh_p2wsh p2wsh cltv csv;
        higher_feerate: p2sh p2sh_p2wsh p2wsh cltv csv taproot;
        near_expiry: p2sh p2sh_p2wsh p2wsh cltv csv taproot;
        refund_by_time: p2sh p2sh_p2wsh p2wsh cltv csv taproot;
        bad_refund_signature: p2sh p2sh_p2wsh p2wsh;
        payee_gone_before_t1: p2sh p2sh_p2wsh p2wsh;
        payee_sits_on_t1: p2sh p2sh_p2wsh p2wsh cltv csv taproot;
        payee_gone_after_t1: p2sh p2sh_p2wsh p2wsh cltv csv taproot;
        payee_gone_mid_session: p2sh p2sh_p2wsh p2wsh cltv csv taproot;
        payer_gone_mid_session: p2sh p2sh_p2wsh p2wsh cltv csv taproot;
        unused: p2sh p2sh_p2wsh p2wsh cltv csv;
        payee_vanishes_before_accept: p2sh cltv csv taproot;
        payer_vanishes_before_refund_request: p2sh;
        payee_vanishes_before_refund_signature: p2sh;
        payer_vanishes_before_funding: p2sh cltv csv taproot;
        payee_vanishes_before_ready: p2sh cltv csv taproot;
        payer_vanishes_before_payment: p2sh cltv csv taproot;
        payee_vanishes_before_payment_accepted: p2sh p2sh_p2wsh p2wsh cltv csv taproot;
        payer_vanishes_before_settlement: p2sh cltv csv;
        payee_vanishes_before_closed: p2sh cltv csv taproot;
        payee_gone_with_t1: cltv csv taproot;
        malleated: cltv csv taproot;
        lifetime_from_confirmation: csv;
        closed_together: taproot;
        payer_closes_together: taproot;
        unused_closed_together: taproot;
        payer_vanishes_before_close_request: taproot;
        payee_vanishes_before_close_request: taproot;
        payer_vanishes_before_joint_settlement: taproot;
        undisturbed: p2sh cltv csv taproot;
        payer_restarts_before_each_message: p2sh cltv csv taproot;
        payer_restarts_after_each_message: p2sh cltv csv taproot;
        payee_restarts_before_each_message: p2sh cltv csv taproot;
        payee_restarts_after_each_message: p2sh cltv csv taproot;
        payer_restarts_before_funding: p2sh cltv csv taproot;
        payer_restarts_around_refund: p2sh cltv csv taproot;
        payee_with_an_older_copy: taproot;
        payer_with_an_older_copy: taproot;
        two_payee_processes: taproot;
        payee_with_a_full_disk: taproot;
        payer_with_a_full_disk: taproot;
        reorganisation_while_down: csv taproot;
        payee_down_past_the_margin: csv taproot;
        payee_down_past_the_lock: csv taproot;
        payer_restarts_after_payers_close_request: taproot;
        payer_restarts_before_payees_close_request: taproot;
        payer_restarts_before_joint_settlement: taproot;
    }
    bond {
        two_days: p2sh p2sh_p2wsh p2wsh;
        before_the_lock: p2sh p2sh_p2wsh p2wsh;
        late_payee: p2sh p2sh_p2wsh p2wsh;
        median_time: p2sh p2sh_p2wsh p2wsh;
        malleated: p2sh p2sh_p2wsh p2wsh;
        malleated_segwit: p2sh p2sh_p2wsh p2wsh;
        refund_by_height: p2sh p2sh_p2wsh p2wsh;
        payee_vanishes_before_accept: p2sh;
        payer_vanishes_before_refund_request: p2sh;
        payee_vanishes_before_refund_signature: p2sh;
        payee_vanishes_before_funding_request: p2sh;
        payer_vanishes_before_funding: p2sh;
        payee_vanishes_before_ready: p2sh;
        payee_vanishes_before_payment_request: p2sh;
        payer_vanishes_before_payment: p2sh;
        payee_vanishes_before_payment_accepted: p2sh p2sh_p2wsh p2wsh;
        payer_vanishes_before_settlement: p2sh;
        payee_vanishes_before_closed: p2sh;
        undisturbed: p2sh;
        payer_restarts_before_each_message: p2sh;
        payer_restarts_after_each_message: p2sh;
        payee_restarts_before_each_message: p2sh;
        payee_restarts_after_each_message: p2sh;
        payer_restarts_before_funding: p2sh;
        payer_restarts_around_refund: p2sh;
    }
}

/// A scenario without a test here would be one that no one reviews.
#[test]
fn every_scenario_is_listed() {
    let listed = listed();
    let all = scenario::all()
        .iter()
        .map(|scenario| scenario.name().to_owned())
        .collect::<BTreeSet<_>>();
    let missing = all.difference(&listed).collect::<Vec<_>>();
    let surplus = listed.difference(&all).collect::<Vec<_>>();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "not listed: {missing:?}; no scenario: {surplus:?}"
    );
    assert_eq!(LISTED.len(), scenario::all().len(), "a name is listed twice");
}

/// The long story of each protocol, twice, to the byte.
#[test]
fn two_runs_leave_the_same_bytes() {
    for name in [
        "p2sh/stepped-locktime/settled",
        "p2sh/example-7/near-expiry",
        "p2sh/bond/two-days",
        "csv/example-7/lifetime-from-confirmation",
        "taproot/example-7/closed-together",
    ] {
        let (first, second) = (play(name), play(name));
        assert_eq!(timeline(&first), timeline(&second), "{name}");
        assert_eq!(to_json(&first), to_json(&second), "{name}");
        assert_eq!(pages(&first), pages(&second), "{name}");
    }
}

/// A failure leaves what had happened so far beside the node's own evidence.
#[test]
fn a_scenario_that_fails_leaves_its_transcript() {
    async fn fails(world: &mut World) -> Result<(), ScenarioError> {
        world.say("so far, so good");
        world.mine(1, &[]).await?;
        world.was_accepted("payment-1")
    }
    let story: Play = Box::new(|world| Box::pin(fails(world)));
    let scenario = Scenario::new(Protocol::Bond, "fails", "A failure", story);
    let failure = scenario
        .run(NodeBuilder::default())
        .expect_err("nothing was paid");
    let folder = failure.evidence().expect("the node was there");
    let said = failure.to_string();
    let last = said.lines().last().expect("a line");
    assert_eq!(last, format!("evidence: {}", folder.display()), "{said}");
    let of_node = fs::read_dir(folder).expect("a folder").next().expect("a node");
    let of_node = of_node.expect("readable").path();
    for (file, part) in [
        ("timeline.txt", "so far, so good"),
        ("transcript.json", "so far, so good"),
        ("debug.log", "UpdateTip"),
        ("tip.json", "\"blocks\": 102"),
    ] {
        let text = fs::read_to_string(of_node.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(part), "{file} has no `{part}`: {text}");
    }
    fs::remove_dir_all(folder).expect("it can be removed");
}

/// Every number of the documents, in the snapshot where a reader expects it.
#[test]
fn the_numbers_of_the_documents_are_in_the_snapshots() {
    for (file, numbers) in [
        ("p2sh/stepped-locktime/settled__timeline", &["capacity 1,000 sat", "100 sat (+100 sat) in total to the payee, 900 sat back"][..]),
        ("p2sh/stepped-locktime/settled__funding", &["1,000 sat"]),
        ("p2sh/stepped-locktime/settled__payment-1", &["  900 sat (", "  100 sat ("]),
        ("p2sh/stepped-locktime/settled__payment-2", &["  800 sat (", "  200 sat ("]),
        ("p2sh/example-7/session-end__timeline", &["capacity 10 BTC (1,000,000,000 sat)"]),
        ("p2sh/example-7/session-end__funding", &["1,000,000,000 sat (10.00000000 BTC)"]),
        (
            "p2sh/bond/two-days__timeline",
            &[
                "capacity 100 millidash (10,000,000 sat)",
                "1 millidash (100,000 sat) (+1 millidash) in total to the payee, 99 millidash (9,900,000 sat) back",
                "2 millidash (200,000 sat) (+1 millidash) in total to the payee, 98 millidash (9,800,000 sat) back",
                ", 24 hours ahead",
            ],
        ),
        ("p2sh/bond/two-days__funding", &["10,000,000 sat"]),
        ("p2sh/bond/two-days__payment-1", &["  100,000 sat ("]),
    ] {
        let text = fs::read_to_string(snapshots().join(format!("{file}.snap"))).unwrap_or_else(|error| panic!("{file}: {error}"));
        for number in numbers {
            assert!(text.contains(number), "{file} has no `{number}`");
        }
    }
}

/// Every snapshot belongs to a scenario that is listed, whichever tool runs the tests.
#[test]
fn no_snapshot_is_left_over() {
    let listed = listed();
    let folders = listed.iter().filter_map(|name| name.rsplit_once('/'));
    for folder in folders.map(|(folder, _)| folder).collect::<BTreeSet<_>>() {
        for file in fs::read_dir(snapshots().join(folder)).expect("a folder") {
            let file = file.expect("a file").path();
            let scenario = format!("{folder}/{}", story_of(&file));
            assert!(
                listed.contains(&scenario),
                "{} belongs to no scenario",
                file.display()
            );
        }
    }
}

fn story_of(snapshot: &Path) -> String {
    let name = snapshot.file_name().expect("a name").to_string_lossy();
    name.split("__").next().unwrap_or_default().to_owned()
}

fn snapshots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")
}
