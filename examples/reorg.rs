//! The harness alone: a reorganisation takes a payment back that had three confirmations.
//!
//! Shows what a program under test has to live with, and how to bring it about: the blocks that go, the blocks that come,
//! and the payment in the mempool again, from where it is mined once more.
//!
//! ```sh
//! cargo run --example reorg --features regtest
//! ```

use std::error::Error;

use bitcoin::Amount;
use spilman::regtest::{CoinKind, Regtest};

/// Public for the test that runs every example.
pub fn main() -> Result<(), Box<dyn Error>> {
    let mut chain = Regtest::start()?;
    let payment = chain.fund(Amount::from_sat(100_000), CoinKind::Segwit)?.outpoint;
    chain.mine(2)?;
    let confirmations = |chain: &Regtest| -> Result<u32, spilman::regtest::Error> {
        let utxo = chain.node().confirmed_utxo(payment)?;
        Ok(utxo.map_or(0, |utxo| utxo.confirmations))
    };
    println!("{} confirmations at {}", confirmations(&chain)?, chain.tip()?);
    assert_eq!(confirmations(&chain)?, 3);

    // Three blocks, with the payment in the first, become four without it.
    let reorg = chain.reorg(3).drop_tx(payment.txid).apply()?;
    println!("{} blocks are replaced by {}", reorg.old.len(), reorg.new.len());
    println!("{} confirmations at {}", confirmations(&chain)?, chain.tip()?);
    assert_eq!(confirmations(&chain)?, 0);
    assert_eq!(chain.node().mempool()?, [payment.txid]);

    chain.mine(1)?;
    println!("{} confirmation at {}", confirmations(&chain)?, chain.tip()?);
    assert_eq!(confirmations(&chain)?, 1);
    Ok(())
}
