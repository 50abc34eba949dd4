//! Finding the programs: `bitcoind` and `electrs`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

mod error;
#[cfg(test)]
mod tests;
mod version;

pub use error::BinaryError;
use version::{line_of, Wanted};

/// The `bitcoind` that `ci/provision` builds.
const BITCOIND: ProgramKind = ProgramKind {
    name: "bitcoind",
    variable: "BITCOIND_EXE",
    cached: "bitcoind-31.99",
    // Without the others, even this would write into the user's home.
    version_arguments: &["--version", "-datadir=/", "-nosettings"],
    before_version: "version v",
};
/// The `electrs` that `ci/provision` builds.
const ELECTRS: ProgramKind = ProgramKind {
    name: "electrs",
    variable: "ELECTRS_EXE",
    cached: "electrs-0.10.10",
    version_arguments: &["--version"],
    before_version: "",
};

/// A program that was found and that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBinary {
    /// Where it is.
    pub path: PathBuf,
    /// By which rule it was found.
    pub source: BinarySource,
    /// The line that `--version` prints of it.
    pub version: String,
}

impl FoundBinary {
    /// Returns the version number in what the program says of itself, such as `29.99.0`.
    pub fn number(&self) -> Option<&str> {
        version::number_in(&self.version)
    }
}

/// The rule by which a program was found, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BinarySource {
    /// The caller named it.
    Caller,
    /// The environment variable `BITCOIND_EXE` or `ELECTRS_EXE`.
    Environment,
    /// A directory of `PATH`.
    Path,
    /// The cache that `ci/provision` fills.
    Cache,
    /// The release that the crate `bitcoind` or `electrsd` downloaded (feature `download`).
    Download,
}

impl fmt::Display for BinarySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "as requested",
            Self::Environment => "environment",
            Self::Path => "PATH",
            Self::Cache => "cache",
            Self::Download => "download",
        })
    }
}

/// Finds `bitcoind`: `BITCOIND_EXE`, then `PATH`, then the cache that `ci/provision` fills
/// (`$SPILMAN_CACHE`, else `$XDG_CACHE_HOME/spilman`, else `~/.cache/spilman`), then, with the feature
/// `download`, the release that the `bitcoind` crate downloaded.
///
/// # Errors
///
/// If the variable is set to something that does not start, or nothing is found.
pub fn find_bitcoind() -> Result<FoundBinary, BinaryError> {
    BITCOIND.find(&|name| std::env::var_os(name), downloaded())
}

/// Finds the `bitcoind` of a version, by what each says of itself: `29` is any 29, `29.99` only that. Looks at
/// `BITCOIND_EXE`, at every folder of `PATH`, at every version in the cache and at the download, in this order.
///
/// What runs a test against several versions needs no variable for it: `ci/provision 28 29 31` obtains them, and
/// each is found by its number.
///
/// # Errors
///
/// If none has that version; the error says what was found instead, and where.
pub fn find_bitcoind_version(version: &str) -> Result<FoundBinary, BinaryError> {
    BITCOIND.find_version(version, &|name| std::env::var_os(name), downloaded())
}

/// Returns the `bitcoind` at this path, if it starts.
///
/// # Errors
///
/// If it does not; the error says why.
pub fn bitcoind_at(path: &Path) -> Result<FoundBinary, BinaryError> {
    let place = (BinarySource::Caller, path.to_owned());
    BITCOIND.at(place).map_err(|reason| BinaryError::Path {
        path: path.to_owned(),
        reason,
    })
}

/// Every `bitcoind` that starts, from all places that [`find_bitcoind_version`] looks at, in the same order.
#[must_use]
pub fn all_bitcoinds() -> Vec<FoundBinary> {
    BITCOIND.all(&|name| std::env::var_os(name), downloaded())
}

/// Finds `electrs`: `ELECTRS_EXE`, then `PATH`, then the cache that `ci/provision` fills, then, with the feature
/// `download`, the release that the `electrsd` crate downloaded.
///
/// # Errors
///
/// If the variable is set to something that does not start, or nothing is found.
pub fn find_electrs() -> Result<FoundBinary, BinaryError> {
    #[cfg(feature = "download")]
    let downloaded = electrsd::downloaded_exe_path()
        .map(PathBuf::from)
        .filter(|path| path.exists());
    #[cfg(not(feature = "download"))]
    let downloaded = None;
    ELECTRS.find(&|name| std::env::var_os(name), downloaded)
}

/// Whether the download exists is a matter of the build, not of the environment.
fn downloaded() -> Option<PathBuf> {
    #[cfg(feature = "download")]
    return bitcoind::downloaded_exe_path().ok().map(PathBuf::from);
    #[cfg(not(feature = "download"))]
    None
}

struct ProgramKind {
    name: &'static str,
    variable: &'static str,
    /// Its folder in the cache.
    cached: &'static str,
    /// What makes it print its version, and do nothing else.
    version_arguments: &'static [&'static str],
    /// What stands before the number there. A program that does not print it is another one.
    before_version: &'static str,
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Where a program may be, and by which rule.
type Candidate = (BinarySource, PathBuf);

/// As in the shell scripts, an empty variable counts as unset.
fn set(environment: Environment<'_>, name: &str) -> Option<OsString> {
    environment(name).filter(|value| !value.is_empty())
}

impl ProgramKind {
    fn find(
        &self,
        environment: Environment<'_>,
        downloaded: Option<PathBuf>,
    ) -> Result<FoundBinary, BinaryError> {
        if let Some(path) = set(environment, self.variable).map(PathBuf::from) {
            return self
                .at((BinarySource::Environment, path.clone()))
                .map_err(|reason| BinaryError::Variable {
                    variable: self.variable,
                    path,
                    reason,
                });
        }

        let mut looked_at = vec![format!("{} (not set)", self.variable)];
        let on_path = self.on_path(environment).into_iter().next();
        if on_path.is_none() {
            looked_at.push("PATH (not found)".into());
        }
        let cached = cache(environment).map(|cache| self.in_folder(&cache.join(self.cached)));
        let candidates = [
            (BinarySource::Path, on_path),
            (BinarySource::Cache, cached),
            (BinarySource::Download, downloaded),
        ];
        for (source, path) in candidates {
            let Some(path) = path else { continue };
            let place = path.display().to_string();
            match self.at((source, path)) {
                Ok(found) => return Ok(found),
                Err(reason) => looked_at.push(format!("{place} ({reason})")),
            }
        }
        Err(BinaryError::Missing {
            program: self.name,
            variable: self.variable,
            looked_at,
        })
    }

    fn find_version(
        &self,
        version: &str,
        environment: Environment<'_>,
        downloaded: Option<PathBuf>,
    ) -> Result<FoundBinary, BinaryError> {
        let wanted = Wanted::parse(version);
        let mut looked_at = Vec::new();
        for place in self.places(environment, downloaded) {
            let path = place.1.display().to_string();
            match self.at(place) {
                Ok(found) if wanted.as_ref().is_some_and(|wanted| wanted.is(&found)) => return Ok(found),
                Ok(found) => looked_at.push(format!("{path} ({})", found.version)),
                Err(reason) => looked_at.push(format!("{path} ({reason})")),
            }
        }
        if looked_at.is_empty() {
            looked_at.push(format!("{}, PATH and the cache (not found)", self.variable));
        }
        Err(BinaryError::Version {
            program: self.name,
            variable: self.variable,
            version: version.to_owned(),
            provision: wanted.and_then(|wanted| wanted.built_by_provision()),
            looked_at,
        })
    }

    fn all(&self, environment: Environment<'_>, downloaded: Option<PathBuf>) -> Vec<FoundBinary> {
        let places = self.places(environment, downloaded);
        places
            .into_iter()
            .filter_map(|place| self.at(place).ok())
            .collect()
    }

    /// Every place where there is a file, or where the variable says that there is one.
    fn places(&self, environment: Environment<'_>, downloaded: Option<PathBuf>) -> Vec<Candidate> {
        let variable = set(environment, self.variable).map(PathBuf::from);
        let mut places = Vec::from_iter(variable.map(|path| (BinarySource::Environment, path)));
        places.extend(
            self.on_path(environment)
                .into_iter()
                .map(|path| (BinarySource::Path, path)),
        );
        places.extend(
            self.in_cache(environment)
                .into_iter()
                .map(|path| (BinarySource::Cache, path)),
        );
        places.extend(downloaded.map(|path| (BinarySource::Download, path)));
        places
    }

    fn on_path(&self, environment: Environment<'_>) -> Vec<PathBuf> {
        let directories = set(environment, "PATH").unwrap_or_default();
        std::env::split_paths(&directories)
            .map(|directory| directory.join(self.name))
            .filter(|path| path.is_file())
            .collect()
    }

    /// Every version that the cache has, in the order of their names.
    fn in_cache(&self, environment: Environment<'_>) -> Vec<PathBuf> {
        let prefix = format!("{}-", self.name);
        let entries = cache(environment).and_then(|cache| std::fs::read_dir(cache).ok());
        let mut programs: Vec<PathBuf> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| self.in_folder(&entry.path()))
            .filter(|path| path.is_file())
            .collect();
        programs.sort();
        programs
    }

    fn in_folder(&self, folder: &Path) -> PathBuf {
        folder.join("bin").join(self.name)
    }

    /// The program in that place, if it starts. One that cannot even print its version (a shared library is
    /// missing, say) is as good as absent; the error says why.
    fn at(&self, (source, path): Candidate) -> Result<FoundBinary, String> {
        let version = line_of(&path, self.version_arguments, self.before_version)?;
        Ok(FoundBinary {
            path,
            source,
            version,
        })
    }
}

/// The folder that `ci/provision` fills.
fn cache(environment: Environment<'_>) -> Option<PathBuf> {
    let set = |name| set(environment, name);
    match (set("SPILMAN_CACHE"), set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(cache), _, _) => Some(PathBuf::from(cache)),
        (None, Some(base), _) => Some(PathBuf::from(base).join("spilman")),
        (None, None, Some(home)) => Some(PathBuf::from(home).join(".cache/spilman")),
        (None, None, None) => None,
    }
}
