//! The temporary directory, and what must be true of it.

use std::path::{Path, PathBuf};
use std::{env, io};

use crate::regtest::error::{Error, NodeError};

/// What a node needs in bytes: Bitcoin Core refuses to start with less than 50 MiB free, and its first files take 18.
const ROOM: u64 = 70 << 20;

/// Where the folders of nodes go: `TEMPDIR_ROOT`, which the `bitcoind` crate knows too, or the system's choice.
pub(in crate::regtest) fn temporary() -> PathBuf {
    let place = place_in("TEMPDIR_ROOT").unwrap_or_else(env::temp_dir);
    // Programs that are started may stand elsewhere.
    std::path::absolute(&place).unwrap_or(place)
}

/// What an environment variable points at. As in a shell, an empty one counts as unset.
pub(in crate::regtest) fn place_in(variable: &str) -> Option<PathBuf> {
    let place = env::var_os(variable).filter(|place| !place.is_empty())?;
    Some(PathBuf::from(place))
}

/// Set to anything but nothing, it keeps all folders.
pub(in crate::regtest) fn keeps_everything() -> bool {
    env::var_os("SPILMAN_KEEP").is_some_and(|value| !value.is_empty())
}

/// How the temporary directory came to be this one, as part of a sentence.
pub(in crate::regtest) fn chosen_by() -> &'static str {
    ["TEMPDIR_ROOT", "TMPDIR"]
        .into_iter()
        .find(|variable| place_in(variable).is_some())
        .unwrap_or("the system's default")
}

/// The error for a folder that cannot be made or written.
pub(in crate::regtest) fn failed(source: io::Error) -> Error {
    NodeError::Folder {
        place: temporary(),
        chosen_by: chosen_by(),
        source,
    }
    .into()
}

/// Whether a node fits in there.
pub(in crate::regtest) fn check_room(place: &Path) -> io::Result<()> {
    let Ok(found) = rustix::fs::statvfs(place) else {
        // A place that cannot be asked, or does not know, is tried.
        return Ok(());
    };
    if found.f_blocks == 0 {
        return Ok(());
    }
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= ROOM {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    Err(io::Error::new(
        io::ErrorKind::StorageFull,
        format!("only {} MiB free, a node needs {} MiB", mib(free), mib(ROOM)),
    ))
}
