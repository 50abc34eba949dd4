//! What a script can spend, from the blocks.
//!
//! The node could tell it at once by `scantxoutset`, but it does one scan at a time and refuses any other: the harness
//! would fail beside a program under test that scans, and that program beside the harness.

use std::collections::HashSet;
use std::sync::PoisonError;

use bitcoin::{Block, BlockHash, OutPoint, Script, TxOut};

use crate::regtest::error::Error;
use crate::regtest::node::Node;

/// An unspent output that pays to a script asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::regtest) struct ScannedUtxo {
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub height: u32,
    pub coinbase: bool,
}

/// What a block of the best chain makes and spends. A node remembers them, so that each is read once.
pub(in crate::regtest) struct ReadBlock {
    hash: BlockHash,
    made: Vec<ScannedUtxo>,
    spent: Vec<OutPoint>,
}

impl ReadBlock {
    fn of(block: &Block, height: u32) -> Self {
        let made = block.txdata.iter().flat_map(|transaction| {
            let (txid, coinbase) = (transaction.compute_txid(), transaction.is_coinbase());
            (0..)
                .zip(&transaction.output)
                .map(move |(vout, output)| ScannedUtxo {
                    outpoint: OutPoint { txid, vout },
                    output: output.clone(),
                    height,
                    coinbase,
                })
        });
        let inputs = block.txdata.iter().flat_map(|transaction| &transaction.input);
        Self {
            hash: block.block_hash(),
            made: made.collect(),
            spent: inputs.map(|input| input.previous_output).collect(),
        }
    }
}

impl Node {
    /// All outputs to a script that no block spends, oldest first.
    pub(in crate::regtest) fn scan(&self, script: &Script) -> Result<Vec<ScannedUtxo>, Error> {
        let tip = self.tip()?;
        // Half of a chain is no worse than none: the rest is read again.
        let mut chain = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut hash, mut new) = (tip.hash, Vec::new());
        // The genesis block has height 0 and an output that cannot be spent, so that the first one read has height 1.
        for height in (1..=tip.height).rev() {
            let index = height as usize - 1;
            if chain.get(index).is_some_and(|known| known.hash == hash) {
                break;
            }
            let block = self.block(hash)?;
            hash = block.header.prev_blockhash;
            new.push(ReadBlock::of(&block, height));
        }
        chain.truncate(tip.height as usize - new.len());
        chain.extend(new.into_iter().rev());
        let spent: HashSet<_> = chain.iter().flat_map(|block| &block.spent).collect();
        let made = chain.iter().flat_map(|block| &block.made);
        let mut found: Vec<_> = made
            .filter(|utxo| *utxo.output.script_pubkey == *script && !spent.contains(&utxo.outpoint))
            .cloned()
            .collect();
        found.sort_unstable_by_key(|utxo| (utxo.height, utxo.outpoint));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{Amount, OutPoint, TxOut, Txid};
    use serde::Deserialize;
    use serde_json::json;

    use super::ScannedUtxo;
    use crate::regtest::node::rpc::call;
    use crate::regtest::{CoinKind, Regtest};

    /// As the node itself tells it.
    fn asked(chain: &Regtest) -> Vec<ScannedUtxo> {
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
        let script_pubkey = chain.faucet().script();
        let descriptor = format!("raw({})", script_pubkey.to_hex_string());
        let arguments = [json!("start"), json!([descriptor])];
        let answer: Answer = call(chain.node().client(), "scantxoutset", &arguments).unwrap();
        let unspents = answer.unspents.into_iter();
        let utxos = unspents.map(|unspent| ScannedUtxo {
            outpoint: OutPoint::new(unspent.txid, unspent.vout),
            output: TxOut {
                value: unspent.amount,
                script_pubkey: script_pubkey.clone(),
            },
            height: unspent.height,
            coinbase: unspent.coinbase,
        });
        let mut utxos: Vec<_> = utxos.collect();
        utxos.sort_unstable_by_key(|utxo| (utxo.height, utxo.outpoint));
        utxos
    }

    #[test]
    fn blocks_tell_the_same_as_the_nodes_own_scan() {
        let mut chain = Regtest::start().unwrap();
        let script = chain.faucet().script();
        let to_itself = TxOut {
            value: Amount::ONE_BTC,
            script_pubkey: script.clone(),
        };
        let steps: [fn(&mut Regtest, &TxOut); 6] = [
            |_, _| (),
            |chain, _| drop(chain.fund(Amount::from_int_btc(60), CoinKind::Segwit).unwrap()),
            |chain, output| drop(chain.pay(vec![output.clone(); 3]).unwrap()),
            |chain, _| drop(chain.reorg(1).drop_all().apply().unwrap()),
            |chain, _| drop(chain.reorg(2).length(1).by_invalidation().unwrap()),
            |chain, _| drop(chain.mine(2).unwrap()),
        ];
        for (number, step) in steps.into_iter().enumerate() {
            step(&mut chain, &to_itself);
            assert_eq!(
                chain.node().scan(&script).unwrap(),
                asked(&chain),
                "step {number}"
            );
        }
    }
}
