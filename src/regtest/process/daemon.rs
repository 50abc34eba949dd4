//! A `bitcoind` process: started through the crate of that name, in a folder of its own.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{fs, thread};

use bitcoind::{BitcoinD, ConnectParams};
use rustix::process::{waitid, WaitId, WaitIdOptions};

use super::ports::Reserved;
use super::{kill, pid_in, Folder};
use crate::regtest::error::{Error, NodeError};

/// So many ports in a row may turn out to be taken.
const ATTEMPTS: u32 = 5;
/// How often a daemon that comes up is looked at, in case it gives up instead.
const LOOK: Duration = Duration::from_millis(5);
/// After so long, a daemon that was told to stop is ended.
const STOPPING: Duration = Duration::from_secs(60);

/// What it takes to start a daemon, and to start it again on the same data and the same ports.
#[derive(Debug)]
pub(in crate::regtest) struct Launch {
    pub program: PathBuf,
    pub folder: Folder,
    pub p2p: bool,
    /// Where it is reached since its first start.
    pub home: Option<Home>,
}

/// The sockets of a daemon, which it keeps for good.
#[derive(Debug, Clone, Copy)]
pub(in crate::regtest) struct Home {
    pub rpc: SocketAddrV4,
    pub p2p: Option<SocketAddrV4>,
}

impl From<&ConnectParams> for Home {
    fn from(params: &ConnectParams) -> Self {
        Self {
            rpc: params.rpc_socket,
            p2p: params.p2p_socket,
        }
    }
}

impl Home {
    /// The crate gives every start new ports; these are bound beside them.
    fn arguments(&self) -> Vec<String> {
        let rpc = format!("-rpcbind={}", self.rpc);
        let p2p = self.p2p.map(|p2p| format!("-bind={p2p}"));
        [rpc].into_iter().chain(p2p).collect()
    }
}

/// A daemon that runs. Ended at once when this is dropped.
pub(in crate::regtest) struct Daemon {
    bitcoind: BitcoinD,
    pid_file: PathBuf,
}

impl Launch {
    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self, arguments: &[String]) -> Result<Daemon, Error> {
        let mut all = arguments.to_vec();
        all.extend(self.home.iter().flat_map(Home::arguments));
        let mut clashes = 0;
        loop {
            match self.attempt(&all) {
                Ok(bitcoind) => {
                    self.home.get_or_insert_with(|| Home::from(&bitcoind.params));
                    return Ok(Daemon {
                        bitcoind,
                        pid_file: self.folder.pid_file(),
                    });
                }
                Err(said) if is_port_clash(&said) && clashes + 1 < ATTEMPTS => clashes += 1,
                Err(said) if is_port_clash(&said) => {
                    return Err(self.failed(all, format!("{said} ({ATTEMPTS} times in a row)")))
                }
                Err(said) => return Err(self.failed(all, said)),
            }
            // It has given up, but as long as it is there, nobody else can use its folder.
            kill(&self.folder.pid_file());
            self.ended(WaitIdOptions::empty());
        }
    }

    fn failed(&self, arguments: Vec<String>, mut reason: String) -> Error {
        if reason.contains("Permission denied") {
            let place = self.folder.path();
            let hint = format!(
                ": may programs be executed in {}? TEMPDIR_ROOT or TMPDIR moves it",
                place.display()
            );
            reason.push_str(&hint);
        }
        NodeError::Start {
            path: self.program.clone(),
            arguments,
            reason,
        }
        .into()
    }

    /// The crate would wait many seconds for a daemon that has given up already: because somebody was faster on a
    /// port that seemed free, or because it does not know an argument. So it waits in a thread of its own, which is
    /// left to itself as soon as the daemon says what is wrong.
    fn attempt(&self, arguments: &[String]) -> Result<BitcoinD, String> {
        self.folder.forget_last_start();
        // Of a daemon that was killed; the crate would take it for the sign of life of the new one.
        let _ = fs::remove_file(self.folder.data().join("regtest/.cookie"));
        let (launcher, folder, p2p) = (self.folder.launcher(), self.folder.path(), self.p2p);
        let arguments = arguments.to_vec();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut conf = bitcoind::Conf::default();
            conf.args = arguments.iter().map(String::as_str).collect();
            conf.wallet = None;
            conf.attempts = 1;
            // Not as the lasting folder: with that, the crate refuses to start if TEMPDIR_ROOT is set.
            conf.tmpdir = Some(folder);
            if p2p {
                conf.p2p = bitcoind::P2P::Yes;
            }
            // If nobody listens any more, this ends the daemon.
            let _ = tell.send(BitcoinD::with_conf(&launcher, &conf));
        });
        loop {
            match told.recv_timeout(LOOK) {
                Ok(Ok(bitcoind)) => return Ok(bitcoind),
                Ok(Err(error)) => return Err(self.said().unwrap_or_else(|| format!("{error:#}"))),
                Err(RecvTimeoutError::Timeout) => self.gave_up().map_or(Ok(()), Err)?,
                Err(RecvTimeoutError::Disconnected) => return Err("the start was broken off".to_owned()),
            }
        }
    }

    /// What a daemon that does not come up says, or how it ended without a word.
    fn gave_up(&self) -> Option<String> {
        // In this order: what it says, it says before it ends.
        let ended = self.ended(WaitIdOptions::NOHANG);
        self.said().or_else(|| {
            let said = self.folder.stderr();
            Some(format!(
                "it ended at once, {}, and said: {:?}",
                ended?,
                said.trim()
            ))
        })
    }

    /// How the daemon ended, if it did, without taking the news from the crate, which asks for it too.
    fn ended(&self, how: WaitIdOptions) -> Option<String> {
        let pid = pid_in(&self.folder.pid_file())?;
        let all = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | how;
        // Not a child any more: the crate was faster.
        let status = waitid(WaitId::Pid(pid), all).ok()??;
        let with = status.exit_status().map(|code| format!("with status {code}"));
        with.or_else(|| Some(format!("by signal {}", status.terminating_signal()?)))
    }

    /// The last words of a daemon that does not come up.
    fn said(&self) -> Option<String> {
        let said = self.folder.stderr();
        let from = said.find("Error")?;
        // A line that is complete.
        said[from..]
            .contains('\n')
            .then(|| said[from..].trim().to_owned())
    }
}

fn is_port_clash(said: &str) -> bool {
    ["Unable to bind", "Unable to start HTTP server"]
        .iter()
        .any(|sign| said.contains(sign))
}

impl Daemon {
    pub fn bitcoind(&self) -> &BitcoinD {
        &self.bitcoind
    }

    /// Ends it cleanly, and keeps its ports for it.
    pub fn stop(self, home: Home) -> Result<Vec<Reserved>, Error> {
        let Self {
            mut bitcoind,
            pid_file,
        } = self;
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let _ = tell.send(bitcoind.stop());
        });
        let failed = |reason: String| Error::from(NodeError::Stop(reason));
        match told.recv_timeout(STOPPING) {
            Ok(Ok(status)) if status.success() => home.reserve(),
            Ok(Ok(status)) => Err(failed(status.to_string())),
            Ok(Err(error)) => Err(failed(format!("{error:#}"))),
            Err(_) => {
                kill(&pid_file);
                Err(failed(format!(
                    "it was still there after {STOPPING:?} and was killed"
                )))
            }
        }
    }

    /// Ends it at once, and keeps its ports for it.
    pub fn kill(self, home: Home) -> Result<Vec<Reserved>, Error> {
        drop(self);
        home.reserve()
    }
}

impl Home {
    fn reserve(self) -> Result<Vec<Reserved>, Error> {
        let sockets = [Some(self.rpc), self.p2p];
        let reserved = sockets.into_iter().flatten().map(|address| {
            Reserved::new(address).map_err(|source| NodeError::Port { address, source }.into())
        });
        reserved.collect()
    }
}
