//! A process and all that it starts, wherever they go: they share a variable of the environment.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The variable, whose value is the folder that the process was started for. Children inherit it, whether or not they
/// leave their group or their session.
pub(in crate::regtest) const MARK: &str = "SPILMAN_FOLDER";

/// A process that cannot be ended, because it waits for a device, is given up after so long.
const GIVE_UP: Duration = Duration::from_secs(10);
/// What is killed is gone after a few of these.
const LOOK: Duration = Duration::from_millis(2);

/// Ends every process that was started for this folder or one in it, and waits until none is left.
pub(super) fn end(folder: &Path) {
    let start = Instant::now();
    while kill_all(folder) && start.elapsed() < GIVE_UP {
        thread::sleep(LOOK);
    }
}

/// Kills them, and says whether there was any.
#[cfg(target_os = "linux")]
fn kill_all(folder: &Path) -> bool {
    use rustix::process::{pidfd_open, pidfd_send_signal, PidfdFlags, Signal};

    let marks = Marks::of(folder);
    let mut found = false;
    for pid in all().filter(|&pid| marks.are_on(pid)) {
        found = true;
        // The number may be another's by now, so it is held on to, and looked at once more.
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
            if marks.are_on(pid) {
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
        }
    }
    found
}

/// The group that was killed before is all that can be told.
#[cfg(not(target_os = "linux"))]
fn kill_all(_: &Path) -> bool {
    false
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

    fn are_on(&self, pid: rustix::process::Pid) -> bool {
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
fn all() -> impl Iterator<Item = rustix::process::Pid> {
    let own = i32::try_from(std::process::id()).ok();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(move |number| Some(*number) != own)
        .filter_map(rustix::process::Pid::from_raw)
}
