//! Reference fixtures.

mod chain;
mod check;
mod compare;
mod difference;
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

pub use check::{check, Fault, FileReport, FixtureProblem, Progress, Report};
pub use compare::{compare, Change, CompareError, Comparison, Fate};
pub use error::FixtureError;
pub use life::{life, Life};
pub use set::{Set, VERSION};
