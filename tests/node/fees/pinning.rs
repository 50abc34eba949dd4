//! Who can hold up the other's transaction: version 3 (BIP 431) lets no one, version 2 does.

use bitcoin::transaction::Version;
use bitcoin::Txid;
use spilman::channel::{
    Construction, Cpfp, CpfpPackage, Event, SettlementTx, SpendRole, MAX_CHILD_VSIZE, SPEND_VERSION,
};
use spilman::regtest::{CoinKind, Regtest, RejectReason};

use super::hand::{both_sign, child};
use super::{funded_by, per_vb, sat, start, Channel, Side};
use crate::common::judge::Judge as _;

fn sorted<const N: usize>(mut txids: [Txid; N]) -> [Txid; N] {
    txids.sort_unstable();
    txids
}

/// Ten million satoshi, so that change can be cut into many outputs; 300,000 are paid.
fn paid(chain: &Regtest, construction: Construction) -> (Channel, SettlementTx) {
    let case = funded_by(chain, construction, CoinKind::Segwit, sat(10_000_000));
    let mut channel = case.open(chain);
    channel.pay(sat(300_000));
    let settlement = channel.redeemable();
    assert_eq!(settlement.tx().version, SPEND_VERSION, "{construction}");
    (channel, settlement)
}

/// 1. The payee's settlement is in the mempool. The payer's change pays for a large child at a low feerate: refused.
/// 2. So is a small one of version 2.
/// 3. A small one of version 3 is accepted, and keeps any further one out: neither a grandchild, nor another child that pays
///    less.
/// 4. The payee's child pays more, and the payer's has to leave.
#[test]
fn a_settlement_of_version_3_cannot_be_pinned() {
    let chain = start();
    let node = chain.node();
    for construction in Construction::ALL {
        let (channel, settlement) = paid(&chain, construction);
        let refused = |tx: &bitcoin::Transaction, reason: RejectReason, what: &str| {
            let verdict = node.submit(tx).expect("verdict");
            assert!(verdict.rejected_for(reason), "{construction}: {what}: {verdict}");
            verdict.rejection().expect("rejected").words.clone()
        };
        node.broadcasts(settlement.tx());
        let change = channel.coin(Side::Payer, settlement.tx());

        let (large, _) = child(&change, SPEND_VERSION, sat(1_200), 32);
        assert!(large.vsize() as u64 > MAX_CHILD_VSIZE, "{} vbytes", large.vsize());
        let words = refused(&large, RejectReason::Truc, "a large child");
        assert!(words.contains("too big"), "{construction}: {words}");
        let (mixed, _) = child(&change, Version::TWO, sat(1_200), 0);
        refused(&mixed, RejectReason::Truc, "a child of version 2");

        let (small, made) = child(&change, SPEND_VERSION, sat(1_000), 25);
        assert!(
            small.vsize() as u64 <= MAX_CHILD_VSIZE,
            "{} vbytes",
            small.vsize()
        );
        let pin = node.broadcasts(&small);
        let (grandchild, _) = child(&made, SPEND_VERSION, sat(1_000), 0);
        refused(&grandchild, RejectReason::Truc, "a grandchild");

        let own = channel.coin(Side::Payee, settlement.tx());
        let (poor, _) = child(&own, SPEND_VERSION, sat(900), 0);
        refused(&poor, RejectReason::InsufficientFee, "a sibling that pays less");
        let (rich, _) = child(&own, SPEND_VERSION, sat(2_500), 0);
        let rich = node.broadcasts(&rich);
        let left = sorted([settlement.tx().compute_txid(), rich]);
        assert_eq!(
            node.mempool().expect("mempool"),
            left,
            "{construction}: the payer's child {pin} is gone"
        );
        chain.mine(1).expect("a block");
        assert_eq!(
            node.mempool().expect("mempool"),
            [],
            "{construction}: all is mined"
        );
    }
}

/// What version 3 is for. The same settlement as version 2, which the network accepts as well:
///
/// 1. the payer's change pays the least feerate for two children that fill what a node keeps of one family;
/// 2. the payee's child is refused, whatever it pays (before Core 31, a node kept room for just one);
/// 3. a settlement of twice the feerate, if the payer signed one, does not replace it: it would have to pay for the
///    children too.
#[test]
fn the_same_settlement_of_version_2_can_be_pinned() {
    /// Vbytes of a transaction with all that it is related to in the mempool.
    const FAMILY: usize = 101_000;
    let chain = start();
    let node = chain.node();
    for construction in Construction::ALL {
        let (channel, settlement) = paid(&chain, construction);
        let outputs = settlement.tx().output.clone();
        let pinnable = both_sign(&channel, Version::TWO, outputs.clone());
        node.broadcasts(&pinnable);

        // 31 vbytes for each output, and 110 for the rest.
        let (large, made) = child(
            &channel.coin(Side::Payer, &pinnable),
            Version::TWO,
            sat(100_000),
            3_220,
        );
        node.broadcasts(&large);
        let room = FAMILY - pinnable.vsize() - large.vsize();
        let (rest, _) = child(&made, Version::TWO, sat(2_000), (room - 115) / 31);
        node.broadcasts(&rest);
        let filled = pinnable.vsize() + large.vsize() + rest.vsize();

        let (rich, _) = child(
            &channel.coin(Side::Payee, &pinnable),
            Version::TWO,
            sat(100_000),
            0,
        );
        let verdict = node.submit(&rich).expect("verdict");
        let at = format!("{construction}: {filled} and {} vbytes", rich.vsize());
        assert!(verdict.rejected_for(RejectReason::Other), "{at}: {verdict}");
        let words = &verdict.rejection().expect("rejected").words;
        assert!(words.contains("too-large-cluster"), "{at}: {words}");

        let mut dearer = outputs;
        dearer[0].value -= channel.fee(settlement.tx());
        let dearer = both_sign(&channel, Version::TWO, dearer);
        let verdict = node.submit(&dearer).expect("verdict");
        assert!(
            verdict.rejected_for(RejectReason::InsufficientFee),
            "{construction}: {verdict}"
        );
        chain.mine(1).expect("a block");
    }
}

/// The payee's child lifts this to this many satoshi per vbyte.
fn raise(channel: &mut Channel, settlement: &SettlementTx, feerate: u32) -> CpfpPackage {
    let cpfp = Cpfp::new(per_vb(feerate), channel.cast.setup.payee.payout.clone());
    let child = cpfp.settlement(channel.params(), settlement);
    let child = child.expect("the payee's output pays for it");
    let signed = channel.sign_child(Side::Payee, &child, settlement.tx());
    let package = child.complete(signed).expect("it reaches the feerate");
    channel
        .tell(Side::Payee, Event::Bump(package.clone()))
        .expect("raised");
    package
}

/// The settlement with one signature looks like any other payment, so it is of version 2 and can be pinned. A payee
/// that meets that has the payment of version 3 left, which replaces it if it pays more.
///
/// 1. A large child of the payer's change pays less than the settlement per vbyte, and is accepted.
/// 2. The payee raises the settlement by a little, and that is accepted.
/// 3. It closes once more: its payment does not pay for what it would replace.
/// 4. With a child that does, it is accepted, and the pin is gone.
#[test]
fn a_pinned_cooperative_settlement_is_replaced_by_the_payment() {
    let chain = start();
    let node = chain.node();
    for construction in Construction::ALL.into_iter().filter(|c| c.closes_with_one_key()) {
        let (mut channel, payment) = paid(&chain, construction);
        channel.tell(Side::Payer, Event::Close).expect("closed");
        let cooperative = channel.pair.payee.settlement().expect("both signed").tx().clone();
        assert_eq!(cooperative.version, Version::TWO);
        channel.assert_answer(SpendRole::Settlement, None);
        let change = channel.coin(Side::Payer, &cooperative);
        let (large, _) = child(&change, Version::TWO, sat(1_200), 32);
        let verdict = node.submit(&large).expect("verdict");
        assert!(verdict.is_accepted(), "{construction}: {verdict}");

        let settlement = channel.pair.payee.settlement().expect("both signed").clone();
        raise(&mut channel, &settlement, 3);
        channel.assert_answer(SpendRole::Settlement, None);

        channel.tell(Side::Payee, Event::Close).expect("closed again");
        assert_eq!(channel.pair.payee.settlement(), Some(&payment), "{construction}");
        channel.assert_answer(SpendRole::Settlement, Some(RejectReason::InsufficientFee));

        let package = raise(&mut channel, &payment, 20);
        let left = sorted(package.transactions().map(|tx| tx.compute_txid()));
        assert_eq!(
            node.mempool().expect("mempool"),
            left,
            "{construction}: {:?}",
            channel.answer(SpendRole::Settlement)
        );
        chain.mine(1).expect("a block");
    }
}
