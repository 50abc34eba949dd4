//! A payer or a payee on a connection: messages in frames over any stream of bytes, the chain through the
//! small [`Chain`] trait, and the state machine of [`crate::channel`] between them.

mod chain;
mod connection;
mod open;
mod report;
mod session;

pub use chain::{Chain, ChainError};
pub use connection::{codec, ConnectionError};
pub use open::{
    accept, open, Handle, OpenError, PayeeHandle, PayerHandle, Proposal, RequestError, Setup, OPENING_TIMEOUT,
};
pub use report::{no_observer, Observer, Report, Status};
pub use session::PayError;
