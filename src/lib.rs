//! One-way Bitcoin payment channels (Spilman channels) on a real Bitcoin Core regtest node.
//!
//! | module | feature | what it is for |
//! |---|---|---|
//! | `channel` | `channel` | the protocol, pure: parameters, transactions, verification, payer and payee as state machines |
//! | `wire` | `channel` | messages to bytes and back, with hard limits |
//! | `sim` | `channel` | both parties in memory, with a network that may lose or change what they say |
//! | `transcript` | `channel` | what happened, decoded from raw bytes, as text, and with `json` as JSON |
//! | `json` | `json` | the JSON forms that fixtures, conformance tests and transcripts share |
//! | `service` | `service` | a payer or a payee on a connection, and their view of the chain: with `bitcoind-rpc` by a node's RPC, with `electrum` through an electrum server |
//! | `store` | `service` | where channels outlive the process: a trait, a store in memory, and with `sqlite` one in a file |
//! | `adversary` | `channel` | the messages of a dishonest side, each one change away from an honest one |
//! | `regtest` | `regtest` | the harness: nodes, mining, time, funds, and with `electrs` an electrum server; independent of channels |
//! | `scenario` | `scenario` | the documented stories and the attacks, each on a separate node |
//! | `fixtures` | `fixtures` | reference fixtures for other languages: written, read, checked |
//! | `conform` | `conform` | another implementation's payer or payee, tested as a program on a real node |
//!
//! The default is `regtest`; `cli` enables all of them.
//!
//! A whole channel: two parties, a connection in memory, a real node.
//!
//! ```
//! # #[cfg(feature = "scenario")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use spilman::bitcoin::{self, Amount, CompressedPublicKey, ScriptBuf};
//! use spilman::channel::{Capacity, ChannelId, ChannelKeys, KeyRole, Terms};
//! use spilman::regtest::{change, wait_until, CoinKind, Poll, Regtest};
//! use spilman::service::{fresh_key, wallet_fn, BitcoindChain, Chain, Proposal, Setup};
//!
//! let mut chain = Regtest::start()?;
//! let coin = chain.fund(Amount::from_sat(1_050_000), CoinKind::Segwit)?;
//! let runtime = tokio::runtime::Runtime::new()?;
//! runtime.block_on(async {
//!     // Each side has a fresh key, a script for its money, and a view of the chain.
//!     let keys = ChannelKeys::new([7; 32]); // your secret
//!     let setup = |role| {
//!         let (_id, key) = fresh_key(&keys, role)?; // with its id, the key can be derived again
//!         let payout = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash());
//!         Ok::<_, Box<dyn std::error::Error>>(Setup::new(key, payout))
//!     };
//!     let views = [(), ()].map(|()| BitcoindChain::when_announced(chain.node().new_client()));
//!     let capacity = Capacity::new(Amount::from_sat(1_000_000))?;
//!     let terms = Terms::new(capacity, views[0].tip().await?)?; // Taproot
//!
//!     // The wallet signs a transaction for the funding output, and must not broadcast it.
//!     let wallet = wallet_fn(|output: &bitcoin::TxOut| {
//!         let outputs = [output.clone()];
//!         let back = change(&[coin.clone()], &outputs, Amount::from_sat(500), coin.output.script_pubkey.clone())?;
//!         coin.spend(vec![output.clone(), back])
//!     });
//!     let (left, right) = tokio::io::duplex(8_192);
//!     let (payer, payee) = tokio::try_join!(
//!         setup(KeyRole::Payer)?.open(left, views[0].clone(), Proposal { id: ChannelId(1), terms }, wallet),
//!         setup(KeyRole::Payee)?.accept(right, views[1].clone()),
//!     )?;
//!
//!     // After three confirmations the payee announces that payments count. Each payment is the total so far, so that
//!     // it can be repeated without paying twice.
//!     chain.mine(3)?;
//!     views.iter().for_each(BitcoindChain::announce);
//!     payer.status().wait_for(|status| status.stage == spilman::channel::Stage::Open).await?;
//!     payer.pay_up_to(Amount::from_sat(1_000)).await?;
//!     payer.pay_up_to(Amount::from_sat(3_000)).await?;
//!
//!     // The payee closes. The payer signs with it, so that the settlement looks like any other payment.
//!     payee.close().await?;
//!     let settled = || match chain.node().mempool_spender(payee.funding().outpoint())? {
//!         Some(txid) => Ok(Poll::Ready(txid)),
//!         None => Ok(Poll::Pending("an unspent funding output".to_owned())),
//!     };
//!     wait_until("the settlement", Duration::from_secs(20), settled)?;
//!     chain.mine(6)?;
//!     views.iter().for_each(BitcoindChain::announce);
//!     assert_eq!(payer.outcome().await?.to_payee, Amount::from_sat(3_000));
//!     Ok(())
//! })
//! # }
//! # #[cfg(not(feature = "scenario"))]
//! # fn main() {}
//! ```
//!
//! The [guide] explains channels, constructions, the harness, fixtures and conformance tests, and has a glossary.

#![cfg_attr(docsrs, feature(doc_cfg))]

/// The `bitcoin` crate whose types this crate takes and returns.
pub use bitcoin;

#[cfg(feature = "channel")]
pub mod adversary;
#[cfg(feature = "channel")]
pub mod channel;
#[cfg(feature = "conform")]
pub mod conform;
pub mod guide;
#[cfg(feature = "json")]
pub mod json;
#[cfg(feature = "channel")]
pub mod sim;
#[cfg(feature = "channel")]
pub mod transcript;
#[cfg(feature = "channel")]
pub mod wire;

#[cfg(feature = "fixtures")]
pub mod fixtures;

#[cfg(feature = "regtest")]
pub mod regtest;
#[cfg(feature = "scenario")]
pub mod scenario;
#[cfg(feature = "service")]
pub mod service;
#[cfg(feature = "service")]
pub mod store;

/// The README's examples are compiled and run with the others.
#[cfg(all(doctest, feature = "regtest"))]
#[doc = include_str!("../README.md")]
struct Readme;
