//! One-way Bitcoin payment channels (Spilman channels) on a real Bitcoin Core regtest node.
//!
//! | room | feature | what it is for |
//! |---|---|---|
//! | `channel` | `channel` | the protocol, pure: parameters, transactions, verification, payer and payee as state machines |
//! | `wire` | `channel` | messages to bytes and back, with hard limits |
//! | `transcript` | `channel` | what happened, decoded from raw bytes, as text and JSON |
//! | `service` | `service` | a payer or a payee on a connection, and the chain as they see it; with `electrum`, through an electrum server |
//! | `adversary` | `scenario` | the messages of a dishonest side, each one change away from an honest one |
//! | `regtest` | `regtest` | the harness: nodes, mining, time, funds, and with `electrs` an electrum server; knows nothing of channels |
//! | `scenario` | `scenario` | the documented stories and the attacks, each on a node of its own |
//! | `fixtures` | `fixtures` | reference fixtures for other languages: written, read, checked |
//! | `conform` | `conform` | somebody else's payer or payee as a program, tested on a real node over its standard input and output |
//!
//! The default features bring them all; without any feature there is only this page.
//!
//! A whole channel: two parties, a wire in memory, a real node.
//!
//! ```
//! # #[cfg(feature = "scenario")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use spilman::bitcoin::{self, Amount, CompressedPublicKey, ScriptBuf};
//! use spilman::channel::{Capacity, ChannelId, ChannelKeys, KeyRole, Protocol, Terms};
//! use spilman::regtest::{change, CoinKind, Regtest};
//! use spilman::scenario::NodeChain;
//! use spilman::service::{accept, fresh_key, open, Chain, Proposal, Setup};
//!
//! let mut chain = Regtest::start()?;
//! let coin = chain.fund(Amount::from_sat(1_050_000), CoinKind::Segwit)?;
//! let runtime = tokio::runtime::Runtime::new()?;
//! runtime.block_on(async {
//!     // Each side has a fresh key, a script for its money, and a view of the chain.
//!     let keys = ChannelKeys::new([7; 32]); // a secret of your own
//!     let setup = |role| {
//!         let (_id, key) = fresh_key(&keys, role)?; // with its id, the key can be derived again
//!         let payout = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash());
//!         Ok::<_, Box<dyn std::error::Error>>(Setup::new(key, payout))
//!     };
//!     let views = [NodeChain::new(chain.node().clone())?, NodeChain::new(chain.node().clone())?];
//!     let capacity = Capacity::new(Amount::from_sat(1_000_000))?;
//!     let terms = Terms::new(Protocol::Example7, capacity, views[0].tip().await?).expect("a day ahead");
//!
//!     // The wallet signs a transaction for the funding output, and must not broadcast it.
//!     let wallet = |output: &bitcoin::TxOut| {
//!         let outputs = [output.clone()];
//!         let back = change(&[coin.clone()], &outputs, Amount::from_sat(500), coin.output.script_pubkey.clone())?;
//!         coin.spend(vec![output.clone(), back])
//!     };
//!     let (left, right) = tokio::io::duplex(8_192);
//!     let (payer, payee) = tokio::try_join!(
//!         open(left, views[0].clone(), setup(KeyRole::Payer)?, Proposal { id: ChannelId(1), terms }, wallet),
//!         accept(right, views[1].clone(), setup(KeyRole::Payee)?),
//!     )?;
//!
//!     // Three confirmations, of which both sides are told; then the payee says that payments count. Each payment is
//!     // the sum so far, so that it can be asked for again without paying twice.
//!     chain.mine(3)?;
//!     views.iter().for_each(NodeChain::announce);
//!     payer.status().wait_for(|status| status.stage == spilman::channel::Stage::Open).await?;
//!     payer.pay_up_to(Amount::from_sat(1_000)).await?;
//!     payer.pay_up_to(Amount::from_sat(3_000)).await?;
//!
//!     // The payee closes alone, with the newest payment.
//!     payee.close().await?;
//!     chain.mine(6)?;
//!     views.iter().for_each(NodeChain::announce);
//!     assert_eq!(payer.outcome().await?.to_payee, Amount::from_sat(3_000));
//!     Ok(())
//! })
//! # }
//! # #[cfg(not(feature = "scenario"))]
//! # fn main() {}
//! ```
//!
//! # Words
//!
//! The documents speak of the same things under several names.
//!
//! | here | the article | Example 7 | the guide | elsewhere |
//! |---|---|---|---|---|
//! | payer | Alice | client | Bob | payor, customer, sender |
//! | payee | Bob | server, AP | Alice | merchant, receiver |
//! | funding transaction | deposit in the 2-of-2 address | T1 | bond transaction | contract, deposit, anchor |
//! | refund transaction | time-limit refund of step 3 | T2 | refund transaction, version one | |
//! | payment transaction | time-limit refund of step 5 | T3 | version two and later of the refund transaction | commitment, update |
//! | settlement transaction | step 7 | the last T3 | final version | closing transaction |
//! | joint settlement, on `taproot` | | | | cooperative close, key path spend |
//! | expiry | nLockTime of step 3 | time lock of T2 | 24-hour locktime | |
//! | paid, always the sum so far | | value of T3's output to K2 | Alice's output | cumulative amount, balance |
//!
//! The guide counts in duffs and millidash: 1 duff is 1 satoshi, 1 millidash 100,000 satoshi.

/// The `bitcoin` crate whose types this crate takes and returns.
pub use bitcoin;

#[cfg(feature = "scenario")]
pub mod adversary;
#[cfg(feature = "channel")]
pub mod channel;
#[cfg(feature = "conform")]
pub mod conform;
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

/// The README's examples are compiled and run with the others.
#[cfg(all(doctest, feature = "regtest"))]
#[doc = include_str!("../README.md")]
struct Readme;
