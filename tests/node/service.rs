//! Both parties as services: over TCP, against a peer that sends rubbish, and through reorganisations.

use std::time::Duration;

use crate::common::assert_matches;
use crate::common::cast::{sat, start, Cast};
use crate::common::judge::Judge as _;
use crate::common::parties::{open_payee, open_payer, opens, until, view, Parties, DEADLINE};
use bitcoin::{OutPoint, TxOut};
use spilman::channel::{ApplyError, ChainView, CommandError, Protocol, Stage, SETTLED_DEPTH};
use spilman::regtest::{Coin, CoinKind, Node, Regtest, RejectReason, RPC_PASSWORD, RPC_USER};
use spilman::service::bitcoincore_rpc::Auth;
use spilman::service::{BitcoindChain, Chain, ConnectionError, OpenError, PayError, RequestError, Watched};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Two ends of a connection on 127.0.0.1.
async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.expect("connected"), server.expect("accepted").0)
}

/// 1. Payer and payee open a channel over TCP; the payee broadcasts the funding transaction.
/// 2. Three payments are acknowledged.
/// 3. The payee closes, and six blocks later both sides see the same end.
#[tokio::test]
async fn a_channel_over_tcp() {
    let chain = start();
    let cast = Cast::new(&chain, "tcp", Protocol::Example7, sat(100_000));
    let parties = Parties::ready(&chain, &cast, tcp().await).await;
    for n in 1..=3 {
        let balance = parties.payer.pay(sat(10_000)).await.expect("acknowledged");
        assert_eq!(balance.paid, sat(10_000 * n));
    }
    parties.payee.close().await.expect("closed");
    chain.mine(SETTLED_DEPTH).expect("blocks");
    parties.poll().await;
    let (payer, payee) = (parties.payer.outcome().await, parties.payee.outcome().await);
    assert_eq!(payer, payee);
    let outcome = payer.expect("an end");
    let spendable = parties.payer.params().spendable();
    assert_eq!(
        (outcome.to_payer, outcome.to_payee),
        (spendable - sat(30_000), sat(30_000))
    );
}

/// A payee meets rubbish: it hangs up on each, and the same payee's next customer is served.
#[tokio::test]
async fn garbage_over_tcp_is_refused() {
    let chain = start();
    let cast = Cast::new(&chain, "rubbish", Protocol::Example7, sat(100_000));
    for (rubbish, too_long) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], true),
        (&[0, 3, 0xff, 0xff, 0xff][..], false),
    ] {
        let (mut peer, own) = tcp().await;
        let payee = tokio::time::timeout(DEADLINE, async {
            tokio::join!(open_payee(own, &cast, view(&chain)), async {
                peer.write_all(rubbish).await.expect("sent");
                let mut answer = Vec::new();
                // A refusal, then the end; a reset instead is an end as well.
                let _ = peer.read_to_end(&mut answer).await;
            })
        });
        let (payee, ()) = payee.await.expect("the payee does not hang");
        let error = payee.err().expect("no channel");
        let as_expected = match &error {
            OpenError::Connection(ConnectionError::FrameTooLong { .. }) => too_long,
            OpenError::Connection(ConnectionError::Malformed(_)) => !too_long,
            _ => false,
        };
        assert!(as_expected, "{error:?}");
    }
    let parties = Parties::open(&chain, &cast, tcp().await).await;
    assert_eq!(parties.payee.params().terms(), &cast.setup.terms);
}

/// 1. The payer's peer opens a channel, accepts a payment, and then sends garbage.
/// 2. The payer hangs up, cannot pay any more, and still gets its refund.
#[tokio::test]
async fn a_payer_whose_peer_goes_mad_refunds_by_itself() {
    let chain = start();
    let cast = Cast::new(&chain, "mad-peer", Protocol::SteppedLocktime, sat(100_000));
    let (mut wire_payer, own) = tcp().await;
    let (mut wire_payee, peer) = tcp().await;
    // A man in the middle that relays everything until it sends something else.
    let (say, said) = tokio::sync::oneshot::channel::<()>();
    let middle = tokio::spawn(async move {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut wire_payer, &mut wire_payee) => {}
            _ = said => {}
        }
        wire_payer.write_all(&[0, 1, 0xff]).await.expect("sent");
        let _ = wire_payer.read_to_end(&mut Vec::new()).await;
    });
    let parties = Parties::ready(&chain, &cast, (own, peer)).await;
    parties.payer.pay(sat(10_000)).await.expect("acknowledged");
    parties.payee.abort();
    say.send(()).expect("the middle listens");
    until(&parties.payer, "hangs up", |status| !status.connected).await;
    middle.await.expect("the middle ends");
    parties.payer.pay(sat(10_000)).await.expect_err("no one listens");

    chain
        .make_final(cast.setup.terms.refund_lock.to_lock_time())
        .expect("blocks");
    let refund = parties.payer.refund().tx().compute_txid();
    parties.poll_as_payer().await;
    assert_eq!(chain.node().mempool().expect("mempool"), [refund]);
}

/// 1. The block with the funding transaction is reorganised away: the payee suspends, and says so to a payer that
///    tries to pay.
/// 2. The same transaction is mined again: the payee stands where it stood, with what it held.
#[tokio::test]
async fn a_reorganised_funding_transaction_suspends_the_channel() {
    let chain = start();
    let mut cast = Cast::new(&chain, "funding-reorg", Protocol::Example7, sat(100_000));
    cast.limit(|limits| limits.confirmations = 1..=12);
    let parties = Parties::open(&chain, &cast, tokio::io::duplex(4_096)).await;
    let block = chain.mine(1).expect("a block").remove(0);
    parties.poll().await;
    opens(&parties.payer).await;
    parties.payer.pay(sat(10_000)).await.expect("acknowledged");

    chain.node().invalidate_block(block.hash).expect("reorganised");
    chain.mine_empty(2).expect("a longer chain");
    parties.poll().await;
    assert_eq!(parties.payee.status().borrow().stage, Stage::AwaitingFunding);
    let error = parties
        .payer
        .pay(sat(10_000))
        .await
        .expect_err("the payer sees it too, and sends nothing");
    let unsent = matches!(
        &error,
        RequestError::Pay(PayError::NotSent(ApplyError::Command(CommandError::WrongStage {
            stage: Stage::AwaitingFunding,
            ..
        })))
    );
    assert!(unsent, "{error:?}");
    assert_eq!(parties.payee.status().borrow().paid, sat(10_000));

    chain.mine(1).expect("a block with the funding transaction");
    parties.poll().await;
    assert_eq!(parties.payee.status().borrow().stage, Stage::Open);
    let held = parties.payment().await;
    assert_eq!(held.balance().paid, sat(10_000));
    parties
        .payer
        .pay(sat(10_000))
        .await
        .expect("the channel lives on");
    chain.node().accepts(held.tx());
}

/// 1. A settlement is mined, and the block is reorganised away together with the mempool's memory of it.
/// 2. Both sides stand ready; the payee broadcasts again with the next block.
/// 3. One block before [`SETTLED_DEPTH`] neither calls it closed; at that depth both do.
#[tokio::test]
async fn a_reorganised_settlement_is_broadcast_again() {
    // The mempool forgets after an hour.
    let chain = Regtest::builder()
        .node(Node::builder().arg("-mempoolexpiry=1"))
        .start()
        .expect("a node");
    let bystander = chain.fund_key(
        sat(50_000),
        CoinKind::Segwit,
        spilman::regtest::labelled_key("bystander"),
    );
    let bystander = bystander.expect("funds");
    let cast = Cast::new(&chain, "settlement-reorg", Protocol::Example7, sat(100_000));
    let parties = Parties::ready(&chain, &cast, tokio::io::duplex(4_096)).await;
    parties.payer.pay(sat(10_000)).await.expect("acknowledged");
    let settlement = parties.payment().await.tx().clone();
    parties.payee.close().await.expect("closing");
    let block = chain.mine(2).expect("blocks").remove(0);
    assert_eq!(block.txids, [settlement.compute_txid()]);
    parties.poll().await;
    assert_eq!(parties.stages(), [Stage::Closing, Stage::Closing]);

    let node = chain.node();
    node.invalidate_block(block.hash).expect("reorganised");
    node.set_mock_time(node.mock_time() + 2 * 3_600).expect("later");
    // A mempool forgets when something new comes in.
    let other = bystander.spend(vec![bitcoin::TxOut {
        value: sat(40_000),
        ..bystander.output.clone()
    }]);
    let other = other.expect("the bystander's transaction");
    node.broadcasts(&other);
    chain
        .mine_exactly(&[other])
        .expect("a block without the settlement");
    assert!(
        node.mempool().expect("mempool").is_empty(),
        "the settlement is forgotten"
    );

    parties.poll().await;
    assert_eq!(parties.stages(), [Stage::Closing, Stage::Closing]);
    assert_eq!(
        node.mempool().expect("mempool"),
        [settlement.compute_txid()],
        "broadcast again"
    );
    let refund = parties.payer.refund().tx();
    node.rejects(refund, RejectReason::NonFinal);

    chain.mine(SETTLED_DEPTH - 1).expect("blocks");
    parties.poll().await;
    assert_eq!(
        parties.stages(),
        [Stage::Closing, Stage::Closing],
        "one confirmation is missing"
    );
    chain.mine(1).expect("a block");
    parties.poll().await;
    let end = async { (parties.payer.outcome().await, parties.payee.outcome().await) };
    let (payer, payee) = tokio::time::timeout(DEADLINE, end)
        .await
        .expect("both see the end");
    assert_eq!(payer.clone().map(|end| end.txid), Ok(settlement.compute_txid()));
    assert_eq!(payer, payee);
    assert_eq!(parties.stages(), [Stage::Closed, Stage::Closed]);
}

/// A peer that says nothing costs a bounded time.
#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let chain = start();
    let cast = Cast::new(&chain, "silence", Protocol::Bond, sat(100_000));
    let (_silent, own) = tcp().await;
    let setup = spilman::service::Setup::new(
        spilman::channel::ChannelKey::new(cast.setup.payee.secret),
        cast.coin.output.script_pubkey.clone(),
    )
    .key_reuse(spilman::service::KeyReuse::Allow)
    .opening_timeout(Duration::from_millis(50));
    let error = setup.accept(own, view(&chain)).await.err().expect("no channel");
    assert_matches!(
        error,
        OpenError::Timeout {
            stage: Stage::Proposing,
            ..
        }
    );
    let (gone, own) = tcp().await;
    drop(gone);
    let error = open_payer(own, &cast, view(&chain))
        .await
        .err()
        .expect("no channel");
    assert_matches!(error, OpenError::Disconnected { .. } | OpenError::Connection(_));
}

/// Many outputs are asked for together, over the client that users get: unspent, spent in a block and in the mempool, in the
/// mempool themselves, and nowhere. A process that starts after the spend finds it.
#[tokio::test]
async fn many_outputs_are_viewed_together() {
    let mut chain = start();
    let coins: Vec<_> = (0..4)
        .map(|_| chain.fund(sat(20_000), CoinKind::Segwit).expect("a coin"))
        .collect();
    let node = chain.node();
    let opened = view(&chain).tip().await.expect("a tip").height;
    let spend = |coin: &Coin, value: u64| {
        let script = coin.output.script_pubkey.clone();
        let spend = coin.spend(vec![TxOut {
            value: sat(value),
            script_pubkey: script,
        }]);
        let spend = spend.expect("a spend");
        assert!(node.submit(&spend).expect("an answer").is_accepted());
        spend
    };
    let in_block = spend(&coins[1], 19_000);
    chain.mine(2).expect("blocks");
    let in_mempool = spend(&coins[2], 18_000);
    let fresh = OutPoint::new(in_mempool.compute_txid(), 0);
    let nowhere = OutPoint { vout: 77, ..fresh };
    let outputs = [
        coins[0].outpoint,
        coins[1].outpoint,
        coins[2].outpoint,
        coins[3].outpoint,
        fresh,
        nowhere,
    ];
    let watched = outputs.map(|funding| Watched {
        funding,
        since: Some(opened),
    });
    let late = BitcoindChain::connect(
        &node.rpc_url(),
        Auth::UserPass(RPC_USER.into(), RPC_PASSWORD.into()),
    );
    let late = late.expect("a client");
    let together = late.views(&watched).expect("all at once").await;
    let together: Vec<_> = together.into_iter().map(|view| view.expect("a view")).collect();
    let seen: Vec<_> = together
        .iter()
        .map(|view| {
            let spend = view
                .spend
                .as_ref()
                .map(|spend| (spend.tx.compute_txid(), spend.confirmations));
            (view.confirmations, spend)
        })
        .collect();
    assert_eq!(
        seen,
        [
            (6, None),
            (2, Some((in_block.compute_txid(), 2))),
            (4, Some((in_mempool.compute_txid(), 0))),
            (3, None),
            (0, None),
            (0, None),
        ]
    );
    for (watched, view) in watched.iter().zip(together) {
        let alone = view_of(&chain, *watched).await;
        assert_eq!(alone, view, "{watched:?}");
    }
}

/// What a chain says that is asked for this output alone.
async fn view_of(chain: &Regtest, watched: Watched) -> ChainView {
    view(chain).view(watched).await.expect("a view")
}
