//! What servers say when they refuse, in words that differ from one program to the next.

use serde::Deserialize;

use super::error::{excerpt, ElectrumError};
use crate::service::node_verdict::{is_known, NodeVerdict};

/// `ElectrumX` and Fulcrum put this before the node's words, and the transaction after them.
const ENVELOPE: &str = "the transaction was rejected by network rules.";

/// The esplora family puts this before the node's error: an object as JSON, or its code and its words.
const PREFIX: &str = "sendrawtransaction RPC error";

/// A node's error, as a server passes it on.
#[derive(Deserialize)]
struct ServerError {
    code: i64,
    message: String,
}

/// Whether the server says that it knows no transaction with this id.
pub(super) fn is_unknown_transaction(message: &str) -> bool {
    // The node's words, which most servers pass on, and those of the esplora family.
    message.contains("No such mempool") || message.contains("missing transaction")
}

/// The node's verdict on a transaction that a server did not take: `None` if it had it already, otherwise its words. The
/// refusal itself if it is due to trouble between server and node.
pub(super) fn verdict(refusal: ElectrumError) -> Result<Option<String>, ElectrumError> {
    let ElectrumError::Refused { code, message, .. } = &refusal else {
        return Err(refusal);
    };
    let words = match message.strip_prefix(PREFIX).and_then(node_error) {
        Some(error) => {
            let verdict = NodeVerdict::of(error.code, &error.message).ok_or(refusal)?;
            return Ok(verdict.rejection().map(|words| excerpt(&words)));
        }
        None => match message.strip_prefix(ENVELOPE) {
            Some(words) => words.split("\n[").next().unwrap_or_default().trim().to_owned(),
            // romanz' electrs passes on the node's words alone, and has this code for them.
            None if *code == 2 => message.clone(),
            None => return Err(refusal),
        },
    };
    Ok((!is_known(&words)).then(|| excerpt(&words)))
}

/// `: {"code":-26,"message":"non-final"}`, or ` -26: non-final`
fn node_error(text: &str) -> Option<ServerError> {
    if let Some(json) = text.strip_prefix(':') {
        return serde_json::from_str(json).ok();
    }
    let (code, message) = text.split_once(':')?;
    Some(ServerError {
        code: code.trim().parse().ok()?,
        message: message.trim().to_owned(),
    })
}
