//! electrs beside a node, for programs that see the chain through an electrum server.

use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::block::Header;
use bitcoin::{BlockHash, Script, TxMerkleNode, Txid};
use electrum_client::raw_client::RawClient;
use electrum_client::utils::validate_merkle_proof;
use electrum_client::{ElectrumApi, GetMerkleRes};
use serde::Deserialize;
use serde_json::json;

use super::binary::{find_electrs, FoundBinary};
use super::error::{Error, InvalidRequest, NodeError};
use super::node::rpc::call;
use super::node::waits::list;
use super::node::Node;
use super::process::{Folder, Reserved, Supervised};
use super::wait::{wait_until, Poll};

/// The interval for polling a starting electrs.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// An [electrs](https://github.com/romanz/electrs) that indexes the chain of a node, in its own folder.
///
/// It listens on 127.0.0.1 alone. Like a [`Node`], it is killed and its folder removed when this is dropped and when
/// the process ends in any other way. It ends when its node is stopped, and must be started again after that.
pub struct Electrs {
    // Dropped before the daemon, so that no connection is cut.
    client: RawClient<TcpStream>,
    _process: Supervised,
    _ports: [Reserved; 2],
    address: SocketAddrV4,
    node: Arc<Node>,
    timeout: Duration,
    /// Removed after the daemon has ended.
    folder: Folder,
}

/// How an [`Electrs`] is started.
#[derive(Debug, Clone, Default)]
pub struct ElectrsBuilder {
    arguments: Vec<String>,
}

/// A transaction that involves a script: one of its outputs has it, or one of its inputs spends such an
/// output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The transaction.
    pub txid: Txid,
    /// The height of its block; none in the mempool.
    pub height: Option<u32>,
}

/// A proof that a transaction is in a block, checked against the header that the node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmationProof {
    /// The block's height.
    pub height: u32,
    /// The block's header, from the node.
    pub header: Header,
    /// The transaction's place in the block; the coinbase has 0.
    pub position: usize,
    /// The hashes beside the way from the transaction up to the header's merkle root, the lowest first.
    pub branch: Vec<TxMerkleNode>,
}

impl ElectrsBuilder {
    /// An argument of electrs, such as `--index-lookup-limit=100`.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts the electrs that [`find_electrs`] finds, and waits until it has the node's tip.
    ///
    /// # Errors
    ///
    /// If there is no electrs, it does not start, or the node was started without
    /// [`p2p`](super::NodeBuilder::p2p) or has no block of the last 24 hours by its own clock: electrs waits for one.
    pub fn start(self, node: &Arc<Node>) -> Result<Electrs, Error> {
        #[derive(Deserialize)]
        struct Info {
            initialblockdownload: bool,
        }
        if node.p2p_address().is_none() {
            return Err(InvalidRequest::NoPort.into());
        }
        let info: Info = call(node.client(), "getblockchaininfo", &[])?;
        if info.initialblockdownload {
            return Err(InvalidRequest::OldTip { tip: node.tip()? }.into());
        }
        let program = find_electrs()?;
        let folder = Folder::new("electrs")?;
        let port = || Reserved::any().map_err(|source| Error::from(NodeError::Port(source)));
        let ports = [port()?, port()?];
        let [address, monitoring] = ports.each_ref().map(Reserved::address);
        let (process, client) = launch(node, &folder, &program, &self.arguments, address, monitoring)?;
        node.evidence
            .add_file("electrs.log", folder.path().join("stderr"));
        let electrs = Electrs {
            client,
            _process: process,
            _ports: ports,
            address,
            timeout: node.timeout,
            node: Arc::clone(node),
            folder,
        };
        electrs.wait_for_tip(node.tip()?.hash)?;
        wait_for_index(&electrs.client, electrs.timeout)?;
        Ok(electrs)
    }
}

impl Electrs {
    /// Starts with the defaults: see [`ElectrsBuilder::start`].
    ///
    /// # Errors
    ///
    /// As the linked method.
    pub fn start(node: &Arc<Node>) -> Result<Self, Error> {
        Self::builder().start(node)
    }

    /// Returns a builder, for other arguments.
    #[must_use]
    pub fn builder() -> ElectrsBuilder {
        ElectrsBuilder::default()
    }

    /// Sets the timeout of calls that wait; by default, that of its node.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns where the electrum server listens: plain TCP.
    pub const fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Returns a client, for calls without a method here.
    pub const fn client(&self) -> &RawClient<TcpStream> {
        &self.client
    }

    /// Waits until electrs has this block as its tip.
    ///
    /// # Errors
    ///
    /// [`NodeError::Timeout`], or if electrs fails.
    pub fn wait_for_tip(&self, hash: BlockHash) -> Result<(), Error> {
        let awaited = format!("block {hash} to be the tip of electrs");
        wait_until(&awaited, self.timeout, || self.look_at_tip(hash))
    }

    /// Every request makes electrs look for new blocks right after its answer, so that nothing else has to.
    fn look_at_tip(&self, hash: BlockHash) -> Result<Poll<()>, Error> {
        let tip = self.client.block_headers_subscribe();
        let tip = tip.map_err(|error| unexpected("blockchain.headers.subscribe", &error))?;
        let found = tip.header.block_hash();
        Ok(if found == hash {
            Poll::Ready(())
        } else {
            Poll::Pending(format!("{found} at height {}", tip.height))
        })
    }

    /// Waits until electrs has the node's tip and the node's mempool, as they are now.
    ///
    /// # Errors
    ///
    /// [`NodeError::Timeout`], or if electrs or the node fails.
    pub fn catch_up(&self) -> Result<(), Error> {
        let tip = self.node.tip()?;
        self.wait_for_tip(tip.hash)?;
        let mempool = self.node.mempool()?;
        let awaited = format!("{} in the mempool of electrs", list(&mempool));
        wait_until(&awaited, self.timeout, || self.look_at_mempool(&mempool))
    }

    /// electrs does not list its mempool. All that the node has are in it, and their sizes add up to that of all.
    fn look_at_mempool(&self, mempool: &[Txid]) -> Result<Poll<()>, Error> {
        #[derive(Deserialize)]
        struct Info {
            bytes: u64,
        }
        const CALL: &str = "mempool.get_fee_histogram";
        for &txid in mempool {
            // What has left the node's mempool meanwhile is waited for in vain, and told in the end.
            let Some(tx) = self.node.transaction_in_mempool(txid)? else {
                return Ok(Poll::Pending(format!("the node without {txid}")));
            };
            if let Some(output) = tx.output.first() {
                let history = self.history(&output.script_pubkey)?;
                if !history.iter().any(|entry| entry.txid == txid) {
                    return Ok(Poll::Pending(format!("nothing of {txid}")));
                }
            }
        }
        let info: Info = call(self.node.client(), "getmempoolinfo", &[])?;
        let answer = self.client.raw_call(CALL, []);
        let answer = answer.map_err(|error| unexpected(CALL, &error))?;
        let bins = Vec::<(f64, u64)>::deserialize(&answer).map_err(|_| unexpected(CALL, &answer))?;
        let bytes: u64 = bins.iter().map(|(_, bytes)| bytes).sum();
        Ok(if bytes == info.bytes {
            Poll::Ready(())
        } else {
            Poll::Pending(format!(
                "{bytes} virtual bytes, expected {}, as in the node",
                info.bytes
            ))
        })
    }

    /// Returns the transactions that involve a script: confirmed ones first, oldest first.
    ///
    /// # Errors
    ///
    /// If electrs fails.
    pub fn history(&self, script: &Script) -> Result<Vec<HistoryEntry>, Error> {
        let history = self.client.script_get_history(script);
        let history = history.map_err(|error| unexpected(HISTORY, &error))?;
        let entries = history.iter().map(|entry| HistoryEntry {
            txid: entry.tx_hash,
            height: u32::try_from(entry.height).ok().filter(|height| *height > 0),
        });
        Ok(entries.collect())
    }

    /// Waits until a script's history has just these transactions, in any order.
    ///
    /// # Errors
    ///
    /// [`NodeError::Timeout`], or if electrs fails.
    pub fn wait_for_history(&self, script: &Script, txids: &[Txid]) -> Result<Vec<HistoryEntry>, Error> {
        let mut wanted = txids.to_vec();
        wanted.sort_unstable();
        let awaited = format!("{} in the history of script {script:x}", list(&wanted));
        wait_until(&awaited, self.timeout, || {
            let history = self.history(script)?;
            let mut found: Vec<_> = history.iter().map(|entry| entry.txid).collect();
            found.sort_unstable();
            Ok(if found == wanted {
                Poll::Ready(history)
            } else {
                Poll::Pending(list(&found))
            })
        })
    }

    /// Waits until electrs can prove that the transaction is in this block of its best chain.
    ///
    /// # Errors
    ///
    /// [`NodeError::Timeout`], or if the node does not have the block, or electrs fails.
    pub fn wait_for_transaction(&self, txid: Txid, block: BlockHash) -> Result<ConfirmationProof, Error> {
        #[derive(Deserialize)]
        struct Answer {
            height: u32,
        }
        let Answer { height } = call(self.node.client(), "getblockheader", &[json!(block)])?;
        let awaited = format!("{txid} in block {block}, in electrs");
        wait_until(&awaited, self.timeout, || {
            let now = self.node.block_hash_at(height)?;
            if now != block {
                return Ok(Poll::Pending(format!("{now} at height {height} of the node")));
            }
            let tip = self.node.tip()?;
            if let Poll::Pending(other) = self.look_at_tip(tip.hash)? {
                return Ok(Poll::Pending(other));
            }
            match self.merkle_branch(txid, height) {
                Ok(branch) => self.check(txid, height, &branch).map(Poll::Ready),
                Err(electrum_client::Error::Protocol(words)) => Ok(Poll::Pending(words.to_string())),
                Err(error) => Err(unexpected(MERKLE, &error)),
            }
        })
    }

    /// Returns the proof that the transaction is in the block at this height, checked against the header that the
    /// node has there.
    ///
    /// # Errors
    ///
    /// If electrs has no such proof, or a wrong one.
    pub fn confirmation_proof(&self, txid: Txid, height: u32) -> Result<ConfirmationProof, Error> {
        let branch = self.merkle_branch(txid, height);
        self.check(txid, height, &branch.map_err(|error| unexpected(MERKLE, &error))?)
    }

    fn merkle_branch(&self, txid: Txid, height: u32) -> Result<GetMerkleRes, electrum_client::Error> {
        self.client.transaction_get_merkle(&txid, height as usize)
    }

    fn check(&self, txid: Txid, height: u32, branch: &GetMerkleRes) -> Result<ConfirmationProof, Error> {
        let header = self.node.block_at(height)?.header;
        if !validate_merkle_proof(&txid, &header.merkle_root, branch) {
            let reason = format!("no proof that {txid} is in block {}", header.block_hash());
            return Err(unexpected(MERKLE, &reason));
        }
        let hashes = branch.merkle.iter().map(|bytes| {
            // The protocol has them backwards.
            let mut bytes = *bytes;
            bytes.reverse();
            bitcoin::hashes::Hash::from_byte_array(bytes)
        });
        Ok(ConfirmationProof {
            height,
            header,
            position: branch.pos,
            branch: hashes.collect(),
        })
    }
}

/// electrs names the tip once it has the last block, and answers about scripts once it has looked for another one in vain.
/// A request that comes in between is refused.
fn wait_for_index<S: Read + Write>(client: &RawClient<S>, timeout: Duration) -> Result<(), Error> {
    wait_until("the index of electrs to be complete", timeout, || {
        match client.script_get_history(Script::new()) {
            Ok(_) => Ok(Poll::Ready(())),
            Err(electrum_client::Error::Protocol(words)) if words["message"] == "unavailable index" => {
                Ok(Poll::Pending(words.to_string()))
            }
            Err(error) => Err(unexpected(HISTORY, &error)),
        }
    })
}

const HISTORY: &str = "blockchain.scripthash.get_history";
const MERKLE: &str = "blockchain.transaction.get_merkle";

/// Starts electrs and waits until it answers.
fn launch(
    node: &Node,
    folder: &Folder,
    program: &FoundBinary,
    own: &[String],
    address: SocketAddrV4,
    monitoring: SocketAddrV4,
) -> Result<(Supervised, RawClient<TcpStream>), Error> {
    let peers = node.p2p_address().ok_or(InvalidRequest::NoPort)?;
    let path = |name: &str, path: PathBuf| {
        let mut argument = OsString::from(name);
        argument.push(path);
        argument
    };
    let mut arguments = vec![
        path("--db-dir=", folder.data()),
        path("--cookie-file=", node.cookie_file()),
        "--network=regtest".into(),
        // No settings of the user.
        "--skip-default-conf-files".into(),
        // The node's tip is recent, and electrs would sleep for a second if it looked between two blocks.
        "--skip-block-download-wait".into(),
        "--log-filters=INFO".into(),
        format!("--daemon-rpc-addr={}", node.rpc_address()).into(),
        format!("--daemon-p2p-addr={peers}").into(),
        format!("--electrum-rpc-addr={address}").into(),
        format!("--monitoring-addr={monitoring}").into(),
    ];
    arguments.extend(own.iter().map(OsString::from));
    let failed = |reason: String| {
        Error::from(NodeError::Start {
            path: program.path.clone(),
            arguments: arguments
                .iter()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            folder: folder.path().to_owned(),
            reason,
        })
    };
    let process = folder.spawn(&program.path, &arguments);
    let process = process.map_err(|error| failed(error.to_string()))?;
    let said = || folder.last_words().unwrap_or_else(|| "nothing".to_owned());
    let start = Instant::now();
    loop {
        if let Some(ended) = process.ended() {
            return Err(failed(format!(
                "it exited at once, {ended}, and said: {}",
                said()
            )));
        }
        if let Ok(client) = RawClient::new(address, Some(node.timeout), None) {
            return Ok((process, client));
        }
        if start.elapsed() >= node.timeout {
            return Err(NodeError::Timeout {
                awaited: format!("electrs to answer ({})", program.path.display()),
                within: node.timeout,
                seen: format!("last output: {:?}", said()),
            }
            .into());
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn unexpected(call: &'static str, answer: &impl ToString) -> Error {
    NodeError::Answer {
        call,
        answer: answer.to_string(),
    }
    .into()
}

impl Drop for Electrs {
    fn drop(&mut self) {
        self.node.attach("electrs.log", self.folder.stderr());
    }
}

impl fmt::Debug for Electrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Electrs")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// A server that is not ready twice, and then is.
    #[test]
    fn an_index_that_is_not_complete_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the client");
            let requests = BufReader::new(stream.try_clone().expect("a clone")).lines();
            let mut asked = 0;
            for request in requests {
                let request: serde_json::Value =
                    serde_json::from_str(&request.expect("a line")).expect("a request");
                let answer = if asked < 2 {
                    json!({ "id": request["id"], "error": { "code": -32603, "message": "unavailable index" } })
                } else {
                    json!({ "id": request["id"], "result": [] })
                };
                writeln!(stream, "{answer}").expect("it is read");
                asked += 1;
            }
            asked
        });
        let client = RawClient::from(client);
        wait_for_index(&client, Duration::from_secs(60)).expect("it is ready in the end");
        drop(client);
        assert_eq!(server.join().expect("no panic"), 3);
    }
}
