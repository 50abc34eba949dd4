//! A payer or a payee on a connection: messages in frames over any stream of bytes, the chain through the
//! small [`Chain`] trait, and the state machine of [`crate::channel`] between them.
//!
//! The crate's front page runs both sides on a real node. What a payer's user writes:
//!
//! ```
//! use bitcoin::{Amount, Transaction, TxOut};
//! use spilman::service::{open, Chain, Proposal, RequestError, Setup};
//! use tokio::net::TcpStream;
//!
//! /// Opens a channel over TCP, pays a satoshi a hundred times, and waits for the end.
//! async fn pay<C: Chain>(
//!     stream: TcpStream,
//!     chain: C,
//!     setup: Setup,
//!     proposal: Proposal,
//!     wallet: impl FnOnce(&TxOut) -> Result<Transaction, String>,
//! ) -> Result<(), Box<dyn std::error::Error>> {
//!     let payer = open(stream, chain, setup, proposal, wallet).await?;
//!     for _ in 0..100 {
//!         payer.pay(Amount::ONE_SAT).await?;
//!     }
//!     payer.close().await?;
//!     let outcome = payer.outcome().await.ok_or(RequestError::Ended)?;
//!     println!("{} came back", outcome.to_payer);
//!     Ok(())
//! }
//! ```

mod backoff;
mod chain;
mod connection;
#[cfg(feature = "electrum")]
mod electrum;
mod handle;
mod open;
mod party;
mod report;
mod request;
mod session;

pub use backoff::Backoff;
pub use chain::{Chain, ChainError};
pub use connection::{codec, ConnectionError};
#[cfg(feature = "electrum")]
pub use electrum::ElectrumChain;
pub use handle::{BumpError, Handle, PayeeHandle, PayerHandle, RequestError, ACKNOWLEDGE_TIMEOUT};
pub use open::{accept, open, OpenError, Proposal, Setup, OPENING_TIMEOUT};
pub use report::{no_observer, Observer, Report, Status};
pub use request::PayError;
