//! Parties whose server refuses, or is gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::Transaction;
use serde_json::json;
use spilman::channel::{Protocol, Stage, Terms};
use spilman::service::{Backoff, Chain, ElectrumChain, PayeeHandle, PayerHandle, Report, Setup};
use tokio::sync::mpsc;

use super::server::{Reply, Server, World};
use super::{watched, AT_ONCE, DEADLINE};
use crate::chains::FakeChain;
use crate::hand::{open_payer, setup};
use crate::pair::{sat, Case};

const BROADCAST: &str = "blockchain.transaction.broadcast";

/// Looks as often as it can.
const BUSY: Backoff = Backoff {
    first: Duration::from_millis(1),
    most: Duration::from_millis(1),
    jitter: 0,
};

/// A server that accepts every transaction, refuses some calls, and tells what it was given.
fn serve(server: &Server, refused: &'static [&'static str]) -> mpsc::UnboundedReceiver<Transaction> {
    let (given, taken) = mpsc::unbounded_channel();
    server.lie(move |_, call, params| {
        if call == BROADCAST {
            let tx: Transaction = deserialize_hex(params[0].as_str().expect("hex")).expect("a transaction");
            let txid = tx.compute_txid();
            // Perhaps no one is waiting for it.
            let _ = given.send(tx);
            return Some(Reply::Result(json!(txid)));
        }
        let refusal = "Too many unspent transaction outputs (>500). Contact support to raise limits.";
        refused.contains(&call).then(|| Reply::Error(json!(refusal)))
    });
    taken
}

/// A channel whose payee sees the chain through a server, and the payer in another way.
async fn open(watched: &ElectrumChain, payee: Setup) -> (Case, FakeChain, PayerHandle, PayeeHandle) {
    let mut case = Case::new(Protocol::Example7);
    let now = watched.tip().await.expect("a tip");
    case.terms = Terms::with(
        Protocol::Example7,
        case.terms.construction,
        case.terms.capacity,
        now,
    )
    .expect("a lock");
    let (left, right) = tokio::io::duplex(65_536);
    let fake = FakeChain::new();
    let (payer, payee) = tokio::join!(
        open_payer(&case, left, &fake),
        payee.accept(right, watched.clone())
    );
    (
        case,
        fake,
        payer.expect("the payer opens"),
        payee.expect("the payee opens"),
    )
}

/// A poll that fails brings about another one, and none of them a connection before it is due.
#[tokio::test]
async fn a_payee_whose_server_hangs_up_waits_between_two_attempts() {
    let server = Server::start(World::new(200));
    let _taken = serve(&server, &[]);
    let watched = ElectrumChain::new(&server.address).backoff(Backoff {
        first: Duration::from_secs(3_600),
        most: Duration::from_secs(3_600),
        jitter: 0,
    });
    let failures = Arc::new(AtomicUsize::new(0));
    let (counted, (tell, mut told)) = (failures.clone(), mpsc::unbounded_channel());
    let payee = setup("payee").backoff(BUSY).observer(Arc::new(move |report| {
        if matches!(report, Report::ChainFailed(_)) && counted.fetch_add(1, Ordering::Relaxed) == 50 {
            // The test may have ended.
            let _ = tell.send(());
        }
    }));
    let (_case, _fake, _payer, _payee) = open(&watched, payee).await;
    let before = server.asked("server.version");
    server.lie(|_, call, _| (call == "blockchain.headers.subscribe").then_some(Reply::HangUp));
    server.cut();
    let many = tokio::time::timeout(DEADLINE, told.recv()).await;
    many.expect("polls that fail").expect("the payee is alive");
    // A poll of the channel may have been under way when the connection broke, and that is forgiven.
    let made = server.asked("server.version") - before;
    assert!(made <= 1, "{made} connections, and only one of them could be due");
}

/// With dust on its script or without, the payee gives the payment to the network before the refund is final.
#[tokio::test]
async fn dust_to_the_script_of_a_channel_does_not_keep_the_payee_from_settling() {
    const UNSPENT: &str = "blockchain.scripthash.listunspent";
    const HISTORY: &str = "blockchain.scripthash.get_history";
    const REFUSED: [&[&str]; 4] = [&[], &[UNSPENT], &[HISTORY], &[UNSPENT, HISTORY]];
    for refused in REFUSED {
        let server = Server::start(World::new(200));
        let _taken = serve(&server, &[]);
        let watched = watched(&server);
        let payee = setup("payee").backoff(AT_ONCE);
        let (case, fake, payer, payee) = open(&watched, payee).await;
        let funding = payee.funding().tx().clone();
        server.change(|world| {
            world.mine(&[funding]);
            world.mine(&[]);
            world.mine(&[]);
        });
        watched.announce();
        fake.confirm(3);
        let open = payer
            .status()
            .wait_for(|status| status.stage == Stage::Open)
            .await
            .map(drop);
        open.expect("the payer is alive");
        payer.pay(sat(900_000)).await.expect("acknowledged");

        let mut taken = serve(&server, refused);
        let lock = case.terms.refund_lock.to_lock_time().to_consensus_u32();
        server.change(|world| (world.height() + 1..lock).for_each(|_| world.mine(&[])));
        watched.announce();
        let settled = tokio::time::timeout(DEADLINE, taken.recv()).await;
        let settled = settled.unwrap_or_else(|_| panic!("nothing was broadcast, refused: {refused:?}"));
        let payment = payee.redeemable().await.expect("running").expect("a payment");
        assert_eq!(settled.as_ref(), Some(payment.tx()), "refused: {refused:?}");
    }
}
