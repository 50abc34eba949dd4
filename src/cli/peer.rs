use std::process::ExitCode;

use clap::Args;
use spilman::conform;

/// Runs this crate's own payer or payee as a program under test, for `spilman conform`.
///
/// Reads `SPILMAN_CASE`, speaks the wire format on standard input and output, sees the chain over the RPC of the node,
/// and exits when nothing is left to do. It logs to standard error. It is the reference for other programs:
/// `spilman conform --payee 'spilman peer'`.
#[derive(Args)]
pub struct PeerArgs {}

impl PeerArgs {
    pub fn run() -> anyhow::Result<ExitCode> {
        conform::peer()?;
        Ok(ExitCode::SUCCESS)
    }
}
