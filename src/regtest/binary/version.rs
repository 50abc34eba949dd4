//! What a program says of its version.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::FoundBinary;
use crate::regtest::process::{self, Supervised};

/// The major versions that `ci/provision` can build. Each is the development branch after that release, and calls
/// itself `<major>.99.0`.
const PROVISIONED: [u32; 3] = [28, 29, 31];

/// A version that is asked for: `29` stands for every version that begins so.
pub(super) struct Wanted(Vec<u32>);

impl Wanted {
    /// Numbers with dots between; anything else is the version of no program.
    pub fn parse(version: &str) -> Option<Self> {
        let numbers = version.split('.').map(|part| part.parse().ok());
        numbers.collect::<Option<_>>().map(Self)
    }

    pub fn is(&self, found: &FoundBinary) -> bool {
        let numbers = found.number().and_then(Self::parse);
        numbers.is_some_and(|numbers| numbers.0.starts_with(&self.0))
    }

    /// Returns what to tell `ci/provision`, to get this version.
    pub fn built_by_provision(&self) -> Option<u32> {
        PROVISIONED
            .into_iter()
            .find(|major| [*major, 99, 0].starts_with(&self.0))
    }
}

/// `29.99.0` in `Bitcoin Core daemon version v29.99.0-1a2b3c bitcoind`.
pub(super) fn number_in(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    words.find_map(|word| {
        let number = word.strip_prefix('v').unwrap_or(word);
        let end = number.find(|c: char| c != '.' && !c.is_ascii_digit());
        let number = &number[..end.unwrap_or(number.len())];
        number.starts_with(|c: char| c.is_ascii_digit()).then_some(number)
    })
}

/// What programs have said, by path and time of last change. Every start of a node asks, and each answer would cost
/// it some milliseconds.
static KNOWN: LazyLock<Mutex<HashMap<(PathBuf, SystemTime), String>>> = LazyLock::new(Mutex::default);

/// For how long a program may think about its version: it takes a few milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a program printed before its end is read within this time.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The poll interval.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What to do about a wrapper script that forgets its arguments.
const PASS_ON: &str = r#"a wrapper script must pass its arguments on: exec bitcoind "$@""#;

/// Each time a program is asked has a separate name.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// More than this is no answer, in bytes.
const MOST: u64 = 1 << 20;

/// The line of `--version` that has the version, or why there is none. `begins` stands before the number.
pub(super) fn line_of(path: &Path, arguments: &[&str], begins: &str) -> Result<String, String> {
    let changed = std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .map_err(|error| error.to_string())?;
    let key = (path.to_owned(), changed);
    // A map is whole whatever panicked beside it.
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(line) = known().get(&key) {
        return Ok(line.clone());
    }
    let line = ask(path, arguments, begins)?;
    known().insert(key, line.clone());
    Ok(line)
}

fn ask(path: &Path, arguments: &[&str], begins: &str) -> Result<String, String> {
    let path = std::path::absolute(path).map_err(|error| error.to_string())?;
    let mut command = Command::new(path);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // If there is no temporary folder, the start of the program says so. Until then a program that hangs is ended here.
    let folder = process::unused_name("version").unwrap_or_else(|_| {
        let number = ASKED.fetch_add(1, Ordering::Relaxed);
        PathBuf::from(format!("{}/version-{number}", std::process::id()))
    });
    let mut asked = Supervised::spawn(&mut command, &folder).map_err(|error| process::advised(&error))?;
    let stdout = VersionOutput::of(asked.child().stdout.take());
    let stderr = VersionOutput::of(asked.child().stderr.take());
    let start = Instant::now();
    let ended = loop {
        let ended = asked.ends_within(POLL_INTERVAL);
        // A node that was started instead is ended before it connects to a peer.
        let is_node = process::tells_of_another_folder(&stdout.so_far(), None);
        if ended.is_some() || is_node || start.elapsed() >= TIMEOUT {
            break ended.filter(|_| !is_node);
        }
    };
    asked.kill();
    let is_node = process::tells_of_another_folder(&stdout.so_far(), None);
    let (stdout, stderr) = (stdout.all(), stderr.all());
    match ended {
        _ if is_node => Err(format!(
            "it starts a node instead of printing its version: {PASS_ON}"
        )),
        None => Err(format!("--version did not answer within {TIMEOUT:?}; {PASS_ON}")),
        Some(ended) if !ended.is_success() => match stderr.trim() {
            "" => Err(format!("--version ended {ended}, and printed nothing")),
            said => Err(format!("--version ended {ended}: {said}")),
        },
        Some(_) => version_line(&stdout, begins).ok_or_else(|| {
            let said = stdout.lines().next().unwrap_or_default();
            format!("--version printed {said:?}, which is not a version; {PASS_ON}")
        }),
    }
}

/// What a program prints, read in the background so that it never has to wait.
struct VersionOutput {
    said: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl VersionOutput {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let so_far = Arc::clone(&said);
        let reader = thread::spawn(move || {
            let Some(mut pipe) = pipe.map(|pipe| pipe.take(MOST)) else {
                return;
            };
            let mut some = [0; 4096];
            // What came before an error is all there is.
            while let Ok(count @ 1..) = pipe.read(&mut some) {
                let mut said = so_far.lock().unwrap_or_else(PoisonError::into_inner);
                said.extend_from_slice(&some[..count]);
            }
        });
        Self { said, reader }
    }

    fn so_far(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }

    /// What there is now that the program has ended. What it left behind may hold the pipe open for ever.
    fn all(self) -> String {
        let start = Instant::now();
        while !self.reader.is_finished() && start.elapsed() < LAST_WORDS {
            thread::sleep(POLL_INTERVAL);
        }
        self.so_far()
    }
}

/// The first line with a version; wrappers may print others before.
fn version_line(said: &str, begins: &str) -> Option<String> {
    let mut lines = said.lines().map(str::trim);
    let line = lines.find(|line| {
        let after = line.split_once(begins).map(|(_, after)| after);
        after.is_some_and(|after| number_in(after).is_some())
    });
    line.map(ToOwned::to_owned)
}
