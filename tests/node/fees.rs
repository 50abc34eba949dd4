//! Fees on real nodes, for every construction: what a transaction weighs and pays, how it is raised when that is not
//! enough, who can hold it up, and what counts before it is confirmed.

mod again;
mod channel;
mod dust;
mod hand;
mod pinning;
mod raise;
mod relay;
mod settlement;
mod sums;
mod unconfirmed;
mod weights;
