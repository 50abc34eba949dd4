//! What is kept of a node when its test fails. Which failures are noticed, and whose node it is, is in `failures.rs`;
//! where it goes, in `place.rs`; what the node is asked, in `asking.rs`.

mod asking;
mod failures;
mod place;

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use std::{fs, thread};

use bitcoincore_rpc::Client;

pub(super) use failures::keep_all_of_this_test;

use super::error::{Error, NodeError};
use super::process::keeps_everything;
use failures::{Failing, Users};

/// The number of lines that the journal keeps.
const LONGEST_JOURNAL: usize = 10_000;

/// What there is to keep of a node beside its own files. The list of all nodes of this process has it, too, since a
/// node in a `static` is never dropped.
#[derive(Default)]
pub(super) struct Evidence(Arc<Kept>);

struct Kept {
    since: Instant,
    journal: Mutex<Vec<String>>,
    attached: Mutex<Vec<(String, Vec<u8>)>>,
    /// Files beside the node's own, such as what electrs says.
    files: Mutex<Vec<(&'static str, PathBuf)>>,
    source: OnceLock<EvidenceSource>,
    users: Mutex<Users>,
    /// The test that failed while the node existed.
    failing: Mutex<Option<Failing>>,
    unwanted: AtomicBool,
}

/// How a node is asked, and where its files are.
pub(super) struct EvidenceSource {
    pub data_dir: PathBuf,
    pub client: Box<dyn Fn() -> Client + Send + Sync>,
    /// Why the node cannot answer, if that is known.
    pub absence: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            journal: Mutex::default(),
            attached: Mutex::default(),
            files: Mutex::default(),
            source: OnceLock::new(),
            users: Mutex::default(),
            failing: Mutex::default(),
            unwanted: AtomicBool::new(false),
        }
    }
}

impl Evidence {
    /// Returns a node that has just been started.
    pub fn of(source: EvidenceSource) -> Self {
        let evidence = Self::default();
        // It is new, so it has none yet.
        let _ = evidence.0.source.set(source);
        evidence.used();
        failures::watch(&evidence.0);
        evidence
    }

    /// A file to be kept too, as it is by then.
    #[cfg(feature = "electrs")]
    pub fn add_file(&self, name: &'static str, path: PathBuf) {
        lock(&self.0.files).push((name, path));
    }

    /// This thread uses the node.
    pub fn used(&self) {
        failures::goes_on();
        lock(&self.0.users).add_this_thread();
    }

    pub fn save(&self) -> Result<Saved, Error> {
        self.0.save_now()
    }

    pub fn is_unwanted(&self) {
        self.0.unwanted.store(true, Ordering::Relaxed);
    }

    pub fn attach(&self, name: &str, content: Vec<u8>) {
        let mut attached = lock(&self.0.attached);
        attached.retain(|(earlier, _)| earlier != name);
        attached.push((name.to_owned(), content));
    }

    pub fn note(&self, line: &str) {
        self.used();
        let mut journal = lock(&self.0.journal);
        if journal.len() < LONGEST_JOURNAL {
            journal.push(format!("{:9.3} s  {line}", self.0.since.elapsed().as_secs_f64()));
        }
    }

    /// The node goes.
    pub fn node_goes(&self) {
        if thread::panicking() {
            self.0.keep(&self.0.name_of_test());
            return;
        }
        // A panic of this thread was caught, or nothing would be dropped here now.
        failures::goes_on();
        let failing = lock(&self.0.failing).take();
        match failing {
            Some(failing) => self.0.keep(&failing.test),
            None if keeps_everything() => self.0.keep(&self.0.name_of_test()),
            None => {}
        }
    }
}

/// What was written, and what was not.
pub(super) struct Saved {
    pub folder: PathBuf,
    /// What could not be written, and why.
    pub lost: Vec<String>,
}

impl Saved {
    /// Returns the folder, if all of it could be written.
    pub fn complete(self) -> Result<PathBuf, NodeError> {
        if self.lost.is_empty() {
            return Ok(self.folder);
        }
        Err(NodeError::Evidence {
            place: self.folder,
            chosen_by: place::chosen_by(),
            source: io::Error::other(self.lost.join("; ")),
        })
    }
}

impl Kept {
    /// Keeps the evidence of a test that fails and says where, as the last line of the failure.
    fn keep(&self, test: &str) {
        if self.unwanted.load(Ordering::Relaxed) {
            return;
        }
        match self.save(test) {
            Ok(saved) => {
                for lost in saved.lost {
                    eprintln!("spilman: could not keep this part of the evidence: {lost}");
                }
                if !keeps_everything() {
                    place::say_once(&saved.folder);
                }
            }
            Err(error) => eprintln!("spilman: {}", place::failed(error)),
        }
    }

    fn save_now(&self) -> Result<Saved, Error> {
        self.save(&self.name_of_test()).map_err(place::failed)
    }

    /// Writes what can be written. What is small comes first, so that it has room on a disk that is nearly full.
    fn save(&self, test: &str) -> io::Result<Saved> {
        let data_dir = self.source.get().map(|source| source.data_dir.clone());
        let data_dir = data_dir.unwrap_or_default();
        let own = data_dir.parent().map(Path::to_path_buf).unwrap_or_default();
        let (folder, of_node) = if keeps_everything() {
            (own.clone(), own.clone())
        } else {
            let folder = place::folder_of(test)?;
            let of_node = folder.join(own.file_name().unwrap_or_default());
            (folder, of_node)
        };
        fs::create_dir_all(&of_node)?;
        let mut lost = Vec::new();
        let mut tell = |name: &str, written: io::Result<()>| {
            if let Err(error) = written {
                lost.push(format!("{}: {error}", of_node.join(name).display()));
            }
        };
        let journal = lock(&self.journal).join("\n") + "\n";
        tell("journal.txt", fs::write(of_node.join("journal.txt"), journal));
        for (name, content) in lock(&self.attached).iter() {
            tell(name, write_below(&of_node, name, content));
        }
        for (name, content) in self.source.get().map(asking::asked).unwrap_or_default() {
            tell(name, fs::write(of_node.join(name), content));
        }
        for (name, path) in lock(&self.files).iter() {
            tell(name, copy(path, &of_node.join(name)));
        }
        if own != of_node {
            for (name, from) in [
                ("stderr", own.join("stderr")),
                ("debug.log", data_dir.join("regtest/debug.log")),
            ] {
                tell(name, copy(&from, &of_node.join(name)));
            }
        }
        Ok(Saved { folder, lost })
    }
}

/// A name may have folders in it, but leads nowhere else.
fn write_below(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let is_below = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(name).components().all(is_below) {
        return Err(io::Error::other("it would be outside the folder"));
    }
    let file = folder.join(name);
    fs::create_dir_all(file.parent().unwrap_or(folder))?;
    fs::write(file, content)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Half a journal is better than none.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    // A node that never got so far has none.
    if from.exists() {
        fs::copy(from, to)?;
    }
    Ok(())
}
