use std::time::Duration;

use bitcoin::{BlockHash, OutPoint};
use thiserror::Error;

/// How much of a server's words is shown, in characters; the rest is cut off.
const WORDS: usize = 300;

/// Why a server gave no answer that can be believed.
#[derive(Debug, Error)]
pub(super) enum ElectrumError {
    #[error("cannot connect to the electrum server at {address}: {source}")]
    Connect { address: String, source: std::io::Error },
    #[error("not connected to the electrum server at {address}: {why}; the next attempt is due in {left:?}")]
    Waiting {
        address: String,
        why: String,
        left: Duration,
    },
    #[error("the last poll of {funding} lost the connection: {why}; the next poll is due in {left:?}")]
    ChannelPaused {
        funding: OutPoint,
        why: String,
        left: Duration,
    },
    #[error("lost the connection to the electrum server: {0}")]
    Lost(String),
    #[error("the electrum server did not answer within {0:?}")]
    Silent(Duration),
    /// The server's own words, and the code that it gives them.
    #[error("the electrum server answered {call} with error {code}: {}", excerpt(message))]
    Refused {
        call: &'static str,
        code: i64,
        message: String,
    },
    #[error("invalid answer of the electrum server to {call}: {reason}")]
    Nonsense { call: &'static str, reason: String },
    #[error("contradiction in the answers of the electrum server: {0}")]
    Contradiction(String),
    #[error("the chain changed during each of {polls} polls: poll again later")]
    Unsteady { polls: u32 },
    /// The refusals, in the server's words.
    #[error(
        "the electrum server does not tell whether {funding} is spent ({refusals}). A spend would go unnoticed. Use a \
         server without this limit"
    )]
    SpendUnknown { funding: OutPoint, refusals: String },
    #[error(
        "the electrum server switched from block {last} at height {last_height} to block {now} at height {height}, \
         whose chain has less work; its answers are ignored until its chain has as much work"
    )]
    LessWork {
        last: BlockHash,
        last_height: u32,
        now: BlockHash,
        height: u32,
    },
}

impl ElectrumError {
    pub fn nonsense(call: &'static str, reason: &impl ToString) -> Self {
        Self::Nonsense {
            call,
            reason: excerpt(&reason.to_string()),
        }
    }

    /// Returns whether another connection may do better: the server is gone or silent, or does not speak the
    /// protocol. What it refuses or claims does not depend on the connection, which others may be using.
    pub const fn ends_connection(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Silent(_) | Self::Nonsense { .. })
    }
}

/// The beginning of a foreign text, so that no log is flooded.
pub(super) fn excerpt(text: &str) -> String {
    cut(text, WORDS)
}

/// The first characters of a text.
pub(super) fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
