use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{
    transaction, Block, BlockHash, CompactTarget, OutPoint, Transaction, TxIn, TxMerkleNode, Txid,
};
use bitcoincore_rpc::jsonrpc::{self, error::RpcError, Request, Response, Transport};
use bitcoincore_rpc::Client;
use serde_json::{json, Value};

pub type Answer = Result<Value, (i32, &'static str)>;

/// A node with blocks, outputs and moods.
pub struct FakeNode {
    /// By height.
    pub blocks: Vec<Block>,
    /// The answer to `sendrawtransaction`, `submitpackage` and `estimatesmartfee`.
    pub submitted: Answer,
    /// How many blocks come during a poll, one in each attempt.
    pub blocks_to_come: u32,
    pub is_down: bool,
    /// The chain of a node in initial block download.
    pub catches_up: Option<&'static str>,
    /// Confirmations of outputs, besides the one that is nowhere.
    pub unspent: HashMap<OutPoint, u32>,
    pub pruned_below: usize,
    pub calls: Vec<String>,
    pub requests: usize,
}

#[derive(Clone)]
struct FakeTransport(Arc<Mutex<FakeNode>>);

pub fn funding() -> OutPoint {
    OutPoint::new(Txid::from_byte_array([7; 32]), 1)
}

pub fn spend() -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: funding(),
            ..TxIn::default()
        }],
        output: Vec::new(),
    }
}

impl FakeNode {
    pub fn mine(&mut self, txdata: Vec<Transaction>) {
        let nonce = u32::try_from(self.calls.len()).unwrap();
        let prev_blockhash = self
            .blocks
            .last()
            .map_or(BlockHash::all_zeros(), Block::block_hash);
        let header = Header {
            version: Version::TWO,
            prev_blockhash,
            merkle_root: TxMerkleNode::all_zeros(),
            time: 0,
            bits: CompactTarget::default(),
            nonce,
        };
        self.blocks.push(Block { header, txdata });
    }

    fn answer(&mut self, call: &str, arguments: &[Value]) -> Answer {
        self.calls.push(call.to_owned());
        let hash = |height: usize| json!(self.blocks[height].block_hash());
        let tip = self.blocks.len() - 1;
        Ok(match call {
            "getblockchaininfo" => {
                json!({
                    "chain": self.catches_up.unwrap_or("main"),
                    "initialblockdownload": self.catches_up.is_some(),
                    "blocks": tip,
                    "headers": 900,
                    "bestblockhash": hash(tip),
                    "mediantime": 1_700_000_000,
                })
            }
            "getbestblockhash" => hash(tip),
            "getblockhash" => hash(serde_json::from_value(arguments[0].clone()).unwrap()),
            "getblockheader" => json!({ "mediantime": 1_700_000_000 }),
            "getblock" => {
                let wanted = |block: &Block| json!(block.block_hash()) == arguments[0];
                let height = self.blocks.iter().position(wanted).expect("a block");
                if height < self.pruned_below {
                    return Err((-1, "Block not available (pruned data)"));
                }
                json!(serialize_hex(&self.blocks[height]))
            }
            "gettxout" => {
                let outpoint = format!("{}:{}", arguments[0].as_str().unwrap(), arguments[1]);
                let confirmations = self.unspent.get(&outpoint.parse().unwrap());
                confirmations.map_or(Value::Null, |count| json!({ "confirmations": count }))
            }
            "gettxspendingprevout" => {
                if self.blocks_to_come > 0 {
                    self.blocks_to_come -= 1;
                    self.mine(Vec::new());
                }
                arguments[0].clone()
            }
            "sendrawtransaction" | "submitpackage" | "estimatesmartfee" => return self.submitted.clone(),
            other => panic!("no one asks for {other}"),
        })
    }

    pub fn blocks_read(&self) -> usize {
        self.calls.iter().filter(|call| *call == "getblock").count()
    }
}

impl Transport for FakeTransport {
    fn send_request(&self, request: Request<'_>) -> Result<Response, jsonrpc::Error> {
        let mut node = self.0.lock().unwrap();
        node.requests += 1;
        node.respond(request)
    }

    fn send_batch(&self, requests: &[Request<'_>]) -> Result<Vec<Response>, jsonrpc::Error> {
        let mut node = self.0.lock().unwrap();
        node.requests += 1;
        requests
            .iter()
            .map(|request| node.respond(request.clone()))
            .collect()
    }

    fn fmt_target(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node that the test writes")
    }
}

impl FakeNode {
    fn respond(&mut self, request: Request<'_>) -> Result<Response, jsonrpc::Error> {
        if self.is_down {
            return Err(jsonrpc::Error::Transport("no one listens".into()));
        }
        let arguments = request.params.map_or("[]", |params| params.get());
        let answer = self.answer(request.method, &serde_json::from_str::<Vec<_>>(arguments)?);
        let (result, error) = match answer {
            Ok(result) => (Some(jsonrpc::arg(result)), None),
            Err((code, message)) => {
                let message = message.to_owned();
                let data = None;
                (None, Some(RpcError { code, message, data }))
            }
        };
        Ok(Response {
            result,
            error,
            id: request.id,
            jsonrpc: Some("2.0".to_owned()),
        })
    }
}

/// A node with blocks up to height 100, without the funding transaction, and its client.
pub fn start() -> (Arc<Mutex<FakeNode>>, Client) {
    let mut node = FakeNode {
        blocks: Vec::new(),
        submitted: Ok(Value::Null),
        blocks_to_come: 0,
        is_down: false,
        catches_up: None,
        unspent: HashMap::new(),
        pruned_below: 0,
        calls: Vec::new(),
        requests: 0,
    };
    (0..=100).for_each(|_| node.mine(Vec::new()));
    let node = Arc::new(Mutex::new(node));
    let client = jsonrpc::Client::with_transport(FakeTransport(Arc::clone(&node)));
    (node, Client::from_jsonrpc(client))
}
