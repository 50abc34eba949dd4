//! A party gives its transaction to the network with every block, and from when it was raised on, its child with it.

use std::convert::Infallible;
use std::future::Future;

use bitcoin::secp256k1::SecretKey;
use bitcoin::Transaction;
use spilman::channel::{
    ApplyError, ChainView, ChildTx, CommandError, Construction, Cpfp, CpfpError, CpfpPackage, Event,
    Protocol, SpendRole, Stage, Tip, SETTLED_DEPTH,
};
use spilman::regtest::{Coin, CoinKind, Regtest, RejectReason};
use spilman::service::{wallet_fn, BitcoindChain, BumpError, Chain, ChainError, RequestError, Watched};
use tokio::io::duplex;
use tokio::runtime::Builder;
use tokio::sync::watch;

use super::{asked, cast, per_vb, sat, start_at_least, wallet, Channel, Side};
use crate::common::assert_matches;
use crate::common::cast::Cast;
use crate::common::parties::Parties;

fn package(channel: &Channel, side: Side) -> CpfpPackage {
    let cpfp = Cpfp::new(asked(), wallet());
    let (child, parent) = match side {
        Side::Payer => {
            let refund = channel.pair.payer.refund();
            (cpfp.refund(channel.params(), refund), refund.tx())
        }
        Side::Payee => {
            let settlement = channel.pair.payee.settlement().expect("settled");
            (cpfp.settlement(channel.params(), settlement), settlement.tx())
        }
    };
    let child = child.expect("the output pays for it");
    let signed = channel.sign_child(side, &child, parent);
    child.complete(signed).expect("it reaches the feerate")
}

/// The node loses its mempool, and the party gives both to it again.
fn forget(chain: &Regtest) {
    let node = chain.node();
    node.flush().expect("flushed");
    node.kill().expect("killed");
    node.restart().expect("started");
    assert_eq!(node.mempool().expect("mempool"), []);
}

fn in_mempool(chain: &Regtest, package: &CpfpPackage, at: &str) {
    let mut txids = package.transactions().map(|tx| tx.compute_txid());
    txids.sort_unstable();
    assert_eq!(chain.node().mempool().expect("mempool"), txids, "{at}");
}

/// 1. The payee closes; the node asks for more than was agreed, and refuses the settlement, with this block and the next.
/// 2. Raised, it is accepted. A package for another channel is not for this one.
/// 3. The node loses its mempool, and gets both again.
/// 4. The channel ends with what was paid.
#[test]
fn a_raised_settlement_goes_out_again_with_its_child() {
    let chain = start_at_least(asked());
    let mut before: Option<CpfpPackage> = None;
    for construction in Construction::ALL {
        let mut channel = cast(&chain, construction).open(&chain);
        channel.pay(sat(300_000));
        channel.tell(Side::Payee, Event::Close).expect("closed");
        let role = SpendRole::Settlement;
        for _ in 0..2 {
            channel.assert_answer(role, Some(RejectReason::MinRelayFee));
            chain.mine(1).expect("a block");
            channel.poll();
        }
        let package = package(&channel, Side::Payee);
        if let Some(other) = before.replace(package.clone()) {
            let error = CommandError::AnotherParent {
                expected: package.parent().compute_txid(),
                received: other.parent().compute_txid(),
            };
            let answer = channel.tell(Side::Payee, Event::Bump(other));
            assert_eq!(answer, Err(error.into()), "{construction}");
        }
        let raised = channel.tell(Side::Payee, Event::Bump(package.clone()));
        assert_eq!((raised, channel.answer(role)), (Ok(()), None), "{construction}");
        in_mempool(&chain, &package, construction.name());

        forget(&chain);
        channel.poll();
        in_mempool(&chain, &package, construction.name());
        chain.mine(SETTLED_DEPTH).expect("blocks");
        channel.poll();
        let stages = (channel.pair.payer.stage(), channel.pair.payee.stage());
        assert_eq!(stages, (Stage::Closed, Stage::Closed), "{construction}");
    }
}

/// 1. Both close with one signature, and the node rejects that. It is of version 2, which before Core 31 no child lifts over
///    the least feerate.
/// 2. That the payer is gone now changes nothing.
/// 3. The payee closes once more: with its latest payment, which is of version 3. Raised, it is accepted.
/// 4. There is nothing further to fall back to.
#[test]
fn a_settlement_with_one_signature_gives_way_to_the_payment() {
    let chain = start_at_least(asked());
    for construction in Construction::ALL.into_iter().filter(|c| c.closes_with_one_key()) {
        let mut channel = cast(&chain, construction).open(&chain);
        channel.pay(sat(300_000));
        channel.tell(Side::Payee, Event::Close).expect("closed");
        let cooperative = channel.pair.payee.settlement().expect("settled").clone();
        assert!(cooperative.is_cooperative(), "{construction}");
        let role = SpendRole::Settlement;
        channel.assert_answer(role, Some(RejectReason::MinRelayFee));
        channel.tell(Side::Payee, Event::PeerGone).expect("told");
        assert_eq!(
            channel.pair.payee.settlement(),
            Some(&cooperative),
            "{construction}"
        );

        channel.tell(Side::Payee, Event::Close).expect("closed again");
        let payment = channel.redeemable();
        assert_eq!(channel.pair.payee.settlement(), Some(&payment), "{construction}");
        let package = package(&channel, Side::Payee);
        channel
            .tell(Side::Payee, Event::Bump(package.clone()))
            .expect("raised");
        channel.assert_answer(role, None);
        in_mempool(&chain, &package, construction.name());
        let error = CommandError::WrongStage {
            command: "close",
            stage: Stage::Closing,
        };
        let answer = channel.tell(Side::Payee, Event::Close);
        assert_eq!(answer, Err(error.into()), "{construction}");
    }
}

/// The same for the payer, who is alone and waits for the lock.
#[test]
fn a_raised_refund_goes_out_again_with_its_child() {
    let chain = start_at_least(asked());
    let mut channels = Construction::ALL.map(|construction| cast(&chain, construction).open(&chain));
    for channel in &mut channels {
        let early = channel.tell(Side::Payer, Event::Bump(package(channel, Side::Payer)));
        let error = CommandError::WrongStage {
            command: "raise the refund",
            stage: Stage::Open,
        };
        assert_eq!(early, Err(error.into()), "{}", channel.construction());
    }
    chain.mine(150).expect("blocks");
    for channel in &mut channels {
        let at = channel.construction().name();
        channel.poll_as(Side::Payer);
        channel.assert_answer(SpendRole::Refund, Some(RejectReason::MinRelayFee));
        let package = package(channel, Side::Payer);
        let raised = channel.tell(Side::Payer, Event::Bump(package.clone()));
        assert_eq!(
            (raised, channel.answer(SpendRole::Refund)),
            (Ok(()), None),
            "{at}"
        );
        forget(&chain);
        channel.poll_as(Side::Payer);
        in_mempool(&chain, &package, at);
        chain.mine(SETTLED_DEPTH).expect("blocks");
        channel.poll_as(Side::Payer);
        assert_eq!(channel.pair.payer.stage(), Stage::Closed, "{at}");
    }
}

/// What a wallet does that has the key of a payout.
fn sign_for(key: &SecretKey, child: &ChildTx) -> Transaction {
    let mut tx = child.unsigned().clone();
    let coin = Coin {
        outpoint: tx.input[0].previous_output,
        output: child.prevout().clone(),
        key: *key,
        kind: CoinKind::Segwit,
        funding: tx.clone(),
    };
    coin.sign(&mut tx).expect("it spends the coin");
    tx
}

/// As a service: the payee's user raises what its party broadcasts, and the wallet signs.
///
/// 1. Before there is a settlement, there is nothing to raise.
/// 2. A feerate that the settlement pays alone needs no child, and the payer's refund is not to be raised yet.
/// 3. Parent and child are mined, and both sides see the end.
#[tokio::test]
async fn a_payee_raises_its_settlement() {
    let chain = start_at_least(asked());
    let cast = Cast::new(&chain, "raised", Protocol::Example7, sat(1_000_000)).on(Construction::P2wsh);
    let parties = Parties::ready(&chain, &cast, duplex(64 * 1024)).await;
    parties.payer.pay(sat(300_000)).await.expect("acknowledged");
    let mut sign =
        wallet_fn(|child: &ChildTx| Ok::<_, Infallible>(sign_for(&cast.setup.payee.secret, child)));
    let cpfp = Cpfp::new(asked(), wallet());
    let nothing = parties.payee.bump(&cpfp, &mut sign).await;
    assert!(matches!(nothing, Err(BumpError::NotSettled)), "{nothing:?}");

    parties.payee.close().await.expect("closed");
    assert_eq!(chain.node().mempool().expect("mempool"), [], "it pays too little");
    let needless = parties
        .payee
        .bump(&Cpfp::new(per_vb(1), wallet()), &mut sign)
        .await;
    assert_matches!(needless, Err(BumpError::Child(CpfpError::Sufficient { .. })));
    let sign_as_payer =
        wallet_fn(|child: &ChildTx| Ok::<_, Infallible>(sign_for(&cast.setup.payer.secret, child)));
    let early = parties.payer.bump(&cpfp, sign_as_payer).await;
    let early = early.expect_err("the lock is not over");
    assert_matches!(
        early,
        BumpError::Request(RequestError::Apply(ApplyError::Command(_)))
    );
    let package = parties.payee.bump(&cpfp, &mut sign).await.expect("raised");
    in_mempool(&chain, &package, "raised");
    chain.mine(SETTLED_DEPTH).expect("blocks");
    parties.poll().await;
    let (payer, payee) = (parties.payer.outcome().await, parties.payee.outcome().await);
    assert_eq!(payer, payee);
    assert_eq!(payee.map(|outcome| outcome.to_payee), Ok(sat(300_000)));
}

/// A view of the chain that accepts one transaction at a time, as an electrum server does.
struct OneByOne(BitcoindChain);

impl Chain for OneByOne {
    fn tip(&self) -> impl Future<Output = Result<Tip, ChainError>> + Send {
        self.0.tip()
    }

    fn view(&self, watched: Watched) -> impl Future<Output = Result<ChainView, ChainError>> + Send {
        self.0.view(watched)
    }

    fn broadcast(&self, tx: &Transaction) -> impl Future<Output = Result<Option<String>, ChainError>> + Send {
        self.0.broadcast(tx)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
}

/// 1. Where the parent is below what the node relays, it is refused, and the reason says that no child can help it here.
/// 2. Where it is not, the child follows it.
#[test]
fn without_packages_a_child_follows_its_parent() {
    for (node_asks, taken) in [(asked(), false), (per_vb(1), true)] {
        let chain = start_at_least(node_asks);
        let view = BitcoindChain::when_announced(chain.node().new_client());
        let mut channel = cast(&chain, Construction::P2wsh).open(&chain);
        channel.pay(sat(300_000));
        channel.tell(Side::Payee, Event::Close).expect("closed");
        let package = package(&channel, Side::Payee);
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let answer = runtime.block_on(OneByOne(view).broadcast_package(&package));
        let answer = answer.expect("the node answers");
        if taken {
            assert_eq!(answer, None);
            in_mempool(&chain, &package, "one by one");
        } else {
            let words = answer.expect("refused");
            assert_eq!(RejectReason::of(&words), RejectReason::MinRelayFee, "{words}");
            assert!(words.contains("together with its child"), "{words}");
        }
    }
}
