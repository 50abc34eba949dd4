//! An electrum server over its own small chain, that tells the truth unless a test wants otherwise.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::{sha256, Hash};
use bitcoin::{
    absolute::LockTime, transaction, Amount, Block, BlockHash, CompactTarget, OutPoint, Script, ScriptBuf,
    Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid, Witness,
};
use serde_json::{json, Value};

/// What the server knows.
#[derive(Clone)]
pub struct World {
    pub blocks: Vec<Block>,
    pub mempool: Vec<Transaction>,
}

/// What goes over the wire in place of the honest answer.
pub enum Reply {
    Result(Value),
    Error(Value),
    /// These bytes, whatever they are.
    Raw(Vec<u8>),
    /// These bytes, again and again, until no one reads them.
    Flood(Vec<u8>),
    Silence,
    HangUp,
}

/// What a test wants otherwise; `None` is the honest answer.
pub type Lie = Box<dyn Fn(&World, &str, &Value) -> Option<Reply> + Send + Sync>;

pub struct Server {
    pub address: String,
    pub world: Arc<Mutex<World>>,
    lie: Arc<Mutex<Lie>>,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    peers: Arc<Mutex<Vec<TcpStream>>>,
}

impl World {
    /// So many blocks, ten minutes apart, with nothing but coinbases.
    pub fn new(height: u32) -> Self {
        let mut world = Self {
            blocks: Vec::new(),
            mempool: Vec::new(),
        };
        for _ in 0..=height {
            world.mine(&[]);
        }
        world
    }

    pub fn height(&self) -> u32 {
        u32::try_from(self.blocks.len()).expect("a short chain") - 1
    }

    pub fn tip(&self) -> Header {
        self.blocks.last().expect("genesis").header
    }

    pub fn mine(&mut self, transactions: &[Transaction]) {
        let height = u32::try_from(self.blocks.len()).expect("a short chain");
        let coinbase = pay(OutPoint::new(Txid::all_zeros(), height), &ScriptBuf::new(), 0);
        let txdata: Vec<_> = [coinbase]
            .into_iter()
            .chain(transactions.iter().cloned())
            .collect();
        let parent = self
            .blocks
            .last()
            .map_or(BlockHash::all_zeros(), Block::block_hash);
        let mut block = Block {
            header: Header {
                version: Version::TWO,
                prev_blockhash: parent,
                merkle_root: TxMerkleNode::all_zeros(),
                time: 1_700_000_000 + 600 * height,
                bits: CompactTarget::from_consensus(0x207f_ffff),
                nonce: 0,
            },
            txdata,
        };
        block.header.merkle_root = block.compute_merkle_root().expect("a coinbase");
        work(&mut block.header);
        self.blocks.push(block);
        self.mempool.retain(|tx| !transactions.contains(tx));
    }

    fn all(&self) -> impl Iterator<Item = (&Transaction, u32)> {
        let blocks = (0..).zip(&self.blocks);
        let mined = blocks.flat_map(|(height, block)| block.txdata.iter().map(move |tx| (tx, height)));
        mined.chain(self.mempool.iter().map(|tx| (tx, 0)))
    }

    fn spender(&self, outpoint: OutPoint) -> Option<&Transaction> {
        let spends = |tx: &Transaction| tx.input.iter().any(|input| input.previous_output == outpoint);
        self.all().map(|(tx, _)| tx).find(|tx| spends(tx))
    }

    /// Outputs to the script with this hash, and the heights of their transactions.
    fn outputs(&self, hash: &str) -> Vec<(OutPoint, u32)> {
        let all = self.all().flat_map(|(tx, height)| {
            let txid = tx.compute_txid();
            let outputs = (0..).zip(&tx.output);
            outputs.map(move |(vout, output)| (OutPoint::new(txid, vout), output, height))
        });
        all.filter(|(_, output, _)| script_hash(&output.script_pubkey) == hash)
            .map(|(outpoint, _, height)| (outpoint, height))
            .collect()
    }

    fn history(&self, hash: &str) -> Value {
        let outputs = self.outputs(hash);
        let concerns = |tx: &Transaction| {
            let funds = outputs
                .iter()
                .any(|(outpoint, _)| outpoint.txid == tx.compute_txid());
            let mut inputs = tx.input.iter();
            funds || inputs.any(|input| outputs.iter().any(|(output, _)| *output == input.previous_output))
        };
        let entries = self.all().filter(|(tx, _)| concerns(tx));
        entries
            .map(|(tx, height)| json!({ "tx_hash": tx.compute_txid(), "height": height }))
            .collect()
    }

    /// The answer of an honest server.
    pub fn honest(&self, call: &str, params: &Value) -> Reply {
        let number = |index: usize| {
            let number = params[index].as_u64().expect("a number");
            usize::try_from(number).expect("a small number")
        };
        let hash = || params[0].as_str().expect("a hash");
        Reply::Result(match call {
            "server.version" => json!(["fake", "1.4"]),
            "blockchain.headers.subscribe" => {
                json!({ "height": self.height(), "hex": serialize_hex(&self.tip()) })
            }
            "blockchain.block.headers" => {
                let headers = self.blocks.iter().skip(number(0)).take(number(1));
                let hex: String = headers.map(|block| serialize_hex(&block.header)).collect();
                json!({ "count": number(1), "hex": hex, "max": 2016 })
            }
            "blockchain.scripthash.subscribe" => Value::Null,
            "blockchain.scripthash.listunspent" => {
                let outputs = self.outputs(hash()).into_iter();
                let unspent = outputs.filter(|(outpoint, _)| self.spender(*outpoint).is_none());
                unspent
                    .map(|(outpoint, height)| json!({ "tx_hash": outpoint.txid, "tx_pos": outpoint.vout, "height": height, "value": 1 }))
                    .collect()
            }
            "blockchain.scripthash.get_history" => self.history(hash()),
            "blockchain.transaction.get" => {
                let known = self.all().find(|(tx, _)| tx.compute_txid().to_string() == hash());
                match known {
                    Some((tx, _)) => json!(serialize_hex(tx)),
                    None => {
                        return Reply::Error(
                            json!({ "code": 2, "message": "No such mempool transaction. Use -txindex" }),
                        )
                    }
                }
            }
            "blockchain.transaction.get_merkle" => match self.proof(hash(), number(1)) {
                Some(proof) => proof,
                None => return Reply::Error(json!({ "code": 1, "message": "missing txid in block" })),
            },
            "blockchain.transaction.broadcast" => {
                let tx: Transaction =
                    bitcoin::consensus::encode::deserialize_hex(hash()).expect("a transaction");
                json!(tx.compute_txid())
            }
            other => panic!("asked for {other}"),
        })
    }

    fn proof(&self, txid: &str, height: usize) -> Option<Value> {
        let mut level: Vec<_> = self.blocks[height]
            .txdata
            .iter()
            .map(|tx| tx.compute_txid().to_raw_hash())
            .collect();
        let pos = level.iter().position(|hash| hash.to_string() == txid)?;
        let (mut index, mut merkle) = (pos, Vec::new());
        while level.len() > 1 {
            if level.len() % 2 == 1 {
                level.extend(level.last().copied());
            }
            merkle.push(level[index ^ 1].to_string());
            let parent = |pair: &[bitcoin::hashes::sha256d::Hash]| {
                bitcoin::hashes::sha256d::Hash::hash(
                    &[pair[0].to_byte_array(), pair[1].to_byte_array()].concat(),
                )
            };
            level = level.chunks(2).map(parent).collect();
            index /= 2;
        }
        Some(json!({ "pos": pos, "merkle": merkle, "block_height": height }))
    }
}

impl Server {
    pub fn start(world: World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Self {
            address: listener.local_addr().expect("bound").to_string(),
            world: Arc::new(Mutex::new(world)),
            lie: Arc::new(Mutex::new(Box::new(|_, _, _| None))),
            asked: Arc::default(),
            peers: Arc::default(),
        };
        let (world, lie, asked) = (server.world.clone(), server.lie.clone(), server.asked.clone());
        let peers = server.peers.clone();
        std::thread::spawn(move || {
            for peer in listener.incoming() {
                let (world, lie, asked) = (world.clone(), lie.clone(), asked.clone());
                let peer = peer.expect("a connection");
                peers
                    .lock()
                    .expect("whole")
                    .push(peer.try_clone().expect("a second handle"));
                std::thread::spawn(move || serve(&peer, &world, &lie, &asked));
            }
        });
        server
    }

    pub fn lie(&self, lie: impl Fn(&World, &str, &Value) -> Option<Reply> + Send + Sync + 'static) {
        *self.lie.lock().expect("whole") = Box::new(lie);
    }

    /// How often something was asked for.
    pub fn asked(&self, call: &str) -> usize {
        self.asked.lock().expect("whole").get(call).copied().unwrap_or(0)
    }

    pub fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().expect("whole"));
    }

    /// Tells everybody something that they did not ask for.
    pub fn tell(&self, line: &Value) {
        for mut peer in self.peers.lock().expect("whole").iter() {
            writeln!(peer, "{line}").expect("someone listens");
        }
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        for peer in self.peers.lock().expect("whole").drain(..) {
            // One that has ended already is no matter.
            let _ = peer.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn serve(peer: &TcpStream, world: &Mutex<World>, lie: &Mutex<Lie>, asked: &Mutex<BTreeMap<String, usize>>) {
    let mut out = peer;
    peer.set_nodelay(true).expect("a connection");
    for line in BufReader::new(peer).lines() {
        let Ok(line) = line else { return };
        let request: Value = serde_json::from_str(&line).expect("JSON");
        let call = request["method"].as_str().expect("a method").to_owned();
        let reply = {
            let world = world.lock().expect("whole");
            let lied = lie.lock().expect("whole")(&world, &call, &request["params"]);
            lied.unwrap_or_else(|| world.honest(&call, &request["params"]))
        };
        *asked.lock().expect("whole").entry(call).or_default() += 1;
        let id = &request["id"];
        let sent = match reply {
            Reply::Result(result) => {
                writeln!(out, "{}", json!({ "jsonrpc": "2.0", "id": id, "result": result }))
            }
            Reply::Error(error) => writeln!(out, "{}", json!({ "jsonrpc": "2.0", "id": id, "error": error })),
            Reply::Raw(bytes) => out.write_all(&bytes),
            Reply::Flood(bytes) => {
                while out.write_all(&bytes).is_ok() {}
                return;
            }
            Reply::Silence => Ok(()),
            Reply::HangUp => {
                // It does not matter which side hung up first.
                let _ = peer.shutdown(std::net::Shutdown::Both);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The script that anyone can satisfy, as a hash of it.
pub fn anyone() -> ScriptBuf {
    let script = ScriptBuf::from_bytes(vec![0x51]);
    ScriptBuf::new_p2wsh(&script.wscript_hash())
}

/// A transaction with one input and one output.
pub fn pay(from: OutPoint, to: &Script, amount: u64) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: from,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0x51]]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(amount),
            script_pubkey: to.to_owned(),
        }],
    }
}

/// Finds the nonce.
pub fn work(header: &mut Header) {
    while header.validate_pow(header.target()).is_err() {
        header.nonce += 1;
    }
}

/// By which the protocol names a script.
pub fn script_hash(script: &Script) -> String {
    let mut hash = sha256::Hash::hash(script.as_bytes()).to_byte_array();
    hash.reverse();
    sha256::Hash::from_byte_array(hash).to_string()
}
