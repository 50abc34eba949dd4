//! The harness alone: a transaction that is locked for a day, before and after its lock.
//!
//! Shows that a lock by time looks at the median time past of the last eleven blocks, and how to stop a chain at the last
//! block before a lock ends and at the first one after.
//!
//! ```sh
//! cargo run --example lock --features regtest
//! ```

use std::error::Error;

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, TxOut};
use spilman::regtest::{CoinKind, Regtest, RejectReason, Spend, START_TIME};

/// Public for the test that runs every example.
pub fn main() -> Result<(), Box<dyn Error>> {
    // A node with 101 blocks, whose clock stands still.
    let mut chain = Regtest::start()?;
    let coin = chain.fund(Amount::from_sat(100_000), CoinKind::Segwit)?;
    let output = TxOut {
        value: Amount::from_sat(99_000),
        script_pubkey: coin.output.script_pubkey.clone(),
    };
    let end = START_TIME + 24 * 60 * 60;
    let tx = Spend::of(&[coin])
        .to(vec![output])
        .lock_time(LockTime::from_time(end)?)
        .sign()?;

    // The last block with which the node still rejects it …
    let before = chain.stop_before(&tx)?.to;
    let verdict = chain.node().test_accept(&tx)?;
    println!("median time past {} of {end}: {verdict}", before.mtp);
    assert!(verdict.rejected_for(RejectReason::NonFinal));

    // … and the first with which it accepts it.
    let after = chain.make_final(&tx)?.to;
    let verdict = chain.node().submit(&tx)?;
    println!("median time past {} of {end}: {verdict}", after.mtp);
    assert_eq!(after.height, before.height + 1);
    assert!(verdict.is_accepted());
    Ok(())
}
