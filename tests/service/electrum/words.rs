//! What servers say when they refuse a transaction.

use bitcoin::hashes::Hash;
use bitcoin::Txid;
use serde_json::json;
use spilman::service::{Chain, ElectrumChain};

use super::server::{Reply, Server, World};
use super::{funding_and_spend, told};

/// What servers answer to a broadcast: the node's own words where it refused, an error where it was not asked.
#[tokio::test]
async fn the_words_of_a_refusal() {
    let envelope =
        |words: &str| format!("the transaction was rejected by network rules.\n\n{words}\n[0200abcd]");
    let esplora = |code: i64, words: &str| {
        let error = json!({ "code": code, "message": words });
        json!(format!("sendrawtransaction RPC error: {error}"))
    };
    let coded = |code: i64, message: &str| json!({ "code": code, "message": message });
    let (tx, _) = funding_and_spend();
    let long = format!("mempool-script-verify-flag-failed (\"{}\")", "a".repeat(300));
    let cut = format!("{}…", &long[..300]);
    #[rustfmt::skip]
    let rows = [
        // electrs: the node's words, with a separate code for them.
        (coded(2, "non-final"), Ok(Some("non-final"))),
        (coded(2, "insufficient fee, rejecting replacement 00ff"), Ok(Some("insufficient fee, rejecting replacement 00ff"))),
        (coded(2, "txn-already-in-mempool"), Ok(None)),
        (coded(2, "txn-already-known"), Ok(None)),
        (coded(2, "Transaction already in block chain"), Ok(None)),
        // ElectrumX and Fulcrum.
        (coded(1, &envelope("bad-txns-inputs-missingorspent")), Ok(Some("bad-txns-inputs-missingorspent"))),
        (coded(1, &envelope("Transaction outputs already in utxo set")), Ok(None)),
        // The esplora family, whose error is just a string, and its later form, under any code.
        (esplora(-26, "non-final"), Ok(Some("non-final"))),
        (esplora(-26, "txn-already-in-mempool"), Ok(None)),
        (esplora(-26, &long), Ok(Some(cut.as_str()))),
        (esplora(-25, "bad-txns-inputs-missingorspent"), Ok(Some("bad-txns-inputs-missingorspent"))),
        (esplora(-27, "in whatever words"), Ok(None)),
        (coded(1, "sendrawtransaction RPC error: {\"code\":-26,\"message\":\"non-final\"}"), Ok(Some("non-final"))),
        (coded(2, "sendrawtransaction RPC error -26: min relay fee not met, 14 < 141"), Ok(Some("min relay fee not met, 14 < 141"))),
        (coded(2, "sendrawtransaction RPC error -27: in the chain"), Ok(None)),
        // Under a code that is no number, or none.
        (json!({ "code": "1", "message": envelope("non-final") }), Ok(Some("non-final"))),
        (json!({ "code": null, "message": envelope("non-final") }), Ok(Some("non-final"))),
        (json!({ "message": envelope("non-final") }), Ok(Some("non-final"))),
        // Nothing that the node has said of the transaction.
        (esplora(-28, "Verifying blocks…"), Err("with error 0: sendrawtransaction RPC error: {\"code\":-28")),
        (coded(2, "sendrawtransaction RPC error -28: Verifying blocks…"), Err("with error 2: sendrawtransaction RPC error -28")),
        (coded(1, "failed to broadcast transaction"), Err("with error 1: failed to broadcast transaction")),
        (coded(-32603, "unavailable index"), Err("with error -32603: unavailable index")),
    ];
    for (error, expected) in rows {
        let server = Server::start(World::new(0));
        let said = error.clone();
        server.lie(move |_, call, _| call.ends_with("broadcast").then(|| Reply::Error(said.clone())));
        let answer = ElectrumChain::new(&server.address).broadcast(&tx).await;
        match (answer, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), expected, "{error}"),
            (Err(found), Err(expected)) => assert!(told(&found).contains(expected), "{}", told(&found)),
            (found, expected) => panic!("{error}: expected {expected:?}, found {found:?}"),
        }
    }
    let server = Server::start(World::new(0));
    let chain = ElectrumChain::new(&server.address);
    assert_eq!(chain.broadcast(&tx).await.expect("an honest server"), None);
    server.lie(|_, call, _| {
        call.ends_with("broadcast")
            .then(|| Reply::Result(json!(Txid::all_zeros())))
    });
    let told = told(&chain.broadcast(&tx).await.expect_err("it took another"));
    assert!(told.contains("but says that it accepted 0000"), "{told}");
}
