//! The RPCs that a view of the chain takes, as typed functions.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::Arc;

use bitcoin::absolute::{Height, Time};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Amount, Block, BlockHash, FeeRate, OutPoint, Transaction, Txid, Wtxid};
use bitcoincore_rpc::{jsonrpc, Client, Error, RpcApi};
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};

use crate::channel::Tip;
use crate::service::node_verdict::{is_known, NodeVerdict};

/// A call that failed, or an answer that makes no sense.
pub(super) type Failure = Box<dyn StdError + Send + Sync>;

/// No limit for the feerate: what is signed is signed.
const ANY_FEERATE: u8 = 0;
/// Nor for what an output may burn, in bitcoin: the counterparty's payout script is the counterparty's business.
const ANY_BURN: &str = "21000000";

/// The code for a transaction that is neither in the mempool nor in the index.
const NO_SUCH_TRANSACTION: i32 = -5;

/// How many calls go into one request, and how many outputs into one call: an answer of some hundred kilobytes.
const BATCH: usize = 1_000;

/// A server that answers only part of a request.
#[derive(Debug, thiserror::Error)]
#[error("the node answered only some calls of a request")]
struct Incomplete;

/// A node that shows the past.
#[derive(Debug, thiserror::Error)]
#[error(
    "the node is still catching up with the network: it has {blocks} of {headers} blocks (wait until initialblockdownload \
     in getblockchaininfo is false)"
)]
struct CatchingUp {
    blocks: u32,
    headers: u32,
}

/// A node that has not seen enough blocks and transactions.
#[derive(Debug, thiserror::Error)]
#[error("the node has no estimate: {0}")]
struct NoEstimate(String);

/// The end of the best chain.
#[derive(Debug, Deserialize)]
pub(super) struct ChainInfo {
    #[serde(rename = "blocks")]
    pub height: u32,
    #[serde(rename = "bestblockhash")]
    pub hash: BlockHash,
    mediantime: u32,
    headers: u32,
    #[serde(rename = "initialblockdownload")]
    is_catching_up: bool,
    chain: String,
}

impl ChainInfo {
    pub fn tip(&self) -> Result<Tip, Failure> {
        tip(self.height, self.mediantime)
    }
}

fn tip(height: u32, mtp: u32) -> Result<Tip, Failure> {
    Ok(Tip {
        height: Height::from_consensus(height)?,
        mtp: Time::from_consensus(mtp)?,
    })
}

#[derive(Clone)]
pub(super) struct Rpc(pub Arc<Client>);

impl Rpc {
    fn call<T: DeserializeOwned>(&self, name: &str, arguments: &[Value]) -> Result<T, Error> {
        self.0.call(name, arguments)
    }

    /// Makes the same call for each of these arguments, in one request where there are several.
    fn call_each<T: DeserializeOwned>(
        &self,
        name: &str,
        arguments: &[Vec<Value>],
    ) -> Result<Vec<T>, Failure> {
        if let [arguments] = arguments {
            return Ok(vec![self.call(name, arguments)?]);
        }
        let mut answers = Vec::with_capacity(arguments.len());
        for some in arguments.chunks(BATCH) {
            let arguments: Vec<_> = some.iter().map(jsonrpc::arg).collect();
            let client = self.0.get_jsonrpc_client();
            let requests = arguments
                .iter()
                .map(|arguments| client.build_request(name, Some(arguments)));
            for answer in client.send_batch(&requests.collect::<Vec<_>>())? {
                answers.push(answer.ok_or(Incomplete)?.result()?);
            }
        }
        Ok(answers)
    }

    /// On regtest there is no network to catch up with, and the node says that it does until a block is recent.
    pub fn chain_info(&self) -> Result<ChainInfo, Failure> {
        let info: ChainInfo = self.call("getblockchaininfo", &[])?;
        if info.is_catching_up && info.chain != "regtest" {
            let (blocks, headers) = (info.height, info.headers);
            return Err(CatchingUp { blocks, headers }.into());
        }
        Ok(info)
    }

    pub fn best_hash(&self) -> Result<BlockHash, Error> {
        self.call("getbestblockhash", &[])
    }

    /// The chain's end when it ended at this height.
    pub fn tip_at(&self, height: u32) -> Result<Tip, Failure> {
        #[derive(Deserialize)]
        struct Header {
            mediantime: u32,
        }
        let hash: BlockHash = self.call("getblockhash", &[json!(height)])?;
        let header: Header = self.call("getblockheader", &[json!(hash)])?;
        tip(height, header.mediantime)
    }

    pub fn block(&self, hash: BlockHash) -> Result<Block, Failure> {
        let hex: String = self.call("getblock", &[json!(hash), json!(0)])?;
        Ok(deserialize_hex(&hex)?)
    }

    /// The confirmations of each output that no block spends; `None` if there is no such output.
    pub fn confirmations(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<u32>>, Failure> {
        self.unspent(outpoints, false)
    }

    /// Whether neither a block nor the mempool spends each output, which may itself be in the mempool.
    pub fn are_unspent(&self, outpoints: &[OutPoint]) -> Result<Vec<bool>, Failure> {
        let unspent = self.unspent(outpoints, true)?;
        Ok(unspent.iter().map(Option::is_some).collect())
    }

    fn unspent(&self, outpoints: &[OutPoint], with_mempool: bool) -> Result<Vec<Option<u32>>, Failure> {
        #[derive(Deserialize)]
        struct Unspent {
            confirmations: u32,
        }
        let arguments = outpoints
            .iter()
            .map(|outpoint| vec![json!(outpoint.txid), json!(outpoint.vout), json!(with_mempool)]);
        let unspent = self.call_each("gettxout", &arguments.collect::<Vec<_>>())?;
        let unspent = unspent.into_iter();
        Ok(unspent
            .map(|unspent: Option<Unspent>| Some(unspent?.confirmations))
            .collect())
    }

    /// The transactions of the mempool that spend these outputs.
    pub fn mempool_spends(&self, outpoints: &[OutPoint]) -> Result<HashMap<OutPoint, Transaction>, Failure> {
        #[derive(Deserialize)]
        struct Spender {
            txid: Txid,
            vout: u32,
            spendingtxid: Option<Txid>,
        }
        let mut spends = HashMap::new();
        for some in outpoints.chunks(BATCH) {
            let asked = some
                .iter()
                .map(|outpoint| json!({ "txid": outpoint.txid, "vout": outpoint.vout }));
            let asked = asked.collect::<Vec<_>>();
            let spenders: Vec<Spender> = self.call("gettxspendingprevout", &[json!(asked)])?;
            for Spender {
                txid,
                vout,
                spendingtxid,
            } in spenders
            {
                let Some(spending) = spendingtxid else {
                    continue;
                };
                if let Some(tx) = self.in_mempool(spending)? {
                    spends.insert(OutPoint { txid, vout }, tx);
                }
            }
        }
        Ok(spends)
    }

    fn in_mempool(&self, txid: Txid) -> Result<Option<Transaction>, Failure> {
        match self.call::<String>("getrawtransaction", &[json!(txid)]) {
            Ok(hex) => Ok(Some(deserialize_hex(&hex)?)),
            // It has left the mempool since: for a block, which is a new tip, or because of a conflict.
            Err(error) if code(&error) == Some(NO_SUCH_TRANSACTION) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The feerate with which a transaction gets into one of the next blocks.
    pub fn estimate(&self, blocks: u32) -> Result<FeeRate, Failure> {
        #[derive(Deserialize)]
        struct Estimate {
            /// In bitcoin for a thousand vbytes.
            #[serde(default, with = "bitcoin::amount::serde::as_btc::opt")]
            feerate: Option<Amount>,
            #[serde(default)]
            errors: Vec<String>,
        }
        let estimate: Estimate = self.call("estimatesmartfee", &[json!(blocks), json!("CONSERVATIVE")])?;
        let feerate = estimate
            .feerate
            .ok_or_else(|| NoEstimate(estimate.errors.join(", ")))?;
        Ok(FeeRate::from_sat_per_kwu(feerate.to_sat() / 4))
    }

    /// Gives a transaction to the node; its words if it rejects it.
    pub fn submit(&self, tx: &Transaction) -> Result<Option<String>, Failure> {
        let arguments = [json!(serialize_hex(tx)), json!(ANY_FEERATE), json!(ANY_BURN)];
        let accepted = self.call::<Txid>("sendrawtransaction", &arguments);
        accepted.map(|_| None).or_else(rejection)
    }

    /// Gives a parent with its child to the node; its words if it rejects it.
    pub fn submit_package(&self, package: &[Transaction; 2]) -> Result<Option<String>, Failure> {
        let hex = package.each_ref().map(serialize_hex);
        let arguments = [json!(hex), json!(ANY_FEERATE), json!(ANY_BURN)];
        match self.call::<PackageAnswer>("submitpackage", &arguments) {
            Ok(answer) => Ok(answer.rejection(package)),
            Err(error) => rejection(error),
        }
    }
}

#[derive(Deserialize)]
struct PackageAnswer {
    package_msg: String,
    #[serde(rename = "tx-results")]
    results: HashMap<Wtxid, PackageResult>,
}

#[derive(Deserialize)]
struct PackageResult {
    error: Option<String>,
}

impl PackageAnswer {
    /// Of a package that is refused because of one of its transactions, the node says no more than that; the
    /// transaction's own words say why.
    fn rejection(mut self, package: &[Transaction; 2]) -> Option<String> {
        if self.package_msg == "success" {
            return None;
        }
        let mut words = package
            .iter()
            .filter_map(|tx| self.results.remove(&tx.compute_wtxid())?.error);
        Some(words.find(|words| !is_known(words)).unwrap_or(self.package_msg))
    }
}

/// The node's words about a transaction, unless the error is about something else.
fn rejection(error: Error) -> Result<Option<String>, Failure> {
    let verdict = match &error {
        Error::JsonRpc(jsonrpc::Error::Rpc(error)) => NodeVerdict::of(error.code.into(), &error.message),
        _ => None,
    };
    match verdict {
        Some(verdict) => Ok(verdict.rejection()),
        None => Err(error.into()),
    }
}

fn code(error: &Error) -> Option<i32> {
    match error {
        Error::JsonRpc(jsonrpc::Error::Rpc(error)) => Some(error.code),
        _ => None,
    }
}
