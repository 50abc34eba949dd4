//! A program under test as a process group, which is always ended.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{kill_process_group, Pid, Signal};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::assignment::CASE_ENV;
use crate::regtest::process::{unused_name, Ended, Supervised};

/// The number of bytes that are kept of the end of the program's standard error.
pub(super) const STDERR_KEPT: usize = 64 * 1024;

/// The timeout for reading the rest of the standard error once the program is dead.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running program. It ends, with everything that it started, when this is dropped or this process ends in any way.
pub(super) struct Program {
    process: Supervised,
    stderr: Arc<Mutex<Vec<u8>>>,
    listener: Option<JoinHandle<()>>,
}

/// The program's standard input and output.
pub(super) struct Pipes {
    pub input: pipe::Sender,
    pub output: pipe::Receiver,
}

/// Ends a whole process group at once.
#[derive(Clone, Copy)]
pub(super) struct Killer(Pid);

impl Killer {
    pub fn kill(self) {
        // It may have ended already.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

impl Program {
    /// Starts `command` with a shell. Must be called on a runtime.
    pub fn start(command: &str, assignment: &str) -> io::Result<(Self, Pipes)> {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", command])
            .env(CASE_ENV, assignment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Supervised::spawn(&mut shell, &unused_name("program")?)?;
        let child = process.child();
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let missing = || io::Error::other("the program has no pipe");
        let pipes = Pipes {
            input: pipe::Sender::from_owned_fd(OwnedFd::from(stdin.ok_or_else(missing)?))?,
            output: pipe::Receiver::from_owned_fd(OwnedFd::from(stdout.ok_or_else(missing)?))?,
        };
        let stderr = pipe::Receiver::from_owned_fd(OwnedFd::from(stderr.ok_or_else(missing)?))?;
        let kept = Arc::default();
        let listener = tokio::spawn(keep_tail(stderr, Arc::clone(&kept)));
        let program = Self {
            process,
            stderr: kept,
            listener: Some(listener),
        };
        Ok((program, pipes))
    }

    pub fn killer(&self) -> Killer {
        Killer(self.process.pid())
    }

    /// Returns how it ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.process.ended()
    }

    /// Ends it, and returns the end of its standard error.
    pub async fn end(mut self) -> String {
        self.process.kill();
        if let Some(listener) = self.listener.take() {
            // A process that has left the group may keep the pipe open.
            let _ = tokio::time::timeout(LAST_WORDS, listener).await;
        }
        let kept = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).into_owned()
    }
}

async fn keep_tail(mut stderr: pipe::Receiver, kept: Arc<Mutex<Vec<u8>>>) {
    let mut some = vec![0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut some).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&some[..count]);
        let surplus = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..surplus);
    }
}
