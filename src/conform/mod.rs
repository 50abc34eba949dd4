//! Tests another implementation's payer or payee as a program on a real node, over its standard input and output.
//!
//! `fixtures/WIRE.md` has the wire format and, in its chapter "Conformance", the contract between [`Runner`] and a
//! program: it is started once for each connection of a [`Case`] with [`CASE_ENV`] set, speaks on its standard input and output, sees the
//! chain over the RPC of the node, and exits with status 0 when nothing is left to do. [`peer`] is this crate's own side
//! as such a program.
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//! use spilman::conform::{cases, Runner};
//! use spilman::regtest::Node;
//! use spilman::transcript::Side;
//!
//! let runner = Runner::new("python3 payee.py", Side::Payee);
//! for case in cases(Side::Payee) {
//!     let played = runner.play(&case, Node::builder(), &AtomicBool::new(false));
//!     match &played.verdict {
//!         Ok(()) => println!("{}: passed", case.name()),
//!         Err(failure) => println!("{}: {failure}\n{}", case.name(), played.stderr),
//!     }
//! }
//! ```

mod against_payee;
mod against_payer;
mod agreed;
mod assignment;
mod case;
mod failure;
mod frames;
mod link;
mod opening;
mod peer;
mod program;
mod report;
mod resuming;
mod run;
mod runner;
mod taken_back;

pub use assignment::{AssignmentError, CASE_ENV};
pub use case::{cases, Case, Group};
pub use failure::CaseFailure;
pub use peer::{peer, PeerError};
pub use report::to_json;
pub use runner::{CaseResult, Runner, Verdict, DEFAULT_DEADLINE};
