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

    let mark = mark(folder);
    let mut found = false;
    for pid in all().filter(|&pid| has(pid, &mark)) {
        found = true;
        // The number may be another's by now, so it is held on to, and looked at once more.
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
            if has(pid, &mark) {
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

#[cfg(target_os = "linux")]
fn mark(folder: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;

    let mut mark = MARK.as_bytes().to_vec();
    mark.push(b'=');
    mark.extend_from_slice(folder.as_os_str().as_bytes());
    mark
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

/// Whether the environment of the process has this variable, with this value or that of a folder below it.
#[cfg(target_os = "linux")]
fn has(pid: rustix::process::Pid, mark: &[u8]) -> bool {
    // That of another user's process cannot be read, and it is none of ours.
    let environment = std::fs::read(format!("/proc/{}/environ", pid.as_raw_pid())).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .filter_map(|variable| variable.strip_prefix(mark))
        .any(|rest| rest.is_empty() || rest[0] == b'/')
}
