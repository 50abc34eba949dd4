//! Both sides of relative locks, and of spends with several locks.

use bitcoin::absolute::LockTime;
use bitcoin::relative;
use bitcoin::transaction::Version;
use bitcoin::{Sequence, Transaction};
use spilman::regtest::{
    BestBlock, Coin, CoinKind, Error, InvalidRequest, Lock, Regtest, RejectReason, Spend, START_HEIGHT,
    START_TIME,
};

use crate::common::assert_matches;
use crate::common::judge::Judge as _;
use crate::{chain, link, mine_at, outputs, sat};

const ABSOLUTE: RejectReason = RejectReason::NonFinal;
const RELATIVE: RejectReason = RejectReason::NonBip68Final;

/// A spend with another lock time, sequence or version than usual.
fn spend(coin: &Coin, change: impl FnOnce(&mut Transaction)) -> Transaction {
    let mut transaction = coin.spend(outputs(coin)).unwrap();
    change(&mut transaction);
    coin.sign(&mut transaction).unwrap();
    transaction
}

fn after(coin: &Coin, lock: relative::LockTime) -> Transaction {
    spend(coin, |tx| tx.input[0].sequence = lock.to_sequence())
}

fn blocks(count: u16) -> relative::LockTime {
    relative::LockTime::from_height(count)
}

fn units(count: u16) -> relative::LockTime {
    relative::LockTime::from_512_second_intervals(count)
}

fn coin(chain: &mut Regtest) -> Coin {
    chain.fund(sat(100_000), CoinKind::Segwit).unwrap()
}

/// 1. Before the lock, the node rejects the spend, and says for which lock.
/// 2. The next block, with the least time that a block can have, makes it final.
fn stops_before(chain: &Regtest, transaction: &Transaction, reason: RejectReason, case: &str) {
    let crossing = chain.stop_before(transaction).unwrap();
    let node = chain.node();
    assert!(!crossing.needs.are_met_by(&crossing.to), "{case}: {crossing}");
    let verdict = node.test_accept(transaction).unwrap();
    assert!(verdict.rejected_for(reason), "{case}: {verdict}, {crossing}");
    assert_eq!(chain.stop_before(transaction).unwrap().blocks, [], "{case}");

    mine_at(chain, crossing.to.mtp + 1);
    let verdict = node.test_accept(transaction).unwrap();
    assert!(verdict.is_accepted(), "{case}: {verdict}, {crossing}");
    assert_eq!(chain.make_final(transaction).unwrap().blocks, [], "{case}");
    let passed = chain.stop_before(transaction).unwrap_err();
    assert_matches!(
        passed,
        Error::InvalidRequest(InvalidRequest::LockPassed { .. }),
        "{case}"
    );
}

/// 1. Once the lock is crossed, the node accepts the spend.
/// 2. One block earlier it did not.
fn crosses(chain: &Regtest, transaction: &Transaction, reason: RejectReason, case: &str) {
    let crossing = chain.make_final(transaction).unwrap();
    let node = chain.node();
    let verdict = node.test_accept(transaction).unwrap();
    assert!(verdict.is_accepted(), "{case}: {verdict}, {crossing}");

    let last = crossing.blocks.last().expect("it was locked").hash;
    node.invalidate_block(last).unwrap();
    let verdict = node.test_accept(transaction).unwrap();
    assert!(verdict.rejected_for(reason), "{case}: {verdict}, {crossing}");
    node.reconsider_block(last).unwrap();
    assert_eq!(chain.tip().unwrap(), crossing.to, "{case}");
}

#[test]
fn both_sides_of_relative_locks() {
    let mut chain = chain();
    for lock in [
        blocks(2),
        blocks(3),
        blocks(144),
        units(2),
        units(3),
        units(168),
        units(65_535),
    ] {
        let case = lock.to_string();
        let waiting = after(&coin(&mut chain), lock);
        stops_before(&chain, &waiting, RELATIVE, &case);
        let waiting = after(&coin(&mut chain), lock);
        crosses(&chain, &waiting, RELATIVE, &case);
    }
}

/// Of a coin in the tip, a lock of one block has passed.
#[test]
fn a_lock_of_one_block_has_passed_in_the_next() {
    let mut chain = chain();
    let coin = coin(&mut chain);
    chain.node().accepts(&after(&coin, blocks(1)));
    let lock = Lock::relative(coin.outpoint, blocks(1));
    assert_eq!(chain.make_final(lock.clone()).unwrap().blocks, []);
    let message = chain.stop_before(lock).unwrap_err().to_string();
    let expected = format!(
        "the lock of 1 block on {} is already final at height 102",
        coin.outpoint
    );
    assert!(message.starts_with(&expected), "{message}");

    let two = after(&coin, blocks(2));
    chain.node().rejects(&two, RELATIVE);
    assert_eq!(chain.make_final(&two).unwrap().blocks.len(), 1);
}

/// With blocks ten minutes apart, one unit of 512 seconds has passed as soon as the coin is in a block. With blocks a
/// second apart it has not.
#[test]
fn both_sides_of_the_shortest_relative_time() {
    let mut chain = chain();
    let quick = coin(&mut chain);
    let at_once = chain.make_final(&after(&quick, units(1))).unwrap();
    assert_eq!(at_once.blocks, [], "{at_once}");
    chain.node().accepts(&after(&quick, units(1)));

    for run in [stops_before, crosses] {
        let now = chain.tip().unwrap().time;
        for second in 1..=12 {
            mine_at(&chain, now + second);
        }
        let slow = coin(&mut chain);
        run(&chain, &after(&slow, units(1)), RELATIVE, "1 unit");
    }
}

/// A transaction with a height and a time lock, one of them absolute and the other relative: the reasons for which the
/// node rejects it where the clock stops before it, and one block before it is crossed.
#[test]
fn both_sides_of_spends_with_two_locks() {
    type Locks = fn(&BestBlock) -> (LockTime, relative::LockTime);
    fn height(tip: &BestBlock, ahead: u32) -> LockTime {
        LockTime::from_height(tip.height + ahead).unwrap()
    }
    fn time(tip: &BestBlock, ahead: u32) -> LockTime {
        LockTime::from_time(tip.mtp + ahead).unwrap()
    }
    let mut chain = chain();
    #[rustfmt::skip]
    let rows: [(&str, Locks, [RejectReason; 2]); 7] = [
        ("absolute height last", |tip| (height(tip, 20), units(3)), [ABSOLUTE; 2]),
        ("relative time last", |tip| (height(tip, 3), units(300)), [RELATIVE; 2]),
        ("relative height last", |tip| (time(tip, 900), blocks(20)), [RELATIVE; 2]),
        ("absolute time last", |tip| (time(tip, 90_000), blocks(3)), [ABSOLUTE; 2]),
        // With the next block the height passes for sure, the time only if the block is not too early.
        ("perhaps at once", |tip| (height(tip, 4), units(5)), [RELATIVE, ABSOLUTE]),
        ("perhaps at once", |tip| (time(tip, 2_399), blocks(5)), [ABSOLUTE; 2]),
        // The median time past rises by a second at least.
        ("surely at once", |tip| (time(tip, 1_800), blocks(5)), [ABSOLUTE; 2]),
    ];
    let runs: [fn(&Regtest, &Transaction, RejectReason, &str); 2] = [stops_before, crosses];
    for (case, locks, reasons) in rows {
        for (run, reason) in runs.into_iter().zip(reasons) {
            // So that the last eleven blocks are ten minutes apart.
            chain.mine_empty(11).unwrap();
            let coin = coin(&mut chain);
            let (absolute, relative) = locks(&chain.tip().unwrap());
            let waiting = spend(&coin, |tx| {
                tx.lock_time = absolute;
                tx.input[0].sequence = relative.to_sequence();
            });
            run(&chain, &waiting, reason, case);
        }
    }
}

/// A spend of two coins waits for the younger.
#[test]
fn a_spend_of_two_coins_waits_for_both() {
    let mut chain = chain();
    let old = coin(&mut chain);
    chain.mine_empty(5).unwrap();
    let young = coin(&mut chain);
    let pair = [old, young];
    let waiting = Spend::of(&pair)
        .to(outputs(&pair[0]))
        .sequence(blocks(10).to_sequence());
    let waiting = waiting.sign().unwrap();
    let crossing = chain.stop_before(&waiting).unwrap();
    assert_eq!(
        (crossing.blocks.len(), crossing.to.height),
        (8, START_HEIGHT + 1 + 5 + 1 + 8),
        "{crossing}"
    );
    chain.node().rejects(&waiting, RELATIVE);
    chain.make_final(&waiting).unwrap();
    chain.node().accepts(&waiting);
}

/// What looks like a lock and is none: the node accepts each at once, and there is nothing to stop before.
#[test]
fn spends_that_are_not_locked() {
    let mut chain = chain();
    let coin = coin(&mut chain);
    let disabled = Sequence::from_consensus(0x8000_000a);
    let far = LockTime::from_height(chain.tip().unwrap().height + 1_000).unwrap();
    let spends = [
        ("no lock", spend(&coin, |_| {})),
        ("zero blocks", after(&coin, blocks(0))),
        ("zero units", after(&coin, units(0))),
        (
            "the bit that disables",
            spend(&coin, |tx| tx.input[0].sequence = disabled),
        ),
        (
            "version 1",
            spend(&coin, |tx| {
                tx.version = Version::ONE;
                tx.input[0].sequence = blocks(10).to_sequence();
            }),
        ),
        (
            "the final sequence",
            spend(&coin, |tx| {
                tx.lock_time = far;
                tx.input[0].sequence = Sequence::MAX;
            }),
        ),
    ];
    for (case, transaction) in spends {
        chain.node().accepts_at(&transaction, case);
        assert_eq!(chain.make_final(&transaction).unwrap().blocks, [], "{case}");
        let error = chain.stop_before(&transaction).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("transaction {} has no lock", transaction.compute_txid()),
            "{case}"
        );
    }
    for zero in [blocks(0), units(0)] {
        let error = chain
            .stop_before(Lock::relative(coin.outpoint, zero))
            .unwrap_err();
        assert_matches!(error, Error::InvalidRequest(InvalidRequest::LockPassed { .. }));
    }
}

/// 1. A coin in the mempool has no block to count from, as the node says too.
/// 2. Neither has one that never was.
/// 3. Nor one that is spent.
#[test]
fn a_relative_lock_needs_a_coin_in_a_block() {
    let mut chain = chain();
    let coin = coin(&mut chain);
    let parent = coin.spend(outputs(&coin)).unwrap();
    let child = link(&parent);
    let waiting = after(&child, blocks(1));
    let error = |chain: &Regtest| chain.make_final(&waiting).unwrap_err().to_string();
    assert_eq!(
        error(&chain),
        format!("coin {} does not exist or is spent", child.outpoint)
    );

    chain.node().broadcasts(&parent);
    assert_eq!(
        error(&chain),
        format!("coin {} is not confirmed: mine a block first", child.outpoint)
    );
    chain.node().rejects(&waiting, RELATIVE);

    chain.mine(1).unwrap();
    assert_eq!(chain.make_final(&waiting).unwrap().blocks, []);
    chain.mine_exactly(std::slice::from_ref(&waiting)).unwrap();
    assert_eq!(
        error(&chain),
        format!("coin {} does not exist or is spent", child.outpoint)
    );
}

/// What a crossing says of itself, for a journal or the message of a failed test.
#[test]
fn a_crossing_tells_its_blocks() {
    let mut chain = chain();
    let coin = coin(&mut chain);
    let told = [
        chain.stop_before(Lock::relative(coin.outpoint, blocks(3))),
        chain.make_final(Lock::relative(coin.outpoint, units(100))),
        chain.make_final(&after(&coin, units(100))),
        chain.make_final(&spend(&coin, |tx| {
            tx.lock_time = LockTime::from_time(START_TIME + 86_400).unwrap();
            tx.input[0].sequence = blocks(30).to_sequence();
        })),
    ];
    let told: Vec<_> = told
        .into_iter()
        .map(|crossing| crossing.unwrap().to_string())
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}
