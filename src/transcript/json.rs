//! A transcript for programs. Amounts in satoshi, hex in lower case, txids as nodes show them.

use std::collections::BTreeMap;

use bitcoin::hex::DisplayHex;
use serde_json::{json, Value};

use super::record::{Entry, RecordedRejection, RecordedTx, Side, Transcript};
use crate::channel::Message;
use crate::json::by_name;
use crate::wire;

by_name!(Side, "side", "One of two.");

/// Returns the whole transcript as one JSON document.
#[must_use]
pub fn to_json(transcript: &Transcript) -> Value {
    json!({
        "scenario": transcript.scenario,
        "summary": transcript.summary,
        "protocol": transcript.protocol,
        "construction": transcript.construction,
        "network": transcript.network.to_string(),
        "channels": channels(transcript),
        "transactions": transcript.transactions.iter().map(transaction).collect::<Vec<_>>(),
        "timeline": transcript.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

/// The funding output of every channel whose keys both sides know: its descriptor (BIP 380) and the script that follows
/// from it.
fn channels(transcript: &Transcript) -> Vec<Value> {
    let (mut proposed, mut channels) = (BTreeMap::new(), Vec::new());
    for entry in &transcript.entries {
        let Entry::Message { bytes, .. } = entry else {
            continue;
        };
        let Ok(envelope) = wire::decode(bytes) else {
            continue;
        };
        let id = envelope.channel.0;
        match envelope.message {
            Message::Open { terms, payer_key, .. } => {
                proposed.insert(id, (terms, payer_key));
            }
            Message::Accept { payee_key, .. } => {
                let proposal = proposed.get(&id);
                let descriptor =
                    proposal.and_then(|(terms, payer_key)| terms.descriptor(*payer_key, payee_key).ok());
                channels.extend(descriptor.map(|descriptor| {
                    json!({
                        "id": id,
                        "descriptor": descriptor.to_string(),
                        "script": descriptor.script_pubkey().to_hex_string(),
                    })
                }));
            }
            _ => {}
        }
    }
    channels
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
            "from": from,
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
        Entry::Reorganised {
            replaced,
            blocks,
            dropped,
        } => json!({
            "event": "reorganisation", "replaced": replaced, "blocks": blocks, "dropped": dropped,
        }),
        Entry::Tip { height, mtp } => json!({ "event": "tip", "height": height, "mtp": mtp }),
        Entry::Notice { by, text } => json!({ "event": "notice", "by": by.name(), "text": text }),
    }
}

fn refusal(refusal: &RecordedRejection) -> Value {
    json!({ "reason": refusal.reason, "words": refusal.words })
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::{Height, Time};
    use bitcoin::secp256k1::SecretKey;
    use bitcoin::{Amount, CompressedPublicKey, Network, ScriptBuf};

    use super::super::{Names, Side, Unit};
    use super::*;
    use crate::channel::{
        Capacity, ChannelId, ChannelKey, Construction, Envelope, Limits, PayeeOpening, PayerOpening,
        Protocol, Terms, Tip,
    };

    fn party(byte: u8) -> (ChannelKey, ScriptBuf) {
        let key = ChannelKey::new(SecretKey::from_slice(&[byte; 32]).unwrap());
        let payout = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash());
        (key, payout)
    }

    fn said(from: Side, envelope: &Envelope) -> Entry {
        Entry::Message {
            from,
            bytes: wire::encode(envelope),
            tampered: false,
        }
    }

    /// As soon as both keys are known, and for every construction.
    #[test]
    fn every_funding_output_has_its_descriptor() {
        let tip = Tip {
            height: Height::from_consensus(200).unwrap(),
            mtp: Time::from_consensus(1_700_000_000).unwrap(),
        };
        let capacity = Capacity::new(Amount::from_sat(1_000_000)).unwrap();
        for construction in Construction::ALL {
            let terms = Terms::with(Protocol::Example7, construction, capacity, tip).unwrap();
            let ((k1, to_payer), (k2, to_payee)) = (party(1), party(2));
            let (payer, open) =
                PayerOpening::propose(ChannelId(7), terms, k1, to_payer, Limits::default(), tip).unwrap();
            let (_, accept) =
                PayeeOpening::accept(open.clone(), k2, to_payee, Limits::default(), tip).unwrap();
            let mut transcript = Transcript {
                scenario: String::new(),
                summary: String::new(),
                protocol: Protocol::Example7,
                construction,
                unit: Unit::Satoshi,
                network: Network::Regtest,
                entries: vec![said(Side::Payer, &open)],
                transactions: Vec::new(),
                names: Names::default(),
            };
            assert_eq!(to_json(&transcript)["channels"], json!([]), "{construction}");

            transcript.entries.push(said(Side::Payee, &accept));
            let payer = payer.accept(accept).unwrap();
            let channel = json!({
                "id": 7,
                "descriptor": payer.params().descriptor().to_string(),
                "script": payer.funding_output().script_pubkey.to_hex_string(),
            });
            assert_eq!(
                to_json(&transcript)["channels"],
                json!([channel]),
                "{construction}"
            );
        }
    }

    /// `ci/test matrix` leaves out the lines of the words, so nothing else may share them.
    #[test]
    fn a_refusal_has_its_words_on_a_line_of_their_own() {
        let asked = Entry::Asked {
            name: "refund".to_owned(),
            rejected: Some(RecordedRejection {
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
