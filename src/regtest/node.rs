//! One `bitcoind` on regtest: starting, stopping, starting again. What it can be asked is in the files below.

mod arguments;
mod builder;
mod daemon_state;
mod evidence;
mod locks;
pub(super) mod mempool;
pub(super) mod package;
pub(super) mod peers;
pub(super) mod rpc;
pub(super) mod scan;
mod time;
pub(super) mod waits;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoincore_rpc::{Client, RpcApi};
use serde_json::Value;

pub use builder::NodeBuilder;
pub(super) use time::ClusterClock;

use super::error::{Error, NodeError};
use super::evidence::Evidence;
use super::process::Launch;
use super::transport::client;
use super::wait::SLICE;
use daemon_state::DaemonState;
use scan::ReadBlock;

/// The mock time at which a node starts, in seconds since 1970: 14 November 2023, 22:13:20 UTC.
pub const START_TIME: u32 = 1_700_000_000;

/// A `bitcoind` on regtest in its own folder, without wallet and without peers.
///
/// It is killed, and its folder removed, when this is dropped, and also when the process ends in any other way,
/// `kill -9` included. If the test fails, its [evidence](Node::keep_evidence) is kept.
pub struct Node {
    // Dropped before the daemon, so that no connection is cut.
    client: Client,
    life: Arc<DaemonState>,
    time: Mutex<Time>,
    /// Whose turn it is to mine, unless the cluster says.
    turn: Mutex<()>,
    /// The blocks that this node was told to treat as invalid, and that its peers may well build on.
    pub(super) invalidated: Mutex<HashSet<BlockHash>>,
    /// In a cluster: whose time moves with this one's.
    cluster: OnceLock<Arc<dyn ClusterClock>>,
    /// The blocks of the best chain that were read, from height 1 on.
    pub(super) read: Mutex<Vec<ReadBlock>>,
    segwit_height: u32,
    arguments: Vec<OsString>,
    pub(super) timeout: Duration,
    pub(super) evidence: Evidence,
    /// Its folder is removed with it, so it goes last.
    launch: Launch,
}

/// What the node has been told of time, in seconds since 1970.
pub(super) struct Time {
    pub now: u32,
    /// When the last block template was made.
    pub template: u32,
}

impl Node {
    /// Starts the `bitcoind` that [`find_bitcoind`](super::find_bitcoind) finds, with the defaults of
    /// [`Node::builder`].
    ///
    /// # Errors
    ///
    /// If there is no `bitcoind`, or it does not start.
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Returns a builder, for other arguments, another time, policy or program.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Returns the client, for RPCs without a method here.
    ///
    /// Do not call `setmocktime` through it: [`Node::mock_time`] would not know.
    pub fn client(&self) -> &Client {
        self.evidence.used();
        &self.client
    }

    /// Returns another client, which keeps working when the node is restarted. Calls wait as long as the node's
    /// [timeout](NodeBuilder::timeout) says, and are never sent twice.
    pub fn new_client(&self) -> Client {
        self.client_with(self.timeout)
    }

    /// A client for calls that wait inside the node.
    pub(super) fn client_for_waits(&self) -> Client {
        self.client_with(self.timeout.saturating_add(SLICE))
    }

    fn client_with(&self, timeout: Duration) -> Client {
        client(
            self.launch.rpc(),
            timeout,
            Some(daemon_state::absence(&self.life)),
        )
    }

    /// Returns where the RPC server listens. A restart does not change it.
    pub fn rpc_address(&self) -> SocketAddrV4 {
        self.launch.rpc()
    }

    /// Returns the RPC server's address for a program under test: `http://127.0.0.1:<port>`.
    ///
    /// It may log in as [`RPC_USER`](crate::regtest::RPC_USER) with [`RPC_PASSWORD`](crate::regtest::RPC_PASSWORD), which
    /// survive a restart, or with the [cookie](Node::cookie_file), which does not.
    pub fn rpc_url(&self) -> String {
        format!("http://{}", self.launch.rpc())
    }

    /// Returns the file with the RPC credentials that `bitcoind` recreates at every start.
    pub fn cookie_file(&self) -> PathBuf {
        self.launch.data().join("regtest/.cookie")
    }

    /// Returns where peers can connect, if the node was started with [`NodeBuilder::p2p`]. It stays the same when the
    /// node is restarted.
    pub fn p2p_address(&self) -> Option<SocketAddrV4> {
        self.launch.p2p()
    }

    /// Returns the node's data directory; the debug log is `regtest/debug.log` in it.
    pub fn data_dir(&self) -> PathBuf {
        self.launch.data()
    }

    /// Returns the node's clock, in seconds since 1970. It stands still until it is set.
    pub fn mock_time(&self) -> u32 {
        self.time().now
    }

    /// From which height on blocks may have witnesses.
    pub(super) fn segwit_height(&self) -> u32 {
        self.segwit_height
    }

    /// Returns whether the daemon is running: neither stopped, killed, nor exited on its own.
    pub fn is_running(&self) -> bool {
        self.life.is_running()
    }

    /// Returns an error if the daemon has exited on its own.
    pub(super) fn check_not_ended(&self) -> Result<(), Error> {
        self.life
            .ended()
            .map_or(Ok(()), |how| Err(NodeError::Ended(how).into()))
    }

    /// Stops the node cleanly and waits until it has exited. It keeps its data and ports, for [`Node::restart`].
    ///
    /// To dispose of a node, drop it: that is faster.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NodeState`](crate::regtest::InvalidRequest::NodeState) if it is already stopped,
    /// [`NodeError::Ended`] if it had exited on
    /// its own, or if it cannot be reached, exits with an error, or does not exit within the node's timeout: then it is
    /// killed.
    pub fn stop(&self) -> Result<(), Error> {
        self.life.end("being stopped", "stopped", |mut daemon| {
            self.note("stop");
            daemon.will_end();
            let told = client(self.launch.rpc(), self.timeout, None).call::<Value>("stop", &[]);
            told.map_err(|error| rpc::failed("stop", error))?;
            daemon.wait(self.timeout)
        })
    }

    /// Kills the node, like a power cut. It loses what it had not yet written to disk: without [`Node::flush`],
    /// possibly every block since its start.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NodeState`](crate::regtest::InvalidRequest::NodeState) if it is already stopped, and
    /// [`NodeError::Ended`] if it had exited on its own.
    pub fn kill(&self) -> Result<(), Error> {
        self.life.end("being killed", "killed", |daemon| {
            self.note("kill");
            drop(daemon);
            Ok(())
        })
    }

    /// Restarts a node that was stopped or killed or that exited on its own, on the same data and ports, and with the
    /// same mock time. Unless it was stopped, it has only what it had written to disk, possibly no block: see
    /// [`Node::flush`]. Its [clients](Node::client) keep working.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NodeState`](crate::regtest::InvalidRequest::NodeState) if it runs, or if it does not start.
    pub fn restart(&self) -> Result<(), Error> {
        let now = self.time().now;
        self.life.start(|ended| {
            if let Some(how) = ended {
                self.note(format!("it had already exited on its own, {how}"));
            }
            self.note("start again");
            let mut arguments = self.arguments.clone();
            arguments.push(mock_time_argument(now));
            self.launch.start(&arguments)
        })?;
        // Meanwhile another node of the cluster may have moved the time.
        rpc::set_mock_time(&self.client, self.time().now)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.evidence.node_goes();
        // Now, and not when the last client is done with asking whether it lives: its folder is removed next.
        self.life.over();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("rpc", &self.launch.rpc())
            .finish_non_exhaustive()
    }
}

fn mock_time_argument(time: u32) -> OsString {
    format!("-mocktime={time}").into()
}
