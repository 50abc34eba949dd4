use std::time::Duration;

use thiserror::Error;

/// What a server may say in an error message, in characters; the rest is cut off.
const WORDS: usize = 300;

/// Why a server gave no answer that can be believed.
#[derive(Debug, Error)]
pub(super) enum ElectrumError {
    #[error("cannot connect to the electrum server at {address}: {source}")]
    Connect { address: String, source: std::io::Error },
    #[error("the electrum server is gone: {0}")]
    Lost(String),
    #[error("the electrum server did not answer within {0:?}")]
    Silent(Duration),
    /// The server's own words, and the code that it gives them.
    #[error("the electrum server answered {call} with error {code}: {message}")]
    Refused {
        call: &'static str,
        code: i64,
        message: String,
    },
    #[error("the electrum server answered {call} with nonsense: {reason}")]
    Nonsense { call: &'static str, reason: String },
    #[error("the electrum server contradicts itself: {0}")]
    Contradiction(String),
    #[error("the chain moved during each of {looks} looks at it")]
    Unsteady { looks: u32 },
}

impl ElectrumError {
    pub fn nonsense(call: &'static str, reason: &impl ToString) -> Self {
        Self::Nonsense {
            call,
            reason: excerpt(&reason.to_string()),
        }
    }
}

/// The beginning of what somebody else wrote, so that no log is flooded.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
