//! Scenarios, played for a test.

use spilman::regtest::NodeBuilder;
use spilman::scenario;
use spilman::transcript::{render, timeline, Context, Transcript};

/// Plays the scenario of that name; if it comes out otherwise than it should, the test shows what happened up to
/// there.
#[track_caller]
pub fn play(name: &str) -> Transcript {
    let scenario = scenario::find(name).unwrap_or_else(|| panic!("there is no scenario {name}"));
    match scenario.run(NodeBuilder::default()) {
        Ok(transcript) => transcript,
        Err(failure) => panic!("{failure}\n\nUp to there:\n{}", timeline(failure.transcript())),
    }
}

/// Every recorded transaction as text, with its name, in the order in which they were built.
pub fn pages(transcript: &Transcript) -> Vec<(String, String)> {
    let page = |tx: &spilman::transcript::RecordedTx| {
        let title = format!("{} of {}", tx.name, transcript.scenario);
        let context = Context {
            title: &title,
            prevouts: &tx.prevouts,
            names: &transcript.names,
            network: transcript.network,
        };
        let text = render(&tx.raw, &context).unwrap_or_else(|error| panic!("{title}: {error}"));
        (tx.name.clone(), text)
    };
    transcript.transactions.iter().map(page).collect()
}
