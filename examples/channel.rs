//! A channel on a node, from the opening to the settlement: a thousand payments, and two transactions on chain.
//!
//! Payer and payee are on a connection in memory, and see the chain by the node's RPC when they are told to look.
//!
//! ```sh
//! cargo run --example channel --features scenario
//! ```

use std::error::Error;
use std::time::Duration;

use bitcoin::{Amount, CompressedPublicKey, ScriptBuf, TxOut};
use spilman::channel::{Capacity, ChannelId, ChannelKeys, KeyRole, Stage, Terms};
use spilman::regtest::{wait_until, CoinKind, Poll, Regtest};
use spilman::service::{fresh_key, wallet_fn, BitcoindChain, Chain, Proposal, RandomnessError, Setup};

/// A fresh key, and a script for what the party gets in the end.
fn setup(role: KeyRole) -> Result<Setup, RandomnessError> {
    let (_id, key) = fresh_key(&ChannelKeys::new([7; 32]), role)?; // a secret of your own
    let payout = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash());
    Ok(Setup::new(key, payout))
}

/// Public for the test that runs every example.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let mut chain = Regtest::start()?;
    let coin = chain.fund(Amount::from_sat(1_000_500), CoinKind::Segwit)?;
    let views = [(), ()].map(|()| BitcoindChain::when_announced(chain.node().new_client()));
    let terms = Terms::new(Capacity::new(Amount::from_sat(1_000_000))?, views[0].tip().await?)?;
    let proposal = Proposal {
        id: ChannelId(1),
        terms,
    };
    let wallet = wallet_fn(|output: &TxOut| coin.spend(vec![output.clone()]));
    let (left, right) = tokio::io::duplex(8_192);
    let (payer, payee) = tokio::try_join!(
        setup(KeyRole::Payer)?.open(left, views[0].clone(), proposal, wallet),
        setup(KeyRole::Payee)?.accept(right, views[1].clone()),
    )?;
    println!("funding transaction {}", payer.funding().tx().compute_txid());
    let mine = |count| -> Result<(), spilman::regtest::Error> {
        chain.mine(count)?;
        views.iter().for_each(BitcoindChain::announce);
        Ok(())
    };
    mine(3)?;
    payer
        .status()
        .wait_for(|status| status.stage == Stage::Open)
        .await?;
    for total in 1..=1_000 {
        payer.pay_up_to(Amount::from_sat(300 * total)).await?;
    }

    // Both sign, so that the settlement looks like any other payment.
    payer.close().await?;
    let settled = || match chain.node().mempool_spender(payer.funding().outpoint())? {
        Some(txid) => Ok(Poll::Ready(txid)),
        None => Ok(Poll::Pending("an unspent funding output".to_owned())),
    };
    println!(
        "settlement {}",
        wait_until("the settlement", Duration::from_secs(20), settled)?
    );
    mine(6)?;
    let outcome = payee.outcome().await?;
    println!(
        "{} to the payee, {} to the payer",
        outcome.to_payee, outcome.to_payer
    );
    assert_eq!(outcome.to_payee, Amount::from_sat(300_000));
    assert_eq!(payer.outcome().await?, outcome);
    Ok(())
}
