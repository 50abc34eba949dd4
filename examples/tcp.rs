//! Payer and payee over TCP, each with its own view of the chain by RPC, as two programs would be.
//!
//! Replace the node of the harness by the address of your own on a test network, and the two functions are a payment
//! service and its client.
//!
//! ```sh
//! cargo run --example tcp --features scenario
//! ```

use std::error::Error;
use std::time::Duration;

use bitcoin::{Amount, CompressedPublicKey, ScriptBuf};
use spilman::channel::{Capacity, ChannelId, ChannelKeys, KeyRole, Outcome, Stage, Terms};
use spilman::regtest::{CoinKind, Regtest, RPC_PASSWORD, RPC_USER};
use spilman::service::bitcoincore_rpc::Auth;
use spilman::service::{fresh_key, wallet_fn, BitcoindChain, Chain, Proposal, Setup, Wallet};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn Error + Send + Sync>;

fn setup(role: KeyRole) -> Result<Setup, Failure> {
    let (_id, key) = fresh_key(&ChannelKeys::new([8; 32]), role)?;
    let payout = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash());
    Ok(Setup::new(key, payout))
}

async fn serve(listener: TcpListener, chain: BitcoindChain) -> Result<Outcome, Failure> {
    let (stream, peer) = listener.accept().await?;
    let payee = setup(KeyRole::Payee)?.accept(stream, chain).await?;
    println!(
        "{peer} has opened a channel of {}",
        payee.params().terms().capacity.to_amount()
    );
    Ok(payee.outcome().await?)
}

async fn pay(stream: TcpStream, chain: BitcoindChain, wallet: impl Wallet) -> Result<Outcome, Failure> {
    let terms = Terms::new(Capacity::new(Amount::from_sat(1_000_000))?, chain.tip().await?)?;
    let proposal = Proposal {
        id: ChannelId(1),
        terms,
    };
    let payer = setup(KeyRole::Payer)?
        .open(stream, chain, proposal, wallet)
        .await?;
    payer
        .status()
        .wait_for(|status| status.stage == Stage::Open)
        .await?;
    payer.pay_up_to(Amount::from_sat(25_000)).await?;
    payer.close().await?;
    Ok(payer.outcome().await?)
}

/// Public for the test that runs every example.
#[tokio::main]
pub async fn main() -> Result<(), Failure> {
    let mut regtest = Regtest::start()?;
    let coin = regtest.fund(Amount::from_sat(1_000_500), CoinKind::Segwit)?;
    let wallet = wallet_fn(|output: &bitcoin::TxOut| coin.spend(vec![output.clone()]));
    let view = || {
        let auth = Auth::UserPass(RPC_USER.to_owned(), RPC_PASSWORD.to_owned());
        let chain = BitcoindChain::connect(&regtest.node().rpc_url(), auth)?;
        Ok::<_, Failure>(chain.poll_every(Duration::from_millis(20)))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let stream = TcpStream::connect(listener.local_addr()?).await?;
    let blocks = async {
        // The network: a block now and then.
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            regtest.mine(1)?;
        }
    };
    let parties = async { tokio::try_join!(serve(listener, view()?), pay(stream, view()?, wallet)) };
    let (payee, payer) = tokio::select! {
        ended = parties => ended?,
        Err::<(), Failure>(error) = blocks => return Err(error),
    };
    println!(
        "{} to the payee, {} back to the payer",
        payee.to_payee, payee.to_payer
    );
    assert_eq!((payee.to_payee, payee), (Amount::from_sat(25_000), payer));
    Ok(())
}
