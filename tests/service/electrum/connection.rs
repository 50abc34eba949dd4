//! When a connection is made anew, and when not yet.

use std::time::Duration;

use serde_json::json;
use spilman::service::{Backoff, Chain, ElectrumChain};

use super::server::{Reply, Server};
use super::{funding_output, history, told, view, DEADLINE};

/// Longer than any test.
const LONG: Backoff = Backoff {
    first: Duration::from_secs(3_600),
    most: Duration::from_secs(3_600),
    jitter: 0,
};

fn patient(server: &Server) -> ElectrumChain {
    ElectrumChain::new(&server.address).backoff(LONG)
}

fn hang_up_on(server: &Server, call: &'static str) {
    server.lie(move |_, asked, _| (asked == call).then_some(Reply::HangUp));
}

/// Every call answers at once, and makes no connection until the next attempt is due.
#[tokio::test]
async fn a_server_that_hangs_up_is_not_called_without_pause() {
    for call in [
        "server.version",
        "blockchain.headers.subscribe",
        "blockchain.block.headers",
    ] {
        let server = Server::start(history());
        hang_up_on(&server, call);
        let chain = patient(&server);
        let first = told(&chain.tip().await.expect_err("it hangs up"));
        assert!(
            first.contains("lost the connection to the electrum server"),
            "{call}: {first}"
        );
        let (tx, _) = super::funding_and_spend();
        for _ in 0..20 {
            let errors = [
                chain.tip().await.expect_err("no connection"),
                view(&chain, funding_output()).await.expect_err("no connection"),
                chain.broadcast(&tx).await.expect_err("no connection"),
            ];
            for error in errors {
                let told = told(&error);
                let expected = "it closed the connection; the next attempt is due in 3";
                assert!(told.contains(expected), "{call}: {told}");
            }
        }
        assert_eq!(server.asked("server.version"), 1, "{call}");
    }
}

/// It is news that a connection is lost, and no news that the next one is, too. A party reacts to news with a poll.
#[tokio::test]
async fn a_connection_that_fails_again_and_again_is_news_once() {
    let server = Server::start(history());
    let chain = super::watched(&server);
    let mut changes = chain.changes();
    chain.tip().await.expect("an honest server");
    hang_up_on(&server, "blockchain.headers.subscribe");
    server.cut();
    let news = tokio::time::timeout(DEADLINE, changes.changed()).await;
    news.expect("in time").expect("of the loss");
    changes.mark_unchanged();
    for looks in 1..=20 {
        chain.tip().await.expect_err("it hangs up");
        assert_eq!(
            server.asked("server.version"),
            1 + looks,
            "without a pause, each poll connects"
        );
    }
    // The last connection is forgotten only after the one before it has ended, news and all.
    assert!(
        !changes.has_changed().expect("the chain is there"),
        "a loss is news once"
    );

    server.lie(|_, _, _| None);
    chain.tip().await.expect("it is back");
    server.cut();
    let news = tokio::time::timeout(DEADLINE, changes.changed()).await;
    news.expect("in time").expect("of the next loss");
}

/// A poll of one channel that costs the connection, whatever the call, makes the next poll of this channel wait. The tip and
/// the other channels do not.
#[tokio::test]
async fn a_poll_that_costs_the_connection_waits_alone() {
    for call in [
        "blockchain.transaction.get",
        "blockchain.scripthash.subscribe",
        "blockchain.scripthash.listunspent",
        "blockchain.scripthash.get_history",
        "blockchain.transaction.get_merkle",
    ] {
        let server = Server::start(history());
        hang_up_on(&server, call);
        let chain = patient(&server);
        let first = told(&view(&chain, funding_output()).await.expect_err("it hangs up"));
        assert!(
            first.contains("lost the connection to the electrum server"),
            "{call}: {first}"
        );
        for _ in 0..20 {
            let resting = told(&view(&chain, funding_output()).await.expect_err("not yet"));
            let expected = format!("the last poll of {} lost the connection", funding_output());
            assert!(resting.contains(&expected), "{call}: {resting}");
            chain.tip().await.expect("the tip is answered");
            view(&chain, super::coin(5)).await.err();
        }
        // The first, one for the tip, and one after the unknown transaction, which is asked for as well.
        let most = if call == "blockchain.transaction.get" {
            3
        } else {
            2
        };
        assert_eq!(server.asked("server.version"), most, "{call}");
    }
}

/// A refusal or a contradiction is an answer; silence or nonsense ends the connection.
#[tokio::test]
async fn what_ends_a_connection() {
    type Case = (&'static str, &'static str, fn() -> Reply, bool);
    const HISTORY: &str = "blockchain.scripthash.get_history";
    const PROOF: &str = "blockchain.transaction.get_merkle";
    let cases: [Case; 5] = [
        ("a refusal", HISTORY, || Reply::Error(json!("busy")), false),
        (
            "a contradiction",
            PROOF,
            || Reply::Result(json!({ "merkle": [], "pos": 9 })),
            false,
        ),
        ("a refused proof", PROOF, || Reply::Error(json!("busy")), false),
        ("nonsense", HISTORY, || Reply::Result(json!(1)), true),
        ("silence", HISTORY, || Reply::Silence, true),
    ];
    for (case, lied, reply, ends) in cases {
        let server = Server::start(history());
        let chain = super::watched(&server);
        server.lie(move |_, call, _| (call == lied).then(reply));
        let timeout = if case == "silence" {
            Duration::from_millis(300)
        } else {
            DEADLINE
        };
        let hasty = chain.clone().timeout(timeout);
        view(&hasty, funding_output()).await.expect_err(case);
        server.lie(|_, _, _| None);
        view(&chain, funding_output()).await.expect("an honest server");
        assert_eq!(server.asked("server.version"), if ends { 2 } else { 1 }, "{case}");
    }
}
