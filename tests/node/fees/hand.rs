//! Transactions that neither party makes, signed with the keys of both.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Sequence, Transaction, TxOut};
use spilman::regtest::{Coin, CoinKind};

use crate::common::channel::Channel;
use crate::common::spend;

fn unsigned(version: Version, from: OutPoint, output: Vec<TxOut>) -> Transaction {
    let tx = spend::unsigned(from, LockTime::ZERO, Sequence::MAX, output);
    Transaction { version, ..tx }
}

/// A spend of the funding output as the payments have it, but with this version and these outputs, signed by both.
pub fn both_sign(channel: &Channel, version: Version, output: Vec<TxOut>) -> Transaction {
    let tx = unsigned(version, channel.outpoint(), output);
    channel.both_sign(tx)
}

/// A spend of one coin back to the coin's own script, with more outputs of 294 satoshi to make it large, and the
/// coin that it makes.
pub fn child(coin: &Coin, version: Version, fee: Amount, more: usize) -> (Transaction, Coin) {
    let small = TxOut {
        value: Amount::from_sat(294),
        script_pubkey: CoinKind::Segwit.script(&coin.key),
    };
    let left = coin.value() - fee - small.value * more as u64;
    let mut output = vec![TxOut {
        value: left,
        script_pubkey: coin.output.script_pubkey.clone(),
    }];
    output.extend(vec![small; more]);
    let mut tx = unsigned(version, coin.outpoint, output);
    coin.sign(&mut tx).expect("it spends the coin");
    let made = Coin {
        outpoint: OutPoint::new(tx.compute_txid(), 0),
        output: tx.output[0].clone(),
        funding: tx.clone(),
        ..coin.clone()
    };
    (tx, made)
}
