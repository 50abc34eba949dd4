//! The payee vanishes and never settles: the payer has all its money back after the refund's lock, and not a block before.
//!
//! The refund was signed and verified before the funding transaction left the payer, so the payer can broadcast it alone.
//!
//! ```sh
//! cargo run --example refund --features scenario
//! ```

use std::error::Error;

use bitcoin::{Amount, CompressedPublicKey, ScriptBuf, TxOut};
use spilman::channel::{Capacity, ChannelId, ChannelKeys, KeyRole, Stage, Terms};
use spilman::regtest::{CoinKind, Regtest, RejectReason};
use spilman::service::{fresh_key, wallet_fn, BitcoindChain, Chain, Proposal, RandomnessError, Setup};

fn setup(role: KeyRole) -> Result<Setup, RandomnessError> {
    let (_id, key) = fresh_key(&ChannelKeys::new([9; 32]), role)?;
    let payout = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash());
    Ok(Setup::new(key, payout))
}

/// Public for the test that runs every example.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let mut chain = Regtest::start()?;
    let coin = chain.fund(Amount::from_sat(1_000_500), CoinKind::Segwit)?;
    let view = BitcoindChain::when_announced(chain.node().new_client());
    let terms = Terms::new(Capacity::new(Amount::from_sat(1_000_000))?, view.tip().await?)?;
    let proposal = Proposal {
        id: ChannelId(1),
        terms,
    };
    let wallet = wallet_fn(|output: &TxOut| coin.spend(vec![output.clone()]));
    let (left, right) = tokio::io::duplex(8_192);
    let (payer, payee) = tokio::try_join!(
        setup(KeyRole::Payer)?.open(left, view.clone(), proposal, wallet),
        setup(KeyRole::Payee)?.accept(right, view.clone()),
    )?;
    chain.mine(3)?;
    view.announce();
    payer
        .status()
        .wait_for(|status| status.stage == Stage::Open)
        .await?;
    payer.pay_up_to(Amount::from_sat(1_000)).await?;
    payee.abort();

    let refund = payer.refund().tx();
    chain.stop_before(refund)?;
    let verdict = chain.node().test_accept(refund)?;
    println!("the last block before: {verdict}");
    assert!(verdict.rejected_for(RejectReason::NonFinal));

    // The payer broadcasts it as soon as it sees the block.
    chain.make_final(refund)?;
    view.announce();
    chain.node().wait_for_unconfirmed(refund.compute_txid())?;
    println!("the refund {} is in the mempool", refund.compute_txid());
    chain.mine(6)?;
    view.announce();
    let outcome = payer.outcome().await?;
    println!("{} came back", outcome.to_payer);
    assert_eq!(outcome.to_payee, Amount::ZERO);
    Ok(())
}
