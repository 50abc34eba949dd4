//! A payee that loses its power after three payments. The next process finds them in its file, and takes what it was paid.
//!
//! ```sh
//! cargo run --example restart --features scenario,sqlite
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, CompressedPublicKey, ScriptBuf};
use spilman::channel::{Capacity, ChannelId, ChannelKeys, KeyRole, Stage, Terms};
use spilman::regtest::{CoinKind, Regtest, RPC_PASSWORD, RPC_USER};
use spilman::service::bitcoincore_rpc::Auth;
use spilman::service::{fresh_key, wallet_fn, BitcoindChain, Chain, Proposal, Restart, Restarted, Setup};
use spilman::store::{MemoryStore, SqliteStore, Store};
use tokio::runtime::Runtime;

type Failure = Box<dyn Error + Send + Sync>;

/// The secret of both sides; each would have a different one.
fn keys() -> ChannelKeys {
    ChannelKeys::new([9; 32])
}

fn setup(role: KeyRole, store: Arc<dyn Store>) -> Result<Setup, Failure> {
    let (id, key) = fresh_key(&keys(), role)?;
    let payout = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash());
    Ok(Setup::new(key, payout).store(store, id))
}

fn view(regtest: &Regtest) -> Result<BitcoindChain, Failure> {
    let auth = Auth::UserPass(RPC_USER.to_owned(), RPC_PASSWORD.to_owned());
    let chain = BitcoindChain::connect(&regtest.node().rpc_url(), auth)?;
    Ok(chain.poll_every(Duration::from_millis(20)))
}

/// Opens a channel and pays three times.
async fn pay(regtest: &mut Regtest, payees: Arc<dyn Store>) -> Result<(), Failure> {
    let coin = regtest.fund(Amount::from_sat(1_000_500), CoinKind::Segwit)?;
    let wallet = wallet_fn(|output: &bitcoin::TxOut| coin.spend(vec![output.clone()]));
    let (chain, other) = (view(regtest)?, view(regtest)?);
    let terms = Terms::new(Capacity::new(Amount::from_sat(1_000_000))?, chain.tip().await?)?;
    let proposal = Proposal {
        id: ChannelId(1),
        terms,
    };
    let (a, b) = tokio::io::duplex(64 * 1024);
    let payer = setup(KeyRole::Payer, Arc::new(MemoryStore::default()))?;
    let payee = setup(KeyRole::Payee, payees)?;
    let (payer, payee) = tokio::join!(payer.open(a, chain, proposal, wallet), payee.accept(b, other));
    let (payer, _payee) = (payer?, payee?);
    let mut status = payer.status();
    let open = status.wait_for(|status| status.stage == Stage::Open);
    regtest.mine(3)?;
    open.await?;
    for total in [10_000, 20_000, 25_000] {
        let balance = payer.pay_up_to(Amount::from_sat(total)).await?;
        println!("{} are acknowledged", balance.paid);
    }
    Ok(())
}

/// Starts what the file holds, and closes it.
async fn settle(regtest: &mut Regtest, store: Arc<dyn Store>) -> Result<Amount, Failure> {
    let parties = Restart::new(store, keys()).all(&view(regtest)?).await?;
    let [Restarted::Payee(payee)] = &parties[..] else {
        return Err("expected one payee in the file".into());
    };
    println!("{} are in the file", payee.status().borrow().paid);
    payee.close().await?;
    let outcome = payee.outcome();
    let blocks = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            regtest.mine(1)?;
        }
    };
    tokio::select! {
        outcome = outcome => Ok(outcome?.to_payee),
        Err::<(), Failure>(error) = blocks => Err(error),
    }
}

/// Public for the test that runs every example.
pub fn main() -> Result<(), Failure> {
    let mut regtest = Regtest::start()?;
    let folder = std::env::temp_dir().join(format!("spilman-restart-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("payee.sqlite");
    let run = |regtest: &mut Regtest| -> Result<Amount, Failure> {
        let process = Runtime::new()?;
        process.block_on(pay(regtest, Arc::new(SqliteStore::open(&file)?)))?;
        // Every task is gone at once, and with it all that it knew.
        drop(process);
        println!("the payee has lost its power");
        Runtime::new()?.block_on(settle(regtest, Arc::new(SqliteStore::open(&file)?)))
    };
    let received = run(&mut regtest);
    std::fs::remove_dir_all(&folder)?;
    let received = received?;
    println!("{received} to the payee");
    assert_eq!(received, Amount::from_sat(25_000));
    Ok(())
}
