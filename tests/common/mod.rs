//! What several test programs need.

#![allow(dead_code)] // each of them uses a part

pub mod duo;
pub mod parties;
pub mod play;
pub mod spend;
