//! Channels on real nodes.

mod attacks;
#[path = "../common/mod.rs"]
mod common;
mod descriptors;
mod fees;
mod scenarios;
mod service;
mod weights;
