//! A process and all that it starts, wherever they go: they share a variable of the environment.

#[cfg(target_os = "linux")]
use std::collections::HashSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use rustix::process::Pid;

/// The variable, whose value is the folder that the process was started for. Children inherit it, whether or not they
/// leave their group or their session.
pub(in crate::regtest) const MARK: &str = "SPILMAN_FOLDER";

/// A process that cannot be ended, because it waits for a device, is given up after so long.
const GIVE_UP: Duration = Duration::from_secs(10);
/// What is killed is gone after a few of these.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

impl Family {
    /// Ends all of them, and waits until none is left.
    pub fn end(mut self) {
        let start = Instant::now();
        while self.kill() && start.elapsed() < GIVE_UP {
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// The processes with the mark, and those that descend from one, whatever they have done to their own marks.
#[cfg(target_os = "linux")]
pub(super) struct Family {
    marks: Marks,
    /// Held on to, since a number may be another's as soon as its process has ended.
    descendants: Vec<std::os::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Family {
    /// Those that are there now. To be asked before the first of them is killed: a child whose parent has ended is
    /// no one's descendant any more.
    pub fn of(folder: &Path) -> Self {
        use rustix::process::{pidfd_open, PidfdFlags};

        let marks = Marks::of(folder);
        let all: Vec<_> = all().collect();
        let mut known: HashSet<_> = all.iter().copied().filter(|&pid| marks.are_on(pid)).collect();
        let parents: Vec<_> = all.iter().map(|&pid| (pid, parent_of(pid))).collect();
        let mut descendants = Vec::new();
        loop {
            let is_new = |(pid, parent): &&(Pid, Option<Pid>)| {
                !known.contains(pid) && parent.is_some_and(|parent| known.contains(&parent))
            };
            let new: Vec<_> = parents.iter().filter(is_new).map(|(pid, _)| *pid).collect();
            if new.is_empty() {
                return Self { marks, descendants };
            }
            for pid in new {
                known.insert(pid);
                if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
                    // It is still the child that it was.
                    if parent_of(pid).is_some_and(|parent| known.contains(&parent)) {
                        descendants.push(process);
                    }
                }
            }
        }
    }

    /// Kills them, and says whether there was any.
    fn kill(&mut self) -> bool {
        use rustix::process::{pidfd_open, pidfd_send_signal, PidfdFlags, Signal};

        // One that was killed may take its time to be gone.
        self.descendants.retain(|process| !has_exited(process));
        for process in &self.descendants {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        let mut found = !self.descendants.is_empty();
        for pid in all().filter(|&pid| self.marks.are_on(pid)) {
            found = true;
            if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
                if self.marks.are_on(pid) {
                    let _ = pidfd_send_signal(process, Signal::KILL);
                }
            }
        }
        found
    }
}

/// A pidfd becomes readable when its process exits.
#[cfg(target_os = "linux")]
fn has_exited(process: &std::os::fd::OwnedFd) -> bool {
    use rustix::event::{poll, PollFd, PollFlags, Timespec};

    let mut polled = [PollFd::new(process, PollFlags::IN)];
    let at_once = Timespec::default();
    poll(&mut polled, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

/// Elsewhere the process group is all that can be told.
#[cfg(not(target_os = "linux"))]
pub(super) struct Family;

#[cfg(not(target_os = "linux"))]
impl Family {
    pub fn of(_: &Path) -> Self {
        Self
    }

    fn kill(&mut self) -> bool {
        false
    }
}

/// The fourth field of `stat`; the second, the name, is in brackets and may have any letter in it.
#[cfg(target_os = "linux")]
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
    Pid::from_raw(parent.parse().ok()?)
}

/// What tells a process that was started for a folder: the variable, or, if a wrapper has cleared the environment, that
/// it keeps its data there.
#[cfg(target_os = "linux")]
struct Marks {
    variable: Vec<u8>,
    argument: Vec<u8>,
}

#[cfg(target_os = "linux")]
impl Marks {
    fn of(folder: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;

        let folder = folder.as_os_str().as_bytes();
        Self {
            variable: [MARK.as_bytes(), b"=", folder].concat(),
            argument: [b"dir=", folder].concat(),
        }
    }

    fn are_on(&self, pid: Pid) -> bool {
        // What belongs to another user cannot be read, and is none of ours.
        let read = |file| std::fs::read(format!("/proc/{}/{file}", pid.as_raw_pid())).unwrap_or_default();
        has(&read("environ"), |entry| entry.strip_prefix(&self.variable[..]))
            || has(&read("cmdline"), |entry| {
                entry.trim_ascii_start().strip_prefix(b"-")?;
                let at = entry
                    .windows(self.argument.len())
                    .position(|part| part == self.argument)?;
                Some(&entry[at + self.argument.len()..])
            })
    }
}

/// Whether one of the strings, each with a zero at its end, names the folder or one below it.
#[cfg(target_os = "linux")]
fn has<'a>(strings: &'a [u8], rest: impl Fn(&'a [u8]) -> Option<&'a [u8]>) -> bool {
    strings
        .split(|byte| *byte == 0)
        .filter_map(rest)
        .any(|rest| rest.is_empty() || rest[0] == b'/')
}

/// All processes but this one.
#[cfg(target_os = "linux")]
fn all() -> impl Iterator<Item = Pid> {
    let own = i32::try_from(std::process::id()).ok();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(move |number| Some(*number) != own)
        .filter_map(Pid::from_raw)
}
