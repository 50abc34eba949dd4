//! The guide: how channels work, and how to use each part of this crate.
//!
//! | page | about |
//! |---|---|
//! | [channels](channels/index.html) | the life of a channel, protocols, closing, and why not Lightning |
//! | [constructions](constructions/index.html) | the funding output, which one to choose, and what it costs |
//! | [scenarios](scenarios/index.html) | stories on a real node, and what they write |
//! | [harness](../regtest/guide/index.html) | a real `bitcoind` in your own tests |
//! | [fixtures](fixtures/index.html) | reference fixtures for other languages |
//! | [conformance](conformance/index.html) | testing another implementation |
//! | [live](live/index.html) | channels from the command line, on test networks |
//! | [safety](safety/index.html) | what is protected, and [what you must not do](../service/hazards/index.html) |
//! | [comparison](comparison/index.html) | other harnesses and channel implementations |
//! | [glossary](glossary/index.html) | the words of this crate and of the documents |
//!
//! A page exists only with its features.

#[cfg(feature = "service")]
pub mod channels {
    #![doc = include_str!("guide/channels.md")]
}

#[cfg(feature = "channel")]
pub mod constructions {
    #![doc = include_str!("guide/constructions.md")]
    #![doc = include_str!("channel/weights.md")]
}

#[cfg(feature = "scenario")]
pub mod scenarios {
    #![doc = include_str!("guide/scenarios.md")]
}

#[cfg(feature = "fixtures")]
pub mod fixtures {
    #![doc = include_str!("guide/fixtures.md")]
}

#[cfg(feature = "conform")]
pub mod conformance {
    #![doc = include_str!("guide/conformance.md")]
}

#[cfg(feature = "cli")]
pub mod live {
    #![doc = include_str!("guide/live.md")]
}

#[cfg(feature = "service")]
pub mod safety {
    #![doc = include_str!("guide/safety.md")]
}

#[cfg(feature = "channel")]
pub mod comparison {
    #![doc = include_str!("guide/comparison.md")]
}

pub mod glossary {
    #![doc = include_str!("guide/glossary.md")]
}
