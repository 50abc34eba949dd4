use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use spilman::transcript::{files, Transcript};

/// Present in every folder that was written here, so that no other folder is ever emptied.
const MARK: &str = "transcript.json";

/// Makes the folder and sees that it can be written to, before any time is spent on what goes into it.
pub fn prepare(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let probe = dir.join(format!(".spilman-probe-{}", std::process::id()));
    fs::File::create_new(&probe).with_context(|| format!("cannot write into {}", dir.display()))?;
    fs::remove_file(&probe).with_context(|| format!("cannot write into {}", dir.display()))
}

/// Writes a transcript into a folder of its own below `dir`, and returns the folder.
///
/// What an earlier run left there is removed, so that the folder holds this run and nothing else.
pub fn write(dir: &Path, transcript: &Transcript) -> Result<PathBuf> {
    let folder = dir.join(&transcript.scenario);
    clear(&folder)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for (name, content) in files(transcript).context("a recorded transaction cannot be decoded")? {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(folder)
}

fn clear(folder: &Path) -> Result<()> {
    let Ok(mut entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    if entries.next().is_none() {
        return Ok(());
    }
    if !folder.join(MARK).is_file() {
        bail!(
            "{} is not empty and was not written by spilman: choose another --out folder, or empty it",
            folder.display()
        );
    }
    fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))
}
