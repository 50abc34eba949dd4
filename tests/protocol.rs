//! The three conversations without a node, on every construction: honest lives, everything that has to be refused, both
//! sides of every boundary, and what a reorganisation does.

#[path = "common/pair.rs"]
mod pair;

#[path = "protocol/adversary.rs"]
mod adversary;
#[path = "protocol/blind.rs"]
mod blind;
#[path = "protocol/boundaries.rs"]
mod boundaries;
#[path = "protocol/counting.rs"]
mod counting;
#[path = "protocol/crossing.rs"]
mod crossing;
#[path = "protocol/dear.rs"]
mod dear;
#[path = "protocol/dust.rs"]
mod dust;
#[path = "protocol/ends.rs"]
mod ends;
#[path = "protocol/funding.rs"]
mod funding;
#[path = "protocol/kept.rs"]
mod kept;
#[path = "protocol/lives.rs"]
mod lives;
#[path = "protocol/nonces.rs"]
mod nonces;
#[path = "protocol/properties.rs"]
mod properties;
#[path = "protocol/refusals.rs"]
mod refusals;
#[path = "protocol/relative.rs"]
mod relative;
#[path = "protocol/reorganisations.rs"]
mod reorganisations;
