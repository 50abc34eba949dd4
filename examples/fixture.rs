//! Reads a reference fixture as an implementation in another language would, and checks its transactions.
//!
//! Everything that is checked is computed from the raw bytes: ids, sizes and fees.
//!
//! ```sh
//! cargo run --example fixture --features fixtures
//! ```

use std::error::Error;
use std::fs;
use std::path::Path;

use bitcoin::consensus::deserialize;
use bitcoin::Transaction;
use spilman::fixtures::model::{FixtureFile, LifeTest};

/// Public for the test that runs every example.
pub fn main() -> Result<(), Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1/channel/p2wsh/example-7.json");
    let file: FixtureFile<LifeTest> = serde_json::from_slice(&fs::read(path)?)?;
    println!("version {} with {} tests", file.version, file.number_of_tests);
    assert_eq!(file.tests.len(), file.number_of_tests);
    let life = &file.tests[0];
    println!("{}: {}", life.id, life.comment);
    for message in &life.expected.messages {
        println!(
            "  {:?} says {} in {} bytes",
            message.from,
            message.kind,
            message.hex.0.len()
        );
    }
    for expected in &life.expected.transactions {
        let tx: Transaction = deserialize(&expected.hex.0)?;
        let paid: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
        let spent: u64 = expected.prevouts.iter().map(|prevout| prevout.value.0).sum();
        println!(
            "  {} pays {} sat in {} vB",
            expected.name,
            spent - paid,
            tx.vsize()
        );
        assert_eq!(expected.txid, tx.compute_txid().into());
        assert_eq!(expected.weight, tx.weight().to_wu());
        assert_eq!(expected.fee.0, spent - paid);
    }
    Ok(())
}
