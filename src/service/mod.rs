//! A payer or a payee on a connection: messages in frames over any stream of bytes, the chain through the
//! small [`Chain`] trait, and the state machine of [`crate::channel`] between them.
//!
//! - **A party runs in its own task**, from its first irrevocable act until the spend of the funding output is
//!   confirmed. Dropping a future or a handle does not end it; [`Handle::abort`] does, and so does the end of the runtime. Each
//!   method says whether it is cancel safe.
//! - **Payments are cumulative.** [`PayerHandle::pay_up_to`] takes the total and never pays twice. An error after a
//!   signature names the sum that the payee may hold.
//! - **A key serves one channel.** [`fresh_key`] draws one from a seed; a key that this process has used before is refused.
//! - **A channel may outlive its process.** With a store ([`Setup::store`]), nothing leaves a party before the store holds what it
//!   follows from. [`ChannelManager`] starts all parties of a store again, and [`PayerHandle::resume`] goes on with a channel on
//!   a new connection. If the store fails, the party takes no more payments.
//! - **A peer costs what you allow**: the manager serves many connections, and several channels on each, within [`Bounds`].
//! - **Failures around a party do not end it**: a view of the chain that fails, hangs or panics ([`Chain`]), an observer
//!   or a connection that panics. It goes on with what it knows, and [`Status`] says what is wrong. A wallet that fails,
//!   hangs or panics ([`Wallet`]) ends the opening, with nothing locked.
//!
//! What a party tells its user are [`Report`]s. The [`Observer`] takes them as values; with the feature `tracing` they are
//! events of that crate, too, with the target `spilman::service`. Each has a field `report` with its kind, such as
//! `broadcast`, and its own fields: `role` and `txid`, and `reason` if the node rejected it. They are in a span
//! `channel` with the fields `side`, `channel` and `funding`.
//!
//! The crate's front page runs both sides on a real node. What a payer's user writes:
//!
//! ```
//! use bitcoin::Amount;
//! use spilman::service::{Chain, Proposal, Setup, Wallet};
//! use tokio::net::TcpStream;
//!
//! /// Opens a channel over TCP, pays a satoshi a hundred times, and waits for the end.
//! async fn pay<C: Chain>(
//!     stream: TcpStream,
//!     chain: C,
//!     setup: Setup,
//!     proposal: Proposal,
//!     wallet: impl Wallet,
//! ) -> Result<(), Box<dyn std::error::Error>> {
//!     let payer = setup.open(stream, chain, proposal, wallet).await?;
//!     for total in 1..=100 {
//!         // Always the sum so far, so that a call can be repeated.
//!         payer.pay_up_to(Amount::from_sat(total)).await?;
//!     }
//!     payer.close().await?;
//!     let outcome = payer.outcome().await?;
//!     println!("{} came back", outcome.to_payer);
//!     Ok(())
//! }
//! ```

mod backoff;
#[cfg(feature = "bitcoind-rpc")]
mod bitcoind;
mod chain;
mod connection;
#[cfg(feature = "electrum")]
mod electrum;
mod fees;
mod guard;
mod handle;
mod hello;
mod keys;
mod manager;
mod mux;
#[cfg(any(feature = "bitcoind-rpc", feature = "electrum"))]
mod node_verdict;
mod open;
mod open_error;
mod party;
mod payee_connection;
mod report;
mod request;
mod resume_error;
mod session;
mod setup;
mod teller;
mod timing;
mod trace;
mod wallet;
mod watcher;

pub mod hazards {
    #![doc = include_str!("hazards.md")]
}

pub use backoff::Backoff;
/// The `bitcoincore-rpc` crate whose client [`BitcoindChain`] takes.
#[cfg(feature = "bitcoind-rpc")]
pub use bitcoincore_rpc;
#[cfg(feature = "bitcoind-rpc")]
pub use bitcoind::{rpc_client, BitcoindChain};
pub use chain::{Chain, ChainError, Watched};
pub use connection::{codec, ConnectionError};
#[cfg(feature = "electrum")]
pub use electrum::ElectrumChain;
pub use fees::{FeeBudget, Fees};
pub use handle::{
    BumpError, Handle, OutcomeError, PayeeHandle, PayeeSide, PayerHandle, PayerSide, RequestError,
};
pub use keys::{fresh_key, KeyReuse, RandomnessError};
pub use manager::{Bounds, ChannelManager, ChannelManagerBuilder, ManagerObserver, RestartError};
pub use open_error::OpenError;
pub use payee_connection::PayeeConnection;
pub use report::{no_observer, Observer, ObserverPanic, Report, Status};
pub use request::PayError;
pub use resume_error::{ChannelError, HelloError, ResumeError};
pub use setup::{Proposal, Setup};
pub use timing::{ACKNOWLEDGE_TIMEOUT, OPENING_TIMEOUT, WALLET_TIMEOUT};
pub use wallet::{wallet_fn, ChildSigner, Wallet, WalletError, WalletFn};
