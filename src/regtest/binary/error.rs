use std::fmt;
use std::path::PathBuf;

/// A program is missing or does not start.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BinaryError {
    /// An environment variable names a program that does not start. Other places are then not tried, so that a test never
    /// runs against another program unnoticed.
    #[error("{variable}={} does not start: {reason}", path.display())]
    Variable {
        /// The variable's name.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
        /// What the operating system or the program said.
        reason: String,
    },
    /// The program that the caller named does not start.
    #[error("{} does not start: {reason}", path.display())]
    Path {
        /// Its path.
        path: PathBuf,
        /// What the operating system or the program said.
        reason: String,
    },
    /// The program was not found.
    #[error("no {program} found; tried: {}\n{}", looked_at.join("; "), advice(program, variable))]
    Missing {
        /// The program's name.
        program: &'static str,
        /// The environment variable that can point at it.
        variable: &'static str,
        /// Each place with what was wrong there.
        looked_at: Vec<String>,
    },
    /// No place has the program in the requested version.
    #[error(
        "no {program} {version} found; tried: {}\n{}",
        looked_at.join("; "),
        version_advice(program, variable, version, *provision)
    )]
    Version {
        /// The program's name.
        program: &'static str,
        /// The environment variable that can point at it.
        variable: &'static str,
        /// The requested version.
        version: String,
        /// The version by which `ci/provision` knows it, if it does.
        provision: Option<u32>,
        /// Each place with the version that is there, or with what was wrong.
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
    let download = if program == "bitcoind" {
        ", or enable the `download` feature"
    } else {
        ""
    };
    format!("run `ci/provision` in the spilman checkout, set {variable}, or put {program} on PATH{download}")
}

fn version_advice(program: &str, variable: &str, version: &str, provision: Option<u32>) -> String {
    let own = format!("set {variable} to a {program} of that version, or put it on PATH");
    match provision {
        Some(major) => format!("run `ci/provision {major}` in the spilman checkout, {own}"),
        None => format!("{own}; `ci/provision` has no version {version} (write a version as 29 or 29.99)"),
    }
}
