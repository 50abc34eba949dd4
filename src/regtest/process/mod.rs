//! Processes that do not outlive the test, whatever ends it.
//!
//! Every process that uses the harness has one folder in the temporary directory, with a folder for each daemon in it,
//! and one *reaper*: a small shell that waits for the end of a pipe. The operating system closes that pipe when
//! the process ends, be it by `kill -9`; the reaper then kills every daemon that is registered in the folder and
//! removes it all. A parent-death signal would not do: it fires when the spawning *thread* ends, and exists on
//! Linux alone.
//!
//! A daemon registers itself before it becomes the daemon (`launch.sh`), and does not start if the reaper was
//! faster. So there is no moment in which a daemon runs that nobody would end.

mod daemon;
mod ports;

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Mutex;
use std::{env, fs};

use bitcoind::tempfile::{self, TempDir};
use rustix::process::{kill_process, Pid, Signal};

pub(super) use daemon::{Daemon, Home, Launch};
pub(super) use ports::Reserved;

use super::error::{Error, NodeError};

const REAP: &str = include_str!("reap.sh");
const LAUNCH: &str = include_str!("launch.sh");

/// Set to anything but nothing, it keeps all folders.
pub(super) fn keeps_everything() -> bool {
    env::var_os("SPILMAN_KEEP").is_some_and(|value| !value.is_empty())
}

/// Where folders for tests go: `TEMPDIR_ROOT`, which the `bitcoind` crate knows too, or the system's choice.
pub(super) fn temporary() -> PathBuf {
    place_in("TEMPDIR_ROOT").unwrap_or_else(env::temp_dir)
}

/// What an environment variable points at. As in a shell, an empty one counts as unset.
pub(super) fn place_in(variable: &str) -> Option<PathBuf> {
    let place = env::var_os(variable).filter(|place| !place.is_empty())?;
    Some(PathBuf::from(place))
}

/// The folder of this process, and who tidies it up.
struct Root {
    path: PathBuf,
    /// Never waited for: it ends after this process.
    _reaper: Child,
}

impl Root {
    /// That of this process; made when it is first needed.
    fn path() -> io::Result<PathBuf> {
        static ROOT: Mutex<Option<Root>> = Mutex::new(None);
        let mut root = ROOT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(root) = &*root {
            return Ok(root.path.clone());
        }
        let made = Self::make()?;
        Ok(root.insert(made).path.clone())
    }

    fn make() -> io::Result<Self> {
        // The reaper stands elsewhere.
        let name = std::path::absolute(temporary())?.join(format!("spilman-{}-", std::process::id()));
        let mut reaper = Command::new("/bin/sh")
            .args(["-c", REAP, "spilman-reaper"])
            .arg(&name)
            .arg(LAUNCH)
            .arg(if keeps_everything() { "keep" } else { "" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A Ctrl-C at the terminal is not meant for it.
            .process_group(0)
            .spawn()?;
        // It writes the launcher, too: a file that this process had open for writing could not be executed as long
        // as another thread, forking, has it open ("text file busy").
        let stdout = reaper.stdout.take().expect("it was piped");
        let mut said = Vec::new();
        BufReader::new(stdout).read_until(b'\n', &mut said)?;
        if said.pop() != Some(b'\n') {
            return Err(io::Error::other("/bin/sh could not make a folder there"));
        }
        Ok(Self {
            path: PathBuf::from(OsString::from_vec(said)),
            _reaper: reaper,
        })
    }
}

/// A folder for a moment, which is removed like all others even if the process ends in that moment.
pub(super) fn scratch() -> io::Result<TempDir> {
    tempfile::tempdir_in(Root::path()?)
}

/// A file for all daemons of this process, made when it is first asked for.
pub(super) fn shared_file(name: &str, content: impl FnOnce() -> Vec<u8>) -> io::Result<PathBuf> {
    // Nobody gets a file that somebody else has written only half of.
    static WRITING: Mutex<()> = Mutex::new(());
    let file = Root::path()?.join(name);
    let _writing = WRITING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !file.exists() {
        fs::write(&file, content())?;
    }
    Ok(file)
}

/// The folder of one daemon. Removed when this is dropped; the daemon has to be gone by then.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder for this program.
    pub fn new(name: &str, program: &Path) -> Result<Self, Error> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let make = || {
            let root = Root::path()?;
            let path = root.join(format!("{number}-{name}"));
            let folder = Self { path };
            fs::create_dir_all(folder.data().join("regtest"))?;
            symlink(root.join("launch"), folder.launcher())?;
            symlink(fs::canonicalize(program)?, folder.path.join("program"))?;
            Ok(folder)
        };
        make().map_err(|source: io::Error| {
            NodeError::Folder {
                program: program.to_path_buf(),
                place: temporary(),
                source,
            }
            .into()
        })
    }

    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// What to execute in place of the program.
    pub fn launcher(&self) -> PathBuf {
        self.path.join("launch")
    }

    /// The daemon's files.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// What the daemon wrote to its standard error, since it was last started.
    pub fn stderr(&self) -> String {
        let bytes = fs::read(self.path.join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends the daemon at once, and lets no other be started in its place.
    #[cfg(feature = "electrs")]
    pub fn refuse(&self) {
        // Where there is none, none can be started.
        let _ = fs::remove_file(self.launcher());
        kill(&self.pid_file());
    }

    /// What the daemon said and which number it had is not what the next one says and has.
    fn forget_last_start(&self) {
        // Not being there is just as good.
        let _ = fs::remove_file(self.path.join("stderr"));
        let _ = fs::remove_file(self.pid_file());
    }

    fn pid_file(&self) -> PathBuf {
        self.path.join("pid")
    }
}

/// Ends the daemon at once. Only for one that nobody has waited for yet: until then its number cannot be another's.
fn kill(pid_file: &Path) {
    if let Some(pid) = pid_in(pid_file) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The number of the daemon, as soon as it has registered itself.
fn pid_in(file: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(file).ok()?.trim().parse().ok()?)
}

impl Drop for Folder {
    fn drop(&mut self) {
        if keeps_everything() {
            eprintln!("spilman: kept {}", self.path.display());
        } else {
            // What cannot be removed now, the reaper removes.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
