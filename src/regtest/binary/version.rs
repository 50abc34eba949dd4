//! What a program says of its version.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::SystemTime;

use super::Found;
use crate::regtest::process;

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

    pub fn is(&self, found: &Found) -> bool {
        let numbers = found.number().and_then(Self::parse);
        numbers.is_some_and(|numbers| numbers.0.starts_with(&self.0))
    }

    /// What to tell `ci/provision`, to get this version.
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

/// The first line of `--version`, or why there is none.
///
/// `writes_home`: even for this the program reads and writes its folder in the user's home, unless it is given
/// another. Two of them at the same time would be in each other's way.
pub(super) fn first_line_of(path: &Path, writes_home: bool) -> Result<String, String> {
    let changed = std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .map_err(|error| error.to_string())?;
    let key = (path.to_owned(), changed);
    // A map is whole whatever panicked beside it.
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(line) = known().get(&key) {
        return Ok(line.clone());
    }
    let mut command = Command::new(path);
    let line = if writes_home {
        in_scratch_folder(&mut command)
    } else {
        first_line(command.arg("--version"))
    }?;
    known().insert(key, line.clone());
    Ok(line)
}

fn in_scratch_folder(command: &mut Command) -> Result<String, String> {
    let folder = process::scratch().map_err(|error| error.to_string())?;
    let data_dir = format!("-datadir={}", folder.path().display());
    first_line(command.arg(data_dir).arg("--version"))
}

fn first_line(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("--version gave {}: {}", output.status, said.trim()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}
