//! Reference fixtures.

mod chain;
mod error;
mod given;
mod keys;
mod life;
mod lives;
pub mod model;
mod musig;
mod output;
mod reject;
mod set;
mod sighash;
mod transaction;
mod units;

pub use error::FixtureError;
pub use life::{life, Life};
pub use set::{Set, VERSION};
