//! Finding the programs: `bitcoind` and `electrs`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The `bitcoind` that `ci/provision` builds.
const BITCOIND: Program = Program {
    name: "bitcoind",
    variable: "BITCOIND_EXE",
    cached: "bitcoind-31.99",
    writes_home: true,
};
/// The `electrs` that `ci/provision` builds.
const ELECTRS: Program = Program {
    name: "electrs",
    variable: "ELECTRS_EXE",
    cached: "electrs-0.10.10",
    writes_home: false,
};

/// A program that was found and that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// By which rule it was found.
    pub source: Source,
    /// The first line that `--version` prints.
    pub version: String,
}

/// The rule by which a program was found, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The environment variable `BITCOIND_EXE` or `ELECTRS_EXE`.
    Environment,
    /// A directory of `PATH`.
    Path,
    /// The cache that `ci/provision` fills.
    Cache,
    /// The download of the `bitcoind` crate (feature `download`).
    Download,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "environment",
            Self::Path => "PATH",
            Self::Cache => "cache",
            Self::Download => "download",
        })
    }
}

/// A program is missing or does not start.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BinaryError {
    /// An environment variable names a program that does not start. Other places are then not looked at:
    /// somebody who sets the variable would not want to test against another program unknowingly.
    #[error("{variable}={} does not start: {reason}", path.display())]
    Variable {
        /// The variable's name.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
        /// What the operating system or the program said.
        reason: String,
    },
    /// No place has the program.
    #[error("no {program} found; looked at: {}\n{}", looked_at.join("; "), advice(program, variable))]
    Missing {
        /// The program's name.
        program: &'static str,
        /// The environment variable that can point at it.
        variable: &'static str,
        /// Each place with what was wrong there.
        looked_at: Vec<String>,
    },
}

/// The message, since `expect` and a `main` that returns an error show only this: a test without a binary has to
/// say what to run.
impl fmt::Debug for BinaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn advice(program: &str, variable: &str) -> String {
    let download = if program == BITCOIND.name {
        ", or enable the `download` feature"
    } else {
        ""
    };
    format!("run `ci/provision` in the spilman checkout, set {variable}, or put {program} on PATH{download}")
}

/// Finds `bitcoind`: `BITCOIND_EXE`, then `PATH`, then the cache that `ci/provision` fills
/// (`$SPILMAN_CACHE`, else `$XDG_CACHE_HOME/spilman`, else `~/.cache/spilman`), then, with the feature
/// `download`, the release that the `bitcoind` crate downloaded.
///
/// # Errors
///
/// If the variable is set to something that does not start, or nothing is found.
pub fn find_bitcoind() -> Result<Found, BinaryError> {
    BITCOIND.find(&|name| std::env::var_os(name), downloaded())
}

/// Finds `electrs`: `ELECTRS_EXE`, then `PATH`, then the cache that `ci/provision` fills.
///
/// # Errors
///
/// If the variable is set to something that does not start, or nothing is found.
pub fn find_electrs() -> Result<Found, BinaryError> {
    ELECTRS.find(&|name| std::env::var_os(name), None)
}

/// Whether the download exists is a matter of the build, not of the environment.
fn downloaded() -> Option<PathBuf> {
    if cfg!(feature = "download") {
        bitcoind::downloaded_exe_path().ok().map(PathBuf::from)
    } else {
        None
    }
}

struct Program {
    name: &'static str,
    variable: &'static str,
    /// Its folder in the cache.
    cached: &'static str,
    /// Whether even `--version` reads and writes its folder in the user's home, unless it is given another. Two
    /// of them at the same time would be in each other's way.
    writes_home: bool,
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Program {
    fn find(&self, environment: Environment<'_>, downloaded: Option<PathBuf>) -> Result<Found, BinaryError> {
        // As in the shell scripts, an empty variable counts as unset.
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        if let Some(path) = set(self.variable).map(PathBuf::from) {
            return match self.version(&path) {
                Ok(version) => Ok(Found {
                    path,
                    source: Source::Environment,
                    version,
                }),
                Err(reason) => Err(BinaryError::Variable {
                    variable: self.variable,
                    path,
                    reason,
                }),
            };
        }

        let mut looked_at = vec![format!("{} (not set)", self.variable)];
        let on_path = self.on_path(&set);
        if on_path.is_none() {
            looked_at.push("PATH (not there)".into());
        }
        let candidates = [
            (Source::Path, on_path),
            (Source::Cache, self.in_cache(&set)),
            (Source::Download, downloaded),
        ];
        for (source, path) in candidates {
            let Some(path) = path else { continue };
            match self.version(&path) {
                Ok(version) => {
                    return Ok(Found {
                        path,
                        source,
                        version,
                    })
                }
                Err(reason) => looked_at.push(format!("{} ({reason})", path.display())),
            }
        }
        Err(BinaryError::Missing {
            program: self.name,
            variable: self.variable,
            looked_at,
        })
    }

    fn on_path(&self, set: Environment<'_>) -> Option<PathBuf> {
        let directories = set("PATH")?;
        std::env::split_paths(&directories)
            .map(|directory| directory.join(self.name))
            .find(|path| path.is_file())
    }

    fn in_cache(&self, set: Environment<'_>) -> Option<PathBuf> {
        let cache = match (set("SPILMAN_CACHE"), set("XDG_CACHE_HOME"), set("HOME")) {
            (Some(cache), _, _) => PathBuf::from(cache),
            (None, Some(base), _) => PathBuf::from(base).join("spilman"),
            (None, None, Some(home)) => PathBuf::from(home).join(".cache/spilman"),
            (None, None, None) => return None,
        };
        Some(cache.join(self.cached).join("bin").join(self.name))
    }

    /// The first line of `--version`. A program that cannot print it (a missing shared library, say) is as good
    /// as absent.
    fn version(&self, path: &Path) -> Result<String, String> {
        let mut command = Command::new(path);
        if self.writes_home {
            return in_scratch_folder(&mut command);
        }
        first_line(command.arg("--version"))
    }
}

fn in_scratch_folder(command: &mut Command) -> Result<String, String> {
    let folder = bitcoind::tempfile::tempdir().map_err(|error| error.to_string())?;
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Folders of fake programs, and an environment that points into them.
    struct World {
        root: tempfile::TempDir,
        variables: HashMap<&'static str, OsString>,
    }

    impl World {
        fn new() -> Self {
            Self {
                root: tempfile::tempdir().unwrap(),
                variables: HashMap::new(),
            }
        }

        fn path(&self, relative: &str) -> PathBuf {
            self.root.path().join(relative)
        }

        fn program(&self, relative: &str, script: &str) -> PathBuf {
            let path = self.path(relative);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        }

        fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
            self.variables.insert(name, value.into());
        }

        fn find(&self) -> Result<Found, BinaryError> {
            BITCOIND.find(&|name| self.variables.get(name).cloned(), None)
        }
    }

    #[test]
    fn precedence_is_variable_then_path_then_cache() {
        let mut world = World::new();
        let cached = world.program(
            "home/.cache/spilman/bitcoind-31.99/bin/bitcoind",
            "echo cache\necho more",
        );
        world.set("HOME", world.path("home"));
        let found = world.find().unwrap();
        assert_eq!(
            found,
            Found {
                path: cached,
                source: Source::Cache,
                version: "cache".into()
            }
        );

        let on_path = world.program("second/bitcoind", "echo path");
        world.set(
            "PATH",
            std::env::join_paths([world.path("first"), world.path("second")]).unwrap(),
        );
        let found = world.find().unwrap();
        assert_eq!(
            found,
            Found {
                path: on_path,
                source: Source::Path,
                version: "path".into()
            }
        );

        let named = world.program("mine", "echo variable");
        world.set("BITCOIND_EXE", &named);
        let found = world.find().unwrap();
        assert_eq!(
            found,
            Found {
                path: named,
                source: Source::Environment,
                version: "variable".into()
            }
        );
    }

    #[test]
    fn cache_can_be_moved() {
        let mut world = World::new();
        world.program("home/.cache/spilman/bitcoind-31.99/bin/bitcoind", "echo home");
        world.program("xdg/spilman/bitcoind-31.99/bin/bitcoind", "echo xdg");
        world.program("own/bitcoind-31.99/bin/bitcoind", "echo own");
        for (name, folder, version) in [
            ("HOME", "home", "home"),
            ("XDG_CACHE_HOME", "xdg", "xdg"),
            ("SPILMAN_CACHE", "own", "own"),
        ] {
            world.set(name, world.path(folder));
            assert_eq!(world.find().unwrap().version, version);
        }
    }

    #[test]
    fn a_variable_that_is_wrong_is_an_error_and_not_a_fall_through() {
        let mut world = World::new();
        world.program("home/.cache/spilman/bitcoind-31.99/bin/bitcoind", "echo cache");
        world.set("HOME", world.path("home"));
        let broken = world.program("broken", "echo 'no such library' >&2; exit 127");
        for path in [world.path("absent"), broken] {
            world.set("BITCOIND_EXE", &path);
            let message = world.find().unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("BITCOIND_EXE={} does not start: ", path.display())),
                "{message}"
            );
        }
        world.set("BITCOIND_EXE", "");
        assert_eq!(world.find().unwrap().source, Source::Cache);
    }

    #[test]
    fn what_does_not_start_elsewhere_is_passed_over_and_named() {
        let mut world = World::new();
        world.program("bin/bitcoind", "echo 'no such library' >&2; exit 127");
        world.set("PATH", world.path("bin"));
        world.set("HOME", world.path("home"));
        let message = world.find().unwrap_err().to_string();
        for part in [
            "no bitcoind found",
            "BITCOIND_EXE (not set)",
            "bin/bitcoind (--version gave exit status: 127: no such library)",
            "home/.cache/spilman/bitcoind-31.99/bin/bitcoind (No such file or directory",
            "run `ci/provision` in the spilman checkout, set BITCOIND_EXE, or put bitcoind on PATH, or enable the \
             `download` feature",
        ] {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}
