//! A transcript as a folder of text files.

use bitcoin::hex::DisplayHex;

use super::decode::DecodeError;
use super::json::to_json;
use super::record::Transcript;
use super::text::{render, TextContext};
use super::timeline::timeline;

/// Returns names and contents of the files that hold a transcript: `timeline.txt`, `transcript.json`, and for every
/// transaction, in the order in which they were built, `01-funding.txt` for people and `01-funding.hex`.
///
/// # Errors
/// If a recorded transaction cannot be decoded.
pub fn files(transcript: &Transcript) -> Result<Vec<(String, String)>, DecodeError> {
    let json = format!("{:#}\n", to_json(transcript));
    let mut files = vec![
        ("timeline.txt".to_owned(), timeline(transcript)),
        ("transcript.json".to_owned(), json),
    ];
    for (number, tx) in (1..).zip(&transcript.transactions) {
        let stem = format!("{number:02}-{}", tx.name);
        files.push((format!("{stem}.txt"), page(transcript, &tx.name)?));
        files.push((format!("{stem}.hex"), format!("{}\n", tx.raw.as_hex())));
    }
    Ok(files)
}

/// Returns a recorded transaction as a page of text; empty if no transaction has that name.
///
/// # Errors
/// If it cannot be decoded.
pub fn page(transcript: &Transcript, name: &str) -> Result<String, DecodeError> {
    let Some(tx) = transcript.transaction(name) else {
        return Ok(String::new());
    };
    let context = TextContext {
        title: &format!("{name} of {}", transcript.scenario),
        prevouts: &tx.prevouts,
        names: &transcript.names,
        network: transcript.network,
    };
    render(&tx.raw, &context)
}
