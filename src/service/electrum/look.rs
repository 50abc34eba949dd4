//! What is asked of a server, and what becomes of its answers.

use std::collections::HashSet;

use bitcoin::absolute::{Height, Time};
use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::{OutPoint, Script, Transaction, TxOut, Txid};
use serde::Deserialize;
use serde_json::{json, Value};

use super::error::ElectrumError;
use super::link::Link;
use super::proof::{Branch, Trail};
use super::Inner;
use crate::channel::{verify_input, ChainView, SeenSpend, Tip};

/// How often a look is begun again because the chain moved meanwhile.
const LOOKS: u32 = 10;

/// No server gives more headers at once.
const MAX_HEADERS: u32 = 2_016;

/// The server's newest block.
#[derive(PartialEq, Eq)]
struct Best {
    height: u32,
    header: Header,
}

/// A transaction that has to do with a script.
#[derive(Deserialize)]
struct Entry {
    tx_hash: Txid,
    /// Positive in a block, otherwise in the mempool.
    height: i64,
}

#[derive(Deserialize)]
struct Unspent {
    tx_hash: Txid,
    tx_pos: u32,
}

impl Inner {
    /// The tip, and what became of the funding output, if one is asked for.
    pub async fn look(&self, funding: Option<OutPoint>) -> Result<ChainView, ElectrumError> {
        let link = self.link().await?;
        let mut best = link.best().await?;
        for _ in 0..LOOKS {
            // The pieces fit together only if no block came between them, and an error may come from just that.
            let view = self.look_at(&link, &best, funding).await;
            if !link.is_open() {
                return view;
            }
            let now = link.best().await?;
            if now == best {
                return view;
            }
            best = now;
        }
        Err(ElectrumError::Unsteady { looks: LOOKS })
    }

    async fn look_at(
        &self,
        link: &Link,
        best: &Best,
        funding: Option<OutPoint>,
    ) -> Result<ChainView, ElectrumError> {
        let mut found = Found::default();
        if let Some(funding) = funding {
            if let Some(output) = self.output(link, funding).await? {
                found = self.find(link, best, funding, &output).await?;
            }
        }
        let heights: Vec<_> = found.confirmed().map(|(_, height)| height).collect();
        let trail = link.trail(best, &heights).await?;
        for (txid, height) in found.confirmed() {
            let params = json!([txid, height]);
            let branch: Branch = link.call("blockchain.transaction.get_merkle", params).await?;
            trail.check(height, txid, &branch)?;
        }
        let depth = |height: Option<u32>| height.map_or(0, |height| best.height - height + 1);
        let funded = found.funding.and_then(|(_, height)| height);
        let base = funded.and_then(|height| Some((height.checked_sub(1)?, trail.mtp_below(height)?)));
        Ok(ChainView {
            tip: tip(best.height, trail.mtp().unwrap_or_default())?,
            confirmations: depth(funded),
            base: base.map(|(height, mtp)| tip(height, mtp)).transpose()?,
            spend: found.spend.map(|(tx, height)| SeenSpend {
                tx,
                confirmations: depth(height),
            }),
        })
    }

    /// The funding output, if the server knows its transaction or ever did.
    async fn output(&self, link: &Link, funding: OutPoint) -> Result<Option<TxOut>, ElectrumError> {
        if let Some(output) = self.known().outputs.get(&funding) {
            return Ok(Some(output.clone()));
        }
        let Some(tx) = link.transaction(funding.txid).await? else {
            return Ok(None);
        };
        let output = tx.output.get(funding.vout as usize).cloned();
        if let Some(output) = &output {
            self.known().outputs.insert(funding, output.clone());
        }
        Ok(output)
    }

    async fn find(
        &self,
        link: &Link,
        best: &Best,
        funding: OutPoint,
        output: &TxOut,
    ) -> Result<Found, ElectrumError> {
        let params = json!([script_hash(&output.script_pubkey)]);
        // For the news of it, and because servers are quicker about scripts that they watch.
        let _: Value = link
            .call("blockchain.scripthash.subscribe", params.clone())
            .await?;
        // In this order: a spend that comes in between is in the history.
        let unspent: Vec<Unspent> = link
            .call("blockchain.scripthash.listunspent", params.clone())
            .await?;
        let history: Vec<Entry> = link.call("blockchain.scripthash.get_history", params).await?;
        let mut found = Found::default();
        let Some(entry) = history.iter().find(|entry| entry.tx_hash == funding.txid) else {
            return Ok(found);
        };
        found.funding = Some((funding.txid, best.checked(entry.height)?));
        let is_funding = |unspent: &Unspent| OutPoint::new(unspent.tx_hash, unspent.tx_pos) == funding;
        if !unspent.iter().any(is_funding) {
            let unspent = unspent.iter().map(|unspent| unspent.tx_hash).collect();
            let (tx, height) = self.spend(link, funding, output, &history, &unspent).await?;
            found.spend = Some((tx, best.checked(height)?));
        }
        Ok(found)
    }

    /// Anyone can send to the script of a channel, however often, and make its history long. What only did that has an
    /// unspent output, so it comes last.
    async fn spend(
        &self,
        link: &Link,
        funding: OutPoint,
        output: &TxOut,
        history: &[Entry],
        unspent: &HashSet<Txid>,
    ) -> Result<(Transaction, i64), ElectrumError> {
        let mut candidates: Vec<_> = history.iter().rev().collect();
        candidates.retain(|entry| entry.tx_hash != funding.txid);
        candidates.sort_by_key(|entry| unspent.contains(&entry.tx_hash));
        for entry in candidates {
            if self.known().innocent.contains(&(funding, entry.tx_hash)) {
                continue;
            }
            let Some(tx) = link.transaction(entry.tx_hash).await? else {
                continue;
            };
            if let Some(index) = tx.input.iter().position(|input| input.previous_output == funding) {
                let prevouts = prevouts(link, &tx, funding, output).await?;
                check_script(&tx, index, &prevouts)?;
                return Ok((tx, entry.height));
            }
            self.known().innocent.insert((funding, entry.tx_hash));
        }
        let reason = format!("output {funding} is not unspent, and nothing spends it");
        Err(ElectrumError::Contradiction(reason))
    }

    /// Gives a transaction to the network; the node's words if it is refused.
    pub async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ElectrumError> {
        const CALL: &str = "blockchain.transaction.broadcast";
        let link = self.link().await?;
        let txid = tx.compute_txid();
        match link.call::<Txid>(CALL, json!([serialize_hex(tx)])).await {
            Ok(taken) if taken == txid => Ok(None),
            Ok(other) => {
                let reason = format!("it was given {txid}, and says that it has taken {other}");
                Err(ElectrumError::Contradiction(reason))
            }
            Err(ElectrumError::Refused { code, message, .. }) if is_verdict(code, &message) => {
                let words = node_words(&message);
                Ok((!is_known(words)).then(|| words.to_owned()))
            }
            Err(error) => Err(error),
        }
    }
}

/// Transactions and the heights of their blocks; none in the mempool.
#[derive(Default)]
struct Found {
    funding: Option<(Txid, Option<u32>)>,
    spend: Option<(Transaction, Option<u32>)>,
}

impl Found {
    fn confirmed(&self) -> impl Iterator<Item = (Txid, u32)> + '_ {
        let spend = self
            .spend
            .as_ref()
            .map(|(tx, height)| (tx.compute_txid(), *height));
        let both = self.funding.into_iter().chain(spend);
        both.filter_map(|(txid, height)| Some((txid, height?)))
    }
}

impl Best {
    /// A height that the server gives for a transaction; none in the mempool.
    fn checked(&self, height: i64) -> Result<Option<u32>, ElectrumError> {
        if height <= 0 {
            return Ok(None);
        }
        match u32::try_from(height) {
            Ok(height) if height <= self.height => Ok(Some(height)),
            _ => {
                let reason = format!(
                    "a transaction at height {height}, above the tip at {}",
                    self.height
                );
                Err(ElectrumError::Contradiction(reason))
            }
        }
    }
}

impl Link {
    async fn best(&self) -> Result<Best, ElectrumError> {
        const CALL: &str = "blockchain.headers.subscribe";
        #[derive(Deserialize)]
        struct Answer {
            height: u32,
            hex: String,
        }
        let Answer { height, hex } = self.call(CALL, json!([])).await?;
        Height::from_consensus(height).map_err(|error| ElectrumError::nonsense(CALL, &error))?;
        let header = deserialize_hex(&hex).map_err(|error| ElectrumError::nonsense(CALL, &error))?;
        Ok(Best { height, header })
    }

    /// The headers up to the best one.
    async fn trail(&self, best: &Best, heights: &[u32]) -> Result<Trail, ElectrumError> {
        const CALL: &str = "blockchain.block.headers";
        #[derive(Deserialize)]
        struct Answer {
            hex: String,
        }
        let mut trail = Trail::new(best.height, heights);
        while trail.next() <= best.height {
            let count = (best.height - trail.next() + 1).min(MAX_HEADERS);
            let Answer { hex } = self.call(CALL, json!([trail.next(), count])).await?;
            let headers = split(&hex).map_err(|error| ElectrumError::nonsense(CALL, &error))?;
            if headers.is_empty() || headers.len() > count as usize {
                let reason = format!("{} headers, asked for {count}", headers.len());
                return Err(ElectrumError::nonsense(CALL, &reason));
            }
            for header in headers {
                trail.push(header)?;
            }
        }
        if trail.last() != Some(&best.header) {
            let reason = format!("its headers do not lead to its tip {}", best.header.block_hash());
            return Err(ElectrumError::Contradiction(reason));
        }
        Ok(trail)
    }

    /// A transaction of a block or of the mempool.
    async fn transaction(&self, txid: Txid) -> Result<Option<Transaction>, ElectrumError> {
        const CALL: &str = "blockchain.transaction.get";
        let hex: String = match self.call(CALL, json!([txid])).await {
            Ok(hex) => hex,
            // In the node's words, which every server passes on.
            Err(ElectrumError::Refused { message, .. }) if message.contains("No such mempool") => {
                return Ok(None)
            }
            Err(error) => return Err(error),
        };
        let tx: Transaction = deserialize_hex(&hex).map_err(|error| ElectrumError::nonsense(CALL, &error))?;
        if tx.compute_txid() == txid {
            return Ok(Some(tx));
        }
        let reason = format!("it was asked for {txid}, and gave {}", tx.compute_txid());
        Err(ElectrumError::Contradiction(reason))
    }
}

/// Headers, one after the other.
fn split(hex: &str) -> Result<Vec<Header>, String> {
    let mut headers = Vec::new();
    for header in hex.as_bytes().chunks(2 * Header::SIZE) {
        let header = std::str::from_utf8(header).map_err(|error| error.to_string())?;
        headers.push(deserialize_hex(header).map_err(|error| error.to_string())?);
    }
    Ok(headers)
}

fn tip(height: u32, mtp: u32) -> Result<Tip, ElectrumError> {
    let range = |error: bitcoin::absolute::ConversionError| ElectrumError::Contradiction(error.to_string());
    Ok(Tip {
        height: Height::from_consensus(height).map_err(range)?,
        mtp: Time::from_consensus(mtp).map_err(range)?,
    })
}

/// What a spend of the funding output spends, all of it: a signature commits to every one of them (BIP 341).
async fn prevouts(
    link: &Link,
    tx: &Transaction,
    funding: OutPoint,
    output: &TxOut,
) -> Result<Vec<TxOut>, ElectrumError> {
    let mut prevouts = Vec::with_capacity(tx.input.len());
    for input in &tx.input {
        let OutPoint { txid, vout } = input.previous_output;
        if input.previous_output == funding {
            prevouts.push(output.clone());
            continue;
        }
        let spent = link.transaction(txid).await?;
        let spent = spent.and_then(|tx| tx.output.get(vout as usize).cloned());
        let missing = || {
            format!(
                "{} spends {txid}:{vout}, which it does not know",
                tx.compute_txid()
            )
        };
        prevouts.push(spent.ok_or_else(|| ElectrumError::Contradiction(missing()))?);
    }
    Ok(prevouts)
}

/// Without this, a server could make a party believe that its money is gone.
fn check_script(tx: &Transaction, index: usize, prevouts: &[TxOut]) -> Result<(), ElectrumError> {
    verify_input(tx, index, prevouts).map_err(|error| {
        let txid = tx.compute_txid();
        ElectrumError::Contradiction(format!("{txid} spends what it cannot spend: {error}"))
    })
}

/// As the protocol names scripts: the bytes of the hash backwards, in hex.
fn script_hash(script: &Script) -> String {
    let mut hash = sha256::Hash::hash(script.as_bytes()).to_byte_array();
    hash.reverse();
    sha256::Hash::from_byte_array(hash).to_string()
}

/// `ElectrumX` and Fulcrum put this before the node's words, and the transaction after them.
const ENVELOPE: &str = "the transaction was rejected by network rules.";

/// Whether a refusal is the node's, and not due to trouble between server and node. electrs has the code 2 for that.
fn is_verdict(code: i64, message: &str) -> bool {
    code == 2 || message.starts_with(ENVELOPE)
}

fn node_words(message: &str) -> &str {
    let Some(words) = message.strip_prefix(ENVELOPE) else {
        return message;
    };
    words.split("\n[").next().unwrap_or_default().trim()
}

/// Being in the mempool or in a block already is as good as being taken.
fn is_known(words: &str) -> bool {
    [
        "txn-already-in-mempool",
        "txn-already-known",
        "txn-same-nonwitness-data-in-mempool",
        "Transaction already in block chain",
        "Transaction outputs already in utxo set",
    ]
    .iter()
    .any(|known| words.starts_with(known))
}
