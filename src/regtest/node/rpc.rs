//! The RPCs of a node about itself and its blocks, as typed functions, and the way all RPCs go. Those about the
//! mempool are in `mempool.rs`.

use std::collections::HashSet;
use std::slice;
use std::sync::{MutexGuard, PoisonError};

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf, TxOut};
use bitcoincore_rpc::{jsonrpc, Client, RpcApi};
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};

use crate::regtest::best_block::BestBlock;
use crate::regtest::error::{Error, NodeError};
use crate::regtest::node::Node;
use crate::regtest::transport::NoAnswer;

/// This many blocks fit easily into a message, and are taken long before the client would give up.
const MOST_IN_A_BATCH: usize = 500;

/// An unspent output, as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Utxo {
    /// Amount and script.
    pub output: TxOut,
    /// The number of blocks from its own to the tip, both included; 0 in the mempool.
    pub confirmations: u32,
    /// Whether a coinbase made it, so that it needs 100 blocks on top before it can be spent.
    pub coinbase: bool,
}

impl Node {
    /// Returns the best block.
    pub fn tip(&self) -> Result<BestBlock, Error> {
        #[derive(Deserialize)]
        struct Info {
            blocks: u32,
            bestblockhash: BlockHash,
            time: u32,
            mediantime: u32,
        }
        let info: Info = call(self.client(), "getblockchaininfo", &[])?;
        Ok(BestBlock {
            height: info.blocks,
            hash: info.bestblockhash,
            time: info.time,
            mtp: info.mediantime,
        })
    }

    /// Returns the best block as of the time when the chain ended at this height.
    ///
    /// # Errors
    ///
    /// If the chain is not that high, or the node fails.
    pub fn tip_at(&self, height: u32) -> Result<BestBlock, Error> {
        #[derive(Deserialize)]
        struct Info {
            time: u32,
            mediantime: u32,
        }
        let hash = self.block_hash_at(height)?;
        let info: Info = call(self.client(), "getblockheader", &[json!(hash)])?;
        Ok(BestBlock {
            height,
            hash,
            time: info.time,
            mtp: info.mediantime,
        })
    }

    /// Returns an output that neither a block nor the mempool spends.
    pub fn utxo(&self, outpoint: OutPoint) -> Result<Option<Utxo>, Error> {
        self.txout(outpoint, true)
    }

    /// Returns an output that no block spends; the mempool is ignored.
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

    /// Returns a block by its hash.
    ///
    /// # Errors
    ///
    /// If the node does not have it, or fails.
    pub fn block(&self, hash: BlockHash) -> Result<Block, Error> {
        let raw: String = call(self.client(), "getblock", &[json!(hash), json!(0)])?;
        decode("getblock", &raw)
    }

    /// Returns the block of the best chain at a height.
    ///
    /// # Errors
    ///
    /// If the chain is shorter, or the node fails.
    pub fn block_at(&self, height: u32) -> Result<Block, Error> {
        self.block(self.block_hash_at(height)?)
    }

    /// Returns the hash of the best chain's block at a height.
    ///
    /// # Errors
    ///
    /// If the chain is shorter, or the node fails.
    pub fn block_hash_at(&self, height: u32) -> Result<BlockHash, Error> {
        call(self.client(), "getblockhash", &[json!(height)])
    }

    /// The times in the headers of the last blocks, at most eleven, oldest first, in seconds since 1970.
    pub(in crate::regtest) fn recent_times(&self, tip: &BestBlock) -> Result<Vec<u32>, Error> {
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

    /// The median time past of the best chain's block at a height, in seconds since 1970.
    pub(in crate::regtest) fn median_time_at(&self, height: u32) -> Result<u32, Error> {
        #[derive(Deserialize)]
        struct Header {
            mediantime: u32,
        }
        let hash = self.block_hash_at(height)?;
        let header: Header = call(self.client(), "getblockheader", &[json!(hash)])?;
        Ok(header.mediantime)
    }

    /// The height of the last block of the best chain that is `block`, or that it builds on.
    pub(in crate::regtest) fn last_shared_height(&self, block: BlockHash) -> Result<u32, Error> {
        #[derive(Deserialize)]
        struct Header {
            height: u32,
            confirmations: i32,
            previousblockhash: Option<BlockHash>,
        }
        let mut hash = block;
        loop {
            let header: Header = call(self.client(), "getblockheader", &[json!(hash)])?;
            match header.previousblockhash {
                // -1 stands for a block of another branch.
                Some(previous) if header.confirmations < 0 => hash = previous,
                _ => return Ok(header.height),
            }
        }
    }

    /// What a block breaks if it were the next one, without its proof of work (BIP 23); `None` if nothing.
    pub(in crate::regtest) fn propose_block(&self, block: &Block) -> Result<Option<String>, Error> {
        let proposal = json!({ "mode": "proposal", "data": serialize_hex(block), "rules": ["segwit"] });
        call(self.client(), "getblocktemplate", &[proposal])
    }

    /// Submits a block to the node. It need not become the tip: the node also accepts a valid block on a shorter branch,
    /// and one that it has.
    ///
    /// # Errors
    ///
    /// [`NodeError::BlockRejected`] with the node's words if the block is not valid, or the node fails.
    pub fn submit_block(&self, block: &Block) -> Result<(), Error> {
        self.submit_blocks(slice::from_ref(block), &["inconclusive", "duplicate"])
    }

    /// Gives blocks to the node of which each must become the tip.
    pub(in crate::regtest) fn extend_chain(&self, blocks: &[Block]) -> Result<(), Error> {
        self.submit_blocks(blocks, &[])
    }

    /// Gives blocks to the node, each the parent of the next, in one message instead of one for each. With these words
    /// it says that it has a block which is not the tip.
    fn submit_blocks(&self, blocks: &[Block], fine: &[&str]) -> Result<(), Error> {
        const CALL: &str = "submitblock";
        let failed = |error| failed(CALL, bitcoincore_rpc::Error::JsonRpc(error));
        let client = self.client().get_jsonrpc_client();
        for some in blocks.chunks(MOST_IN_A_BATCH) {
            let arguments: Vec<_> = some
                .iter()
                .map(|block| jsonrpc::arg([serialize_hex(block)]))
                .collect();
            let requests: Vec<_> = arguments
                .iter()
                .map(|argument| client.build_request(CALL, Some(argument)))
                .collect();
            for (block, answer) in some.iter().zip(client.send_batch(&requests).map_err(failed)?) {
                let answer = answer.ok_or_else(|| failed(jsonrpc::Error::WrongBatchResponseSize))?;
                let words: Option<String> = answer.result().map_err(failed)?;
                self.check_accepted(block, words, fine)?;
            }
        }
        Ok(())
    }

    fn check_accepted(&self, block: &Block, words: Option<String>, fine: &[&str]) -> Result<(), Error> {
        self.note(format!(
            "block {} on {} of {} transactions: {}",
            block.block_hash(),
            block.header.prev_blockhash,
            block.txdata.len(),
            words.as_deref().unwrap_or("accepted")
        ));
        match words {
            Some(words) if !fine.contains(&words.as_str()) => Err(NodeError::BlockRejected {
                hash: block.block_hash(),
                words,
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Marks a block and its descendants as invalid, as if they had never arrived. Their transactions return
    /// to the mempool if they still can.
    ///
    /// # Errors
    ///
    /// If the node does not have the block, or fails.
    pub fn invalidate_block(&self, hash: BlockHash) -> Result<(), Error> {
        self.note(format!("invalidate {hash}"));
        let () = call(self.client(), "invalidateblock", &[json!(hash)])?;
        self.invalidated().insert(hash);
        Ok(())
    }

    /// Undoes [`Node::invalidate_block`]; the longest chain wins again.
    ///
    /// # Errors
    ///
    /// If the node does not have the block, or fails.
    pub fn reconsider_block(&self, hash: BlockHash) -> Result<(), Error> {
        self.note(format!("reconsider {hash}"));
        let () = call(self.client(), "reconsiderblock", &[json!(hash)])?;
        self.invalidated().remove(&hash);
        Ok(())
    }

    /// The blocks that this node, other than its peers, was told to treat as invalid.
    pub(in crate::regtest) fn invalidated(&self) -> MutexGuard<'_, HashSet<BlockHash>> {
        self.invalidated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what the node knows of the chain to disk, where it survives [`Node::kill`].
    pub fn flush(&self) -> Result<(), Error> {
        // It is a side effect of this call; there is none for it alone.
        let _: Value = call(self.client(), "gettxoutsetinfo", &[json!("none")])?;
        Ok(())
    }

    /// Returns the node's version as a number, 319900 for 31.99.
    pub fn version(&self) -> Result<u32, Error> {
        self.network_info().map(|info| info.version)
    }

    /// Returns the node's user agent, such as `/Satoshi:31.99.0/`.
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

pub(in crate::regtest) fn set_mock_time(client: &Client, time: u32) -> Result<(), Error> {
    call(client, "setmocktime", &[json!(time)])
}

pub(in crate::regtest) type Raw = Result<Value, bitcoincore_rpc::Error>;

pub(in crate::regtest) fn raw(client: &Client, name: &'static str, arguments: &[Value]) -> Raw {
    client.call(name, arguments)
}

pub(in crate::regtest) fn call<T: DeserializeOwned>(
    client: &Client,
    name: &'static str,
    arguments: &[Value],
) -> Result<T, Error> {
    let answer = raw(client, name, arguments).map_err(|source| failed(name, source))?;
    parse(name, &answer)
}

pub(in crate::regtest) fn parse<T: DeserializeOwned>(name: &'static str, answer: &Value) -> Result<T, Error> {
    T::deserialize(answer).map_err(|error| {
        NodeError::Answer {
            call: name,
            answer: format!("{error} in {answer}"),
        }
        .into()
    })
}

pub(in crate::regtest) fn decode<T: bitcoin::consensus::Decodable>(
    name: &'static str,
    hex: &str,
) -> Result<T, Error> {
    deserialize_hex(hex).map_err(|error| {
        NodeError::Answer {
            call: name,
            answer: error.to_string(),
        }
        .into()
    })
}

pub(in crate::regtest) fn failed(call: &'static str, source: bitcoincore_rpc::Error) -> Error {
    let no_answer = match &source {
        bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Transport(error)) => error.downcast_ref::<NoAnswer>(),
        _ => None,
    };
    match no_answer {
        Some(NoAnswer::Late(within)) => NodeError::Timeout {
            awaited: format!("an answer to {call}"),
            within: *within,
            seen: "none; the node may still execute the call".to_owned(),
        },
        Some(other) => NodeError::NoAnswer {
            call,
            reason: other.to_string(),
        },
        None => NodeError::Rpc {
            call,
            source: Box::new(source),
        },
    }
    .into()
}
