//! A transcript for programs. Amounts in satoshi, hex in lower case, txids as nodes show them.

use bitcoin::hex::DisplayHex;
use serde_json::{json, Value};

use super::record::{Actor, Entry, RecordedTx, Refusal, Transcript};
use crate::wire;

/// The whole transcript as one JSON document.
#[must_use]
pub fn to_json(transcript: &Transcript) -> Value {
    json!({
        "scenario": transcript.scenario,
        "summary": transcript.summary,
        "protocol": transcript.protocol.name(),
        "construction": transcript.construction.name(),
        "network": transcript.network.to_string(),
        "transactions": transcript.transactions.iter().map(transaction).collect::<Vec<_>>(),
        "timeline": transcript.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn transaction(tx: &RecordedTx) -> Value {
    let decoded = bitcoin::consensus::deserialize::<bitcoin::Transaction>(&tx.raw).ok();
    json!({
        "name": tx.name,
        "by": tx.by.name(),
        "txid": decoded.as_ref().map(|tx| tx.compute_txid().to_string()),
        "wtxid": decoded.as_ref().map(|tx| tx.compute_wtxid().to_string()),
        "weight": decoded.as_ref().map(|tx| tx.weight().to_wu()),
        "hex": tx.raw.to_lower_hex_string(),
        "prevouts": tx.prevouts.iter().map(|output| json!({
            "value": output.value.to_sat(),
            "script": output.script_pubkey.to_hex_string(),
        })).collect::<Vec<_>>(),
    })
}

fn entry(entry: &Entry) -> Value {
    match entry {
        Entry::Step(text) => json!({ "event": "step", "text": text }),
        Entry::Message {
            from,
            bytes,
            tampered,
        } => json!({
            "event": "message",
            "from": Actor::from(*from).name(),
            "kind": wire::decode(bytes).ok().map(|envelope| envelope.message.kind().name()),
            "hex": bytes.to_lower_hex_string(),
            "tampered": tampered,
        }),
        Entry::Built { by, name } => json!({ "event": "built", "by": by.name(), "transaction": name }),
        Entry::Broadcast {
            by,
            name,
            role,
            rejected,
        } => json!({
            "event": "broadcast", "by": by.name(), "transaction": name, "as": role.name(),
            "rejected": rejected.as_ref().map(refusal),
        }),
        Entry::Asked { name, rejected } => {
            json!({ "event": "asked", "transaction": name, "rejected": rejected.as_ref().map(refusal) })
        }
        Entry::Found(text) => json!({ "event": "found", "text": text }),
        Entry::Blocks { blocks } => json!({ "event": "blocks", "blocks": blocks }),
        Entry::Block { hash, names } => {
            json!({ "event": "block", "hash": hash.to_string(), "transactions": names })
        }
        Entry::Tip { height, mtp } => json!({ "event": "tip", "height": height, "mtp": mtp }),
        Entry::Notice { by, text } => json!({ "event": "notice", "by": by.name(), "text": text }),
    }
}

fn refusal(refusal: &Refusal) -> Value {
    json!({ "reason": refusal.reason, "words": refusal.words })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ci/test matrix` leaves out the lines of the words, so nothing else may share them.
    #[test]
    fn a_refusal_has_its_words_on_a_line_of_their_own() {
        let asked = Entry::Asked {
            name: "refund".to_owned(),
            rejected: Some(Refusal {
                reason: "missing-inputs".to_owned(),
                words: "bad-txns-inputs-missingorspent".to_owned(),
            }),
        };
        let lines = format!("{:#}", entry(&asked));
        let with_words: Vec<_> = lines.lines().filter(|line| line.contains("\"words\"")).collect();
        assert_eq!(with_words, [r#"    "words": "bad-txns-inputs-missingorspent""#]);
        assert!(
            lines.contains("\n    \"reason\": \"missing-inputs\",\n"),
            "{lines}"
        );
    }
}
