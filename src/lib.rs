//! One-way Bitcoin payment channels on a real Bitcoin Core regtest node.

pub mod channel;
pub mod transcript;
pub mod wire;

#[cfg(feature = "regtest")]
pub mod regtest;
#[cfg(feature = "scenario")]
pub mod scenario;
#[cfg(feature = "service")]
pub mod service;
