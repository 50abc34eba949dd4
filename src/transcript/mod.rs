//! What happened, for a reviewer.
//!
//! A transaction is always decoded from its raw bytes ([`decode`](decode())) and never from the structs
//! that built it, so a bug in a builder cannot hide from its own picture.
//!
//! ```
//! use bitcoin::{hex::FromHex, Network};
//! use spilman::transcript::{render, TextContext, Names};
//!
//! // The first payment ever made, in block 170.
//! let raw = Vec::from_hex(
//!     "0100000001c997a5e56e104102fa209c6a852dd90660a20b2d9c352423edce25857fcd3704000000004847304402\
//!      204e45e16932b8af514961a1d3a1a25fdf3f4f7732e9d624c6c61548ab5fb8cd410220181522ec8eca07de4860a4\
//!      acdd12909d831cc56cbbac4622082221a8768d1d0901ffffffff0200ca9a3b00000000434104ae1a62fe09c5f51b\
//!      13905f07f06b99a2f7159b2225f374cd378d71302fa28414e7aab37397f554a7df5f142c21c1b7303b8a0626f1ba\
//!      ded5c72a704f7e6cd84cac00286bee0000000043410411db93e1dcdb8a016b49840f8c53bc1eb68a382e97b1482e\
//!      cad7b148a6909a5cb2e0eaddfb84ccf9744464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3ac00000000",
//! )?;
//! let names = Names::default();
//! let context = TextContext { title: "block 170", prevouts: &[], names: &names, network: Network::Bitcoin };
//! assert!(render(&raw, &context)?.contains("1,000,000,000 sat (10.00000000 BTC)"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod decode;
#[cfg(feature = "json")]
mod files;
mod infer;
mod input;
mod item;
#[cfg(feature = "json")]
mod json;
mod keys;
mod locks;
mod names;
mod path;
mod problem;
mod record;
mod revealed;
mod script;
mod script_lock;
mod signature;
mod spend;
mod story;
pub mod text;
mod timeline;
mod units;

pub use decode::{decode, DecodeError, DecodedOutput, DecodedTx, Fee};
#[cfg(feature = "json")]
pub use files::{files, page};
pub use input::{DecodedInput, ScriptType, SpendKind};
pub use item::{DecodedControlBlock, IfBranch, ItemRole, StackItem};
#[cfg(feature = "json")]
pub use json::to_json;
pub use keys::ScriptKey;
pub use names::Names;
pub use path::Ask;
pub use problem::Problem;
pub use record::{Actor, Entry, MessagePosition, RecordedRejection, RecordedTx, Side, Transcript, Unit};
pub use script::asm;
pub use script_lock::ScriptLock;
pub use signature::{Algorithm, DecodedSignature, SignatureOwner};
pub use story::{story, BalanceComparison};
pub use text::{render, TextContext};
pub use timeline::timeline;
pub use units::{btc, sat, thousands, utc};
