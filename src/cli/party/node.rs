//! The Bitcoin Core node of a party, and the chain that it is on.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail, Context, Result};
use bitcoin::{Amount, BlockHash, Network, OutPoint, ScriptBuf, Txid};
use clap::Args;
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};
use spilman::service::bitcoincore_rpc::{jsonrpc, Auth, Client, Error, RpcApi};
use spilman::service::{rpc_client, Backoff, BitcoindChain};

use super::Progress;

/// A scan of all unspent outputs takes a while on a public test network.
const SCAN_TIMEOUT: Duration = Duration::from_secs(600);
const TIMEOUT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// What the node answers while it starts, and while another scan runs.
const IN_WARMUP: i32 = -28;
const SCAN_IN_PROGRESS: i32 = -8;

#[derive(Args, Clone)]
#[command(next_help_heading = "Node")]
#[expect(clippy::struct_field_names, reason = "they are the names of the options")]
pub struct NodeArgs {
    /// The RPC server of a Bitcoin Core node on regtest (port 18443), signet (38332) or testnet4 (48332).
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:18443"
    )]
    rpc_url: String,
    /// The node's cookie file [default: where Bitcoin Core puts it for the port of --rpc-url].
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "rpc_user")]
    rpc_cookie: Option<PathBuf>,
    /// The RPC user, in place of a cookie. The password is in the environment, in `SPILMAN_RPC_PASSWORD`, or in a file.
    #[arg(long, global = true, value_name = "NAME")]
    rpc_user: Option<String>,
    /// A file with the password of --rpc-user.
    #[arg(long, global = true, value_name = "FILE", requires = "rpc_user")]
    rpc_password_file: Option<PathBuf>,
}

impl NodeArgs {
    fn login(&self) -> Result<Auth> {
        let Some(user) = self.rpc_user.clone() else {
            return Ok(Auth::CookieFile(self.cookie()?));
        };
        let password = match &self.rpc_password_file {
            Some(file) => {
                let text = fs::read_to_string(file);
                let text = text.with_context(|| format!("cannot read the password file {}", file.display()));
                text?.trim_end_matches(['\r', '\n']).to_owned()
            }
            None => env::var("SPILMAN_RPC_PASSWORD").map_err(|_| {
                anyhow!("no password for the RPC user {user}: set SPILMAN_RPC_PASSWORD, or name a file with --rpc-password-file")
            })?,
        };
        Ok(Auth::UserPass(user, password))
    }

    fn cookie(&self) -> Result<PathBuf> {
        if let Some(file) = &self.rpc_cookie {
            return Ok(file.clone());
        }
        let folder = match self.rpc_url.trim_end_matches('/').rsplit_once(':') {
            Some((_, "18443")) => "regtest",
            Some((_, "38332")) => "signet",
            Some((_, "48332")) => "testnet4",
            _ => bail!("no login for {}: use --rpc-cookie, or --rpc-user", self.rpc_url),
        };
        let home = env::var_os("HOME").context("HOME is not set: name the cookie with --rpc-cookie")?;
        Ok(PathBuf::from(home).join(".bitcoin").join(folder).join(".cookie"))
    }

    /// Connects, and waits until the node is up to date.
    pub async fn ready(&self, progress: &mut Progress) -> Result<Node> {
        let login = self.login()?;
        let client = |timeout| -> Result<_> {
            let client = rpc_client(&self.rpc_url, login.clone(), timeout);
            Ok(Arc::new(client.with_context(|| {
                format!("--rpc-url {} is not valid", self.rpc_url)
            })?))
        };
        let (calls, scans) = (client(TIMEOUT)?, client(SCAN_TIMEOUT)?);
        let mut node = Node {
            url: self.rpc_url.clone(),
            calls,
            scans,
            network: Network::Regtest,
        };
        loop {
            match node.call::<ChainInfo>("getblockchaininfo", &[]).await {
                Ok(info) => {
                    node.network = test_network(&info.chain)?;
                    if !info.initialblockdownload {
                        return Ok(node);
                    }
                    progress.say(info.catching_up());
                }
                Err(error) if code(&error) == Some(IN_WARMUP) => {
                    progress.say(format!("waiting for the node to start: {error:#}"));
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Real money has no place in a program that is not meant for it.
fn test_network(chain: &str) -> Result<Network> {
    match chain {
        "regtest" => Ok(Network::Regtest),
        "signet" => Ok(Network::Signet),
        "testnet4" => Ok(Network::Testnet4),
        "main" => bail!(
            "the node is on mainnet, and this command is for test networks alone: its connections are not encrypted, and no \
             one has audited it. Start a node with -regtest, -signet or -testnet4"
        ),
        other => bail!("the node is on the chain \"{other}\": expected regtest, signet or testnet4"),
    }
}

#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
    blocks: u32,
    headers: u32,
    initialblockdownload: bool,
    verificationprogress: f64,
}

impl ChainInfo {
    fn catching_up(&self) -> String {
        let hint = if self.chain == "regtest" {
            "; on regtest, mine a block"
        } else {
            ""
        };
        format!(
            "waiting for the node to catch up: block {} of {} on {}, {:.1} %{hint}",
            self.blocks,
            self.headers,
            self.chain,
            self.verificationprogress * 100.0
        )
    }
}

/// An output that pays a script, and that no block spends.
#[derive(Debug, Deserialize)]
pub struct ScannedCoin {
    txid: Txid,
    vout: u32,
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub amount: Amount,
    coinbase: bool,
    height: u32,
}

impl ScannedCoin {
    pub fn outpoint(&self) -> OutPoint {
        OutPoint::new(self.txid, self.vout)
    }
}

pub struct Node {
    url: String,
    calls: Arc<Client>,
    scans: Arc<Client>,
    pub network: Network,
}

impl Node {
    /// A party's view of the chain.
    pub fn chain(&self) -> BitcoindChain {
        let chain = BitcoindChain::new(Arc::clone(&self.calls));
        if self.network != Network::Regtest {
            return chain;
        }
        // Blocks come when someone mines them, and nobody else asks this node.
        let poll = Duration::from_millis(50);
        chain.poll_every(poll).backoff(self.backoff())
    }

    /// How long to wait for a node that does not answer.
    pub fn backoff(&self) -> Backoff {
        if self.network == Network::Regtest {
            let (first, most) = (Duration::from_millis(100), Duration::from_secs(1));
            return Backoff {
                first,
                most,
                ..Backoff::default()
            };
        }
        Backoff::default()
    }

    pub async fn height(&self) -> Result<u32> {
        self.call("getblockcount", &[]).await
    }

    pub async fn block_hash(&self, height: u32) -> Result<BlockHash> {
        self.call("getblockhash", &[json!(height)]).await
    }

    /// Whether neither a block nor the mempool spends an output, which may itself be in the mempool.
    pub async fn is_unspent(&self, outpoint: OutPoint) -> Result<bool> {
        let arguments = [json!(outpoint.txid), json!(outpoint.vout), json!(true)];
        let found: Option<Value> = self.call("gettxout", &arguments).await?;
        Ok(found.is_some())
    }

    /// What a script can spend: confirmed, and not spent in the mempool either.
    pub async fn coins(&self, script: &ScriptBuf, progress: &mut Progress) -> Result<Vec<ScannedCoin>> {
        #[derive(Deserialize)]
        struct Scan {
            height: u32,
            unspents: Vec<ScannedCoin>,
        }
        let arguments = [json!("start"), json!([format!("raw({script:x})")])];
        let scan: Scan = loop {
            match call(Arc::clone(&self.scans), &self.url, "scantxoutset", &arguments).await {
                Err(error) if code(&error) == Some(SCAN_IN_PROGRESS) => {
                    progress.say("waiting for the node to end another scan");
                    tokio::time::sleep(PAUSE).await;
                }
                scanned => break scanned?,
            }
        };
        let mut coins = Vec::new();
        for coin in scan.unspents {
            let is_mature = !coin.coinbase || scan.height + 1 >= coin.height + 100;
            if is_mature && self.is_unspent(coin.outpoint()).await? {
                coins.push(coin);
            }
        }
        Ok(coins)
    }

    async fn call<T: DeserializeOwned + Send + 'static>(&self, name: &str, arguments: &[Value]) -> Result<T> {
        call(Arc::clone(&self.calls), &self.url, name, arguments).await
    }
}

/// The client blocks its thread until the answer is there.
async fn call<T: DeserializeOwned + Send + 'static>(
    client: Arc<Client>,
    url: &str,
    name: &str,
    arguments: &[Value],
) -> Result<T> {
    let (method, arguments) = (name.to_owned(), arguments.to_vec());
    let answer = tokio::task::spawn_blocking(move || client.call::<T>(&method, &arguments)).await?;
    answer.map_err(|error| {
        let said = error.to_string();
        let advice = match &error {
            // The node's own words.
            Error::JsonRpc(jsonrpc::Error::Rpc(_)) => "",
            _ if said.contains("401") => "; check --rpc-cookie, or --rpc-user and its password",
            _ => "; is bitcoind running, and is --rpc-url right?",
        };
        let text = format!("cannot call {name} of the node at {url}: {said}{advice}");
        anyhow!(error).context(text)
    })
}

fn code(error: &anyhow::Error) -> Option<i32> {
    match error.downcast_ref::<Error>() {
        Some(Error::JsonRpc(jsonrpc::Error::Rpc(error))) => Some(error.code),
        _ => None,
    }
}
