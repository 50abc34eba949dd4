//! The folder of this process, and who tidies it up.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{flock, FlockOperation};

use super::family::{Family, MARK};
use super::place::{check_room, keeps_everything, temporary};

const REAP: &str = include_str!("reap.sh");

/// Held, by a lock of the operating system, as long as the process is there.
const LOCK: &str = "lock";
/// In a folder that is to stay.
const KEPT: &str = "kept";

/// The folder of this process. Its name is used once: a process number may repeat, in a container at every start.
pub(super) struct Root {
    path: PathBuf,
    _lock: File,
    /// Never waited for: it ends after this process. It holds the other end of the reaper's pipe.
    _reaper: Child,
}

impl Root {
    /// That of this process; made when it is first needed.
    pub fn path() -> io::Result<PathBuf> {
        // One that was removed is kept: its reaper ends what still runs on it.
        static ROOTS: Mutex<Vec<Root>> = Mutex::new(Vec::new());
        let mut roots = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = roots.last().filter(|root| root.path.exists()) {
            check_room(&root.path)?;
            return Ok(root.path.clone());
        }
        let place = temporary();
        sweep(&place);
        check_room(&place)?;
        let made = Self::make(&place)?;
        let path = made.path.clone();
        roots.push(made);
        Ok(path)
    }

    fn make(place: &Path) -> io::Result<Self> {
        // Not a number of a test: nothing that a node does depends on it.
        let random = RandomState::new().build_hasher().finish();
        let path = place.join(format!("spilman-{}-{random:016x}", std::process::id()));
        let reaper = start_reaper(&path)?;
        // If this fails, the reaper notices that its pipe is closed.
        let lock = lock(&path)?;
        Ok(Self {
            path,
            _lock: lock,
            _reaper: reaper,
        })
    }
}

/// Starts the reaper, which makes the folder.
fn start_reaper(folder: &Path) -> io::Result<Child> {
    let keep = if keeps_everything() { "keep" } else { "" };
    let mut reaper = Command::new("/bin/sh")
        .args(["-c", REAP, "spilman-reaper"])
        .arg(folder)
        .args([MARK, keep])
        // A harness around this one that ends this process must not end its reaper.
        .env_remove(MARK)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A Ctrl-C at the terminal is not meant for it.
        .process_group(0)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("/bin/sh does not start: {error}")))?;
    let mut said = Vec::new();
    if let Some(mut stdout) = reaper.stdout.take() {
        stdout.read_to_end(&mut said)?;
    }
    if said.is_empty() {
        // The operating system says why not, or it worked only now.
        fs::create_dir(folder)?;
        fs::remove_dir(folder)?;
        return Err(io::Error::other("/bin/sh could not create a folder in it"));
    }
    if !keep.is_empty() {
        fs::write(folder.join(KEPT), "")?;
    }
    Ok(reaper)
}

/// Takes the lock before it can be seen: a lock that is not held belongs to a process that has ended.
fn lock(folder: &Path) -> io::Result<File> {
    let unseen = folder.join("lock.new");
    let mut file = File::create(&unseen)?;
    file.write_all(boot().as_bytes())?;
    // A file system without locks has nothing that could be taken for one that is free.
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        fs::rename(unseen, folder.join(LOCK))?;
    }
    Ok(file)
}

/// Since when this machine runs: on a volume that machines share, each knows of its own processes alone.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Removes what processes left behind that ended together with their reapers, as everything in a container does.
fn sweep(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    for folder in entries.filter(|entry| is_name(&entry.file_name().to_string_lossy())) {
        let folder = folder.path();
        if is_abandoned(&folder) {
            Family::of(&folder).end();
            // If it does not work now, then at another time.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn is_name(name: &str) -> bool {
    let parts: Vec<_> = name.split('-').collect();
    matches!(parts[..], ["spilman", pid, random]
        if pid.parse::<u32>().is_ok() && random.len() == 16 && u64::from_str_radix(random, 16).is_ok())
}

fn is_abandoned(folder: &Path) -> bool {
    let is_ours = fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw());
    let lock = folder.join(LOCK);
    is_ours
        && !folder.join(KEPT).exists()
        && fs::read_to_string(&lock).is_ok_and(|since| since == boot())
        && File::open(lock).is_ok_and(|lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok())
}
