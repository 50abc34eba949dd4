use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{bail, Context, Result};
use bitcoin::hashes::{sha256, Hash};
use spilman::transcript::{files, Transcript};

/// Lists what was written into a folder, and the hash of each file: what is not in it, or was changed, is not ours.
const LIST: &str = ".spilman-files";

/// Makes the folder and sees that it can be written to, before any time is spent on what goes into it.
pub fn prepare(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create the folder {}", dir.display()))?;
    let probe = dir.join(format!(".spilman-probe-{}", std::process::id()));
    fs::File::create_new(&probe).with_context(|| format!("cannot write into {}", dir.display()))?;
    fs::remove_file(&probe).with_context(|| format!("cannot write into {}", dir.display()))
}

/// Writes a transcript into a separate folder below `dir`, and returns the folder.
///
/// What an earlier run has written there is removed, so that the files are of this run. What it has not written stays,
/// and is an error if it has the name of a file of this run.
pub fn write(dir: &Path, transcript: &Transcript) -> Result<PathBuf> {
    let folder = dir.join(&transcript.scenario);
    let files = files(transcript).context("a recorded transaction cannot be decoded")?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let earlier = written_before(&folder)?;
    for (name, _) in &files {
        let path = folder.join(name);
        if fs::symlink_metadata(&path).is_ok() && !is_ours(&path, earlier.get(name)) {
            bail!(
                "{} was not written by spilman, or was changed since: move it away, or choose another --out folder",
                path.display()
            );
        }
    }
    for (name, hash) in &earlier {
        let path = folder.join(name);
        if is_ours(&path, Some(hash)) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    let hashes = files
        .iter()
        .map(|(name, content)| (name, sha256::Hash::hash(content.as_bytes())));
    let lines: Vec<_> = hashes.map(|(name, hash)| format!("{hash}  {name}\n")).collect();
    // The list comes first, and each file is there as a whole or not at all: what is broken off leaves nothing that the
    // next run would not know.
    put(&folder, LIST, &lines.concat())?;
    for (name, content) in &files {
        put(&folder, name, content)?;
    }
    Ok(folder)
}

/// Writes a file as a whole.
fn put(folder: &Path, name: &str, content: &str) -> Result<()> {
    let (half, path) = (folder.join(".spilman-half"), folder.join(name));
    fs::write(&half, content)
        .and_then(|()| fs::rename(&half, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The names of the files of an earlier run, with their hashes.
fn written_before(folder: &Path) -> Result<BTreeMap<String, String>> {
    let path = folder.join(LIST);
    let list = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        list => list.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let lines = list.lines().filter_map(|line| line.split_once("  "));
    // A name that leads elsewhere is none that was written here.
    let own = lines.filter(|(_, name)| Path::new(name).file_name().is_some_and(|file| file == *name));
    Ok(own
        .map(|(hash, name)| (name.to_owned(), hash.to_owned()))
        .collect())
}

/// Whether the file is as an earlier run has left it. An empty one is what a run leaves that was broken off.
fn is_ours(path: &Path, hash: Option<&String>) -> bool {
    let is_file = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let content = fs::read(path).unwrap_or_default();
    is_file
        && hash.is_some_and(|hash| content.is_empty() || sha256::Hash::hash(&content).to_string() == *hash)
}
