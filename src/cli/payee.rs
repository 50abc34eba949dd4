//! `spilman payee`: accepts payments on a test network.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, Network};
use clap::{Args, Subcommand};
use serde_json::{json, Value};
use spilman::channel::{ChannelKeys, KeyRole, Limits};
use spilman::service::{BitcoindChain, Bounds, ChannelManager, ChannelManagerBuilder, ManagerObserver};
use spilman::store::{SqliteStore, Store, StoredChannel};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixListener};

use super::party::channels::{self, Summary};
use super::party::data::{DataArgs, DataDir, Side};
use super::party::node::NodeArgs;
use super::party::report::{line, Line};
use super::party::{self, Answer, Progress};

/// Accepts payments in channels, on regtest, signet or testnet4.
#[derive(Args)]
#[command(after_help = "\
Example, beside a bitcoind on regtest:
  spilman payee serve --listen 127.0.0.1:9735
  spilman payee status                          # in another terminal, or after the end of the first

The folder of --data holds the seed. Anyone who reads it can spend the channels' money; without it, that money is lost.
Signet: --rpc-url http://127.0.0.1:38332, testnet4: --rpc-url http://127.0.0.1:48332.")]
pub struct PayeeArgs {
    #[command(flatten)]
    data: DataArgs,
    /// One JSON object a line, in place of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Accepts channels and payments, and settles, until a signal ends it.
    Serve(Serve),
    /// Shows each channel: stage, paid, capacity, and from when on the payee settles by itself.
    ///
    /// Asks the running payee, or reads its store if none runs.
    Status,
    /// Shows the address of the seed, where settlements go unless `serve --payout` names another.
    Address,
}

/// Every change is on disk before the payer hears of it, so that the process may end at any time.
#[derive(Args)]
#[command(after_help = "\
Example:
  spilman payee serve --listen 0.0.0.0:9735 --payout tb1q... --max-capacity 500000 --confirmations 6

Connections are not encrypted: put a tunnel (WireGuard, SSH) under those that leave the machine.")]
struct Serve {
    /// Where payers connect.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9735")]
    listen: SocketAddr,
    /// Where settlements go [default: the address of the seed].
    #[arg(long, value_name = "ADDRESS")]
    payout: Option<Address<NetworkUnchecked>>,
    /// The smallest channel that is accepted, in satoshi.
    #[arg(long, value_name = "SAT")]
    min_capacity: Option<u64>,
    /// The largest channel that is accepted, in satoshi.
    #[arg(long, value_name = "SAT")]
    max_capacity: Option<u64>,
    /// Confirmations of the funding transaction, before payments count.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=12))]
    confirmations: u32,
    /// Payments count up to this total, in satoshi, before the funding transaction is confirmed. A double spend takes it.
    #[arg(long, value_name = "SAT", default_value_t = 0)]
    zero_conf_limit: u64,
    /// Connections at a time.
    #[arg(long, value_name = "N", default_value_t = Bounds::default().connections)]
    connections: usize,
    /// Connections at a time of one payer's address.
    #[arg(long, value_name = "N", default_value_t = Bounds::default().connections_per_peer)]
    connections_per_peer: usize,
    /// Channels of one payer's address that wait for their funding transaction.
    #[arg(long, value_name = "N", default_value_t = Bounds::default().unfunded_channels_per_peer)]
    unfunded_per_peer: usize,
    /// Closes a connection after this many silent seconds; its channels can be resumed.
    #[arg(long, value_name = "SECONDS", default_value_t = Bounds::default().idle.as_secs())]
    idle: u64,
    /// End when standard input ends, for a program that starts this one.
    #[arg(long)]
    until_stdin_ends: bool,
}

impl PayeeArgs {
    pub fn run(self) -> Result<ExitCode> {
        let Self {
            data,
            node,
            json,
            command,
        } = self;
        match command {
            Command::Serve(serve) => {
                let data = data.open_or_make(Side::Payee)?;
                party::run(serve.run(&data, &node, json), ExitCode::SUCCESS)
            }
            Command::Status => {
                let data = data.open(Side::Payee)?;
                party::run(status(&data, json), party::interruption())
            }
            Command::Address => {
                let data = data.open_or_make(Side::Payee)?;
                party::run(address(&data, &node, json), party::interruption())
            }
        }
    }
}

impl Serve {
    fn limits(&self) -> Limits {
        let standard = Limits::default();
        let (least, most) = standard.capacity.into_inner();
        let capacity = |given: Option<u64>, standard| given.map_or(standard, Amount::from_sat);
        Limits {
            capacity: capacity(self.min_capacity, least)..=capacity(self.max_capacity, most),
            confirmations: self.confirmations..=*standard.confirmations.end(),
            zero_conf_limit: Amount::from_sat(self.zero_conf_limit),
            ..Limits::default()
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            connections: self.connections,
            connections_per_peer: self.connections_per_peer,
            unfunded_channels_per_peer: self.unfunded_per_peer,
            idle: Duration::from_secs(self.idle),
            ..Bounds::default()
        }
    }

    fn payout(&self, data: &DataDir, network: Network) -> Result<Address> {
        match &self.payout {
            None => Ok(data.wallet(network)?.address),
            Some(address) => {
                let checked = address.clone().require_network(network);
                checked.context("--payout is an address of another network than the node's")
            }
        }
    }

    async fn run(self, data: &DataDir, node: &NodeArgs, as_json: bool) -> Result<ExitCode> {
        let node = node.ready(&mut Progress::default()).await?;
        data.belongs_to(&node).await?;
        let payout = self.payout(data, node.network)?;
        let store = data.store()?;
        let observer: ManagerObserver = Arc::new(move |channel, report| {
            // A closed log does not end the channels.
            let _ = super::print(&(line(&report).render(channel, as_json) + "\n"));
        });
        let manager = ChannelManagerBuilder::new(store.clone(), data.keys(), payout.script_pubkey())
            .limits(self.limits())
            .bounds(self.bounds())
            .backoff(node.backoff())
            .observer(observer)
            .start(node.chain())
            .await?;
        let listener = TcpListener::bind(self.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", self.listen))?;
        let answers = answer_status(data, manager.clone(), store)?;
        let address = listener.local_addr()?;
        let begun = format!(
            "serving on {address}, on {}; settlements go to {payout}",
            node.network
        );
        let begun = Line::new("serving", begun)
            .with("address", address.to_string())
            .with("network", node.network.to_string())
            .with("payout", payout.to_string());
        super::print(&(begun.render(None, as_json) + "\n"))?;
        let until_stdin_ends = self.until_stdin_ends;
        tokio::select! {
            never = manager.serve(listener) => match never {},
            () = answers => {}
            () = stdin_ends(), if until_stdin_ends => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn stdin_ends() {
    // What it says means nothing, and a failure is the end, too.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
}

/// Answers `payee status` on a socket in the folder, which only its owner can enter. A file in place of it would still say
/// what a payee said that was killed since.
fn answer_status(
    data: &DataDir,
    manager: ChannelManager<BitcoindChain>,
    store: Arc<SqliteStore>,
) -> Result<impl std::future::Future<Output = ()>> {
    let path = data.socket();
    // The store is open, so that no other payee has this socket.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context("cannot replace the socket")
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| {
        format!(
            "cannot make the socket {}: choose a shorter path for --data",
            path.display()
        )
    })?;
    let keys = data.keys();
    Ok(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let answer = match summaries(&*store, &keys, Some(&manager)).await {
                Ok(channels) => channels::answer(&channels, "settles").envelope(),
                Err(error) => json!({ "error": format!("{error:#}") }),
            };
            // The one who asked may have gone.
            let _ = stream.write_all(answer.to_string().as_bytes()).await;
        }
    })
}

async fn summaries(
    store: &dyn Store,
    keys: &ChannelKeys,
    manager: Option<&ChannelManager<BitcoindChain>>,
) -> Result<Vec<Summary>> {
    let channels = store.load().await?;
    let of = |channel: &StoredChannel| {
        let running = manager.and_then(|manager| manager.payee(channel.name().funding));
        let stored = Summary::of(channel, keys)?;
        Ok(match running {
            Some(payee) => stored.with(&payee.status().borrow()),
            None => stored,
        })
    };
    let own = channels
        .iter()
        .filter(|channel| channel.name().role == KeyRole::Payee);
    own.map(of).collect()
}

async fn status(data: &DataDir, as_json: bool) -> Result<ExitCode> {
    let answer = match ask_running(&data.socket())? {
        Some(answer) => answer,
        None => channels::answer(&summaries(&*data.store()?, &data.keys(), None).await?, "settles"),
    };
    answer.print(as_json)?;
    Ok(ExitCode::SUCCESS)
}

/// `None` if no payee runs.
fn ask_running(socket: &Path) -> Result<Option<Answer>> {
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None)
        }
        Err(error) => return Err(error).with_context(|| format!("cannot ask {}", socket.display())),
    };
    let mut said = String::new();
    stream
        .read_to_string(&mut said)
        .context("cannot ask the running payee")?;
    let said: Value = serde_json::from_str(&said).context("the running payee did not answer")?;
    if let Some(error) = said.get("error").and_then(Value::as_str) {
        bail!("the running payee cannot tell: {error}");
    }
    Ok(Some(Answer::opened(&said)))
}

async fn address(data: &DataDir, node: &NodeArgs, as_json: bool) -> Result<ExitCode> {
    let node = node.ready(&mut Progress::default()).await?;
    let address = data.wallet(node.network)?.address.to_string();
    Answer::new(&address, json!({ "address": address })).print(as_json)?;
    Ok(ExitCode::SUCCESS)
}
