//! Where evidence goes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{env, fs, io};

use super::lock;
use crate::regtest::error::{Error, NodeError};
use crate::regtest::process::{place_in, temporary};

fn root() -> PathBuf {
    let root = place_in("SPILMAN_EVIDENCE").unwrap_or_else(|| temporary().join("spilman-evidence"));
    // Who reads where it is may be elsewhere.
    std::path::absolute(&root).unwrap_or(root)
}

/// What made it this place, as part of a sentence.
pub(super) fn chosen_by() -> &'static str {
    ["SPILMAN_EVIDENCE", "TEMPDIR_ROOT", "TMPDIR"]
        .into_iter()
        .find(|variable| place_in(variable).is_some())
        .unwrap_or("the system's default")
}

/// Nothing could be written.
pub(super) fn failed(source: io::Error) -> Error {
    NodeError::Evidence {
        place: root(),
        chosen_by: chosen_by(),
        source,
    }
    .into()
}

/// One folder for all nodes of a test, new in this process.
pub(super) fn folder_of(test: &str) -> io::Result<PathBuf> {
    static FOLDERS: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut folders = lock(&FOLDERS);
    let folders = folders.get_or_insert_default();
    if let Some(folder) = folders.get(test) {
        return Ok(folder.clone());
    }
    let root = root();
    fs::create_dir_all(&root)?;
    let base = format!("{test}-{}", std::process::id());
    for number in 1.. {
        let name = if number == 1 {
            base.clone()
        } else {
            format!("{base}-{number}")
        };
        match fs::create_dir(root.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => {
                let folder = root.join(name);
                folders.insert(test.to_owned(), folder.clone());
                return Ok(folder);
            }
        }
    }
    unreachable!("one of endlessly many names is free")
}

/// The test as part of a path. As far as it can be known: test runners name the thread after the test, or run it in a
/// process that is told its name.
pub(super) fn name_of(thread: Option<&str>) -> String {
    let name = thread
        .filter(|name| *name != "main")
        .map(ToOwned::to_owned)
        .or_else(|| {
            let mut arguments = env::args().skip(1);
            arguments.any(|argument| argument == "--exact").then_some(())?;
            env::args().skip(1).find(|argument| !argument.starts_with('-'))
        })
        .or_else(|| {
            let program = env::current_exe().ok()?;
            Some(program.file_stem()?.to_string_lossy().into_owned())
        })
        .unwrap_or_else(|| "test".to_owned());
    name.replace("::", "-")
        .replace(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-', "_")
}

pub(super) fn say_once(folder: &Path) {
    static SAID: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let mut said = lock(&SAID);
    if !said.iter().any(|earlier| earlier == folder) {
        said.push(folder.to_owned());
        eprintln!("evidence: {}", folder.display());
    }
}
