//! What is asked of a server about a channel, and what becomes of its answers.

use std::collections::HashSet;
use std::sync::Arc;

use bitcoin::absolute::{Height, Time};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::{OutPoint, Script, Transaction, TxOut, Txid};
use serde::Deserialize;
use serde_json::json;

use super::calls::Best;
use super::error::ElectrumError;
use super::link::Link;
use super::proof::{Headers, MerkleBranch, MEDIAN_OF};
use super::ElectrumShared;
use crate::channel::{verify_input, ChainView, SeenSpend, Tip};

/// How often a poll is begun again because the chain moved meanwhile.
const MAX_VIEWS: u32 = 10;

/// A transaction that has to do with a script.
#[derive(Deserialize)]
struct ScriptHistoryEntry {
    tx_hash: Txid,
    /// Positive in a block, otherwise in the mempool.
    height: i64,
}

#[derive(Deserialize)]
struct ListedUtxo {
    tx_hash: Txid,
    tx_pos: u32,
    height: i64,
}

/// An output that is not spent, as Fulcrum tells of it.
#[derive(Deserialize)]
struct ScannedOutput {
    #[serde(default)]
    confirmed_height: i64,
}

impl ElectrumShared {
    /// Returns the tip, and what became of the funding output, if one is asked for.
    pub async fn poll(
        &self,
        link: &Link,
        mut best: Best,
        funding: Option<OutPoint>,
    ) -> Result<ChainView, ElectrumError> {
        for _ in 0..MAX_VIEWS {
            // The pieces fit together only if no block came between them, and an error may come from just that.
            let view = self.poll_on(link, &best, funding).await;
            if !link.is_open() {
                return view;
            }
            let now = link.best().await?;
            if now == best {
                return view;
            }
            best = now;
        }
        Err(ElectrumError::Unsteady { polls: MAX_VIEWS })
    }

    async fn poll_on(
        &self,
        link: &Link,
        best: &Best,
        funding: Option<OutPoint>,
    ) -> Result<ChainView, ElectrumError> {
        let mut found = FundingStatus::default();
        if let Some(funding) = funding {
            if let Some(output) = self.output(link, funding).await? {
                found = self.find(link, best, funding, &output).await?;
            }
        }
        let headers = self.headers(link, best, &found).await?;
        for (txid, height) in found.confirmed() {
            let params = json!([txid, height]);
            let branch: MerkleBranch = link.call("blockchain.transaction.get_merkle", params).await?;
            headers.check(height, txid, &branch)?;
        }
        let depth = |height: Option<u32>| height.map_or(0, |height| best.height - height + 1);
        let funded = found.funding.and_then(|(_, height)| height);
        let below = funded.and_then(|height| height.checked_sub(1));
        let base = below.and_then(|height| Some((height, headers.mtp(height)?)));
        Ok(ChainView {
            tip: tip(best.height, headers.mtp(best.height).unwrap_or_default())?,
            confirmations: depth(funded),
            funding_parent: base.map(|(height, mtp)| tip(height, mtp)).transpose()?,
            spend: found.spend.map(|(tx, height)| SeenSpend {
                tx,
                confirmations: depth(height),
            }),
        })
    }

    /// The headers for the median times and the merkle proofs of what was found. From now on they are the chain that is
    /// believed; an error if they have less work than the last one.
    async fn headers(
        &self,
        link: &Link,
        best: &Best,
        found: &FundingStatus,
    ) -> Result<Arc<Headers>, ElectrumError> {
        let below = |(_, height): (Txid, u32)| height.saturating_sub(MEDIAN_OF);
        let first = best.height.saturating_sub(MEDIAN_OF - 1);
        let lowest = found.confirmed().map(below).fold(first, u32::min);
        let known = Arc::clone(&self.known().headers);
        let is_enough = known.first() <= lowest && known.next() == best.height + 1;
        if is_enough && known.last() == Some(&best.header) {
            return Ok(known);
        }
        let headers = Arc::new(link.headers(best, lowest, &known).await?);
        let mut known = self.known();
        // Another poll may have been faster.
        headers.check_work(&known.headers)?;
        known.headers = Arc::clone(&headers);
        Ok(headers)
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

    /// Usually one call says that the output is unspent, and at which height. The history is needed only for the
    /// transaction that spends it. The server may refuse either, since anyone can send to the script.
    async fn find(
        &self,
        link: &Link,
        best: &Best,
        funding: OutPoint,
        output: &TxOut,
    ) -> Result<FundingStatus, ElectrumError> {
        let hash = script_hash(&output.script_pubkey);
        link.subscribe(&hash).await?;
        // In this order: a spend that comes in between is in the history.
        let unspent = link
            .ask::<Vec<ListedUtxo>>("blockchain.scripthash.listunspent", json!([hash]))
            .await?;
        let is_funding = |unspent: &&ListedUtxo| OutPoint::new(unspent.tx_hash, unspent.tx_pos) == funding;
        if let Some(unspent) = unspent.iter().flatten().find(is_funding) {
            return FundingStatus::unspent(funding, best, unspent.height);
        }
        let history = link
            .ask::<Vec<ScriptHistoryEntry>>("blockchain.scripthash.get_history", json!([hash]))
            .await?;
        let history = match history {
            Ok(history) => history,
            Err(refusal) => {
                let refusals = unspent.err().into_iter().chain([refusal]);
                return find_elsewhere(link, best, funding, refusals).await;
            }
        };
        let Some(entry) = history.iter().find(|entry| entry.tx_hash == funding.txid) else {
            return Ok(FundingStatus::default());
        };
        let mut found = FundingStatus::unspent(funding, best, entry.height)?;
        match self
            .spend(link, funding, output, &history, unspent.as_deref().ok())
            .await?
        {
            Some((tx, height)) => found.spend = Some((tx, best.checked(height)?)),
            // A history is whole or refused, and nothing in this one spends the output.
            None if unspent.is_err() => {}
            None => {
                let reason = format!("output {funding} is spent, but no transaction spends it");
                return Err(ElectrumError::Contradiction(reason));
            }
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
        history: &[ScriptHistoryEntry],
        unspent: Option<&[ListedUtxo]>,
    ) -> Result<Option<(Transaction, i64)>, ElectrumError> {
        let unspent: HashSet<_> = unspent
            .into_iter()
            .flatten()
            .map(|unspent| unspent.tx_hash)
            .collect();
        let mut candidates: Vec<_> = history.iter().rev().collect();
        candidates.retain(|entry| entry.tx_hash != funding.txid);
        candidates.sort_by_key(|entry| unspent.contains(&entry.tx_hash));
        let mut missing = None;
        for entry in candidates {
            if self.known().innocent.contains(&(funding, entry.tx_hash)) {
                continue;
            }
            let Some(tx) = link.transaction(entry.tx_hash).await? else {
                missing = Some(entry.tx_hash);
                continue;
            };
            if let Some(index) = tx.input.iter().position(|input| input.previous_output == funding) {
                let prevouts = prevouts(link, &tx, funding, output).await?;
                check_script(&tx, index, &prevouts)?;
                return Ok(Some((tx, entry.height)));
            }
            self.known().innocent.insert((funding, entry.tx_hash));
        }
        // The missing one may be the spend.
        let reason = |txid| format!("{txid} is in a history, but the server does not know it");
        missing.map_or(Ok(None), |txid| Err(ElectrumError::Contradiction(reason(txid))))
    }
}

/// Asks a server that lists nothing about the script for the output itself. Only Fulcrum has such a call, and it is not
/// tried on others: some servers hang up on a call that they do not know.
async fn find_elsewhere(
    link: &Link,
    best: &Best,
    funding: OutPoint,
    refusals: impl Iterator<Item = ElectrumError>,
) -> Result<FundingStatus, ElectrumError> {
    let OutPoint { txid, vout } = funding;
    if link.transaction(txid).await?.is_none() {
        // It was replaced or reorganised away: an output that does not exist is not spent.
        return Ok(FundingStatus::default());
    }
    if link.software().starts_with("Fulcrum") {
        let utxo = link
            .ask::<Option<ScannedOutput>>("blockchain.utxo.get_info", json!([txid, vout]))
            .await?;
        if let Ok(Some(utxo)) = utxo {
            return FundingStatus::unspent(funding, best, utxo.confirmed_height);
        }
    }
    let refusals: Vec<_> = refusals.map(|refusal| refusal.to_string()).collect();
    let refusals = refusals.join("; ");
    Err(ElectrumError::SpendUnknown { funding, refusals })
}

/// Transactions and the heights of their blocks; none in the mempool.
#[derive(Default)]
struct FundingStatus {
    funding: Option<(Txid, Option<u32>)>,
    spend: Option<(Transaction, Option<u32>)>,
}

impl FundingStatus {
    fn unspent(funding: OutPoint, best: &Best, height: i64) -> Result<Self, ElectrumError> {
        Ok(Self {
            funding: Some((funding.txid, best.checked(height)?)),
            spend: None,
        })
    }

    fn confirmed(&self) -> impl Iterator<Item = (Txid, u32)> + '_ {
        let spend = self
            .spend
            .as_ref()
            .map(|(tx, height)| (tx.compute_txid(), *height));
        let both = self.funding.into_iter().chain(spend);
        both.filter_map(|(txid, height)| Some((txid, height?)))
    }
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
                "{} spends {txid}:{vout}, which the server does not know",
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
        ElectrumError::Contradiction(format!("{txid} has an invalid input: {error}"))
    })
}

/// As the protocol names scripts: the bytes of the hash backwards, in hex.
fn script_hash(script: &Script) -> String {
    let mut hash = sha256::Hash::hash(script.as_bytes()).to_byte_array();
    hash.reverse();
    sha256::Hash::from_byte_array(hash).to_string()
}
