//! A `bitcoind` process, in a folder of its own.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use bitcoincore_rpc::{jsonrpc, Client, RpcApi};
use serde_json::Value;

use super::{Ended, Folder, Reserved, Supervised};
use crate::regtest::error::{Error, NodeError};
use crate::regtest::surroundings;
use crate::regtest::transport::client;
use crate::regtest::wait::Look;

/// How often a daemon that comes up is looked at.
const PAUSE: Duration = Duration::from_millis(2);
/// A daemon whose connection broke has ended within this time, if it is about to.
const ENDING: Duration = Duration::from_millis(500);
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
    patience: Duration,
}

/// A daemon that was started. Ended at once when this is dropped.
pub(in crate::regtest) struct Daemon {
    process: Supervised,
    folder: PathBuf,
}

impl Launch {
    /// Makes a folder and reserves the ports for a program.
    pub fn new(program: PathBuf, p2p: bool, patience: Duration) -> Result<Self, Error> {
        let port = || Reserved::any().map_err(|source| Error::from(NodeError::Port(source)));
        Ok(Self {
            program,
            folder: Folder::new("bitcoind")?,
            rpc: port()?,
            p2p: if p2p { Some(port()?) } else { None },
            patience,
        })
    }

    /// Where the RPC server listens.
    pub fn rpc(&self) -> SocketAddrV4 {
        self.rpc.address()
    }

    /// Where peers can connect, if they can.
    pub fn p2p(&self) -> Option<SocketAddrV4> {
        self.p2p.as_ref().map(Reserved::address)
    }

    pub fn data(&self) -> PathBuf {
        self.folder.data()
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&self, arguments: &[OsString]) -> Result<Daemon, Error> {
        // Of a daemon that was killed; it would be taken for the sign of life of the new one.
        let _ = fs::remove_file(self.cookie());
        let all: Vec<_> = self
            .own_arguments()
            .into_iter()
            .chain(arguments.iter().cloned())
            .collect();
        let process = self.folder.spawn(&self.program, &all);
        let process = process.map_err(|error| self.failed(&all, error.to_string()))?;
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

    fn cookie(&self) -> PathBuf {
        self.folder.data().join("regtest/.cookie")
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
        vec![data, rpc.into(), peers.into()]
    }

    /// Waits until the daemon answers, or says why it will not.
    fn wait(&self, process: &Supervised) -> Result<(), String> {
        let start = Instant::now();
        let client = client(self.rpc(), self.patience, None);
        loop {
            if let Some(ended) = process.ended() {
                return Err(self.ended_early(ended));
            }
            match self.look(&client)? {
                Look::Done(()) => return Ok(()),
                Look::Saw(seen) if start.elapsed() >= self.patience => {
                    let said = self.folder.last_words();
                    let said = said.map_or("and printed nothing".to_owned(), |said| {
                        format!("and said: {said}")
                    });
                    return Err(format!(
                        "it did not answer within {:?}: {seen}, {said}",
                        self.patience
                    ));
                }
                Look::Saw(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Whether the daemon answers; an error if it never will.
    fn look(&self, client: &Client) -> Result<Look<()>, String> {
        // The node writes it when it begins to listen.
        if !self.cookie().exists() {
            return Ok(Look::Saw("it does not listen for RPCs".to_owned()));
        }
        match client.call::<Value>("getblockchaininfo", &[]) {
            Ok(_) => Ok(Look::Done(())),
            Err(bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(error))) if error.code == IN_WARMUP => {
                Ok(Look::Saw(error.message))
            }
            Err(bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Transport(error))) => {
                let said = error.to_string();
                if said.contains("HTTP 40") {
                    return Err(format!("it refuses the harness's login: {said}"));
                }
                // What the machine lacks will not come while the node is waited for.
                if !surroundings::troubles().is_empty() {
                    return Err(said);
                }
                Ok(Look::Saw(said))
            }
            Err(error) => Err(format!(
                "it is no Bitcoin Core: getblockchaininfo failed: {error}"
            )),
        }
    }

    fn ended_early(&self, ended: Ended) -> String {
        let said = self.folder.last_words();
        let said = said.map_or("without a word".to_owned(), |said| format!("and said: {said}"));
        // A program that leaves a daemon in the background would leave the harness without a hold on it.
        let advice = if ended.is_success() {
            "; a wrapper has to wait for the node, or to end in exec"
        } else {
            ""
        };
        format!("it ended at once, {ended}, {said}{advice}")
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
    /// How it ended, if it did so by itself, and its last words.
    pub fn ended(&self) -> Option<String> {
        self.process.ended().map(|ended| self.tell(ended))
    }

    /// As [`Daemon::ended`], of one that seems to be about to.
    pub fn ends_soon(&self) -> Option<String> {
        self.process.ends_within(ENDING).map(|ended| self.tell(ended))
    }

    fn tell(&self, ended: Ended) -> String {
        let said = super::last_words_in(&self.folder);
        let said = said.map_or(String::new(), |said| format!("; its last words: {said}"));
        format!("{ended}{said}")
    }

    /// Waits until it has ended, after it was told to, and kills it if it does not.
    pub fn wait(self, patience: Duration) -> Result<(), Error> {
        let reason = match self.process.ends_within(patience) {
            Some(ended) if ended.is_success() => return Ok(()),
            Some(ended) => self.tell(ended),
            None => format!("it was still there after {patience:?} and was killed"),
        };
        Err(NodeError::Stop(reason).into())
    }
}
