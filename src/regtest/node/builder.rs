//! How a node is started.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::daemon_state::{absence, DaemonState};
use super::{arguments, mock_time_argument, Node, Time, START_TIME};
use crate::regtest::binary;
use crate::regtest::error::Error;
use crate::regtest::evidence::{Evidence, EvidenceSource};
use crate::regtest::policy::Policy;
use crate::regtest::process::Launch;
use crate::regtest::transport::client;
use crate::regtest::wait::DEFAULT_TIMEOUT;

/// How a [`Node`] is started.
///
/// By default, the node uses the mock time [`START_TIME`] and [`Policy::default`], listens for RPC on
/// 127.0.0.1 alone, and connects to no peers.
#[derive(Debug, Clone)]
pub struct NodeBuilder {
    program: BinaryChoice,
    start_time: u32,
    policy: Policy,
    arguments: Vec<String>,
    once: Vec<String>,
    /// What the harness adds to the first start.
    first: Vec<OsString>,
    p2p: bool,
    timeout: Duration,
}

/// Which `bitcoind` to start.
#[derive(Debug, Clone, Default)]
enum BinaryChoice {
    #[default]
    Any,
    Version(String),
    At(PathBuf),
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            program: BinaryChoice::default(),
            start_time: START_TIME,
            policy: Policy::default(),
            arguments: Vec::new(),
            once: Vec::new(),
            first: Vec::new(),
            p2p: false,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

impl NodeBuilder {
    /// Uses this `bitcoind` instead of searching for one.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = BinaryChoice::At(path.into());
        self
    }

    /// Uses a `bitcoind` of this version, such as `29` or `29.99`; see
    /// [`find_bitcoind_version`](crate::regtest::find_bitcoind_version) for where it is looked for.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.program = BinaryChoice::Version(version.into());
        self
    }

    /// The node's clock at the start, in seconds since 1970.
    #[must_use]
    pub fn start_time(mut self, time: u32) -> Self {
        self.start_time = time;
        self
    }

    pub(in crate::regtest) fn time_at_start(&self) -> u32 {
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
    ///
    /// What would take the node away from the harness, such as `-server=0`, `-rpcport` or `-mocktime`, is refused by
    /// [`NodeBuilder::start`], which names what to use instead.
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

    pub(in crate::regtest) fn first_argument(mut self, argument: OsString) -> Self {
        self.first.push(argument);
        self
    }

    /// Lets the node listen for peers, on 127.0.0.1 alone, and treat those from there as friends: they are told of
    /// transactions at once, which otherwise waits for a clock that stands still. Off unless asked for.
    #[must_use]
    pub fn p2p(mut self, listens: bool) -> Self {
        self.p2p = listens;
        self
    }

    /// Sets the timeout of [`Node`]: for starting and stopping, for the answer to an RPC (at least a second), and for calls
    /// that wait. One minute by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Starts the node and waits until it answers.
    ///
    /// # Errors
    ///
    /// If there is no `bitcoind`, it does not know an argument, or it does not answer in time; and
    /// [`InvalidRequest::Argument`](crate::regtest::InvalidRequest::Argument).
    pub fn start(self) -> Result<Node, Error> {
        arguments::check(&self.arguments, &self.once)?;
        let program = match &self.program {
            BinaryChoice::At(path) => binary::bitcoind_at(path)?.path,
            BinaryChoice::Version(version) => binary::find_bitcoind_version(version)?.path,
            BinaryChoice::Any => binary::find_bitcoind()?.path,
        };
        let segwit_height = self.segwit_height();
        let lasting = arguments::lasting(&self.arguments, self.p2p, self.policy);
        let mut first = lasting.clone();
        first.extend(self.once.into_iter().map(OsString::from));
        first.extend(self.first);
        first.push(mock_time_argument(self.start_time));
        let launch = Launch::new(program, self.p2p, self.timeout)?;
        let life = Arc::new(DaemonState::new(launch.start(&first)?));
        let (living, absence) = (Arc::downgrade(&life), absence(&life));
        let (rpc, timeout, why) = (launch.rpc(), self.timeout, Arc::clone(&absence));
        let client = move || client(rpc, timeout, Some(Arc::clone(&why)));
        let own_client = client();
        let source = EvidenceSource {
            data_dir: launch.data(),
            client: Box::new(client),
            // A node that runs is not waited for, in case it is about to end.
            absence: Arc::new(move || match living.upgrade() {
                Some(life) if life.is_running() => None,
                _ => absence(),
            }),
        };
        Ok(Node {
            client: own_client,
            life,
            time: Mutex::new(Time {
                now: self.start_time,
                template: 0,
            }),
            turn: Mutex::default(),
            invalidated: Mutex::default(),
            cluster: OnceLock::new(),
            read: Mutex::default(),
            segwit_height,
            arguments: lasting,
            timeout: self.timeout,
            evidence: Evidence::of(source),
            launch,
        })
    }

    /// From which height on blocks may have witnesses: on regtest from the first, unless an argument says otherwise.
    pub(in crate::regtest) fn segwit_height(&self) -> u32 {
        let all = self.arguments.iter().chain(&self.once);
        let mut heights = all.filter_map(|argument| {
            let argument = argument.trim_start_matches('-');
            argument.strip_prefix("testactivationheight=segwit@")
        });
        // Of several the last counts; what is no number is for `bitcoind` to refuse.
        let last = heights.next_back();
        last.and_then(|height| height.parse().ok()).unwrap_or(0)
    }
}
