//! A `bitcoind` process, in its own folder.

use std::ffi::OsString;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use bitcoincore_rpc::{jsonrpc, Client, RpcApi};
use serde_json::Value;

use super::surroundings;
use super::{advised, Ended, Folder, Reserved, Supervised};
use crate::regtest::error::{Error, NodeError};
use crate::regtest::transport::{client, NoAnswer};
use crate::regtest::wait::Poll;

/// The interval for polling a starting daemon.
const PAUSE: Duration = Duration::from_millis(2);
/// A daemon that comes up and does not answer is asked again after so long.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// What the node answers while it comes up.
const IN_WARMUP: i32 = -28;

/// What it takes to start a daemon, and to start it again on the same data and the same ports.
#[derive(Debug)]
pub(in crate::regtest) struct Launch {
    program: PathBuf,
    folder: Folder,
    rpc: Reserved,
    p2p: Option<Reserved>,
    /// For how long a start is waited for.
    timeout: Duration,
}

/// A daemon that was started. Ended at once when this is dropped.
pub(in crate::regtest) struct Daemon {
    process: Supervised,
    folder: PathBuf,
}

impl Launch {
    /// Makes a folder and reserves the ports for a program.
    pub fn new(program: PathBuf, p2p: bool, timeout: Duration) -> Result<Self, Error> {
        let port = || Reserved::any().map_err(|source| Error::from(NodeError::Port(source)));
        Ok(Self {
            program,
            folder: Folder::new("bitcoind")?,
            rpc: port()?,
            p2p: if p2p { Some(port()?) } else { None },
            timeout,
        })
    }

    /// Returns where the RPC server listens.
    pub fn rpc(&self) -> SocketAddrV4 {
        self.rpc.address()
    }

    /// Returns where peers can connect, if they can.
    pub fn p2p(&self) -> Option<SocketAddrV4> {
        self.p2p.as_ref().map(Reserved::address)
    }

    pub fn data(&self) -> PathBuf {
        self.folder.data()
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&self, arguments: &[OsString]) -> Result<Daemon, Error> {
        let all: Vec<_> = self
            .own_arguments()
            .into_iter()
            .chain(arguments.iter().cloned())
            .collect();
        let process = self.folder.spawn(&self.program, &all);
        let process = process.map_err(|error| self.failed(&all, advised(&error)))?;
        match self.wait(&process) {
            Ok(()) => Ok(Daemon {
                process,
                folder: self.folder.path().to_owned(),
            }),
            Err(reason) => {
                drop(process);
                Err(self.failed(&all, reason))
            }
        }
    }

    /// What no test decides.
    fn own_arguments(&self) -> Vec<OsString> {
        let mut data = OsString::from("-datadir=");
        data.push(self.folder.data());
        let rpc = format!("-rpcport={}", self.rpc().port());
        let peers = match self.p2p() {
            Some(address) => format!("-bind={address}"),
            None => "-listen=0".to_owned(),
        };
        // A configuration file cannot take these back.
        let [serve, stay] = ["-server=1", "-daemon=0"].map(OsString::from);
        vec![data, rpc.into(), peers.into(), serve, stay]
    }

    /// Waits until the daemon answers, or says why it will not.
    fn wait(&self, process: &Supervised) -> Result<(), String> {
        let start = Instant::now();
        let client = client(self.rpc(), self.timeout.min(LONGEST_LOOK), None);
        loop {
            if let Some(ended) = process.ended() {
                return Err(self.ended_early(ended));
            }
            if self.folder.is_left_aside() {
                return Err(
                    "it ignores its -datadir argument: a wrapper script must pass its arguments \
                            on: exec bitcoind \"$@\""
                        .to_owned(),
                );
            }
            match Self::look(&client)? {
                Poll::Ready(()) => return Ok(()),
                Poll::Pending(seen) if start.elapsed() >= self.timeout => {
                    let said = self.folder.last_words();
                    let said = said.map_or("and printed nothing".to_owned(), |said| {
                        format!("and said: {said}")
                    });
                    return Err(format!(
                        "it did not answer within {:?}: {seen}, {said}",
                        self.timeout
                    ));
                }
                Poll::Pending(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Whether the daemon answers; an error if it never will.
    fn look(client: &Client) -> Result<Poll<()>, String> {
        match client.call::<Value>("getblockchaininfo", &[]) {
            Ok(_) => Ok(Poll::Ready(())),
            Err(bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(error))) if error.code == IN_WARMUP => {
                Ok(Poll::Pending(error.message))
            }
            Err(bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Transport(error))) => {
                Self::without_answer(error.downcast_ref(), &error.to_string())
            }
            Err(error) => Err(format!(
                "it is not Bitcoin Core: getblockchaininfo failed: {error}"
            )),
        }
    }

    fn without_answer(why: Option<&NoAnswer>, said: &str) -> Result<Poll<()>, String> {
        match why {
            Some(NoAnswer::Refused(_)) => Ok(Poll::Pending("it does not listen for RPCs".to_owned())),
            Some(NoAnswer::Status(status)) if status.starts_with("40") => {
                Err(format!("it rejects the harness's login: {said}"))
            }
            // What the machine lacks will not come while the node is waited for.
            _ if !surroundings::troubles().is_empty() => Err(said.to_owned()),
            _ => Ok(Poll::Pending(said.to_owned())),
        }
    }

    fn ended_early(&self, ended: Ended) -> String {
        let said = self.folder.last_words();
        let said = said.map_or("and printed nothing".to_owned(), |said| {
            format!("and said: {said}")
        });
        // A program that leaves a daemon in the background would leave the harness without a hold on it.
        let advice = if ended.is_success() {
            "; a wrapper script must wait for the node, or end in exec"
        } else {
            ""
        };
        format!("it exited at once, {ended}, {said}{advice}")
    }

    fn failed(&self, arguments: &[OsString], mut reason: String) -> Error {
        for trouble in surroundings::troubles() {
            reason = format!("{reason}\n{trouble}");
        }
        NodeError::Start {
            path: self.program.clone(),
            arguments: arguments
                .iter()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            folder: self.folder.path().to_owned(),
            reason,
        }
        .into()
    }
}

impl Daemon {
    /// Returns how it ended, if it exited on its own, and its last output.
    pub fn ended(&self) -> Option<String> {
        self.process.ended().map(|ended| self.tell(ended))
    }

    fn tell(&self, ended: Ended) -> String {
        let said = super::last_words_in(&self.folder);
        let said = said.map_or(String::new(), |said| format!(" Its last output:\n{said}"));
        format!("{ended}; Node::restart starts it again.{said}")
    }

    /// It is about to be told to end.
    pub fn will_end(&mut self) {
        self.process.will_end();
    }

    /// Waits until it has ended, after it was told to, and kills it if it does not.
    pub fn wait(self, timeout: Duration) -> Result<(), Error> {
        let reason = match self.process.ends_within(timeout) {
            Some(ended) if ended.is_success() => return Ok(()),
            Some(ended) => self.tell(ended),
            None => format!("it was still running after {timeout:?} and was killed"),
        };
        Err(NodeError::Stop(reason).into())
    }
}
