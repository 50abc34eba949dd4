//! The RPCs of a node about unconfirmed transactions, as typed functions.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, FeeRate, OutPoint, SignedAmount, Transaction, Txid, Weight, Wtxid};
use bitcoincore_rpc::jsonrpc;
use serde::Deserialize;
use serde_json::{json, Value};

use super::rpc::{call, decode, failed, parse, raw, set_mock_time, Raw};
use crate::regtest::error::Error;
use crate::regtest::node::Node;
use crate::regtest::verdict::{MempoolVerdict, Rejection};

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

/// What a node knows of a transaction in its mempool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MempoolEntry {
    /// Its id with the witness.
    pub wtxid: Wtxid,
    /// Its size in vbytes, as BIP 141 counts them; more, if it has many signature checks for its size.
    pub vsize: u64,
    /// Its weight.
    pub weight: Weight,
    /// When it entered, by the node's clock, in seconds since 1970.
    pub time: u64,
    /// The height of the tip when it entered.
    pub height: u32,
    /// Its fees, and those of its ancestors and descendants.
    pub fees: MempoolFees,
    /// The number of its ancestors in the mempool, itself included.
    #[serde(rename = "ancestorcount")]
    pub ancestor_count: u64,
    /// Their size in vbytes.
    #[serde(rename = "ancestorsize")]
    pub ancestor_vsize: u64,
    /// The number of its descendants in the mempool, itself included.
    #[serde(rename = "descendantcount")]
    pub descendant_count: u64,
    /// Their size in vbytes.
    #[serde(rename = "descendantsize")]
    pub descendant_vsize: u64,
    /// The transactions of the mempool that it spends from.
    #[serde(rename = "depends")]
    pub parents: Vec<Txid>,
    /// The transactions of the mempool that spend from it.
    #[serde(rename = "spentby")]
    pub children: Vec<Txid>,
}

/// The fees of a [`MempoolEntry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct MempoolFees {
    /// What it pays.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub base: Amount,
    /// The fee that it counts for, after [`Node::prioritise`].
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub modified: SignedAmount,
    /// The fee of it and its ancestors.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub ancestor: SignedAmount,
    /// The fee of it and its descendants.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub descendant: SignedAmount,
}

/// `sendrawtransaction` and `submitpackage` answer with these codes if they do not like the transactions themselves.
const VERDICT_CODES: [i32; 4] = [
    -22, // cannot be decoded
    -25, // missing inputs
    -26, // broken rules of consensus or policy
    -27, // in a block already
];

/// The number of seconds after which `getblocktemplate` reads the mempool again.
const TEMPLATE_AGE: u32 = 6;

/// What stands for a transaction that the node did not come to.
pub(in crate::regtest) const NOT_VALIDATED: &str = "package-not-validated";

/// Lets `sendrawtransaction` burn any amount.
pub(in crate::regtest) const ALL_MONEY: &str = "21000000";

impl Node {
    /// Tests whether the node would accept the transaction to its mempool now, with any feerate.
    ///
    /// # Errors
    ///
    /// If the node fails; a rejection is a [`MempoolVerdict`].
    pub fn test_accept(&self, transaction: &Transaction) -> Result<MempoolVerdict, Error> {
        const CALL: &str = "testmempoolaccept";
        let arguments = [json!([serialize_hex(transaction)]), json!(0)];
        match verdict_of(CALL, raw(self.client(), CALL, &arguments))? {
            Ok(answer) => {
                let [tested]: [Tested; 1] = parse(CALL, &answer)?;
                Ok(tested.verdict())
            }
            Err(rejection) => Ok(MempoolVerdict::Rejected(rejection)),
        }
    }

    /// Submits the transaction to the node, with any feerate. One that is already in the mempool counts as accepted.
    ///
    /// # Errors
    ///
    /// If the node fails; a rejection is a [`MempoolVerdict`].
    pub fn submit(&self, transaction: &Transaction) -> Result<MempoolVerdict, Error> {
        const CALL: &str = "sendrawtransaction";
        let arguments = [json!(serialize_hex(transaction)), json!(0), json!(ALL_MONEY)];
        let verdict = match verdict_of(CALL, raw(self.client(), CALL, &arguments))? {
            Ok(txid) => MempoolVerdict::Accepted {
                txid: parse(CALL, &txid)?,
            },
            Err(rejection) => MempoolVerdict::Rejected(rejection),
        };
        self.note(format!("transaction {}: {verdict}", transaction.compute_txid()));
        Ok(verdict)
    }

    /// Returns the ids of all transactions in the mempool, sorted.
    pub fn mempool(&self) -> Result<Vec<Txid>, Error> {
        let mut txids: Vec<Txid> = call(self.client(), "getrawmempool", &[])?;
        txids.sort_unstable();
        Ok(txids)
    }

    /// Returns the transaction of the mempool that spends an output.
    pub fn mempool_spender(&self, outpoint: OutPoint) -> Result<Option<Txid>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            spendingtxid: Option<Txid>,
        }
        let asked = json!([{ "txid": outpoint.txid, "vout": outpoint.vout }]);
        let [answer]: [Answer; 1] = call(self.client(), "gettxspendingprevout", &[asked])?;
        Ok(answer.spendingtxid)
    }

    /// Returns a transaction of the mempool, or `None` if it is not there. Blocks are not searched.
    pub fn transaction_in_mempool(&self, txid: Txid) -> Result<Option<Transaction>, Error> {
        if self.mempool()?.binary_search(&txid).is_err() {
            return Ok(None);
        }
        let raw: String = call(self.client(), "getrawtransaction", &[json!(txid), json!(0)])?;
        decode("getrawtransaction", &raw).map(Some)
    }

    /// Returns what the node knows of a transaction in its mempool, or `None` if it is not there.
    pub fn mempool_entry(&self, txid: Txid) -> Result<Option<MempoolEntry>, Error> {
        if self.mempool()?.binary_search(&txid).is_err() {
            return Ok(None);
        }
        call(self.client(), "getmempoolentry", &[json!(txid)]).map(Some)
    }

    /// Makes the node treat a transaction as if it paid this much more, or less: when it decides what to accept to its
    /// mempool, what to keep there, and what to put into a block. Several calls add up.
    pub fn prioritise(&self, txid: Txid, fee: SignedAmount) -> Result<(), Error> {
        // The second argument has been without a meaning since Core 0.15.
        let arguments = [json!(txid), json!(0), json!(fee.to_sat())];
        let _: bool = call(self.client(), "prioritisetransaction", &arguments)?;
        Ok(())
    }

    /// Returns the feerate below which the node now accepts nothing: that of its [`Policy`](crate::regtest::Policy), or more
    /// while its mempool is full (`-maxmempool`). Rounded up.
    pub fn least_feerate(&self) -> Result<FeeRate, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(with = "bitcoin::amount::serde::as_btc")]
            mempoolminfee: Amount,
        }
        let answer: Answer = call(self.client(), "getmempoolinfo", &[])?;
        // Bitcoin per 1000 vbytes there, satoshi per 1000 weight units here.
        Ok(FeeRate::from_sat_per_kwu(
            answer.mempoolminfee.to_sat().div_ceil(4),
        ))
    }

    /// Returns what the node would put into the next block.
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
        // A second at least, since the median time past may be as far ahead of the clock as a block may be.
        let fresh = time
            .now
            .saturating_add(1)
            .max(time.template.saturating_add(TEMPLATE_AGE));
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

/// An answer, or the rejection if the error is about the transactions and not about the node.
pub(in crate::regtest) fn verdict_of(
    name: &'static str,
    answer: Raw,
) -> Result<Result<Value, Rejection>, Error> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(error)))
            if VERDICT_CODES.contains(&error.code) =>
        {
            Ok(Err(Rejection::of(error.message)))
        }
        Err(source) => Err(failed(name, source)),
    }
}

/// What `testmempoolaccept` says of a transaction.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::regtest) struct Tested {
    txid: Txid,
    #[serde(default)]
    allowed: bool,
    reject_reason: Option<String>,
    reject_details: Option<String>,
    pub package_error: Option<String>,
}

impl Tested {
    pub fn verdict(self) -> MempoolVerdict {
        if self.allowed {
            return MempoolVerdict::Accepted { txid: self.txid };
        }
        // Only since version 29 are there details; before that, the reason alone. Of a transaction that the node did
        // not come to there is neither.
        let words = self.reject_details.or(self.reject_reason);
        MempoolVerdict::rejected(words.unwrap_or_else(|| NOT_VALIDATED.to_owned()))
    }
}
