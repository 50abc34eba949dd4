//! Scenarios, played for a test.

use spilman::regtest::NodeBuilder;
use spilman::scenario::{self, ChainSource};
use spilman::transcript::{page, timeline, Transcript};

#[track_caller]
pub fn play(name: &str) -> Transcript {
    play_watching(name, ChainSource::Node)
}

/// Plays the scenario of that name; if it comes out otherwise than it should, the test shows what happened up to
/// there.
#[track_caller]
pub fn play_watching(name: &str, watch: ChainSource) -> Transcript {
    let scenario = scenario::find(name).unwrap_or_else(|| panic!("there is no scenario {name}"));
    match scenario.watch(watch).run(NodeBuilder::default()) {
        Ok(transcript) => transcript,
        Err(failure) => panic!(
            "Up to the failure:\n{}\n{failure}",
            timeline(failure.transcript())
        ),
    }
}

/// Every recorded transaction as text, with its name, in the order in which they were built.
pub fn pages(transcript: &Transcript) -> Vec<(String, String)> {
    let names = transcript.transactions.iter().map(|tx| tx.name.clone());
    names
        .map(|name| {
            let text = page(transcript, &name).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, text)
        })
        .collect()
}
