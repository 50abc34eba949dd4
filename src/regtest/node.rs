//! One `bitcoind` on regtest: time, stopping, starting again. Its RPCs are in `rpc.rs` and
//! `mempool.rs`.

mod arguments;
mod builder;
mod life;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoincore_rpc::{Client, RpcApi};
use serde_json::Value;

pub use builder::NodeBuilder;

use super::error::{Error, InvalidRequest, NodeError};
use super::evidence::Evidence;
use super::process::Launch;
use super::rpc;
use super::scan::ReadBlock;
use super::shared_clock::SharedClock;
use super::transport::client;
use super::wait::SLICE;
use life::DaemonState;

/// The mock time at which a node starts, in seconds since 1970: 14 November 2023, 22:13:20 UTC.
pub const START_TIME: u32 = 1_700_000_000;

/// The best block of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BestBlock {
    /// Its height; the genesis block has 0.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
    /// The time in its header, in seconds since 1970.
    pub time: u32,
    /// The median time of the last eleven headers, in seconds since 1970. Time locks are compared with this
    /// (BIP 113).
    pub mtp: u32,
}

impl fmt::Display for BestBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "height {}, time {}, median time past {}",
            self.height, self.time, self.mtp
        )
    }
}

/// A `bitcoind` on regtest in its own folder, without wallet and without peers.
///
/// It is killed, and its folder removed, when this is dropped, and also when the process ends in any other way,
/// `kill -9` included. If the test fails, its [evidence](Node::keep_evidence) is kept.
pub struct Node {
    // Dropped before the daemon, so that no connection is cut.
    client: Client,
    life: Arc<DaemonState>,
    time: Mutex<Time>,
    /// Whose turn it is to mine, unless that is for the fleet to say.
    turn: Mutex<()>,
    /// The blocks that this node was told to treat as invalid, and that its peers may well build on.
    pub(super) invalidated: Mutex<HashSet<BlockHash>>,
    /// In a cluster: whose time moves with this one's.
    pub(super) fleet: OnceLock<Arc<SharedClock>>,
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
    /// Starts the `bitcoind` that [`find_bitcoind`](super::find_bitcoind) finds, with the defaults of [`Node::builder`].
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
    #[must_use]
    pub fn client(&self) -> &Client {
        self.evidence.used();
        &self.client
    }

    /// Returns another client, which keeps working when the node is restarted. Calls wait as long as the node's
    /// [timeout](NodeBuilder::timeout) says, and are never sent twice.
    #[must_use]
    pub fn new_client(&self) -> Client {
        self.client_with(self.timeout)
    }

    /// A client for calls that wait inside the node.
    pub(super) fn client_for_waits(&self) -> Client {
        self.client_with(self.timeout.saturating_add(SLICE))
    }

    fn client_with(&self, timeout: Duration) -> Client {
        client(self.launch.rpc(), timeout, Some(life::absence(&self.life)))
    }

    /// Returns where the RPC server listens. A restart does not change it.
    #[must_use]
    pub fn rpc_address(&self) -> SocketAddrV4 {
        self.launch.rpc()
    }

    /// Returns the RPC server's address for a program under test: `http://127.0.0.1:<port>`.
    ///
    /// It may log in as [`RPC_USER`] with [`RPC_PASSWORD`], which survive a restart, or with the
    /// [cookie](Node::cookie_file), which does not.
    #[must_use]
    pub fn rpc_url(&self) -> String {
        format!("http://{}", self.launch.rpc())
    }

    /// Returns the file with the RPC credentials that `bitcoind` recreates at every start.
    #[must_use]
    pub fn cookie_file(&self) -> PathBuf {
        self.launch.data().join("regtest/.cookie")
    }

    /// Returns where peers can connect, if the node was started with [`NodeBuilder::p2p`]. It stays the same when the node is
    /// restarted.
    #[must_use]
    pub fn p2p_address(&self) -> Option<SocketAddrV4> {
        self.launch.p2p()
    }

    /// Returns the node's data directory; the debug log is `regtest/debug.log` in it.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.launch.data()
    }

    /// Returns the node's clock, in seconds since 1970. It stands still until it is set.
    #[must_use]
    pub fn mock_time(&self) -> u32 {
        self.time().now
    }

    /// From which height on blocks may have witnesses.
    pub(super) fn segwit_height(&self) -> u32 {
        self.segwit_height
    }

    /// Sets the node's clock, in seconds since 1970, without mining: time locks depend on the median time of
    /// blocks, so nothing becomes final by this.
    ///
    /// # Errors
    ///
    /// If `time` is before the present mock time, or the node fails.
    pub fn set_mock_time(&self, time: u32) -> Result<(), Error> {
        if let Some(fleet) = self.fleet.get() {
            fleet.settle()?;
        }
        let mut known = self.time();
        if time < known.now {
            return Err(InvalidRequest::TimeBackwards {
                now: known.now,
                asked: time,
            }
            .into());
        }
        rpc::set_mock_time(&self.client, time)?;
        self.note(format!("mock time {time}"));
        known.now = time;
        drop(known);
        let Some(fleet) = self.fleet.get() else {
            return Ok(());
        };
        let others = fleet
            .nodes()
            .filter(|node| !std::ptr::eq(&raw const **node, self));
        others.into_iter().try_for_each(|other| other.follow(time))
    }

    /// From now on, [`Node::set_mock_time`] sets the clocks of all these nodes.
    pub(super) fn join(&self, fleet: Arc<SharedClock>) {
        // A node joins the cluster that started it, and no other.
        let _ = self.fleet.set(fleet);
    }

    /// Comes up to the time of another node. One that is stopped does so when it is started again.
    fn follow(&self, time: u32) -> Result<(), Error> {
        let mut known = self.time();
        if time > known.now {
            if self.is_running() {
                rpc::set_mock_time(&self.client, time)?;
            }
            known.now = time;
        }
        Ok(())
    }

    /// Held by whoever looks at the tip in order to mine on it: of two blocks at a time only one becomes the tip. All
    /// nodes of a cluster have one turn between them, and it begins when they have the last block of the one before.
    pub(super) fn turn(&self) -> Result<MutexGuard<'_, ()>, Error> {
        let Some(fleet) = self.fleet.get() else {
            return Ok(self.turn.lock().unwrap_or_else(PoisonError::into_inner));
        };
        let turn = fleet.turn();
        fleet.settle()?;
        Ok(turn)
    }

    pub(super) fn time(&self) -> MutexGuard<'_, Time> {
        // Numbers cannot be left half-changed by a panic elsewhere.
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the daemon is running: neither stopped, killed, nor exited on its own.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.life.is_running()
    }

    /// An error if the daemon has ended by itself.
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
    /// [`InvalidRequest::NodeState`] if it is stopped already, [`NodeError::Ended`] if it had exited on
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

    /// Kills the node, like a power cut. It loses what it had not yet written to disk: without [`Node::flush`], possibly
    /// every block since its start.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NodeState`] if it is stopped already, and [`NodeError::Ended`] if it had ended
    /// by itself.
    pub fn kill(&self) -> Result<(), Error> {
        self.life.end("being killed", "killed", |daemon| {
            self.note("kill");
            drop(daemon);
            Ok(())
        })
    }

    /// Restarts a node that was stopped or killed or that exited on its own, on the same data and ports, and with the same
    /// mock time. Unless it was stopped, it has only what it had written to disk, possibly no block: see
    /// [`Node::flush`]. Its [clients](Node::client) keep working.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NodeState`] if it runs, or if it does not start.
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

/// The user name with which a program under test can log in, besides the cookie.
pub const RPC_USER: &str = "spilman";
/// The password of [`RPC_USER`]. It is not a secret: the server listens on 127.0.0.1 only.
pub const RPC_PASSWORD: &str = "regtest";

fn mock_time_argument(time: u32) -> OsString {
    format!("-mocktime={time}").into()
}
