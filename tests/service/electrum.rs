//! The chain through an electrum server that a test controls: what is believed, what is not, and what it may cost.

mod connection;
mod lies;
mod limits;
mod parties;
mod server;
mod words;
mod work;

use std::error::Error;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid, Witness};
use serde_json::{json, Value};
use server::{anyone, pay, Reply, Server, World};
use spilman::channel::ChainView;
use spilman::service::{Backoff, Chain, ChainError, ElectrumChain};

/// For what happens at once; only for a machine that is busy with something else.
const DEADLINE: Duration = Duration::from_secs(60);

fn coin(number: u32) -> OutPoint {
    OutPoint::new(Txid::from_byte_array([7; 32]), number)
}

/// A funding transaction, and one that spends its output.
fn funding_and_spend() -> (Transaction, Transaction) {
    let funding = pay(coin(0), &anyone(), 1_000);
    let spend = pay(outpoint(&funding), &ScriptBuf::new(), 900);
    (funding, spend)
}

fn outpoint(tx: &Transaction) -> OutPoint {
    OutPoint::new(tx.compute_txid(), 0)
}

fn funding_output() -> OutPoint {
    outpoint(&funding_and_spend().0)
}

/// Height 14: the funding transaction at 12, among others, its spend at 14.
fn history() -> World {
    let (funding, spend) = funding_and_spend();
    let other = |number| pay(coin(number), &ScriptBuf::new(), 1);
    let mut world = World::new(11);
    world.mine(&[other(1), funding, other(2), other(3)]);
    world.mine(&[]);
    world.mine(&[other(4), spend]);
    world
}

/// No pause between attempts to connect.
const AT_ONCE: Backoff = Backoff {
    first: Duration::ZERO,
    most: Duration::ZERO,
    jitter: 0,
};

/// The chain through a server that a test may break and mend.
fn watched(server: &Server) -> ElectrumChain {
    ElectrumChain::new(&server.address).backoff(AT_ONCE)
}

fn told(error: &ChainError) -> String {
    let source = error.source().expect("every chain error has a source");
    format!("{error}: {source}")
}

/// The height of the tip, which has to be seen.
async fn height(chain: &ElectrumChain) -> u32 {
    chain.tip().await.expect("a tip").height.to_consensus_u32()
}

async fn view(chain: &ElectrumChain, funding: OutPoint) -> Result<ChainView, ChainError> {
    let looked = tokio::time::timeout(DEADLINE, chain.view(funding.into())).await;
    looked.expect("a poll ends on its own")
}

/// What happens to the funding transaction and its spend.
type Change = fn(&mut World, &Transaction, &Transaction);

/// 1. No one knows the funding transaction: no confirmations, no spend.
/// 2. It is in the mempool, then in a block, then with two confirmations.
/// 3. Its spend is in the mempool, then in a block.
/// 4. Another branch has neither.
#[tokio::test]
async fn what_becomes_of_a_funding_output() {
    let (funding, spend) = funding_and_spend();
    let server = Server::start(World::new(20));
    let chain = ElectrumChain::new(&server.address);
    #[rustfmt::skip]
    let steps: [(&str, Change, u32, Option<u32>); 7] = [
        ("unknown", |_, _, _| (), 0, None),
        ("in the mempool", |world, funding, _| world.mempool.push(funding.clone()), 0, None),
        ("in a block", |world, funding, _| world.mine(std::slice::from_ref(funding)), 1, None),
        ("in a block below another", |world, _, _| world.mine(&[]), 2, None),
        ("spent in the mempool", |world, _, spend| world.mempool.push(spend.clone()), 2, Some(0)),
        ("spent in a block", |world, _, spend| world.mine(std::slice::from_ref(spend)), 3, Some(1)),
        ("on another branch", |world, _, _| { world.blocks.truncate(18); (0..6).for_each(|_| world.mine(&[])); }, 0, None),
    ];
    for (step, change, confirmations, spent) in steps {
        server.change(|world| change(world, &funding, &spend));
        let view = view(&chain, outpoint(&funding)).await.expect("an honest server");
        let found = view.spend.as_ref().map(|spend| spend.confirmations);
        assert_eq!((view.confirmations, found), (confirmations, spent), "{step}");
        assert_eq!(
            view.spend.map(|seen| seen.tx),
            spent.map(|_| spend.clone()),
            "{step}"
        );
        let height = server.world.lock().expect("whole").height();
        assert_eq!(view.tip.height.to_consensus_u32(), height, "{step}");
        // Blocks are ten minutes apart, so the median of eleven is that of the sixth from the end.
        let mtp = 1_700_000_000 + 600 * (height - 5);
        assert_eq!(view.tip.mtp.to_consensus_u32(), mtp, "{step}");
    }
}

/// A chain of fewer than eleven blocks has a median, too.
#[tokio::test]
async fn the_first_blocks() {
    for (height, mtp) in [(0, 0), (1, 600), (2, 600), (3, 1_200)] {
        let server = Server::start(World::new(height));
        let tip = ElectrumChain::new(&server.address)
            .tip()
            .await
            .expect("an honest server");
        let found = (tip.height.to_consensus_u32(), tip.mtp.to_consensus_u32());
        assert_eq!(found, (height, 1_700_000_000 + mtp));
    }
}

/// Ten thousands of payments to the channel's script make its history long, and the poll no longer: the
/// spend is found with the first transactions that are asked for.
#[tokio::test]
async fn a_long_history_costs_nothing() {
    const MANY: u32 = 20_000;
    let (funding, spend) = funding_and_spend();
    let mut world = World::new(2);
    world.mine(std::slice::from_ref(&funding));
    world.mine(std::slice::from_ref(&spend));
    let server = Server::start(world);
    let dust: Vec<_> = (0..MANY)
        .map(|number| Txid::hash(&number.to_le_bytes()))
        .collect();
    server.lie(move |world, call, params| {
        let Reply::Result(Value::Array(mut entries)) = world.honest(call, params) else {
            return None;
        };
        let more = dust.iter();
        match call {
            "blockchain.scripthash.get_history" => {
                entries.extend(more.map(|txid| json!({ "tx_hash": txid, "height": 4 })));
            }
            "blockchain.scripthash.listunspent" => {
                entries.extend(
                    more.map(|txid| json!({ "tx_hash": txid, "tx_pos": 0, "height": 4, "value": 330 })),
                );
            }
            _ => return None,
        }
        Some(Reply::Result(Value::Array(entries)))
    });
    let chain = ElectrumChain::new(&server.address);
    let seen = view(&chain, outpoint(&funding)).await.expect("a view").spend;
    assert_eq!(seen.map(|seen| seen.tx), Some(spend));
    assert_eq!(
        server.asked("blockchain.transaction.get"),
        2,
        "the funding transaction and its spend"
    );
}

/// A spend that the script does not allow is none, wherever the server says that it is.
#[tokio::test]
async fn no_one_spends_without_satisfying_the_script() {
    let (funding, spend) = funding_and_spend();
    let mut forged = spend;
    forged.input[0].witness = Witness::from_slice(&[[0x00]]);
    let mut world = World::new(11);
    world.mine(std::slice::from_ref(&funding));
    world.mempool.push(forged);
    let server = Server::start(world);
    let error = view(&ElectrumChain::new(&server.address), outpoint(&funding)).await;
    let told = told(&error.expect_err("forged"));
    assert!(told.contains("has an invalid input"), "{told}");
}

/// A server that says what is no answer, too much, or nothing at all costs a bounded time and a bounded memory, and the
/// next connection serves again.
#[tokio::test]
async fn servers_that_do_not_speak_the_protocol() {
    type Case = (&'static str, fn() -> Reply, &'static str);
    #[rustfmt::skip]
    let cases: &[Case] = &[
        ("silence", || Reply::Silence, "did not answer within 300ms"),
        ("the end", || Reply::HangUp, "lost the connection"),
        ("no JSON", || Reply::Raw(b"HTTP/1.1 400 Bad Request\n".to_vec()), "which is not an answer"),
        ("no text", || Reply::Raw(vec![0xff, 0xfe, b'\n']), "lost the connection"),
        ("deep JSON", || Reply::Raw([vec![b'['; 100_000], vec![b'\n']].concat()), "which is not an answer"),
        ("an answer to no request", || Reply::Raw(b"{\"id\":null,\"result\":1}\n".to_vec()), "which answers no request"),
        ("an answer to another question", || Reply::Raw(b"{\"id\":99,\"result\":1}\n".to_vec()), "which was never sent"),
        ("half a line", || Reply::Raw(b"{\"id\":1,".to_vec()), "did not answer within 300ms"),
        ("a line without end", || Reply::Flood(vec![b'a'; 1 << 20]), "longer than 33554432 bytes"),
        ("news without end", || Reply::Flood(b"{\"method\":\"a\",\"params\":[]}\n".to_vec()), "did not answer"),
    ];
    for (case, reply, expected) in cases {
        for call in ["server.version", "blockchain.scripthash.get_history"] {
            let (server, funding) = (Server::start(history()), funding_output());
            // Only who is silent is waited for in vain.
            let timeout = if expected.contains("did not answer") {
                Duration::from_millis(300)
            } else {
                DEADLINE
            };
            let chain = watched(&server).timeout(timeout);
            let reply = *reply;
            server.lie(move |_, asked, _| (asked == call).then(reply));
            let told = told(&view(&chain, funding).await.expect_err(case));
            assert!(
                told.contains(expected),
                "{case} for {call}: expected {expected:?}, found {told:?}"
            );
            server.lie(|_, _, _| None);
            let view = view(&chain.clone().timeout(DEADLINE), funding).await;
            assert_eq!(
                view.expect("it speaks again").confirmations,
                3,
                "{case} for {call}"
            );
        }
    }
}

/// No one listens there.
#[tokio::test]
async fn no_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let told = told(
        &ElectrumChain::new(&address)
            .tip()
            .await
            .expect_err("no one listens there"),
    );
    assert!(
        told.contains("cannot connect to the electrum server at"),
        "{told}"
    );
}

/// 1. The server tells of a block: who watches is woken up.
/// 2. The connection breaks: who watches is woken up, polls, and so connects again.
/// 3. Who waits for an announcement is woken up by nothing else.
#[tokio::test]
async fn news() {
    let server = Server::start(World::new(3));
    let news = |chain: &ElectrumChain| {
        let mut changes = chain.changes();
        changes.mark_unchanged();
        async move {
            tokio::time::timeout(DEADLINE, changes.changed())
                .await
                .expect("news")
        }
    };
    let (live, told) = (
        watched(&server),
        ElectrumChain::when_announced(&server.address).backoff(AT_ONCE),
    );
    live.tip().await.expect("a tip");
    told.tip().await.expect("a tip");

    let heard = news(&live);
    server.change(|world| world.mine(&[]));
    server.tell(&json!({ "method": "blockchain.headers.subscribe", "params": [] }));
    heard.await.expect("of a block");
    assert_eq!(height(&live).await, 4);

    let heard = news(&live);
    server.cut();
    heard.await.expect("of the end");
    assert_eq!(height(&live).await, 4, "over a new connection");

    told.tip().await.expect("a new connection");
    assert_eq!(told.announced(), 0, "the server's news are not announcements");
    let heard = news(&told);
    told.announce();
    heard.await.expect("an announcement");
    assert_eq!(told.announced(), 1);
}
