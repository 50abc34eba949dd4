//! Processes that do not outlive the test, whatever is started and however the test ends.
//!
//! Every process that uses the harness has one folder in the temporary directory, with a folder for each daemon in it.
//! Everything that is started has the name of its folder in its environment, and so has everything that this starts in
//! turn: wrapper scripts without `exec`, what they leave in the background, hooks of the node. To end a daemon is to
//! kill its process group and then every process with that mark, until none is left.
//!
//! If this process ends without doing so, by `kill -9` too, a *reaper* does it: a small shell that waits for the end of
//! a pipe, which the operating system closes with the process. Children that were forked but have not become their
//! program yet hold the pipe open, so the reaper never looks before all of them have their mark. If the reaper is
//! killed as well, as everything is in a container that is stopped, the next process that uses the harness sweeps up:
//! the folder has a lock that is no longer held. A parent-death signal would not do: it fires when the spawning
//! *thread* ends, and exists on Linux alone.

mod daemon;
mod family;
mod place;
mod ports;
mod root;
mod supervised;
mod surroundings;

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Mutex;

pub(super) use daemon::{Daemon, Launch};
pub(super) use place::{
    check_room, chosen_by, failed as folder_failed, keeps_everything, place_in, temporary,
};
pub(super) use ports::Reserved;
pub(crate) use supervised::{Ended, Supervised};
pub use surroundings::{check_surroundings, Surrounding};

use root::Root;

use super::error::Error;

/// So much of what a program printed is shown, in bytes, from the end.
const LAST_WORDS: u64 = 2_000;

/// The name of a folder that does not exist, for a program that needs none.
pub(crate) fn unused_name(kind: &str) -> io::Result<PathBuf> {
    static USED: AtomicU32 = AtomicU32::new(0);
    numbered(kind, &USED)
}

fn numbered(kind: &str, used: &AtomicU32) -> io::Result<PathBuf> {
    let number = used.fetch_add(1, Ordering::Relaxed);
    Ok(Root::path()?.join(format!("{number}-{kind}")))
}

/// A file for all daemons of this process, made when it is first asked for.
pub(super) fn shared_file(name: &str, content: impl FnOnce() -> Vec<u8>) -> io::Result<PathBuf> {
    // No process sees a half-written file.
    static WRITING: Mutex<()> = Mutex::new(());
    let file = Root::path()?.join(name);
    let _writing = WRITING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !file.exists() {
        let half = file.with_extension("half");
        fs::write(&half, content())?;
        fs::rename(half, &file)?;
    }
    Ok(file)
}

/// The folder of one daemon. Removed when this is dropped; the daemon must be gone by then.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Returns a new folder.
    pub fn new(name: &str) -> Result<Self, Error> {
        let make = || {
            static MADE: AtomicU32 = AtomicU32::new(0);
            let path = numbered(name, &MADE)?;
            let folder = Self { path };
            fs::create_dir_all(folder.data())?;
            Ok(folder)
        };
        make().map_err(folder_failed)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the daemon's files.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Starts a program with this folder. What it prints goes into files here.
    pub fn spawn<S: AsRef<OsStr>>(&self, program: &Path, arguments: &[S]) -> io::Result<Supervised> {
        // The program itself, by the name under which it was found: it may look at its own place or name.
        let mut command = Command::new(std::path::absolute(program)?);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(self.path.join("stdout"))?)
            .stderr(File::create(self.path.join("stderr"))?);
        Supervised::spawn(&mut command, &self.path)
    }

    /// Returns what the daemon wrote to its standard error, since it was last started.
    #[cfg(feature = "electrs")]
    pub fn stderr(&self) -> String {
        let bytes = fs::read(self.path.join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns whether the daemon, by what it has printed so far, keeps its data elsewhere.
    pub fn is_left_aside(&self) -> bool {
        let printed = end_of(&self.path.join("stdout"), LAST_WORDS);
        tells_of_another_folder(&printed, Some(&self.path))
    }

    /// Returns the end of what the daemon printed, or else logged, since it was last started.
    pub fn last_words(&self) -> Option<String> {
        last_words_in(&self.path)
    }
}

/// Whether a node logs that its data is elsewhere than in this folder: it was started without its arguments, on the
/// user's own data and perhaps on mainnet. It says so long before it speaks to its peers.
pub(super) fn tells_of_another_folder(said: &str, folder: Option<&Path>) -> bool {
    let own = folder.map(|folder| folder.to_string_lossy());
    said.lines()
        .filter(|line| line.contains("Using data directory "))
        .any(|line| own.as_ref().is_none_or(|own| !line.contains(own.as_ref())))
}

/// Why a program cannot be executed, and what to do about it.
pub(super) fn advised(error: &io::Error) -> String {
    /// `ENOEXEC`.
    const NO_FORMAT: i32 = 8;
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => "; make it executable: chmod +x",
        io::ErrorKind::NotFound => "; give the full path of an existing program",
        _ if error.raw_os_error() == Some(NO_FORMAT) => "; a script must begin with the line #!/bin/sh",
        _ => "",
    };
    format!("{error}{advice}")
}

/// As [`Folder::last_words`].
fn last_words_in(folder: &Path) -> Option<String> {
    let printed = ["stderr", "stdout"].into_iter();
    let mut printed = printed.filter_map(|file| {
        let end = end_of(&folder.join(file), LAST_WORDS);
        Some(end.trim().to_owned()).filter(|end| !end.is_empty())
    });
    printed.next().or_else(|| {
        // Of a log, the last lines say it all.
        let end = end_of(&folder.join("data/regtest/debug.log"), LAST_WORDS);
        let mut lines: Vec<_> = end.trim().lines().rev().take(3).collect();
        lines.reverse();
        Some(lines.join("\n")).filter(|lines| !lines.is_empty())
    })
}

/// The last bytes of a file, as text.
fn end_of(file: &Path, most: u64) -> String {
    let read = || {
        let mut file = File::open(file)?;
        let from = file.metadata()?.len().saturating_sub(most);
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok(end)
    };
    String::from_utf8_lossy(&read().unwrap_or_else(|_: io::Error| Vec::new())).into_owned()
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
