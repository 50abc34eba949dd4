//! What happened, for a person who wants to check it.
//!
//! A transaction is always decoded from its raw bytes ([`decode`](decode())) and never from the structs
//! that built it, so a bug in a builder cannot hide from its own picture.

pub mod decode;
#[cfg(feature = "scenario")]
mod files;
#[cfg(feature = "scenario")]
mod json;
mod locate;
mod names;
mod record;
mod script;
mod signature;
mod spend;
mod story;
pub mod text;
mod timeline;
mod units;

pub use decode::{decode, DecodeError, DecodedInput, DecodedOutput, DecodedTx, Fee, ScriptType};
#[cfg(feature = "scenario")]
pub use files::{files, page};
#[cfg(feature = "scenario")]
pub use json::to_json;
pub use names::Names;
pub use record::{Actor, Entry, RecordedTx, Rejection, Transcript, Unit};
pub use signature::{DecodedSignature, Signer};
pub use spend::{Item, Problem, Role, SpendKind};
pub use story::{story, Comparison};
pub use text::{render, Context};
pub use timeline::timeline;
pub use units::{btc, sat, thousands, utc};
