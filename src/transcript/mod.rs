//! What happened, for a person who wants to check it.
//!
//! A transaction is always decoded from its raw bytes ([`decode`](decode())) and never from the structs
//! that built it, so a bug in a builder cannot hide from its own picture.

pub mod decode;
mod locate;
mod names;
mod script;
mod signature;
mod spend;
pub mod text;
mod units;

pub use decode::{decode, DecodeError, DecodedInput, DecodedOutput, DecodedTx, Fee, ScriptType};
pub use names::Names;
pub use signature::{DecodedSignature, Signer};
pub use spend::{Item, Problem, Role, SpendKind};
pub use text::{render, Context};
pub use units::{btc, sat, thousands, utc};
