//! A child process that does not outlive this one, with all that it starts.

use std::fmt;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{kill_process_group, waitid, Pid, Signal, WaitId, WaitIdOptions};

use super::family::{Family, MARK};

/// The interval for polling an ending process.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A process that leads a separate group. It is ended, and everything that it started, when this is dropped, and by
/// the reaper when this process ends in any other way.
pub(crate) struct Supervised {
    child: Child,
    folder: PathBuf,
    /// Those that were there when it was told to end.
    family: Option<Family>,
    is_over: bool,
}

impl Supervised {
    /// Starts a program for the sake of this folder, which must be that of this process or lie in it.
    ///
    /// A separate group keeps a Ctrl-C at the terminal from it: it is to end after this process, not before.
    pub fn spawn(command: &mut Command, folder: &Path) -> io::Result<Self> {
        let child = command.env(MARK, folder).process_group(0).spawn()?;
        Ok(Self {
            child,
            folder: folder.to_owned(),
            family: None,
            is_over: false,
        })
    }

    /// Returns how the program itself ended, if it did. It is not waited for, so that its number stays its own.
    pub fn ended(&self) -> Option<Ended> {
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::Pid(self.pid()), how).ok()??;
        let raw = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => code << 8,
            (None, signal) => signal?,
        };
        Some(Ended(ExitStatus::from_raw(raw)))
    }

    /// As [`Supervised::ended`], for a program that is about to end.
    pub fn ends_within(&self, time: Duration) -> Option<Ended> {
        let start = Instant::now();
        loop {
            match self.ended() {
                None if start.elapsed() < time => thread::sleep(POLL_INTERVAL),
                ended => return ended,
            }
        }
    }

    /// Returns the program's own streams, as far as they are pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Remembers what it has started, since it is about to end: later its children could not be identified.
    pub fn will_end(&mut self) {
        self.family = Some(Family::of(&self.folder));
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        // Before a process loses its parent.
        let family = Family::of(&self.folder);
        // It may have exited, or have left for another group.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.family
            .take()
            .into_iter()
            .chain([family])
            .for_each(Family::end);
    }

    pub fn pid(&self) -> Pid {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.expect("the number of a process is positive and fits")
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended(ExitStatus);

impl Ended {
    pub fn is_success(self) -> bool {
        self.0.success()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.code() {
            Some(code) => write!(f, "with status {code}"),
            None => write!(f, "by {}", self.0.to_string().replacen(": ", " ", 1)),
        }
    }
}
