//! The three ways of reorganising leave the same chain contents and the same mempool.

use std::slice;
use std::thread;

use bitcoin::absolute::LockTime;
use bitcoin::{OutPoint, Sequence, Transaction, TxOut, Txid};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use spilman::regtest::{
    change, Coin, CoinKind, Error, Node, Regtest, RejectReason, Reorg, ReorgResult, Spend, BLOCK_INTERVAL,
};

use crate::common::judge::Judge as _;
use crate::reorg::{sorted, Family, FIRST};
use crate::{chain, link, outputs, payee, sat, FEE};

#[derive(Debug, Clone, Copy)]
enum Way {
    Apply,
    Invalidation,
    Rival,
}

const WAYS: [Way; 3] = [Way::Apply, Way::Invalidation, Way::Rival];

impl Way {
    fn go(self, reorg: Reorg<'_>) -> Result<ReorgResult, Error> {
        match self {
            Self::Apply => reorg.apply(),
            Self::Invalidation => reorg.by_invalidation(),
            Self::Rival => reorg.by_rival(&Node::builder().p2p(true).start()?),
        }
    }
}

/// 1. What spends from a dropped transaction goes with it, from later blocks, too.
/// 2. What spends from a replaced one does so, and is lost.
#[test]
fn what_spends_from_a_dropped_transaction_goes_with_it() {
    for way in WAYS {
        let family = Family::new();
        let (parent, child) = (&family.parent, &family.child);
        let reorg = way
            .go(family.chain.reorg(3).drop_tx(parent.compute_txid()))
            .unwrap();
        assert_eq!(reorg.dropped, [parent.clone(), child.clone()], "{way:?}");
        assert_eq!(reorg.lost, [], "{way:?}");
        assert_eq!(family.mempool(), sorted([parent, child]), "{way:?}");

        let family = Family::new();
        let replacing = family
            .chain
            .reorg(3)
            .replace(parent.compute_txid(), family.conflict());
        let reorg = way.go(replacing).unwrap();
        assert_eq!(reorg.dropped, [parent.clone(), child.clone()], "{way:?}");
        let lost: Vec<_> = reorg.lost.iter().map(|(tx, why)| (tx, why.reason)).collect();
        let missing = RejectReason::MissingInputs;
        assert_eq!(lost, [(parent, missing), (child, missing)], "{way:?}");
        assert_eq!(family.mempool(), [], "{way:?}");
    }
}

/// All but those that are moved or replaced by name.
#[test]
fn all_can_be_dropped() {
    for way in WAYS {
        let family = Family::new();
        let all = [&family.coin.funding, &family.parent, &family.child];
        let reorg = way.go(family.chain.reorg(3).drop_all()).unwrap();
        assert_eq!(reorg.dropped, all.map(Clone::clone), "{way:?}");
        assert_eq!(family.mempool(), sorted(all), "{way:?}");
        assert!(reorg.new.iter().all(|block| block.txids.is_empty()), "{way:?}");

        let family = Family::new();
        let moved = family
            .chain
            .reorg(3)
            .drop_all()
            .move_to(family.funding(), FIRST + 2);
        let reorg = way.go(moved).unwrap();
        assert_eq!(reorg.new[2].txids, [family.funding()], "{way:?}");
        assert_eq!(
            family.mempool(),
            sorted([&family.parent, &family.child]),
            "{way:?}"
        );
    }
}

/// One replacement that spends the coins of two transactions takes the place of both.
#[test]
fn a_replacement_drops_whatever_spends_the_same() {
    let mut chain = chain();
    let coins = [0, 1].map(|_| chain.fund(sat(100_000), CoinKind::Segwit).unwrap());
    let spends = [0, 1].map(|index| coins[index].spend(outputs(&coins[index])).unwrap());
    chain.mine_exactly(&spends).unwrap();
    let rest = change(&coins, &[], FEE * 4, CoinKind::Segwit.script(&payee())).unwrap();
    let both = Spend::of(&coins).to(vec![rest]).sign().unwrap();
    let reorg = chain
        .reorg(1)
        .replace(spends[0].compute_txid(), both.clone())
        .apply()
        .unwrap();
    assert_eq!(reorg.new[0].txids, [both.compute_txid()]);
    assert_eq!(reorg.dropped, spends);
    assert_eq!(chain.node().mempool().unwrap(), []);
}

/// Final at the end, but not where the blocks were taken back to: by height, by time, and relative to a parent.
#[test]
fn what_was_not_final_at_the_fork_comes_back() {
    for way in WAYS {
        let mut chain = Regtest::builder().p2p(true).start().unwrap();
        let coins = [0, 1, 2].map(|_| chain.fund(sat(100_000), CoinKind::Segwit).unwrap());
        let fork = chain.tip().unwrap();
        chain.mine(12).unwrap();
        let tip = chain.tip().unwrap();
        let spend = |coin: &Coin| Spend::of(slice::from_ref(coin)).to(outputs(coin)).sign().unwrap();
        let locked = |coin: &Coin, lock| {
            Spend::of(slice::from_ref(coin))
                .to(outputs(coin))
                .lock_time(lock)
                .sign()
                .unwrap()
        };
        let by_height = locked(&coins[0], LockTime::from_height(tip.height).unwrap());
        let by_time = locked(&coins[1], LockTime::from_time(tip.mtp - 1).unwrap());
        let relative = Spend::of(slice::from_ref(&coins[2]))
            .to(outputs(&coins[2]))
            .sequence(Sequence::from_height(12));
        let relative = relative.sign().unwrap();
        let all = [&by_height, &by_time, &relative];
        chain.mine_exactly(&all.map(Clone::clone)).unwrap();
        // With a child of one of them in the mempool.
        let child = spend(&link(&by_time));
        chain.node().broadcasts(&child);

        let depth = chain.tip().unwrap().height - fork.height;
        let reorg = way.go(chain.reorg(depth).drop_all()).unwrap();
        assert_eq!(reorg.lost, [], "{way:?}");
        let expected = sorted([&by_height, &by_time, &relative, &child]);
        assert_eq!(chain.node().mempool().unwrap(), expected, "{way:?}");
    }
}

/// A shorter branch: what is not final there is said to be lost, what is below the node's feerate is not.
#[test]
fn what_cannot_return_is_named() {
    let mut chain = chain();
    let coins = [0, 1].map(|_| chain.fund(sat(100_000), CoinKind::Segwit).unwrap());
    let free = coins[0].spend(vec![coins[0].output.clone()]).unwrap();
    chain.mine(3).unwrap();
    let height = LockTime::from_height(chain.tip().unwrap().height).unwrap();
    let locked = crate::locked(&coins[1], height);
    chain.mine_exactly(&[free.clone(), locked.clone()]).unwrap();
    let reorg = chain.reorg(4).length(1).by_invalidation().unwrap();
    assert_eq!(chain.node().mempool().unwrap(), [free.compute_txid()]);
    let [(lost, why)] = &reorg.lost[..] else {
        panic!("{reorg:?}")
    };
    assert_eq!((lost, why.reason), (&locked, RejectReason::NonFinal));
    // It is in the mempool as what it is.
    let entry = chain.node().mempool_entry(free.compute_txid()).unwrap().unwrap();
    assert_eq!((entry.fees.base, entry.fees.modified.to_sat()), (sat(0), 0));
}

#[derive(Debug, Clone, Copy)]
enum Locked {
    No,
    Height(u32),
    Time(u32),
    Blocks(u16),
    Seconds(u16),
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Stays,
    Drop,
    MoveTo(u32),
    Replace,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    /// Spends from this one before it, if there is one.
    parent: Option<usize>,
    locked: Locked,
    /// Before which of the blocks it is given to the node.
    given: u32,
    fate: Fate,
}

#[derive(Debug, Clone)]
struct Story {
    items: Vec<Item>,
    depth: u32,
    longer: u32,
    drop_all: bool,
}

fn item() -> impl Strategy<Value = Item> {
    let locked = prop_oneof![
        3 => Just(Locked::No),
        2 => (1_u32..5).prop_map(Locked::Height),
        2 => (0_u32..4).prop_map(Locked::Time),
        2 => (1_u16..4).prop_map(Locked::Blocks),
        1 => (1_u16..4).prop_map(Locked::Seconds),
    ];
    let fate = prop_oneof![
        4 => Just(Fate::Stays),
        2 => Just(Fate::Drop),
        2 => (0_u32..5).prop_map(Fate::MoveTo),
        1 => Just(Fate::Replace),
    ];
    let parent = prop::option::weighted(0.6, 0_usize..6);
    (parent, locked, 0_u32..4, fate).prop_map(|(parent, locked, given, fate)| Item {
        parent,
        locked,
        given,
        fate,
    })
}

fn story() -> impl Strategy<Value = Story> {
    let items = prop::collection::vec(item(), 3..8);
    (items, 2_u32..5, 1_u32..3, prop::bool::weighted(0.2)).prop_map(|(items, depth, longer, drop_all)| {
        Story {
            items,
            depth,
            longer,
            drop_all,
        }
    })
}

/// What can be seen after it, without what differs between the ways: the hashes.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Nothing if it was refused.
    dropped: Option<Vec<Txid>>,
    lost: Vec<(Txid, RejectReason)>,
    blocks: Vec<Vec<Txid>>,
    mempool: Vec<Txid>,
    next: Vec<Txid>,
}

impl Story {
    fn transactions(&self, chain: &mut Regtest) -> Vec<Transaction> {
        let coins: Vec<_> = self
            .items
            .iter()
            .map(|_| chain.fund(sat(100_000), CoinKind::Segwit).unwrap())
            .collect();
        let tip = chain.tip().unwrap();
        let mut made: Vec<Transaction> = Vec::new();
        let mut spent = Vec::new();
        for (item, own) in self.items.iter().zip(coins) {
            let parent = item
                .parent
                .filter(|parent| *parent < made.len() && !spent.contains(parent));
            spent.extend(parent);
            let coin = parent.map_or(own, |parent| link(&made[parent]));
            let spend = Spend::of(slice::from_ref(&coin)).to(outputs(&coin));
            let spend = match item.locked {
                Locked::No => spend,
                Locked::Height(blocks) => spend.lock_time(LockTime::from_consensus(tip.height + blocks)),
                Locked::Time(blocks) => {
                    spend.lock_time(LockTime::from_consensus(tip.mtp + blocks * BLOCK_INTERVAL))
                }
                Locked::Blocks(blocks) => spend.sequence(Sequence::from_height(blocks)),
                Locked::Seconds(units) => spend.sequence(Sequence::from_512_second_intervals(units)),
            };
            made.push(spend.sign().unwrap());
        }
        made
    }

    fn play(&self, way: Way) -> Seen {
        let mut chain = Regtest::builder().p2p(true).start().unwrap();
        let transactions = self.transactions(&mut chain);
        let node = chain.node().clone();
        let fork = chain.tip().unwrap().height;
        for block in 0..self.depth {
            for (item, transaction) in self.items.iter().zip(&transactions) {
                if item.given <= block {
                    let _ = node.submit(transaction).unwrap();
                }
            }
            chain.mine(1).unwrap();
        }
        for transaction in &transactions {
            let _ = node.submit(transaction).unwrap();
        }
        let before = (chain.tip().unwrap(), node.mempool().unwrap());

        let mined = (fork + 1..=fork + self.depth).flat_map(|height| node.block_at(height).unwrap().txdata);
        let mined: Vec<Txid> = mined.map(|transaction| transaction.compute_txid()).collect();
        let length = self.depth + self.longer;
        let mut reorg = chain.reorg(self.depth).length(length);
        for (item, transaction) in self.items.iter().zip(&transactions) {
            let txid = transaction.compute_txid();
            reorg = match item.fate {
                _ if !mined.contains(&txid) => reorg,
                Fate::Stays => reorg,
                Fate::Drop => reorg.drop_tx(txid),
                Fate::MoveTo(block) => reorg.move_to(txid, fork + 1 + block % length),
                Fate::Replace => reorg.replace(txid, conflict(transaction, &transactions, &chain)),
            };
        }
        if self.drop_all {
            reorg = reorg.drop_all();
        }
        let done = way.go(reorg);
        if done.is_err() {
            assert_eq!(
                before,
                (chain.tip().unwrap(), node.mempool().unwrap()),
                "after {done:?}"
            );
        }
        let mempool = node.mempool().unwrap();
        let height = chain.tip().unwrap().height;
        let blocks = (fork + 1..=height).map(|height| node.block_at(height).unwrap().txdata[1..].to_vec());
        let ids = |txs: Vec<Transaction>| txs.iter().map(Transaction::compute_txid).collect::<Vec<_>>();
        let blocks = blocks.map(ids).collect();
        let (dropped, lost) = match done {
            Ok(done) => (Some(ids(done.dropped)), done.lost),
            Err(_) => (None, Vec::new()),
        };
        Seen {
            dropped,
            lost: lost
                .iter()
                .map(|(tx, why)| (tx.compute_txid(), why.reason))
                .collect(),
            blocks,
            mempool,
            next: chain.mine(1).unwrap().remove(0).txids,
        }
    }
}

/// Spends the same coin, with another fee and without a lock.
fn conflict(transaction: &Transaction, transactions: &[Transaction], chain: &Regtest) -> Transaction {
    let spent = transaction.input[0].previous_output;
    let parent = transactions
        .iter()
        .find(|parent| parent.compute_txid() == spent.txid);
    let value = transaction.output[0].value - FEE;
    let output = TxOut {
        value,
        script_pubkey: transaction.output[0].script_pubkey.clone(),
    };
    let coin = parent.map_or_else(|| funded(spent, chain), link);
    coin.spend(vec![output]).unwrap()
}

/// A coin of the faucet, found again by what it is.
fn funded(outpoint: OutPoint, chain: &Regtest) -> Coin {
    let height = chain.tip().unwrap().height;
    let funding = (1..=height).rev().find_map(|height| {
        let block = chain.node().block_at(height).unwrap();
        block
            .txdata
            .into_iter()
            .find(|tx| tx.compute_txid() == outpoint.txid)
    });
    let funding = funding.unwrap();
    let output = funding.output[outpoint.vout as usize].clone();
    let mut keys = (0..8).map(|number| spilman::regtest::labelled_key(&format!("spilman/faucet/{number}")));
    let key = keys.find(|key| CoinKind::Segwit.script(key) == output.script_pubkey);
    Coin {
        outpoint,
        output,
        key: key.unwrap(),
        kind: CoinKind::Segwit,
        funding,
    }
}

/// Locks, chains of children, transactions dropped, moved and replaced: whatever the way, the blocks, the mempool, and what
/// was dropped and lost are the same; and if one way refuses, all do, and leave all as it was.
#[test]
fn the_three_ways_agree() {
    let config = Config {
        cases: 12,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&story(), |story| {
        let [apply, invalidation, rival] = thread::scope(|scope| {
            let plays = WAYS.map(|way| {
                scope.spawn({
                    let story = &story;
                    move || story.play(way)
                })
            });
            plays.map(|play| play.join().unwrap())
        });
        prop_assert_eq!(&apply, &invalidation, "{:?}", story);
        prop_assert_eq!(&apply, &rival, "{:?}", story);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
