//! Every scenario on a separate node, with what it leaves for review: the conversation and each raw transaction
//! as text, in `tests/snapshots/<construction>/<protocol>/`.
//!
//! Nothing is blanked out: two runs give the same bytes, or something is not deterministic.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::play::{pages, play};
use spilman::channel::Protocol;
use spilman::regtest::NodeBuilder;
use spilman::scenario::{self, Play, Scenario, ScenarioError, World};
use spilman::transcript::{timeline, to_json};

/// Plays a scenario and compares what it leaves with the snapshots.
fn review(name: &str) {
    let transcript = play(name);
    let (folder, ending) = name.rsplit_once('/').expect("construction/protocol/story");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../snapshots/{folder}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        insta::assert_snapshot!(format!("{ending}__timeline"), timeline(&transcript));
        for (role, page) in pages(&transcript) {
            insta::assert_snapshot!(format!("{ending}__{role}"), page);
        }
    });
}

/// One test for each scenario, and the list of them. A hyphen in a name is an underscore here.
macro_rules! scenarios {
    ($($($construction:ident)|+ => $protocols:tt)+) => {
        const LISTED: &[&[[&str; 3]]] = &[$($($construction::LISTED),+),+];
        $($(stories!($construction $protocols);)+)+
    };
}

macro_rules! stories {
    ($construction:ident { $($protocol:ident { $($story:ident)+ })+ }) => {
        mod $construction {
            pub const LISTED: &[[&str; 3]] = &[
                $($([stringify!($construction), stringify!($protocol), stringify!($story)]),+),+
            ];
            $(mod $protocol {
                $(#[test]
                fn $story() {
                    let path = [stringify!($construction), stringify!($protocol), stringify!($story)];
                    super::super::review(&super::super::name(path));
                })+
            })+
        }
    };
}

fn name(path: [&str; 3]) -> String {
    path.join("/").replace('_', "-")
}

fn listed() -> BTreeSet<String> {
    LISTED.iter().copied().flatten().copied().map(name).collect()
}

scenarios! {
    p2sh => {
        stepped_locktime {
            settled
            payer_gone
            payee_gone
            late_payee
            race_won_by_payee
            ordinary_fees
            payment_by_time
            refund_by_time
            payee_vanishes_before_accept
            payer_vanishes_before_refund_request
            payee_vanishes_before_refund_signature
            payer_vanishes_before_funding
            payee_vanishes_before_ready
            payer_vanishes_before_payment
            payee_vanishes_before_payment_accepted
            payer_vanishes_before_settlement
            payee_vanishes_before_closed
        }
        example_7 {
            session_end
            higher_feerate
            near_expiry
            refund_by_time
            bad_refund_signature
            payee_gone_before_t1
            payee_sits_on_t1
            payee_gone_after_t1
            payee_gone_mid_session
            payer_gone_mid_session
            unused
            payee_vanishes_before_accept
            payer_vanishes_before_refund_request
            payee_vanishes_before_refund_signature
            payer_vanishes_before_funding
            payee_vanishes_before_ready
            payer_vanishes_before_payment
            payee_vanishes_before_payment_accepted
            payer_vanishes_before_settlement
            payee_vanishes_before_closed
        }
        bond {
            two_days
            before_the_lock
            late_payee
            median_time
            malleated
            malleated_segwit
            refund_by_height
            payee_vanishes_before_accept
            payer_vanishes_before_refund_request
            payee_vanishes_before_refund_signature
            payee_vanishes_before_funding_request
            payer_vanishes_before_funding
            payee_vanishes_before_ready
            payee_vanishes_before_payment_request
            payer_vanishes_before_payment
            payee_vanishes_before_payment_accepted
            payer_vanishes_before_settlement
            payee_vanishes_before_closed
        }
    }
    p2sh_p2wsh | p2wsh => {
        stepped_locktime {
            settled
            payer_gone
            payee_gone
            late_payee
            race_won_by_payee
            ordinary_fees
            payment_by_time
            refund_by_time
            payee_vanishes_before_payment_accepted
        }
        example_7 {
            session_end
            higher_feerate
            near_expiry
            refund_by_time
            bad_refund_signature
            payee_gone_before_t1
            payee_sits_on_t1
            payee_gone_after_t1
            payee_gone_mid_session
            payer_gone_mid_session
            unused
            payee_vanishes_before_payment_accepted
        }
        bond {
            two_days
            before_the_lock
            late_payee
            median_time
            malleated
            malleated_segwit
            refund_by_height
            payee_vanishes_before_payment_accepted
        }
    }
    cltv => {
        example_7 {
            session_end
            higher_feerate
            near_expiry
            refund_by_time
            payee_gone_with_t1
            payee_sits_on_t1
            payee_gone_after_t1
            payee_gone_mid_session
            payer_gone_mid_session
            unused
            malleated
            payee_vanishes_before_accept
            payer_vanishes_before_funding
            payee_vanishes_before_ready
            payer_vanishes_before_payment
            payee_vanishes_before_payment_accepted
            payer_vanishes_before_settlement
            payee_vanishes_before_closed
        }
    }
    csv => {
        example_7 {
            session_end
            higher_feerate
            near_expiry
            refund_by_time
            lifetime_from_confirmation
            payee_gone_with_t1
            payee_sits_on_t1
            payee_gone_after_t1
            payee_gone_mid_session
            payer_gone_mid_session
            unused
            malleated
            payee_vanishes_before_accept
            payer_vanishes_before_funding
            payee_vanishes_before_ready
            payer_vanishes_before_payment
            payee_vanishes_before_payment_accepted
            payer_vanishes_before_settlement
            payee_vanishes_before_closed
        }
    }
    taproot => {
        example_7 {
            closed_together
            payer_closes_together
            higher_feerate
            near_expiry
            refund_by_time
            payee_gone_with_t1
            payee_sits_on_t1
            payee_gone_after_t1
            payee_gone_mid_session
            payer_gone_mid_session
            unused_closed_together
            malleated
            payee_vanishes_before_accept
            payer_vanishes_before_funding
            payee_vanishes_before_ready
            payer_vanishes_before_payment
            payee_vanishes_before_payment_accepted
            payer_vanishes_before_close_request
            payee_vanishes_before_close_request
            payer_vanishes_before_joint_settlement
            payee_vanishes_before_closed
        }
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
    let names = LISTED.iter().copied().flatten().count();
    assert_eq!(names, scenario::all().len(), "a name is listed twice");
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
        world.was_taken("payment-1")
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
