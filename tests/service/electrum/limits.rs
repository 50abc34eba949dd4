//! What a server refuses because anyone can send to the script of a channel.

use bitcoin::{OutPoint, ScriptBuf, Transaction};
use serde_json::{json, Value};
use spilman::service::{Chain, ElectrumChain};

use super::server::{anyone, pay, script_hash, Reply, Server, World};
use super::{coin, funding_and_spend, height, outpoint, told, view};

const HISTORY: &str = "blockchain.scripthash.get_history";
const UNSPENT: &str = "blockchain.scripthash.listunspent";
const SUBSCRIBE: &str = "blockchain.scripthash.subscribe";
const TRANSACTION: &str = "blockchain.transaction.get";

/// The refusals of `ElectrumX`, of electrs with `--index-lookup-limit`, and of two of the esplora family.
fn refusals() -> [Value; 4] {
    [
        json!({ "code": 1, "message": "history too large" }),
        json!({ "code": 1, "message": ">100 index entries, query may take too long" }),
        json!("Too many unspent transaction outputs (>500). Contact support to raise limits."),
        json!("Too many history entries"),
    ]
}

fn refuse(server: &Server, calls: &'static [&'static str], refusal: Value) {
    server.lie(move |_, call, _| calls.contains(&call).then(|| Reply::Error(refusal.clone())));
}

/// The funding transaction in a block, then a block above it with two others to its script; its spend is at hand.
fn with_others() -> (Server, Transaction, Transaction) {
    let (funding, spend) = funding_and_spend();
    let mut world = World::new(11);
    world.mine(std::slice::from_ref(&funding));
    world.mine(&[pay(coin(1), &anyone(), 330), pay(coin(2), &anyone(), 330)]);
    (Server::start(world), funding, spend)
}

/// The list of unspent outputs says that the funding output is one of them, and in which block.
#[tokio::test]
async fn an_unspent_output_needs_no_history() {
    for refusal in refusals() {
        let (server, funding, _) = with_others();
        refuse(&server, &[HISTORY, SUBSCRIBE], refusal);
        let chain = ElectrumChain::new(&server.address);
        let view = view(&chain, outpoint(&funding))
            .await
            .expect("the unspent outputs");
        assert_eq!((view.confirmations, view.spend), (2, None));
        assert_eq!(
            view.funding_parent.map(|base| base.height.to_consensus_u32()),
            Some(11)
        );
        assert_eq!(server.asked(HISTORY), 0, "no call is made in vain");
    }
}

/// A history is whole or refused: if nothing in it spends the output, it is unspent.
#[tokio::test]
async fn a_history_needs_no_list_of_unspent_outputs() {
    for refusal in refusals() {
        let (server, funding, spend) = with_others();
        refuse(&server, &[UNSPENT, SUBSCRIBE], refusal);
        let chain = ElectrumChain::new(&server.address);
        let unspent = view(&chain, outpoint(&funding)).await.expect("the history");
        assert_eq!((unspent.confirmations, unspent.spend), (2, None));
        view(&chain, outpoint(&funding)).await.expect("again");
        assert_eq!(server.asked(TRANSACTION), 3, "each transaction is asked for once");

        server.change(|world| world.mempool.push(spend.clone()));
        let spent = view(&chain, outpoint(&funding)).await.expect("the history");
        assert_eq!(spent.spend.map(|seen| seen.tx), Some(spend));
    }
}

/// What the server lists and does not give may be the spend.
#[tokio::test]
async fn a_history_with_an_unknown_transaction_tells_nothing() {
    let (server, funding, spend) = with_others();
    server.change(|world| world.mempool.push(spend.clone()));
    let spend = spend.compute_txid();
    server.lie(move |_, call, params| match call {
        UNSPENT => Some(Reply::Error(json!("Too many unspent transaction outputs"))),
        TRANSACTION if params[0] == json!(spend) => Some(Reply::Error(json!("missing transaction"))),
        _ => None,
    });
    let chain = ElectrumChain::new(&server.address);
    let error = view(&chain, outpoint(&funding)).await.expect_err("not known");
    let expected = format!("{spend} is in a history, but the server does not know it");
    assert!(told(&error).contains(&expected), "{}", told(&error));
}

/// Without either list it is unknown whether the output is spent. The error says so, the tip and broadcasts go on, and so
/// does the connection.
#[tokio::test]
async fn without_both_the_view_is_an_error_and_the_rest_works() {
    for refusal in refusals() {
        let (server, funding, spend) = with_others();
        refuse(&server, &[HISTORY, UNSPENT, SUBSCRIBE], refusal.clone());
        let chain = ElectrumChain::new(&server.address);
        let error = told(&view(&chain, outpoint(&funding)).await.expect_err("it is unknown"));
        let funding = outpoint(&funding);
        let words = refusal["message"].as_str().or(refusal.as_str()).expect("words");
        for part in [
            format!("does not tell whether {funding} is spent"),
            "Use a server without this limit".to_owned(),
            format!("{UNSPENT} with error"),
            format!("{HISTORY} with error"),
            words.to_owned(),
        ] {
            assert!(error.contains(&part), "expected {part:?}, found {error:?}");
        }
        assert_eq!(height(&chain).await, 13);
        assert_eq!(chain.broadcast(&spend).await.expect("a verdict"), None);
        view(&chain, funding).await.expect_err("still");
        assert_eq!(server.asked("server.version"), 1, "the connection is the same");
        server.lie(|_, _, _| None);
        assert_eq!(view(&chain, funding).await.expect("served").confirmations, 2);
    }
}

/// As when no history is refused: it has neither confirmations nor a spend.
#[tokio::test]
async fn a_funding_transaction_that_is_no_more_is_not_spent() {
    let (server, funding, _) = with_others();
    let chain = ElectrumChain::new(&server.address);
    view(&chain, outpoint(&funding)).await.expect("it is in a block");
    server.change(|world| {
        world.blocks.truncate(12);
        (0..3).for_each(|_| world.mine(&[]));
    });
    // The words of the esplora family.
    server.lie(|world, call, params| match call {
        HISTORY | UNSPENT => Some(Reply::Error(json!("Too many history entries"))),
        TRANSACTION => {
            let known = matches!(world.honest(call, params), Reply::Result(_));
            (!known).then(|| Reply::Error(json!("missing transaction")))
        }
        _ => None,
    });
    let view = view(&chain, outpoint(&funding)).await.expect("it is unknown");
    assert_eq!((view.confirmations, view.spend), (0, None));
}

/// Fulcrum can be asked about an output. It says nothing of a spent one, so that is an error as elsewhere.
#[tokio::test]
async fn fulcrum_tells_of_an_output_without_its_script() {
    const UTXO: &str = "blockchain.utxo.get_info";
    let (server, funding, _) = with_others();
    let asked = outpoint(&funding);
    let serve = |answer: Value| {
        server.lie(move |_, call, params| match call {
            "server.version" => Some(Reply::Result(json!(["Fulcrum 2.0.0", "1.4"]))),
            HISTORY | UNSPENT => Some(Reply::Error(json!({ "code": 1, "message": "History too large" }))),
            UTXO if *params == json!([asked.txid, asked.vout]) => Some(Reply::Result(answer.clone())),
            _ => None,
        });
    };
    let chain = ElectrumChain::new(&server.address);
    serve(json!({ "confirmed_height": 12, "scripthash": "00", "value": 1_000 }));
    let unspent = view(&chain, asked).await.expect("unspent");
    assert_eq!((unspent.confirmations, unspent.spend), (2, None));
    serve(Value::Null);
    let error = told(&view(&chain, asked).await.expect_err("spent, or not"));
    assert!(error.contains("does not tell whether"), "{error}");
    // It is believed no more than any server: a block that does not have the transaction is found out.
    serve(json!({ "confirmed_height": 11 }));
    let error = told(&view(&chain, asked).await.expect_err("the wrong block"));
    assert!(error.contains("missing txid in block"), "{error}");
}

/// A server that refuses one script serves the others over the same connection, also at the same time.
#[tokio::test]
async fn an_error_about_one_script_does_not_end_the_polls_of_others() {
    let script = ScriptBuf::new_p2wsh(&ScriptBuf::from_bytes(vec![0x52]).wscript_hash());
    let (bad, good) = (pay(coin(0), &anyone(), 1_000), pay(coin(1), &script, 1_000));
    let mut world = World::new(11);
    world.mine(&[bad.clone(), good.clone()]);
    let server = Server::start(world);
    let hash = script_hash(&anyone());
    server.lie(move |_, call, params| {
        let is_refused = [HISTORY, UNSPENT].contains(&call) && params[0] == json!(hash);
        is_refused.then(|| Reply::Error(json!("Too many history entries")))
    });
    let chain = ElectrumChain::new(&server.address);
    let looks = |funding: OutPoint| {
        let chain = chain.clone();
        async move {
            let mut ends = Vec::new();
            for _ in 0..50 {
                ends.push(view(&chain, funding).await.is_ok());
            }
            ends
        }
    };
    let (ill, well) = tokio::join!(looks(outpoint(&bad)), looks(outpoint(&good)));
    assert_eq!((ill, well), (vec![false; 50], vec![true; 50]));
    assert_eq!(server.asked("server.version"), 1, "the connection is the same");
}
