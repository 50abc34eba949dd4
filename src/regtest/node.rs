//! One `bitcoind` on regtest: starting, time, stopping. Its RPCs are in `rpc.rs` and
//! `mempool.rs`.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bitcoin::hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};
use bitcoin::BlockHash;
use bitcoincore_rpc::{Auth, Client};

use super::error::{Error, Misuse};
use super::evidence::Evidence;
use super::fleet::Fleet;
use super::policy::Policy;
use super::process::{keeps_everything, Daemon, Folder, Home, Launch, Reserved};
use super::wait::PATIENCE;
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

/// A `bitcoind` on regtest with a folder of its own, without wallet and without peers.
///
/// It is killed, and its folder removed, when this is dropped, and also when the process ends in any other way,
/// `kill -9` included. If the test fails by a panic, its [evidence](Node::keep_evidence) is kept.
pub struct Node {
    // Dropped before the daemon, so that no connection is cut.
    client: Client,
    state: Mutex<State>,
    time: Mutex<Time>,
    /// Whose turn it is to mine, unless that is for the fleet to say.
    turn: Mutex<()>,
    /// The blocks that this node was told to treat as invalid, and that its peers may well build on.
    pub(super) invalidated: Mutex<HashSet<BlockHash>>,
    /// In a cluster: whose time moves with this one's.
    fleet: OnceLock<Arc<Fleet>>,
    home: Home,
    data_dir: PathBuf,
    arguments: Vec<String>,
    pub(super) patience: Duration,
    pub(super) evidence: Evidence,
    /// Its folder is removed with it, so it goes last.
    launch: Mutex<Launch>,
}

/// Whether the daemon runs. While it does not, its ports are kept for it.
enum State {
    Running(Daemon),
    Stopped { _ports: Vec<Reserved> },
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

    /// A client of one's own, for a call that lasts: one client does one call at a time.
    ///
    /// # Errors
    ///
    /// Never, with the present client crate.
    pub fn new_client(&self) -> Result<Client, Error> {
        client(self.home)
    }

    /// Where the RPC server listens. It stays the same when the node is restarted.
    #[must_use]
    pub fn rpc_address(&self) -> SocketAddrV4 {
        self.home.rpc
    }

    /// The RPC server's address for a program under test: `http://127.0.0.1:<port>`.
    ///
    /// It may log in as [`RPC_USER`] with [`RPC_PASSWORD`], which outlast a restart, or with the
    /// [cookie](Node::cookie_file), which does not.
    #[must_use]
    pub fn rpc_url(&self) -> String {
        format!("http://{}", self.home.rpc)
    }

    /// The file with the RPC credentials that `bitcoind` makes anew at every start.
    #[must_use]
    pub fn cookie_file(&self) -> PathBuf {
        self.data_dir.join("regtest/.cookie")
    }

    /// Where peers can connect, if the node was started with [`NodeBuilder::p2p`]. It stays the same when the node is
    /// restarted.
    #[must_use]
    pub fn p2p_address(&self) -> Option<SocketAddrV4> {
        self.home.p2p
    }

    /// The node's data directory; the debug log is in `regtest/debug.log` in it.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
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
        if let Some(fleet) = self.fleet.get() {
            fleet.settle()?;
        }
        let mut known = self.time();
        if time < known.now {
            return Err(Misuse::TimeBackwards {
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
    pub(super) fn join(&self, fleet: Arc<Fleet>) {
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

    /// Whether the daemon is there: neither stopped nor killed.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(*self.state(), State::Running(_))
    }

    /// Stops the node cleanly and waits until it has ended. Its data and its ports stay, for [`Node::restart`].
    ///
    /// To be rid of a node, drop it: that is faster.
    ///
    /// # Errors
    ///
    /// [`Misuse::NodeState`] if it is stopped already, or if it cannot be reached or ends with an error.
    pub fn stop(&self) -> Result<(), Error> {
        self.end("stop", Daemon::stop)
    }

    /// Kills the node as a power cut would. What it had not yet written to disk is lost: without [`Node::flush`]
    /// that may be every block since its start.
    ///
    /// # Errors
    ///
    /// [`Misuse::NodeState`] if it is stopped already.
    pub fn kill(&self) -> Result<(), Error> {
        self.end("kill", Daemon::kill)
    }

    fn end(
        &self,
        how: &str,
        end: impl FnOnce(Daemon, Home) -> Result<Vec<Reserved>, Error>,
    ) -> Result<(), Error> {
        let mut state = self.state();
        let stopped = State::Stopped { _ports: Vec::new() };
        let State::Running(daemon) = std::mem::replace(&mut *state, stopped) else {
            return Err(Misuse::NodeState { state: "stopped" }.into());
        };
        self.note(how);
        *state = State::Stopped {
            _ports: end(daemon, self.home)?,
        };
        Ok(())
    }

    /// Starts a node again that was stopped or killed, on the same data and the same ports, and with the same
    /// mock time. Clients that reconnect by themselves, such as [`Node::client`], go on working.
    ///
    /// # Errors
    ///
    /// [`Misuse::NodeState`] if it runs, or if it does not start.
    pub fn restart(&self) -> Result<(), Error> {
        let now = self.time().now;
        {
            let mut state = self.state();
            if matches!(*state, State::Running(_)) {
                return Err(Misuse::NodeState { state: "running" }.into());
            }
            self.note("start again");
            let mut arguments = self.arguments.clone();
            arguments.push(mock_time_argument(now));
            let mut launch = self.launch.lock().unwrap_or_else(PoisonError::into_inner);
            *state = State::Running(launch.start(&arguments)?);
        }
        // Meanwhile another node of the cluster may have moved the time.
        rpc::set_mock_time(&self.client, self.time().now)
    }

    /// Uses the daemon as the crate `bitcoind` knows it.
    #[cfg(feature = "electrs")]
    pub(super) fn with_daemon<T>(&self, use_it: impl FnOnce(&bitcoind::BitcoinD) -> T) -> Result<T, Error> {
        match &*self.state() {
            State::Running(daemon) => Ok(use_it(daemon.bitcoind())),
            State::Stopped { .. } => Err(Misuse::NodeState { state: "stopped" }.into()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() || keeps_everything() {
            self.evidence.keep(self);
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("rpc", &self.home.rpc)
            .finish_non_exhaustive()
    }
}

/// How a [`Node`] is started.
///
/// Unless told otherwise, the node uses the mock time [`START_TIME`] and [`Policy::default`], listens for RPC on
/// 127.0.0.1 alone, and looks for no peers.
#[derive(Debug, Clone)]
pub struct NodeBuilder {
    program: Program,
    start_time: u32,
    policy: Policy,
    arguments: Vec<String>,
    once: Vec<String>,
    p2p: bool,
    patience: Duration,
}

/// Which `bitcoind` to start.
#[derive(Debug, Clone, Default)]
enum Program {
    #[default]
    Any,
    Version(String),
    At(PathBuf),
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            program: Program::default(),
            start_time: START_TIME,
            policy: Policy::default(),
            arguments: Vec::new(),
            once: Vec::new(),
            p2p: false,
            patience: PATIENCE,
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

/// Arguments of which every one counts, and without whose defaults the harness could not speak to the node, or nodes
/// with each other.
const ADDED_TO: &[&str] = &["-rpcauth", "-whitelist"];

impl NodeBuilder {
    /// Uses this `bitcoind` instead of looking for one.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Program::At(path.into());
        self
    }

    /// Uses a `bitcoind` of this version, such as `29` or `29.99`; see
    /// [`find_bitcoind_version`](super::find_bitcoind_version) for where it is looked for.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.program = Program::Version(version.into());
        self
    }

    /// The node's clock at the start, in seconds since 1970.
    #[must_use]
    pub fn start_time(mut self, time: u32) -> Self {
        self.start_time = time;
        self
    }

    pub(super) fn time_at_start(&self) -> u32 {
        self.start_time
    }

    /// What the node relays.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// An argument of `bitcoind`, such as `-txindex=1`. It replaces a default of the same name, except of
    /// `-rpcauth` and `-whitelist`, which the harness needs for itself. Given several times, it is for `bitcoind` to
    /// say whether all count, as of `-debug`, or the last.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// An argument for the first start alone, not for a restart.
    #[must_use]
    pub fn arg_once(mut self, argument: impl Into<String>) -> Self {
        self.once.push(argument.into());
        self
    }

    /// Lets the node listen for peers, on 127.0.0.1 alone, and treat those from there as friends: they are told of
    /// transactions at once, which otherwise waits for a clock that stands still. Off unless asked for.
    #[must_use]
    pub fn p2p(mut self, listens: bool) -> Self {
        self.p2p = listens;
        self
    }

    /// For how long [`Node`]'s calls that wait do so; a minute unless told otherwise.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts the node and waits until it answers.
    ///
    /// # Errors
    ///
    /// If there is no `bitcoind`, it does not know an argument, or it does not answer in time.
    pub fn start(self) -> Result<Node, Error> {
        let program = match &self.program {
            Program::At(path) => binary::bitcoind_at(path)?.path,
            Program::Version(version) => binary::find_bitcoind_version(version)?.path,
            Program::Any => binary::find_bitcoind()?.path,
        };
        let arguments = self.lasting_arguments();
        let mut launch = Launch {
            folder: Folder::new("bitcoind", &program)?,
            program,
            p2p: self.p2p,
            home: None,
        };
        let mut first = arguments.clone();
        first.extend(self.once);
        first.push(mock_time_argument(self.start_time));
        let daemon = launch.start(&first)?;
        let home = Home::from(&daemon.bitcoind().params);
        Ok(Node {
            client: client(home)?,
            state: Mutex::new(State::Running(daemon)),
            time: Mutex::new(Time {
                now: self.start_time,
                template: 0,
            }),
            turn: Mutex::default(),
            invalidated: Mutex::default(),
            fleet: OnceLock::new(),
            home,
            data_dir: launch.folder.data(),
            arguments,
            patience: self.patience,
            evidence: Evidence::default(),
            launch: Mutex::new(launch),
        })
    }

    /// The arguments of every start.
    fn lasting_arguments(&self) -> Vec<String> {
        let mut all: Vec<String> = ARGUMENTS.iter().map(ToString::to_string).collect();
        all.push(format!("-rpcauth={}", rpc_auth()));
        if self.p2p {
            all.push("-whitelist=noban,in,out@127.0.0.1".to_owned());
            // Nobody has been silent for long, only the clock has jumped.
            all.push("-peertimeout=999999999".to_owned());
        }
        all.extend(self.policy.arguments());
        all.retain(|default| {
            let name = name_of(default);
            ADDED_TO.contains(&name) || !self.arguments.iter().any(|own| name_of(own) == name)
        });
        all.extend(self.arguments.iter().cloned());
        // The builder keeps account of the time, so this is not for `arg` to change.
        all.retain(|argument| name_of(argument) != "-mocktime");
        all
    }
}

/// How a program under test may log in, beside the cookie.
pub const RPC_USER: &str = "spilman";
/// The password of [`RPC_USER`]. No secret: the server listens on 127.0.0.1 alone.
pub const RPC_PASSWORD: &str = "regtest";

/// The user, a salt, and the salted hash of the password, as `-rpcauth` takes it.
fn rpc_auth() -> String {
    const SALT: &str = "73616c74";
    let mut engine = HmacEngine::<sha256::Hash>::new(SALT.as_bytes());
    engine.input(RPC_PASSWORD.as_bytes());
    format!("{RPC_USER}:{SALT}${}", Hmac::<sha256::Hash>::from_engine(engine))
}

fn client(home: Home) -> Result<Client, Error> {
    let auth = Auth::UserPass(RPC_USER.to_owned(), RPC_PASSWORD.to_owned());
    Client::new(&format!("http://{}", home.rpc), auth).map_err(|error| rpc::failed("connect", error))
}

fn mock_time_argument(time: u32) -> String {
    format!("-mocktime={time}")
}

fn name_of(argument: &str) -> &str {
    argument.split_once('=').map_or(argument, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_replaces_a_default() {
        let all = Node::builder()
            .arg("-txindex=1")
            .policy(Policy::free())
            .arg("-dustrelayfee=0.1")
            .arg("-debug=net")
            .arg("-debug=rpc")
            .arg("-rpcauth=alice:73616c74$00")
            .lasting_arguments();
        assert!(all.contains(&"-txindex=1".to_owned()) && !all.contains(&"-txindex=0".to_owned()));
        assert!(all.contains(&"-minrelaytxfee=0".to_owned()));
        assert!(
            all.contains(&"-dustrelayfee=0.1".to_owned()) && !all.contains(&"-dustrelayfee=0".to_owned())
        );
        for several in ["-debug", "-rpcauth"] {
            let count = all.iter().filter(|argument| name_of(argument) == several).count();
            assert_eq!(count, 2, "{several} in {all:?}");
        }
    }

    #[test]
    fn the_time_is_set_in_one_place_alone() {
        let all = Node::builder().arg("-mocktime=5").lasting_arguments();
        assert!(
            !all.iter().any(|argument| name_of(argument) == "-mocktime"),
            "{all:?}"
        );
    }
}
