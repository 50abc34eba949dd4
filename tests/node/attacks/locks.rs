//! The refund's lock: not a block early, with whatever fields, and not a block late.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Sequence, Transaction};
use spilman::channel::{Construction, Expiry, LockKind, Protocol, Terms, LOCKED_SEQUENCE};
use spilman::regtest::{NodeBuilder, Regtest, RejectReason};

use super::co_signed;
use crate::common::cast::{both_kinds, not_final, sat, start, tip, Cast};
use crate::common::channel::Channel;
use crate::common::judge::Judge as _;
use crate::common::spend;

/// What the node says of a script whose lock is not over, or not locked by the spend.
const UNSATISFIED: &str = "Locktime requirement not satisfied";

fn open(chain: &Regtest, construction: Construction, kind: LockKind) -> Channel {
    let label = format!("lock/{construction}/{kind}");
    let cast = Cast::new(chain, &label, Protocol::Example7, sat(100_000)).on(construction);
    cast.locked(chain, kind).open(chain)
}

/// 1. The payer's own refund, one block before its lock: not final.
/// 2. One block later the node accepts it, and so does a miner.
#[test]
fn the_refund_is_accepted_at_its_lock_and_not_a_block_before() {
    let chain = start();
    for (construction, kind) in both_kinds() {
        let channel = open(&chain, construction, kind);
        let refund = channel.pair.payer.refund().tx();
        let (lock, sequence) = (refund.lock_time, refund.input[0].sequence);
        assert_eq!(
            &channel.refund(lock, sequence),
            refund,
            "{construction}: as it is made by hand"
        );
        let early = not_final(construction);
        chain.stop_before(refund).expect("blocks");
        let verdict = chain.node().test_accept(refund).expect("verdict");
        verdict.expect_rejected(early);
        chain.mine(1).expect("a block");
        let verdict = chain.node().submit(refund).expect("verdict");
        assert!(verdict.is_accepted(), "{construction} by {kind}: {verdict:?}");
        chain.mine(1).expect("a block");
        let again = chain.node().test_accept(refund).expect("verdict");
        again.expect_rejected(RejectReason::AlreadyKnown);
    }
}

/// Fields that would be final one block before the script's lock, with the name of what is wrong in them.
fn wrong(channel: &Channel) -> Vec<(&'static str, Transaction)> {
    let refund = channel.pair.payer.refund().tx();
    let (lock, sequence) = (refund.lock_time, refund.input[0].sequence);
    if channel.params().terms().construction.has_relative_lock() {
        let number = sequence.to_consensus_u32();
        let other_kind = number ^ 0x0040_0000;
        let mut old = spend::stripped(refund);
        old.version = Version::ONE;
        let signature = spend::sign_refund(channel.params(), &old, &channel.keys()[0]);
        let sequence = |number| channel.refund(LockTime::ZERO, Sequence(number));
        return vec![
            ("a final sequence", sequence(u32::MAX)),
            ("the disable flag", sequence(0x8000_0000 | number)),
            ("one less", sequence(number - 1)),
            ("none", sequence(0)),
            // One block, or 512 seconds.
            ("the other kind", sequence(other_kind & !0xffff | 1)),
            (
                "a version to which BIP 68 does not apply",
                spend::finish_refund(channel.params(), old, signature),
            ),
        ];
    }
    let less = LockTime::from_consensus(lock.to_consensus_u32() - 1);
    let other_kind = match lock {
        LockTime::Blocks(_) => LockTime::from_consensus(500_000_000),
        LockTime::Seconds(_) => LockTime::from_consensus(1),
    };
    vec![
        ("a final sequence", channel.refund(lock, Sequence::MAX)),
        ("one less", channel.refund(less, LOCKED_SEQUENCE)),
        ("none", channel.refund(LockTime::ZERO, LOCKED_SEQUENCE)),
        ("the other kind", channel.refund(other_kind, LOCKED_SEQUENCE)),
    ]
}

/// Where the lock is in the script, no choice of `nLockTime`, sequence or version gets around it: neither one block
/// before it is over, nor afterwards, for the spend has to say itself that it waited.
#[test]
fn no_other_lock_or_sequence_opens_the_script() {
    let chain = start();
    let in_script = |(construction, _): &(Construction, LockKind)| construction.has_script_refund();
    for (construction, kind) in both_kinds().filter(in_script) {
        let channel = open(&chain, construction, kind);
        let refund = channel.pair.payer.refund().tx();
        chain.stop_before(refund).expect("blocks");
        for over in [false, true] {
            for (name, tx) in wrong(&channel) {
                let verdict = chain.node().test_accept(&tx).expect("verdict");
                let words = &verdict.expect_rejected(RejectReason::ScriptFailed).words;
                assert!(
                    words.contains(UNSATISFIED),
                    "{construction} by {kind}, {name}, over: {over}: {words}"
                );
            }
            chain.make_final(refund).expect("blocks");
        }
        chain.node().accepts(refund);
    }
}

/// A relative lock counts from the block of the funding transaction: reorganised into a later one, the refund that was
/// final waits again.
#[test]
fn a_reorganisation_of_the_funding_transaction_renews_a_relative_lock() {
    let chain = start();
    let channel = open(&chain, Construction::Csv, LockKind::Height);
    let (refund, funding) = (
        channel.pair.payer.refund().tx(),
        channel.pair.payer.funding().tx(),
    );
    chain.make_final(refund).expect("blocks");
    let node = chain.node();
    node.accepts(refund);

    // 1. From the funding transaction's block on, another chain: it is in the third block instead.
    let from = channel.pair.funding_parent.height.to_consensus_u32() + 1;
    let block = node.block_hash_at(from).expect("the funding's block");
    node.invalidate_block(block).expect("reorganised");
    chain.mine_exactly(&[]).expect("a block without it");
    chain.mine_exactly(&[]).expect("a block without it");
    chain
        .mine_exactly(std::slice::from_ref(funding))
        .expect("a block with it");
    // 2. At the height at which it was final before, the refund is two blocks early.
    let blocks = 144 - 3;
    chain.mine(blocks).expect("blocks");
    node.rejects(refund, RejectReason::NonBip68Final);
    chain.mine(1).expect("a block");
    node.rejects(refund, RejectReason::NonBip68Final);
    // 3. And then it is final.
    chain.mine(1).expect("a block");
    node.accepts(refund);
}

/// A refund that is signed in advance can be locked until after 2038, where a script's lock cannot: the number in
/// `nLockTime` has no sign.
#[test]
fn a_refund_locked_past_2038_is_accepted_then() {
    const FIRST_PAST: u32 = 0x8000_0000;
    let node = NodeBuilder::default().start_time(FIRST_PAST - 100_000);
    let chain = Regtest::builder().node(node).start().expect("a node");
    for (more, construction) in (1..).zip(co_signed()) {
        let label = format!("past-2038/{construction}");
        let mut cast = Cast::new(&chain, &label, Protocol::Example7, sat(100_000)).on(construction);
        let now = tip(&chain).mtp.to_consensus_u32();
        let lock = FIRST_PAST.max(now + Terms::DAY) + more;
        cast.setup.terms.refund_lock = Expiry::seconds_after(tip(&chain), lock - now)
            .expect("a time")
            .into();
        let channel = cast.open(&chain);
        let refund = channel.pair.payer.refund().tx();
        assert_eq!(refund.lock_time.to_consensus_u32(), lock, "{construction}");
        let stopped = chain.stop_before(refund).expect("blocks");
        assert_eq!(stopped.to.mtp, lock, "{construction}: a second is missing");
        let verdict = chain.node().test_accept(refund).expect("verdict");
        verdict.expect_rejected(RejectReason::NonFinal);
        chain.make_final(refund).expect("blocks");
        chain.node().broadcasts(refund);
        chain.mine(1).expect("a block");
    }
}
