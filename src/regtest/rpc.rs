//! The RPCs of a node, as typed functions. This is the only place that knows their JSON.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use bitcoincore_rpc::{jsonrpc, Client, RpcApi};
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};

use super::error::{Error, NodeError};
use super::node::{Node, Tip};
use super::verdict::Verdict;

/// An unspent output, as the node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Utxo {
    /// Amount and script.
    pub output: TxOut,
    /// The number of blocks from its own to the tip, both included; 0 in the mempool.
    pub confirmations: u32,
    /// Whether a coinbase made it, so that it needs 100 blocks on top before it can be spent.
    pub coinbase: bool,
}

/// What the node would put into the next block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockTemplate {
    /// The height of that block.
    pub height: u32,
    /// Its transactions without the coinbase, in an order that differs between Core versions.
    pub transactions: Vec<TemplateTransaction>,
}

/// A transaction of a [`BlockTemplate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateTransaction {
    /// The transaction.
    pub transaction: Transaction,
    /// What it pays.
    pub fee: Amount,
}

/// An unspent output that pays to a script asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScannedUtxo {
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub height: u32,
    pub coinbase: bool,
}

/// `sendrawtransaction` answers with these codes if it does not like the transaction itself.
const VERDICT_CODES: [i32; 4] = [
    -22, // cannot be decoded
    -25, // missing inputs
    -26, // broken rules of consensus or policy
    -27, // in a block already
];

/// After so many seconds `getblocktemplate` looks at the mempool again.
const TEMPLATE_AGE: u32 = 6;

/// Lets `sendrawtransaction` burn any amount.
const ALL_MONEY: &str = "21000000";

impl Node {
    /// The best block.
    ///
    /// # Errors
    ///
    /// If the node fails.
    pub fn tip(&self) -> Result<Tip, Error> {
        #[derive(Deserialize)]
        struct Info {
            blocks: u32,
            bestblockhash: BlockHash,
            time: u32,
            mediantime: u32,
        }
        let info: Info = call(self.client(), "getblockchaininfo", &[])?;
        Ok(Tip {
            height: info.blocks,
            hash: info.bestblockhash,
            time: info.time,
            mtp: info.mediantime,
        })
    }

    /// Whether the node would take the transaction into its mempool now, with any feerate.
    ///
    /// # Errors
    ///
    /// If the node fails; a refusal is a [`Verdict`].
    pub fn test_accept(&self, transaction: &Transaction) -> Result<Verdict, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Answer {
            txid: Txid,
            #[serde(default)]
            allowed: bool,
            reject_reason: Option<String>,
            reject_details: Option<String>,
            package_error: Option<String>,
        }
        const CALL: &str = "testmempoolaccept";
        let answer = verdict_of(
            CALL,
            raw(
                self.client(),
                CALL,
                &[json!([serialize_hex(transaction)]), json!(0)],
            ),
        )?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(verdict) => return Ok(verdict),
        };
        let [answer]: [Answer; 1] = parse(CALL, answer)?;
        if answer.allowed {
            return Ok(Verdict::Accepted { txid: answer.txid });
        }
        // Only since version 29 are there details; before that, the reason alone.
        let words = answer
            .reject_details
            .or(answer.reject_reason)
            .or(answer.package_error);
        Ok(Verdict::rejected(words.unwrap_or_default()))
    }

    /// Gives the transaction to the node, with any feerate. Giving one again that is in the mempool counts as
    /// accepted.
    ///
    /// # Errors
    ///
    /// If the node fails; a refusal is a [`Verdict`].
    pub fn submit(&self, transaction: &Transaction) -> Result<Verdict, Error> {
        const CALL: &str = "sendrawtransaction";
        let arguments = [json!(serialize_hex(transaction)), json!(0), json!(ALL_MONEY)];
        match verdict_of(CALL, raw(self.client(), CALL, &arguments))? {
            Ok(txid) => Ok(Verdict::Accepted {
                txid: parse(CALL, txid)?,
            }),
            Err(verdict) => Ok(verdict),
        }
    }

    /// The ids of all transactions in the mempool, sorted.
    ///
    /// # Errors
    ///
    /// If the node fails.
    pub fn mempool(&self) -> Result<Vec<Txid>, Error> {
        let mut txids: Vec<Txid> = call(self.client(), "getrawmempool", &[])?;
        txids.sort_unstable();
        Ok(txids)
    }

    /// The transaction of the mempool that spends an output.
    ///
    /// # Errors
    ///
    /// If the node fails.
    pub fn mempool_spender(&self, outpoint: OutPoint) -> Result<Option<Txid>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            spendingtxid: Option<Txid>,
        }
        let asked = json!([{ "txid": outpoint.txid, "vout": outpoint.vout }]);
        let [answer]: [Answer; 1] = call(self.client(), "gettxspendingprevout", &[asked])?;
        Ok(answer.spendingtxid)
    }

    /// A transaction of the mempool, or `None` if it is not there. Blocks are not looked into.
    ///
    /// # Errors
    ///
    /// If the node fails.
    pub fn transaction_in_mempool(&self, txid: Txid) -> Result<Option<Transaction>, Error> {
        if self.mempool()?.binary_search(&txid).is_err() {
            return Ok(None);
        }
        let raw: String = call(self.client(), "getrawtransaction", &[json!(txid), json!(0)])?;
        decode("getrawtransaction", &raw).map(Some)
    }

    /// An output that nothing spends, neither a block nor the mempool.
    ///
    /// # Errors
    ///
    /// If the node fails.
    pub fn utxo(&self, outpoint: OutPoint) -> Result<Option<Utxo>, Error> {
        self.txout(outpoint, true)
    }

    /// An output that no block spends; the mempool is not looked at.
    ///
    /// # Errors
    ///
    /// If the node fails.
    pub fn confirmed_utxo(&self, outpoint: OutPoint) -> Result<Option<Utxo>, Error> {
        self.txout(outpoint, false)
    }

    fn txout(&self, outpoint: OutPoint, with_mempool: bool) -> Result<Option<Utxo>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            #[serde(with = "bitcoin::amount::serde::as_btc")]
            value: Amount,
            script_pub_key: Script,
            confirmations: u32,
            coinbase: bool,
        }
        #[derive(Deserialize)]
        struct Script {
            hex: ScriptBuf,
        }
        let arguments = [json!(outpoint.txid), json!(outpoint.vout), json!(with_mempool)];
        let answer: Option<Answer> = call(self.client(), "gettxout", &arguments)?;
        Ok(answer.map(|answer| Utxo {
            output: TxOut {
                value: answer.value,
                script_pubkey: answer.script_pub_key.hex,
            },
            confirmations: answer.confirmations,
            coinbase: answer.coinbase,
        }))
    }

    /// All outputs to a script that no block spends, oldest first.
    pub(super) fn scan(&self, script: &ScriptBuf) -> Result<Vec<ScannedUtxo>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            unspents: Vec<Unspent>,
        }
        #[derive(Deserialize)]
        struct Unspent {
            txid: Txid,
            vout: u32,
            #[serde(with = "bitcoin::amount::serde::as_btc")]
            amount: Amount,
            height: u32,
            coinbase: bool,
        }
        let descriptor = format!("raw({})", script.to_hex_string());
        let answer: Answer = call(
            self.client(),
            "scantxoutset",
            &[json!("start"), json!([descriptor])],
        )?;
        let mut found: Vec<_> = answer
            .unspents
            .into_iter()
            .map(|unspent| ScannedUtxo {
                outpoint: OutPoint::new(unspent.txid, unspent.vout),
                output: TxOut {
                    value: unspent.amount,
                    script_pubkey: script.clone(),
                },
                height: unspent.height,
                coinbase: unspent.coinbase,
            })
            .collect();
        found.sort_unstable_by_key(|utxo| (utxo.height, utxo.outpoint));
        Ok(found)
    }

    /// A block by its hash.
    ///
    /// # Errors
    ///
    /// If the node does not have it, or fails.
    pub fn block(&self, hash: BlockHash) -> Result<Block, Error> {
        let raw: String = call(self.client(), "getblock", &[json!(hash), json!(0)])?;
        decode("getblock", &raw)
    }

    /// The block of the best chain at a height.
    ///
    /// # Errors
    ///
    /// If the chain is shorter, or the node fails.
    pub fn block_at(&self, height: u32) -> Result<Block, Error> {
        self.block(self.block_hash_at(height)?)
    }

    /// The hash of the best chain's block at a height.
    ///
    /// # Errors
    ///
    /// If the chain is shorter, or the node fails.
    pub fn block_hash_at(&self, height: u32) -> Result<BlockHash, Error> {
        call(self.client(), "getblockhash", &[json!(height)])
    }

    /// The times in the headers of the last blocks, at most eleven, oldest first, in seconds since 1970.
    pub(super) fn recent_times(&self, tip: &Tip) -> Result<Vec<u32>, Error> {
        #[derive(Deserialize)]
        struct Header {
            time: u32,
            previousblockhash: Option<BlockHash>,
        }
        let mut times = Vec::with_capacity(11);
        let mut next = Some(tip.hash);
        while let (Some(hash), true) = (next, times.len() < 11) {
            let header: Header = call(self.client(), "getblockheader", &[json!(hash)])?;
            times.push(header.time);
            next = header.previousblockhash;
        }
        times.reverse();
        Ok(times)
    }

    /// Gives a block to the node. It need not become the tip: a valid block on a shorter branch is taken too,
    /// and so is one that the node has.
    ///
    /// # Errors
    ///
    /// [`NodeError::BlockRefused`] with the node's words if the block is not valid, or the node fails.
    pub fn submit_block(&self, block: &Block) -> Result<(), Error> {
        let words: Option<String> = call(self.client(), "submitblock", &[json!(serialize_hex(block))])?;
        match words.as_deref() {
            None | Some("inconclusive" | "duplicate") => Ok(()),
            Some(words) => Err(NodeError::BlockRefused {
                hash: block.block_hash(),
                words: words.into(),
            }
            .into()),
        }
    }

    /// What the node would put into the next block.
    ///
    /// # Errors
    ///
    /// If the node fails.
    pub fn block_template(&self) -> Result<BlockTemplate, Error> {
        #[derive(Deserialize)]
        struct Answer {
            height: u32,
            transactions: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            data: String,
            fee: u64,
        }
        const CALL: &str = "getblocktemplate";
        // The node shows the template it made before, without what the mempool got since, until by its own clock
        // some seconds have passed. That clock stands still, so it is put forward for the moment.
        let mut time = self.time();
        let fresh = time.now.max(time.template + TEMPLATE_AGE);
        set_mock_time(self.client(), fresh)?;
        time.template = fresh;
        let answer = call(self.client(), CALL, &[json!({ "rules": ["segwit"] })]);
        set_mock_time(self.client(), time.now)?;
        drop(time);

        let answer: Answer = answer?;
        let decoded = answer.transactions.into_iter().map(|entry| {
            let transaction = decode(CALL, &entry.data)?;
            Ok(TemplateTransaction {
                transaction,
                fee: Amount::from_sat(entry.fee),
            })
        });
        Ok(BlockTemplate {
            height: answer.height,
            transactions: decoded.collect::<Result<_, Error>>()?,
        })
    }

    /// Treats a block and all that follow it as invalid, as if they had never come. Their transactions return
    /// to the mempool if they still can.
    ///
    /// # Errors
    ///
    /// If the node does not have the block, or fails.
    pub fn invalidate_block(&self, hash: BlockHash) -> Result<(), Error> {
        call(self.client(), "invalidateblock", &[json!(hash)])
    }

    /// Undoes [`Node::invalidate_block`]; the longest chain wins again.
    ///
    /// # Errors
    ///
    /// If the node does not have the block, or fails.
    pub fn reconsider_block(&self, hash: BlockHash) -> Result<(), Error> {
        call(self.client(), "reconsiderblock", &[json!(hash)])
    }

    /// The node's version as a number, 319900 for 31.99.
    ///
    /// # Errors
    ///
    /// If the node fails.
    pub fn version(&self) -> Result<u32, Error> {
        self.network_info().map(|info| info.version)
    }

    /// The node's version as it tells its peers, such as `/Satoshi:31.99.0/`.
    ///
    /// # Errors
    ///
    /// If the node fails.
    pub fn subversion(&self) -> Result<String, Error> {
        self.network_info().map(|info| info.subversion)
    }

    fn network_info(&self) -> Result<NetworkInfo, Error> {
        call(self.client(), "getnetworkinfo", &[])
    }
}

#[derive(Deserialize)]
struct NetworkInfo {
    version: u32,
    subversion: String,
}

pub(super) fn set_mock_time(client: &Client, time: u32) -> Result<(), Error> {
    call(client, "setmocktime", &[json!(time)])
}

type Raw = Result<Value, bitcoincore_rpc::Error>;

fn raw(client: &Client, name: &'static str, arguments: &[Value]) -> Raw {
    client.call(name, arguments)
}

fn call<T: DeserializeOwned>(client: &Client, name: &'static str, arguments: &[Value]) -> Result<T, Error> {
    let answer = raw(client, name, arguments).map_err(|source| failed(name, source))?;
    parse(name, answer)
}

/// An answer, or the refusal if the error is about the transaction and not about the node.
fn verdict_of(name: &'static str, answer: Raw) -> Result<Result<Value, Verdict>, Error> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(error)))
            if VERDICT_CODES.contains(&error.code) =>
        {
            Ok(Err(Verdict::rejected(error.message)))
        }
        Err(source) => Err(failed(name, source)),
    }
}

fn parse<T: DeserializeOwned>(name: &'static str, answer: Value) -> Result<T, Error> {
    T::deserialize(&answer).map_err(|error| {
        NodeError::Answer {
            call: name,
            answer: format!("{error} in {answer}"),
        }
        .into()
    })
}

fn decode<T: bitcoin::consensus::Decodable>(name: &'static str, hex: &str) -> Result<T, Error> {
    deserialize_hex(hex).map_err(|error| {
        NodeError::Answer {
            call: name,
            answer: error.to_string(),
        }
        .into()
    })
}

fn failed(name: &'static str, source: bitcoincore_rpc::Error) -> Error {
    NodeError::Rpc {
        call: name,
        source: Box::new(source),
    }
    .into()
}
