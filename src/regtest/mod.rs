//! A real Bitcoin Core node for each test: start it, mine, move time, pay, and drop it.
//!
//! Nothing here depends on what is tested: a wallet, an indexer, a payment service or a payment channel.
//!
//! - [`Regtest`] is enough for most tests: a node with mature coins, and one call for each task.
//! - [`Node`] is one `bitcoind`, with typed functions for its RPCs and [`Node::client`] for all others.
//! - [`Miner`] builds every block itself, so that the chain does not depend on the version of the node.
//! - [`ChainClock`] moves height, mock time and median time past: "make this lock time final".
//! - [`Faucet`] makes funds from published keys, as legacy and as segwit outputs.
//! - `Electrs` (feature `electrs`) is an electrum server beside a node.
//! - [`MempoolVerdict`] is the node's answer to a transaction, the same in every Core version; [`PackageVerdict`]
//!   is the same for a package.
//! - [`Lock`] is what the clock can cross or stop before: absolute, relative, or all that locks a transaction.
//! - [`Reorg`] replaces the last blocks: transactions dropped, moved or replaced.
//! - [`Cluster`] is several nodes: connected, cut apart, stopped, killed, restarted.
//!
//! The [guide] shows how to test your own program with it.
//!
//! All of it is synchronous, for a plain `#[test]` and for a `#[tokio::test]`; the guide says when `spawn_blocking` is
//! better there. It uses neither the system clock nor random numbers: the same calls give the
//! same blocks, to the byte, on every run and every machine.
//!
//! ```
//! use spilman::bitcoin::{absolute::LockTime, Amount, TxOut};
//! use spilman::regtest::{CoinKind, Regtest, RejectReason, Spend};
//!
//! let mut chain = Regtest::start()?;
//! let coin = chain.fund(Amount::from_sat(100_000), CoinKind::Segwit)?;
//!
//! // A transaction that pays 500 satoshi as fee, locked until three blocks from now.
//! let output = TxOut { value: Amount::from_sat(99_500), script_pubkey: coin.output.script_pubkey.clone() };
//! let lock = LockTime::from_height(chain.tip()?.height + 3)?;
//! let tx = Spend::of(&[coin]).to(vec![output]).lock_time(lock).sign()?;
//!
//! chain.stop_before(lock)?;
//! assert!(chain.node().submit(&tx)?.rejected_for(RejectReason::NonFinal));
//! chain.make_final(lock)?;
//! assert!(chain.node().submit(&tx)?.is_accepted());
//!
//! let block = chain.mine(1)?.remove(0);
//! assert_eq!(block.txids, [tx.compute_txid()]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod best_block;
mod binary;
mod branch;
mod clock;
mod cluster;
mod coin;
#[cfg(feature = "electrs")]
mod electrs;
mod error;
mod evidence;
mod faucet;
mod initial_blocks;
mod keys;
mod lock;
mod miner;
mod node;
mod policy;
pub(crate) mod process;
#[allow(clippy::module_inception)] // the bundle has the name of what it is
mod regtest;
mod reorg;
mod resubmit;
mod run;
mod transport;
mod verdict;
mod wait;

pub mod guide {
    #![doc = include_str!("guide.md")]
}

pub use best_block::BestBlock;
pub use binary::{
    all_bitcoinds, bitcoind_at, find_bitcoind, find_bitcoind_version, find_electrs, BinaryError,
    BinarySource, FoundBinary,
};
/// The client crate of [`Node::client`], so that a user need not match its version.
pub use bitcoincore_rpc;
pub use clock::{ChainClock, ClockAdvance, BLOCK_INTERVAL};
pub use cluster::{wait_for_same_mempool, wait_for_same_tip, Cluster, ClusterBuilder, HeldBack, Topology};
pub use coin::{change, spend_coins, Coin, CoinKind, Spend};
#[cfg(feature = "electrs")]
pub use electrs::{ConfirmationProof, Electrs, ElectrsBuilder, HistoryEntry};
/// The client crate of [`Electrs::client`].
#[cfg(feature = "electrs")]
pub use electrum_client;
pub use error::{Error, InvalidRequest, NodeError};
pub use faucet::Faucet;
pub use keys::labelled_key;
pub use lock::{Lock, LockRequirement};
pub use miner::{BlockContent, MineParams, MinedBlock, Miner};
pub use node::mempool::{BlockTemplate, MempoolEntry, MempoolFees, TemplateTransaction};
pub use node::package::PackageVerdict;
pub use node::peers::Peer;
pub use node::rpc::Utxo;
pub use node::{Node, NodeBuilder, START_TIME};
pub use policy::Policy;
pub use process::{check_surroundings, Surrounding};
pub use regtest::{Regtest, RegtestBuilder, START_HEIGHT};
pub use reorg::{Reorg, ReorgResult};
pub use run::TestFailure;
pub use transport::{RPC_PASSWORD, RPC_USER};
pub use verdict::{MempoolVerdict, RejectReason, Rejection};
pub use wait::{wait_until, Poll};
