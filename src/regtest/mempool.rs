//! The RPCs of a node about transactions that are in no block yet, as typed functions.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, Transaction, Txid};
use bitcoincore_rpc::jsonrpc;
use serde::Deserialize;
use serde_json::{json, Value};

use super::error::Error;
use super::node::Node;
use super::rpc::{call, decode, failed, parse, raw, set_mock_time, Raw};
use super::verdict::Verdict;

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
        let [answer]: [Answer; 1] = parse(CALL, &answer)?;
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
        let verdict = match verdict_of(CALL, raw(self.client(), CALL, &arguments))? {
            Ok(txid) => Verdict::Accepted {
                txid: parse(CALL, &txid)?,
            },
            Err(verdict) => verdict,
        };
        self.note(format!("transaction {}: {verdict}", transaction.compute_txid()));
        Ok(verdict)
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
