//! The same locks in a story.

use bitcoin::consensus::encode::serialize;
use bitcoin::transaction::Version;
use bitcoin::{Network, Sequence, Transaction};
use spilman::channel::{Construction, Protocol};
use spilman::transcript::{story, Actor, Entry, Names, RecordedTx, Transcript, Unit};

use super::build::spend;

fn told(tx: &Transaction) -> String {
    let refund = RecordedTx {
        name: "refund".to_owned(),
        by: Actor::Payer,
        raw: serialize(tx),
        prevouts: Vec::new(),
    };
    story(&Transcript {
        scenario: "relative".to_owned(),
        summary: "a refund with a relative lock".to_owned(),
        protocol: Protocol::Example7,
        construction: Construction::P2sh,
        unit: Unit::Satoshi,
        network: Network::Regtest,
        entries: vec![Entry::Built {
            by: Actor::Payer,
            name: "refund".to_owned(),
        }],
        transactions: vec![refund],
        names: Names::default(),
    })
}

#[test]
fn a_relative_lock_is_told() {
    let text = told(&spend(0, Sequence::from_height(10)));
    let line = "      locked until the spent output has 10 confirmations";
    assert!(
        text.lines().any(|found| found == line),
        "no line {line:?} in:\n{text}"
    );

    let text = told(&spend(0, Sequence::from_512_second_intervals(3)));
    let words = "locked until the median time past is 1,536 seconds above that of the block before the spent";
    assert!(text.contains(words), "{words:?} is not in:\n{text}");

    // Version 1 has no relative locks, and a set bit 31 is none.
    let mut old = spend(0, Sequence::from_height(10));
    old.version = Version::ONE;
    for tx in [old, spend(0, Sequence(0x8000_000a))] {
        assert!(!told(&tx).contains("locked until"), "{}", told(&tx));
    }
}
