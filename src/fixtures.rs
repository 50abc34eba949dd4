//! Reference fixtures for implementations in other languages: written, read and checked.
//!
//! `fixtures/README.md` explains the files to readers without this crate. [`Set`] makes them; [`check`]
//! rebuilds each test from its given values, and checks it on a node. The JSON Schemas are made from the types in [`model`].
//!
//! ```
//! use spilman::fixtures::life;
//! use spilman::fixtures::model::{FixtureFile, LifeTest};
//!
//! let json = std::fs::read("fixtures/v1/channel/p2wsh/example-7.json")?;
//! let file: FixtureFile<LifeTest> = serde_json::from_slice(&json)?;
//! assert_eq!(file.tests.len(), file.number_of_tests);
//! for test in file.tests {
//!     let again = life(&test.id, &test.comment, &[], test.given)?;
//!     assert_eq!(again.expected, test.expected, "{}", test.id);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
mod check;
mod difference;
mod error;
mod flags;
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

pub use check::{check, CheckReport, FileReport, FixtureProblem, ProblemKind, Progress};
pub use error::FixtureError;
pub use life::{life, Life};
pub use set::{Set, VERSION};
