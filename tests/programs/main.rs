//! The command, and other people's programs: as a user calls it, and as `spilman conform` tests them.

mod cli;
mod conform;
mod example_payee;
mod examples;
mod fixtures;
