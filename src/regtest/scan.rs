//! What a script can spend.

use std::collections::HashSet;

use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut, Txid};
use bitcoincore_rpc::jsonrpc;
use serde::Deserialize;
use serde_json::json;

use super::error::Error;
use super::node::Node;
use super::rpc::{failed, parse, raw};

/// What `scantxoutset` says while it scans for somebody else: a node does one scan at a time.
const SCANS_ALREADY: i32 = -8;

/// An unspent output that pays to a script asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScannedUtxo {
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub height: u32,
    pub coinbase: bool,
}

impl Node {
    /// All outputs to a script that no block spends, oldest first.
    pub(super) fn scan(&self, script: &ScriptBuf) -> Result<Vec<ScannedUtxo>, Error> {
        const CALL: &str = "scantxoutset";
        let descriptor = format!("raw({})", script.to_hex_string());
        let mut found = match raw(self.client(), CALL, &[json!("start"), json!([descriptor])]) {
            Ok(answer) => parse::<Answer>(CALL, &answer)?.utxos(script),
            // A program under test scans. That may last, and begin anew as soon as it is over: rather than wait for a gap,
            // look at the blocks themselves, which any number can do at once.
            Err(bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(error)))
                if error.code == SCANS_ALREADY =>
            {
                self.scan_blocks(script)?
            }
            Err(error) => return Err(failed(CALL, error)),
        };
        found.sort_unstable_by_key(|utxo| (utxo.height, utxo.outpoint));
        Ok(found)
    }

    /// The same from the blocks, from the tip down: slower, and nobody is in the way.
    fn scan_blocks(&self, script: &ScriptBuf) -> Result<Vec<ScannedUtxo>, Error> {
        let tip = self.tip()?;
        let mut spent = HashSet::new();
        let mut found = Vec::new();
        let mut hash = tip.hash;
        // The output of the genesis block cannot be spent.
        for height in (1..=tip.height).rev() {
            let block = self.block(hash)?;
            hash = block.header.prev_blockhash;
            // Spends come after what they spend, within a block, too.
            for transaction in block.txdata.iter().rev() {
                let txid = transaction.compute_txid();
                for (vout, output) in (0..).zip(&transaction.output) {
                    let outpoint = OutPoint { txid, vout };
                    if output.script_pubkey == *script && !spent.contains(&outpoint) {
                        found.push(ScannedUtxo {
                            outpoint,
                            output: output.clone(),
                            height,
                            coinbase: transaction.is_coinbase(),
                        });
                    }
                }
                spent.extend(transaction.input.iter().map(|input| input.previous_output));
            }
        }
        Ok(found)
    }
}

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

impl Answer {
    fn utxos(self, script: &ScriptBuf) -> Vec<ScannedUtxo> {
        let unspents = self.unspents.into_iter();
        let utxos = unspents.map(|unspent| ScannedUtxo {
            outpoint: OutPoint::new(unspent.txid, unspent.vout),
            output: TxOut {
                value: unspent.amount,
                script_pubkey: script.clone(),
            },
            height: unspent.height,
            coinbase: unspent.coinbase,
        });
        utxos.collect()
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{Amount, TxOut};

    use crate::regtest::{CoinKind, Regtest};

    /// From the blocks comes what comes from the node's set of unspent outputs.
    #[test]
    fn blocks_tell_the_same_as_the_scan() {
        let mut chain = Regtest::start().unwrap();
        chain.fund(Amount::from_int_btc(60), CoinKind::Segwit).unwrap();
        let script = chain.faucet().script();
        let to_itself = TxOut {
            value: Amount::ONE_BTC,
            script_pubkey: script.clone(),
        };
        chain.pay(vec![to_itself; 3]).unwrap();
        chain.mine(2).unwrap();
        chain.reorg(1).apply().unwrap();
        let mut found = chain.node().scan_blocks(&script).unwrap();
        found.sort_unstable_by_key(|utxo| (utxo.height, utxo.outpoint));
        assert_eq!(found, chain.node().scan(&script).unwrap());
        assert!(
            found.iter().any(|utxo| !utxo.coinbase) && found.len() > 100,
            "{}",
            found.len()
        );
    }
}
