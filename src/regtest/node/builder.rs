//! How a node is started.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use bitcoin::hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};

use super::{client, mock_time_argument, Node, State, Time, RPC_PASSWORD, RPC_USER, START_TIME};
use crate::regtest::binary;
use crate::regtest::error::Error;
use crate::regtest::evidence::Evidence;
use crate::regtest::policy::Policy;
use crate::regtest::process::{Folder, Home, Launch};
use crate::regtest::wait::PATIENCE;

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
    /// [`find_bitcoind_version`](crate::regtest::find_bitcoind_version) for where it is looked for.
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

/// The user, a salt, and the salted hash of the password, as `-rpcauth` takes it.
fn rpc_auth() -> String {
    const SALT: &str = "73616c74";
    let mut engine = HmacEngine::<sha256::Hash>::new(SALT.as_bytes());
    engine.input(RPC_PASSWORD.as_bytes());
    format!("{RPC_USER}:{SALT}${}", Hmac::<sha256::Hash>::from_engine(engine))
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
