//! Plays a story of the catalogue, and decodes one of its transactions from the raw bytes.
//!
//! Shows how to check what the crate says: the fee, the lock and the signatures are read from the transaction itself.
//!
//! ```sh
//! cargo run --example transcript --features scenario
//! ```

use std::error::Error;

use spilman::regtest::NodeBuilder;
use spilman::scenario;
use spilman::transcript::{decode, render, DecodedInput, TextContext};

/// Public for the test that runs every example.
pub fn main() -> Result<(), Box<dyn Error>> {
    let story = scenario::find("taproot/example-7/payee-gone-mid-session").expect("it is in the catalogue");
    let transcript = story.run(NodeBuilder::default())?;
    println!("{}: {}", transcript.scenario, transcript.summary);
    for tx in &transcript.transactions {
        println!("  {}, built by the {}", tx.name, tx.by);
    }

    let refund = transcript.transaction("refund").expect("every channel has one");
    let context = TextContext {
        title: "the refund",
        prevouts: &refund.prevouts,
        names: &transcript.names,
        network: transcript.network,
    };
    println!("\n{}", render(&refund.raw, &context)?);

    let decoded = decode(&refund.raw, &refund.prevouts)?;
    assert!(decoded.lock_enabled());
    assert!(!decoded.inputs.iter().any(DecodedInput::has_invalid_signature));
    Ok(())
}
