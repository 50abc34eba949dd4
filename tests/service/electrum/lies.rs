//! Answers in the language of the protocol that are not true, one at a time.

use std::sync::atomic::{AtomicU32, Ordering};

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::CompactTarget;
use serde_json::{json, Value};

use super::server::{work, Reply, Server, World};
use super::{funding_output, history, told, view, watched};

struct Lie {
    name: &'static str,
    /// Without `blockchain.`.
    call: &'static str,
    answer: fn(&World, &str, &Value) -> Option<Reply>,
    /// A part of the error.
    found_out: &'static str,
}

/// Each lie is found out and said, and the server believed again when it is honest again.
async fn find_out(lies: &'static [Lie]) {
    for lie in lies {
        let server = Server::start(history());
        let chain = watched(&server);
        server.lie(|world, asked, params| {
            let is_meant = asked.strip_prefix("blockchain.") == Some(lie.call);
            is_meant.then(|| (lie.answer)(world, asked, params))?
        });
        let Lie { name, found_out, .. } = lie;
        let told = told(&view(&chain, funding_output()).await.expect_err(name));
        assert!(
            told.contains(found_out),
            "{name}: expected {found_out:?}, found {told:?}"
        );
        server.lie(|_, _, _| None);
        view(&chain, funding_output()).await.expect("honest again");
    }
}

/// The honest answer, changed.
fn changed(world: &World, call: &str, params: &Value, change: impl FnOnce(&mut Value)) -> Option<Reply> {
    let Reply::Result(mut answer) = world.honest(call, params) else {
        return None;
    };
    change(&mut answer);
    Some(Reply::Result(answer))
}

/// The world with other headers in it.
fn with_header(world: &World, height: usize, change: impl FnOnce(&mut Header)) -> World {
    let mut world = world.clone();
    change(&mut world.blocks[height].header);
    world
}

#[tokio::test]
async fn about_headers() {
    find_out(&[
        Lie {
            name: "a header that does not connect",
            call: "block.headers",
            answer: |world, call, params| {
                let other = with_header(world, 8, |header| {
                    header.time += 1;
                    work(header);
                });
                Some(other.honest(call, params))
            },
            found_out: "at height 9 follows",
        },
        Lie {
            name: "a header without the work that it claims",
            call: "block.headers",
            answer: |world, call, params| {
                let bits = CompactTarget::from_consensus(0x1d00_ffff);
                Some(with_header(world, 9, |header| header.bits = bits).honest(call, params))
            },
            found_out: "at height 9 does not have the work that it claims",
        },
        Lie {
            name: "a tip that is not on top of them",
            call: "headers.subscribe",
            answer: |world, call, params| {
                let other = with_header(world, 14, |header| header.nonce ^= 1 << 31);
                Some(other.honest(call, params))
            },
            found_out: "do not lead to its tip",
        },
        Lie {
            name: "a tip that never stands still",
            call: "headers.subscribe",
            answer: |world, call, params| {
                static ASKED: AtomicU32 = AtomicU32::new(0);
                let nonce = ASKED.fetch_add(1, Ordering::Relaxed);
                let other = with_header(world, 14, |header| header.nonce = nonce);
                Some(other.honest(call, params))
            },
            found_out: "the chain changed during each of 10 polls",
        },
        Lie {
            name: "a header less than asked for, each time",
            call: "block.headers",
            answer: |world, call, params| {
                let fewer = params[1].as_u64()? - 1;
                Some(world.honest(call, &json!([params[0], fewer])))
            },
            found_out: "expected 1 headers, got 0",
        },
        Lie {
            name: "a header more than asked for",
            call: "block.headers",
            answer: |world, call, params| {
                let more = params[1].as_u64()? + 1;
                Some(world.honest(call, &json!([0, more])))
            },
            found_out: "headers, got",
        },
        Lie {
            name: "a height that is a time",
            call: "headers.subscribe",
            answer: |world, call, params| {
                changed(world, call, params, |tip| tip["height"] = json!(500_000_000))
            },
            found_out: "invalid answer",
        },
        Lie {
            name: "a height below the first",
            call: "headers.subscribe",
            answer: |world, call, params| changed(world, call, params, |tip| tip["height"] = json!(-1)),
            found_out: "invalid answer",
        },
    ])
    .await;
}

#[tokio::test]
async fn about_transactions() {
    find_out(&[
        Lie {
            name: "the proof of another transaction",
            call: "transaction.get_merkle",
            answer: |world, call, _| {
                let other = world.blocks[12].txdata[1].compute_txid();
                Some(world.honest(call, &json!([other, 12])))
            },
            found_out: "does not lead to the merkle root of height 12",
        },
        Lie {
            name: "a place beside the tree",
            call: "transaction.get_merkle",
            answer: |world, call, params| {
                changed(world, call, params, |proof| {
                    proof["pos"] = json!(proof["pos"].as_u64().expect("a place") + 8);
                })
            },
            found_out: "does not lead to the merkle root of height 12",
        },
        Lie {
            name: "a tree without end",
            call: "transaction.get_merkle",
            answer: |world, call, params| {
                changed(world, call, params, |proof| {
                    proof["merkle"] = json!(vec![proof["merkle"][0].clone(); 100]);
                })
            },
            found_out: "does not lead to the merkle root of height 12",
        },
        Lie {
            name: "a block that does not have it",
            call: "scripthash.get_history",
            answer: |world, call, params| {
                changed(world, call, params, |history| history[0]["height"] = json!(11))
            },
            found_out: "missing txid in block",
        },
        Lie {
            name: "a block that is not there yet",
            call: "scripthash.get_history",
            answer: |world, call, params| {
                changed(world, call, params, |history| history[1]["height"] = json!(15))
            },
            found_out: "at height 15, above the tip at 14",
        },
        Lie {
            name: "another transaction than was asked for",
            call: "transaction.get",
            answer: |world, _, _| Some(Reply::Result(json!(serialize_hex(&world.blocks[12].txdata[1])))),
            found_out: "expected transaction",
        },
        Lie {
            name: "spent, by nothing",
            call: "scripthash.get_history",
            answer: |world, call, params| {
                changed(world, call, params, |history| {
                    history.as_array_mut().expect("entries").pop();
                })
            },
            found_out: "is spent, but no transaction spends it",
        },
    ])
    .await;
}

#[tokio::test]
async fn about_everything() {
    find_out(&[
        Lie {
            name: "half a transaction",
            call: "transaction.get",
            answer: |_, _, _| Some(Reply::Result(json!("0200"))),
            found_out: "invalid answer of the electrum server to blockchain.transaction.get",
        },
        Lie {
            name: "half a header",
            call: "block.headers",
            answer: |_, _, _| Some(Reply::Result(json!({ "hex": "020000000" }))),
            found_out: "invalid answer of the electrum server to blockchain.block.headers",
        },
        Lie {
            name: "letters that are no hex, and no single bytes",
            call: "block.headers",
            answer: |_, _, _| Some(Reply::Result(json!({ "hex": "ä".repeat(81) }))),
            found_out: "invalid answer of the electrum server to blockchain.block.headers",
        },
        Lie {
            name: "nothing",
            call: "scripthash.listunspent",
            answer: |_, _, _| Some(Reply::Result(Value::Null)),
            found_out: "invalid answer of the electrum server to blockchain.scripthash.listunspent",
        },
        Lie {
            name: "another kind of thing",
            call: "scripthash.get_history",
            answer: |_, _, _| Some(Reply::Result(json!({ "a": 1 }))),
            found_out: "invalid answer of the electrum server to blockchain.scripthash.get_history",
        },
        Lie {
            name: "an error",
            call: "transaction.get",
            answer: |_, _, _| {
                Some(Reply::Error(
                    json!({ "code": -32603, "message": "unavailable index" }),
                ))
            },
            found_out: "with error -32603: unavailable index",
        },
        Lie {
            name: "an error of another kind",
            call: "scripthash.get_history",
            answer: |_, _, _| Some(Reply::Error(json!("busy"))),
            found_out: "with error 0: busy",
        },
        Lie {
            name: "a very long error",
            call: "scripthash.get_history",
            answer: |_, _, _| {
                Some(Reply::Error(
                    json!({ "code": 1, "message": "history too large ".repeat(9_999) }),
                ))
            },
            found_out: "too …",
        },
    ])
    .await;
}
