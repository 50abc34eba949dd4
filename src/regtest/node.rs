//! One `bitcoind` on regtest: starting, time, stopping. Its RPCs are in `rpc.rs` and
//! `mempool.rs`.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitcoin::BlockHash;
use bitcoincore_rpc::{Auth, Client};
use bitcoind::BitcoinD;

use super::error::{Error, Misuse, NodeError};
use super::policy::Policy;
use super::{binary, rpc};

/// The mock time at which a node starts, in seconds since 1970: 14 November 2023, 22:13:20 UTC.
pub const START_TIME: u32 = 1_700_000_000;

/// The best block of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tip {
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

impl fmt::Display for Tip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "height {}, time {}, median time past {}",
            self.height, self.time, self.mtp
        )
    }
}

/// A `bitcoind` on regtest with a folder of its own, without wallet and without peers. It is killed, and its
/// folder removed, when this is dropped.
pub struct Node {
    // Dropped before the daemon, so that no connection is cut.
    client: Client,
    daemon: BitcoinD,
    time: Mutex<Time>,
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

    /// A node with other than the default arguments, time, policy or program.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// The client, for RPCs that have no function here.
    ///
    /// Do not call `setmocktime` through it: [`Node::mock_time`] would not know.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The address and credentials of the node, for a program under test that connects by itself.
    #[must_use]
    pub fn connection(&self) -> &bitcoind::ConnectParams {
        &self.daemon.params
    }

    /// The node's data directory; the debug log is in `regtest/debug.log` in it.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.daemon.workdir()
    }

    /// The node's clock, in seconds since 1970. It stands still until it is set.
    #[must_use]
    pub fn mock_time(&self) -> u32 {
        self.time().now
    }

    /// Sets the node's clock, in seconds since 1970, without mining: time locks look at the median time of
    /// blocks, so nothing becomes final by this.
    ///
    /// # Errors
    ///
    /// If `time` is before the present mock time, or the node fails.
    pub fn set_mock_time(&self, time: u32) -> Result<(), Error> {
        let mut known = self.time();
        if time < known.now {
            return Err(Misuse::TimeBackwards {
                now: known.now,
                asked: time,
            }
            .into());
        }
        rpc::set_mock_time(&self.client, time)?;
        known.now = time;
        Ok(())
    }

    pub(super) fn time(&self) -> MutexGuard<'_, Time> {
        // Numbers cannot be left half-changed by a panic elsewhere.
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the node cleanly and waits until it has ended. Dropping is faster and usually enough.
    ///
    /// # Errors
    ///
    /// If the node cannot be reached, or ends with an error.
    pub fn stop(mut self) -> Result<(), Error> {
        let status = self
            .daemon
            .stop()
            .map_err(|error| NodeError::Stop(format!("{error:#}")))?;
        if status.success() {
            Ok(())
        } else {
            Err(NodeError::Stop(status.to_string()).into())
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("rpc", &self.daemon.params.rpc_socket)
            .finish_non_exhaustive()
    }
}

/// How a [`Node`] is started.
///
/// Unless told otherwise, the node uses the mock time [`START_TIME`] and [`Policy::default`], listens for RPC on
/// 127.0.0.1 alone, and looks for no peers.
#[derive(Debug, Clone)]
pub struct NodeBuilder {
    program: Option<PathBuf>,
    start_time: u32,
    policy: Policy,
    arguments: Vec<String>,
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            program: None,
            start_time: START_TIME,
            policy: Policy::default(),
            arguments: Vec::new(),
        }
    }
}

/// What every node gets, and what it is for.
const ARGUMENTS: &[&str] = &[
    "-regtest",
    "-txindex=0",
    // No peers, and no ports but that of RPC.
    "-connect=0",
    "-dnsseed=0",
    "-fixedseeds=0",
    "-discover=0",
    "-natpmp=0",
    "-listenonion=0",
    "-rpcbind=127.0.0.1",
    "-rpcallowip=127.0.0.1",
    // What is in the mempool gets mined.
    "-blockmintxfee=0",
    // electrs up to 0.11 needs a field that Core after 31 shows only on demand.
    "-deprecatedrpc=bip125",
];

impl NodeBuilder {
    /// Uses this `bitcoind` instead of looking for one.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// The node's clock at the start, in seconds since 1970.
    #[must_use]
    pub fn start_time(mut self, time: u32) -> Self {
        self.start_time = time;
        self
    }

    /// What the node relays.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// An argument of `bitcoind`, such as `-txindex=1`. It replaces earlier ones of the same name, defaults
    /// included.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts the node and waits until it answers.
    ///
    /// # Errors
    ///
    /// If there is no `bitcoind`, it does not know an argument, or it does not answer in time.
    pub fn start(self) -> Result<Node, Error> {
        let path = match &self.program {
            Some(path) => path.clone(),
            None => binary::find_bitcoind()?.path,
        };
        let arguments = self.all_arguments();
        let failed = |reason: String| NodeError::Start {
            path: path.clone(),
            arguments: arguments.clone(),
            reason,
        };
        if !self.arguments.is_empty() {
            // A daemon that ends at once would be waited for in vain for a long time; asked for its version, it
            // says immediately which argument it does not know.
            binary::bitcoind_version(&path, &arguments).map_err(failed)?;
        }

        let mut conf = bitcoind::Conf::default();
        conf.args = arguments.iter().map(String::as_str).collect();
        conf.wallet = None;
        conf.attempts = 3;
        let daemon = BitcoinD::with_conf(&path, &conf).map_err(|error| failed(format!("{error:#}")))?;
        let auth = Auth::CookieFile(daemon.params.cookie_file.clone());
        let client = Client::new(&daemon.rpc_url(), auth).map_err(|error| failed(error.to_string()))?;
        Ok(Node {
            client,
            daemon,
            time: Mutex::new(Time {
                now: self.start_time,
                template: 0,
            }),
        })
    }

    /// All arguments, the last of each name.
    fn all_arguments(&self) -> Vec<String> {
        let mut all: Vec<String> = ARGUMENTS.iter().map(ToString::to_string).collect();
        all.extend(self.policy.arguments());
        for argument in &self.arguments {
            all.retain(|earlier| name_of(earlier) != name_of(argument));
            all.push(argument.clone());
        }
        // The builder keeps account of the time, so this is not for `arg` to change.
        all.retain(|argument| name_of(argument) != "-mocktime");
        all.push(format!("-mocktime={}", self.start_time));
        all
    }
}

fn name_of(argument: &str) -> &str {
    argument.split_once('=').map_or(argument, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_argument_replaces_an_earlier_one() {
        let all = Node::builder()
            .arg("-txindex=1")
            .policy(Policy::free())
            .arg("-dustrelayfee=0.1")
            .all_arguments();
        assert!(all.contains(&"-txindex=1".to_owned()) && !all.contains(&"-txindex=0".to_owned()));
        assert!(all.contains(&"-minrelaytxfee=0".to_owned()));
        assert!(
            all.contains(&"-dustrelayfee=0.1".to_owned()) && !all.contains(&"-dustrelayfee=0".to_owned())
        );
    }

    #[test]
    fn the_time_is_set_in_one_place_alone() {
        let all = Node::builder().arg("-mocktime=5").start_time(7).all_arguments();
        assert_eq!(
            all.iter()
                .filter(|argument| name_of(argument) == "-mocktime")
                .collect::<Vec<_>>(),
            ["-mocktime=7"]
        );
    }
}
