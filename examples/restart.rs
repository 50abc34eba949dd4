//! A payee that loses its power after three payments. Its next process finds them in its file, the payer resumes the channel
//! and pays on, and both get what is theirs.
//!
//! ```sh
//! cargo run --example restart --features scenario,sqlite
//! ```

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, TxOut, WPubkeyHash};
use spilman::channel::{Capacity, ChannelId, ChannelKeys, Stage, Terms};
use spilman::regtest::{CoinKind, Regtest, RPC_PASSWORD, RPC_USER};
use spilman::service::bitcoincore_rpc::Auth;
use spilman::service::{
    wallet_fn, BitcoindChain, Chain, ChannelManager, ChannelManagerBuilder, PayeeConnection, PayerHandle,
    Proposal,
};
use spilman::store::SqliteStore;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

type Failure = Box<dyn Error + Send + Sync>;

/// One side's view of the chain.
fn view(regtest: &Regtest) -> Result<BitcoindChain, Failure> {
    let auth = Auth::UserPass(RPC_USER.to_owned(), RPC_PASSWORD.to_owned());
    let chain = BitcoindChain::connect(&regtest.node().rpc_url(), auth)?;
    Ok(chain.poll_every(Duration::from_millis(20)))
}

/// Starts all channels that the file of one side holds.
async fn start(
    chain: BitcoindChain,
    file: &Path,
    seed: u8,
) -> Result<ChannelManager<BitcoindChain>, Failure> {
    let payout = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([seed; 20]));
    let (store, keys) = (Arc::new(SqliteStore::open(file)?), ChannelKeys::new([seed; 32]));
    let manager = ChannelManagerBuilder::new(store, keys, payout);
    Ok(manager.start(chain).await?)
}

/// Starts a process of the payee, and returns the address at which it serves.
fn serve(regtest: &Regtest, file: &Path) -> Result<(Runtime, SocketAddr), Failure> {
    let process = Runtime::new()?;
    let address = process.block_on(async {
        let manager = start(view(regtest)?, file, 2).await?;
        for payee in manager.payees() {
            println!("the payee's file holds {}", payee.status().borrow().paid);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { manager.serve(listener).await });
        Ok::<_, Failure>(address)
    })?;
    Ok((process, address))
}

async fn open(
    regtest: &mut Regtest,
    payers: &ChannelManager<BitcoindChain>,
    payee: SocketAddr,
) -> Result<Arc<PayerHandle>, Failure> {
    let coin = regtest.fund(Amount::from_sat(1_000_500), CoinKind::Segwit)?;
    let wallet = wallet_fn(|output: &TxOut| coin.spend(vec![output.clone()]));
    let proposal = Proposal {
        id: ChannelId(1),
        terms: Terms::new(
            Capacity::new(Amount::from_sat(1_000_000))?,
            view(regtest)?.tip().await?,
        )?,
    };
    let payer = payers
        .open(TcpStream::connect(payee).await?, proposal, wallet)
        .await?;
    let mut status = payer.status();
    let open = status.wait_for(|status| status.stage == Stage::Open);
    mine_until(regtest, open).await??;
    Ok(payer)
}

/// Mines a block now and then until something has happened.
async fn mine_until<T>(regtest: &mut Regtest, happens: impl Future<Output = T>) -> Result<T, Failure> {
    let blocks = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            regtest.mine(1)?;
        }
    };
    tokio::select! {
        happened = happens => Ok(happened),
        Err::<(), Failure>(error) = blocks => Err(error),
    }
}

async fn pay(payer: &PayerHandle, totals: &[u64]) -> Result<(), Failure> {
    for total in totals {
        let balance = payer.pay_up_to(Amount::from_sat(*total)).await?;
        println!("{} are acknowledged", balance.paid);
    }
    Ok(())
}

fn story(regtest: &mut Regtest, folder: &Path) -> Result<Amount, Failure> {
    let file = folder.join("payee.sqlite");
    let payer_process = Runtime::new()?;
    let (process, address) = serve(regtest, &file)?;
    let (_payers, payer) = payer_process.block_on(async {
        let payers = start(view(regtest)?, &folder.join("payer.sqlite"), 1).await?;
        let payer = open(regtest, &payers, address).await?;
        pay(&payer, &[10_000, 20_000, 25_000]).await?;
        Ok::<_, Failure>((payers, payer))
    })?;
    // Every task is gone at once, and with it all that it knew.
    process.shutdown_timeout(Duration::from_secs(10));
    println!("the payee has lost its power");
    let (_process, address) = serve(regtest, &file)?;
    payer_process.block_on(async {
        let connection = TcpStream::connect(address).await?;
        payer.resume(&PayeeConnection::new(connection).await?).await?;
        pay(&payer, &[30_000]).await?;
        payer.close().await?;
        Ok(mine_until(regtest, payer.outcome()).await??.to_payee)
    })
}

/// Public for the test that runs every example.
pub fn main() -> Result<(), Failure> {
    let mut regtest = Regtest::start()?;
    let folder = std::env::temp_dir().join(format!("spilman-restart-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let received = story(&mut regtest, &folder);
    std::fs::remove_dir_all(&folder)?;
    let received = received?;
    println!("{received} to the payee");
    assert_eq!(received, Amount::from_sat(30_000));
    Ok(())
}
