//! Answers in the language of the protocol that are not true, one at a time.

use std::sync::atomic::{AtomicU32, Ordering};

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::CompactTarget;
use serde_json::{json, Value};

use super::server::{work, Reply, Server, World};
use super::{funding_output, history, told, view, watched};
use Lie::{AnotherHeader, Asked, Changed, Instead, Refused};

/// Something other than the honest answer.
enum Lie {
    /// The honest answer of a world with another header at this height.
    AnotherHeader(usize, fn(&mut Header)),
    /// The honest answer to other parameters.
    Asked(fn(&World, &Value) -> Value),
    /// The honest answer, changed.
    Changed(fn(&mut Value)),
    Instead(fn(&World) -> Value),
    Refused(fn() -> Value),
}

impl Lie {
    fn answer(&self, world: &World, call: &str, params: &Value) -> Reply {
        match self {
            AnotherHeader(height, change) => {
                let mut world = world.clone();
                change(&mut world.blocks[*height].header);
                world.honest(call, params)
            }
            Asked(other) => world.honest(call, &other(world, params)),
            Changed(change) => match world.honest(call, params) {
                Reply::Result(mut answer) => {
                    change(&mut answer);
                    Reply::Result(answer)
                }
                refused => refused,
            },
            Instead(answer) => Reply::Result(answer(world)),
            Refused(error) => Reply::Error(error()),
        }
    }
}

/// Its name, the call without `blockchain.`, the lie, and a part of the error.
type Row = (&'static str, &'static str, Lie, &'static str);

/// Each lie is found out and said, and the server believed again when it is honest again.
async fn find_out(rows: &'static [Row]) {
    for (name, call, lie, found_out) in rows {
        let server = Server::start(history());
        let chain = watched(&server);
        server.lie(|world, asked, params| {
            let is_meant = asked.strip_prefix("blockchain.") == Some(call);
            is_meant.then(|| lie.answer(world, asked, params))
        });
        let told = told(&view(&chain, funding_output()).await.expect_err(name));
        assert!(
            told.contains(found_out),
            "{name}: expected {found_out:?}, found {told:?}"
        );
        server.lie(|_, _, _| None);
        view(&chain, funding_output()).await.expect("honest again");
    }
}

const HEADERS: &str = "block.headers";
const TIP: &str = "headers.subscribe";
const HISTORY: &str = "scripthash.get_history";
const UNSPENT: &str = "scripthash.listunspent";
const MERKLE: &str = "transaction.get_merkle";
const TRANSACTION: &str = "transaction.get";

/// Another tip each time that it is asked for.
fn never_still(header: &mut Header) {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    header.nonce = ASKED.fetch_add(1, Ordering::Relaxed);
}

#[rustfmt::skip]
const ABOUT_HEADERS: &[Row] = &[
    ("a header that does not connect", HEADERS, AnotherHeader(8, |header| { header.time += 1; work(header); }), "at height 9 follows"),
    ("a header without the work that it claims", HEADERS, AnotherHeader(9, |header| header.bits = CompactTarget::from_consensus(0x1d00_ffff)), "at height 9 does not have the work that it claims"),
    ("a tip that is not on top of them", TIP, AnotherHeader(14, |header| header.nonce ^= 1 << 31), "do not lead to its tip"),
    ("a tip that never stands still", TIP, AnotherHeader(14, never_still), "the chain changed during each of 10 polls"),
    ("a header less than asked for, each time", HEADERS, Asked(|_, params| json!([params[0], params[1].as_u64().expect("a number") - 1])), "expected 1 headers, got 0"),
    ("a header more than asked for", HEADERS, Asked(|_, params| json!([0, params[1].as_u64().expect("a number") + 1])), "headers, got"),
    ("a height that is a time", TIP, Changed(|tip| tip["height"] = json!(500_000_000)), "invalid answer"),
    ("a height below the first", TIP, Changed(|tip| tip["height"] = json!(-1)), "invalid answer"),
];

#[rustfmt::skip]
const ABOUT_TRANSACTIONS: &[Row] = &[
    ("the proof of another transaction", MERKLE, Asked(|world, _| json!([world.blocks[12].txdata[1].compute_txid(), 12])), "does not lead to the merkle root of height 12"),
    ("a place beside the tree", MERKLE, Changed(|proof| proof["pos"] = json!(proof["pos"].as_u64().expect("a place") + 8)), "does not lead to the merkle root of height 12"),
    ("a tree without end", MERKLE, Changed(|proof| proof["merkle"] = json!(vec![proof["merkle"][0].clone(); 100])), "does not lead to the merkle root of height 12"),
    ("a block that does not have it", HISTORY, Changed(|history| history[0]["height"] = json!(11)), "missing txid in block"),
    ("a block that is not there yet", HISTORY, Changed(|history| history[1]["height"] = json!(15)), "at height 15, above the tip at 14"),
    ("another transaction than was asked for", TRANSACTION, Instead(|world| json!(serialize_hex(&world.blocks[12].txdata[1]))), "expected transaction"),
    ("spent, by nothing", HISTORY, Changed(|history| drop(history.as_array_mut().expect("entries").pop())), "is spent, but no transaction spends it"),
];

#[rustfmt::skip]
const ABOUT_EVERYTHING: &[Row] = &[
    ("half a transaction", TRANSACTION, Instead(|_| json!("0200")), "invalid answer of the electrum server to blockchain.transaction.get"),
    ("half a header", HEADERS, Instead(|_| json!({ "hex": "020000000" })), "invalid answer of the electrum server to blockchain.block.headers"),
    ("letters that are no hex, and no single bytes", HEADERS, Instead(|_| json!({ "hex": "ä".repeat(81) })), "invalid answer of the electrum server to blockchain.block.headers"),
    ("nothing", UNSPENT, Instead(|_| Value::Null), "invalid answer of the electrum server to blockchain.scripthash.listunspent"),
    ("another kind of thing", HISTORY, Instead(|_| json!({ "a": 1 })), "invalid answer of the electrum server to blockchain.scripthash.get_history"),
    ("an error", TRANSACTION, Refused(|| json!({ "code": -32603, "message": "unavailable index" })), "with error -32603: unavailable index"),
    ("an error of another kind", HISTORY, Refused(|| json!("busy")), "with error 0: busy"),
    ("a very long error", HISTORY, Refused(|| json!({ "code": 1, "message": "history too large ".repeat(9_999) })), "too …"),
];

#[tokio::test]
async fn about_headers() {
    find_out(ABOUT_HEADERS).await;
}

#[tokio::test]
async fn about_transactions() {
    find_out(ABOUT_TRANSACTIONS).await;
}

#[tokio::test]
async fn about_everything() {
    find_out(ABOUT_EVERYTHING).await;
}
