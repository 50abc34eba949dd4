//! The harness on real nodes: one node, several, and electrs beside a node.

mod activation;
mod blocks;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "electrs")]
mod electrs;
mod faucet;
mod feerates;
mod locks;
mod mempool;
mod node;
mod package;
mod refused;
mod relative;
mod reorg;
mod reorg_methods;

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, BlockHash, OutPoint, Transaction, TxOut};
use spilman::regtest::{change, labelled_key, BlockContent, Coin, CoinKind, MineParams, Regtest, Spend};

const FEE: Amount = Amount::from_sat(1_000);

fn chain() -> Regtest {
    Regtest::start().unwrap_or_else(|error| panic!("{error}"))
}

fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

fn payee() -> SecretKey {
    labelled_key("spilman/test/payee")
}

/// Pays everything but a fee to the [`payee`].
fn outputs(coin: &Coin) -> Vec<TxOut> {
    let script = CoinKind::Segwit.script(&payee());
    vec![change(std::slice::from_ref(coin), &[], FEE, script).unwrap()]
}

/// A spend that pays this fee and the rest back to where the coin was.
fn paying(coin: &Coin, fee: Amount) -> Transaction {
    let script = coin.output.script_pubkey.clone();
    let rest = change(std::slice::from_ref(coin), &[], fee, script).unwrap();
    coin.spend(vec![rest]).unwrap()
}

/// An output that this key can spend.
fn made(transaction: &Transaction, vout: u32, key: SecretKey) -> Coin {
    Coin {
        outpoint: OutPoint::new(transaction.compute_txid(), vout),
        output: transaction.output[vout as usize].clone(),
        key,
        kind: CoinKind::Segwit,
        funding: transaction.clone(),
    }
}

/// The first output, which goes to the [`payee`].
fn link(transaction: &Transaction) -> Coin {
    made(transaction, 0, payee())
}

/// A block without transactions, of this time.
fn mine_at(chain: &Regtest, time: u32) {
    let params = MineParams {
        content: BlockContent::empty(),
        time: Some(time),
        ..MineParams::default()
    };
    chain.clock().miner().mine(chain.node(), params).unwrap();
}

fn locked(coin: &Coin, lock: LockTime) -> Transaction {
    Spend::of(std::slice::from_ref(coin))
        .to(outputs(coin))
        .lock_time(lock)
        .sign()
        .unwrap()
}

fn chain_hashes(chain: &Regtest) -> Vec<BlockHash> {
    let tip = chain.tip().unwrap().height;
    (0..=tip)
        .map(|height| chain.node().block_hash_at(height).unwrap())
        .collect()
}
