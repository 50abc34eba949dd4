//! What several test binaries need.
#![allow(dead_code, unused_imports, reason = "each binary uses a part of it")]

#[cfg(feature = "regtest")]
pub mod child;
#[cfg(all(feature = "channel", feature = "regtest"))]
pub mod duo;
#[cfg(feature = "regtest")]
pub mod judge;
#[cfg(feature = "channel")]
pub mod open;
#[cfg(feature = "channel")]
pub mod pair;
#[cfg(feature = "scenario")]
pub mod parties;
#[cfg(feature = "scenario")]
pub mod play;
#[cfg(feature = "regtest")]
pub mod proc;
#[cfg(all(feature = "channel", feature = "regtest"))]
pub mod spend;
#[cfg(feature = "regtest")]
pub mod wait;
