//! Both sides of every lock.

use bitcoin::absolute::LockTime;
use bitcoin::Sequence;
use spilman::regtest::{
    CoinKind, Error, InvalidRequest, NodeError, RejectReason, Spend, START_HEIGHT, START_TIME,
};

use crate::common::assert_matches;
use crate::common::judge::Judge as _;
use crate::{chain, locked, mine_at, outputs, sat};

/// 1. At H − 1 the lock is not final.
/// 2. At H it is, and one more block includes the transaction.
#[test]
fn a_height_lock_is_final_at_just_its_height() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let height = chain.tip().unwrap().height + 5;
    let lock = LockTime::from_height(height).unwrap();
    let refund = locked(&coin, lock);

    let crossing = chain.stop_before(lock).unwrap();
    assert_eq!((crossing.blocks.len(), crossing.to.height), (4, height - 1));
    chain.node().rejects(&refund, RejectReason::NonFinal);
    chain.node().rejects_broadcast(&refund, RejectReason::NonFinal);
    let early = chain.mine_exactly(std::slice::from_ref(&refund)).unwrap_err();
    assert_matches!(&early, Error::Node(NodeError::BlockRejected { words, .. }) if words == "bad-txns-nonfinal");

    let crossing = chain.make_final(lock).unwrap();
    assert_eq!((crossing.blocks.len(), crossing.to.height), (1, height));
    assert_eq!(chain.make_final(lock).unwrap().blocks, []);
    chain.node().accepts(&refund);
    chain.mine_exactly(&[refund]).unwrap();

    let message = chain.stop_before(lock).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!(
            "lock time {height} is already final at height {}",
            height + 1
        )),
        "{message}"
    );
}

/// 1. Mock time past the lock alone changes nothing.
/// 2. Nor does a median time past of exactly the lock.
/// 3. One second more does.
#[test]
fn a_time_lock_is_final_when_the_median_time_is_past_it() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let time = chain.tip().unwrap().time + 24 * 60 * 60;
    let refund = locked(&coin, LockTime::from_time(time).unwrap());
    let node = chain.node();
    node.set_mock_time(time + 3_600).unwrap();
    mine_at(&chain, time + 3_600);
    node.rejects_broadcast(&refund, RejectReason::NonFinal);

    while chain.tip().unwrap().mtp < time {
        mine_at(&chain, time);
    }
    assert_eq!(chain.tip().unwrap().mtp, time);
    node.rejects(&refund, RejectReason::NonFinal);

    while chain.tip().unwrap().mtp == time {
        node.rejects(&refund, RejectReason::NonFinal);
        mine_at(&chain, time + 1);
    }
    assert_eq!(chain.tip().unwrap().mtp, time + 1);
    node.broadcasts(&refund);
}

#[test]
fn the_clock_comes_up_to_a_time_lock_and_crosses_it() {
    for ahead in [1, 599, 600, 601, 5_000, 24 * 60 * 60, 300 * 24 * 60 * 60] {
        let mut chain = chain();
        let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
        let lock = LockTime::from_time(chain.tip().unwrap().mtp + ahead).unwrap();
        let refund = locked(&coin, lock);

        let before = chain.stop_before(lock).unwrap();
        assert_eq!(before.to.mtp, lock.to_consensus_u32(), "{ahead} s ahead");
        assert!(
            before.blocks.len() <= 16,
            "{ahead} s ahead took {} blocks",
            before.blocks.len()
        );
        assert_eq!(chain.stop_before(lock).unwrap().blocks, []);
        chain.node().rejects_broadcast(&refund, RejectReason::NonFinal);

        let crossing = chain.make_final(lock).unwrap();
        assert_eq!(crossing.blocks.len(), 1, "{ahead} s ahead");
        assert_eq!(chain.make_final(lock).unwrap().blocks, []);
        assert_matches!(
            chain.stop_before(lock),
            Err(Error::InvalidRequest(InvalidRequest::LockPassed { .. }))
        );
        chain.node().broadcasts(&refund);
    }
}

#[test]
fn a_time_lock_a_day_ahead_takes_six_blocks() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let time = chain.tip().unwrap().time + 24 * 60 * 60;
    let crossing = chain.make_final(LockTime::from_time(time).unwrap()).unwrap();
    assert_eq!((crossing.blocks.len(), crossing.to.mtp), (6, time + 1));
    chain
        .node()
        .broadcasts(&locked(&coin, LockTime::from_time(time).unwrap()));
}

#[test]
fn the_clock_refuses_what_cannot_be() {
    let chain = chain();
    let error = chain.node().set_mock_time(START_TIME - 1).unwrap_err();
    assert_matches!(
        error,
        Error::InvalidRequest(InvalidRequest::TimeBackwards { now: START_TIME, asked })
            if asked == START_TIME - 1
    );
    for lock in [
        LockTime::from_height(499_999_999).unwrap(),
        LockTime::from_time(u32::MAX).unwrap(),
    ] {
        for result in [chain.make_final(lock), chain.stop_before(lock)] {
            assert_matches!(
                result,
                Err(Error::InvalidRequest(InvalidRequest::LockTooFar { .. }))
            );
        }
    }
    assert_eq!(chain.tip().unwrap().height, START_HEIGHT);
}

#[test]
fn a_final_sequence_disables_the_lock() {
    let mut chain = chain();
    let coin = chain.fund(sat(100_000), CoinKind::Legacy).unwrap();
    let lock = LockTime::from_height(chain.tip().unwrap().height + 100).unwrap();
    chain.node().rejects(&locked(&coin, lock), RejectReason::NonFinal);
    let spend = Spend::of(std::slice::from_ref(&coin))
        .to(outputs(&coin))
        .lock_time(lock);
    let spend = spend.sequence(Sequence::MAX).sign().unwrap();
    chain.node().broadcasts(&spend);
}
