//! The calls of the protocol that every poll needs.

use bitcoin::absolute::Height;
use bitcoin::block::Header;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hex::FromHex;
use bitcoin::{Transaction, Txid};
use serde::Deserialize;
use serde_json::json;

use super::error::ElectrumError;
use super::link::Link;
use super::proof::Headers;
use super::words::is_unknown_transaction;
use crate::wire;

/// No server gives more headers at once.
const MAX_HEADERS: u32 = 2_016;

/// The server's newest block.
#[derive(PartialEq, Eq)]
pub(super) struct Best {
    pub height: u32,
    pub header: Header,
}

impl Best {
    /// Returns a height that the server gives for a transaction; none in the mempool.
    pub fn checked(&self, height: i64) -> Result<Option<u32>, ElectrumError> {
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
    pub async fn best(&self) -> Result<Best, ElectrumError> {
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

    /// Returns the headers from `lowest` or below up to the best one. Asks for known ones again only after a
    /// reorganisation.
    pub async fn headers(&self, best: &Best, lowest: u32, known: &Headers) -> Result<Headers, ElectrumError> {
        let mut lowest = lowest;
        if !known.is_empty() {
            if known.first() <= lowest {
                if let Some(headers) = self.longer(best, known).await? {
                    return Ok(headers);
                }
            }
            // As far back as those that were believed, so that the work of both can be compared.
            lowest = lowest.min(known.first());
        }
        let mut headers = Headers::starting_at(lowest);
        self.complete(best, &mut headers).await?;
        Ok(headers)
    }

    /// The known headers up to the best one, unless that is on another branch.
    async fn longer(&self, best: &Best, known: &Headers) -> Result<Option<Headers>, ElectrumError> {
        if best.height < known.next() {
            let is_known = known.at(best.height) == Some(&best.header);
            return Ok(is_known.then(|| known.up_to(best.height)));
        }
        let count = (best.height - known.next() + 1).min(MAX_HEADERS);
        let new = self.some_headers(known.next(), count).await?;
        if new.first().map(|header| header.prev_blockhash) != known.last().map(Header::block_hash) {
            return Ok(None);
        }
        let mut headers = known.clone();
        for header in new {
            headers.push(header)?;
        }
        self.complete(best, &mut headers).await?;
        Ok(Some(headers))
    }

    async fn complete(&self, best: &Best, headers: &mut Headers) -> Result<(), ElectrumError> {
        while headers.next() <= best.height {
            let count = (best.height - headers.next() + 1).min(MAX_HEADERS);
            for header in self.some_headers(headers.next(), count).await? {
                headers.push(header)?;
            }
        }
        if headers.last() != Some(&best.header) {
            let reason = format!("its headers do not lead to its tip {}", best.header.block_hash());
            return Err(ElectrumError::Contradiction(reason));
        }
        Ok(())
    }

    async fn some_headers(&self, from: u32, count: u32) -> Result<Vec<Header>, ElectrumError> {
        const CALL: &str = "blockchain.block.headers";
        #[derive(Deserialize)]
        struct Answer {
            hex: String,
        }
        let Answer { hex } = self.call(CALL, json!([from, count])).await?;
        let headers = split(&hex).map_err(|error| ElectrumError::nonsense(CALL, &error))?;
        if headers.is_empty() || headers.len() > count as usize {
            let reason = format!("expected {count} headers, got {}", headers.len());
            return Err(ElectrumError::Contradiction(reason));
        }
        Ok(headers)
    }

    /// Returns a transaction of a block or of the mempool.
    pub async fn transaction(&self, txid: Txid) -> Result<Option<Transaction>, ElectrumError> {
        const CALL: &str = "blockchain.transaction.get";
        let hex: String = match self.call(CALL, json!([txid])).await {
            Ok(hex) => hex,
            Err(ElectrumError::Refused { message, .. }) if is_unknown_transaction(&message) => {
                return Ok(None)
            }
            Err(error) => return Err(error),
        };
        let bytes = Vec::from_hex(&hex).map_err(|error| ElectrumError::nonsense(CALL, &error))?;
        let tx = wire::transaction(&bytes).map_err(|error| ElectrumError::nonsense(CALL, &error))?;
        if tx.compute_txid() == txid {
            return Ok(Some(tx));
        }
        let reason = format!("expected transaction {txid}, got {}", tx.compute_txid());
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
