//! The protocol, without a node: the three conversations on every construction with everything that has to be refused,
//! messages and transactions as bytes and as text, what memory they take, and who may use whom in `src/`.

mod adversary;
mod allocations;
#[cfg(feature = "service")]
mod backup;
mod blind;
mod boundaries;
#[path = "../common/mod.rs"]
mod common;
mod counting;
mod crossing;
mod decode;
mod dust;
mod ends;
mod funding;
mod lives;
mod module_dependencies;
mod nonces;
mod overpaying;
mod properties;
#[cfg(feature = "service")]
mod records;
mod refusal_keeps_state;
mod refusals;
mod relative;
mod reorganisations;
mod resume;
mod states;
mod wire;

use common::pair;
