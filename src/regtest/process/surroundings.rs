//! What a node needs of its machine.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use rustix::process::{getrlimit, Resource};

use super::{check_room, chosen_by, temporary};

/// The file descriptors that a node needs: Bitcoin Core refuses to start with fewer than 160.
const DESCRIPTORS: u64 = 256;

/// Something that a node needs of its machine, and whether it is available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surrounding {
    /// What it is.
    pub name: &'static str,
    /// What was found, or what is wrong and what to do.
    pub found: Result<String, String>,
}

impl fmt::Display for Surrounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Ok(found) | Err(found)) = &self.found;
        write!(f, "{}: {found}", self.name)
    }
}

/// Checks everything that can keep a node from starting, except the programs: the temporary folder, the loopback
/// interface, the limit of open files and the shell.
#[must_use]
pub fn check_surroundings() -> Vec<Surrounding> {
    vec![
        Surrounding {
            name: "folder",
            found: temporary_folder(),
        },
        Surrounding {
            name: "loopback",
            found: loopback(),
        },
        Surrounding {
            name: "files",
            found: open_files(),
        },
        Surrounding {
            name: "shell",
            found: shell(),
        },
    ]
}

/// What is wrong, for the error of a start that failed.
pub fn troubles() -> Vec<Surrounding> {
    let mut all = check_surroundings();
    all.retain(|surrounding| surrounding.found.is_err());
    all
}

fn temporary_folder() -> Result<String, String> {
    let place = temporary();
    let name = format!("{} ({})", place.display(), chosen_by());
    let random = RandomState::new().build_hasher().finish();
    let probe = place.join(format!("spilman-probe-{random:016x}"));
    let written = fs::create_dir(&probe)
        .and_then(|()| fs::write(probe.join("probe"), [0; 4096]))
        .and_then(|()| check_room(&place));
    // Where it could not be made there is nothing to remove.
    let _ = fs::remove_dir_all(&probe);
    match written {
        Ok(()) => Ok(name),
        Err(error) => Err(format!("{name}: {error}. Set TEMPDIR_ROOT to a writable folder")),
    }
}

fn loopback() -> Result<String, String> {
    let connected = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| TcpStream::connect(listener.local_addr()?));
    match connected {
        Ok(_) => Ok("127.0.0.1 answers".to_owned()),
        Err(error) => Err(format!(
            "127.0.0.1 does not answer: {error}. Bring the loopback interface up: ip link set lo up"
        )),
    }
}

fn open_files() -> Result<String, String> {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < DESCRIPTORS => Err(format!(
            "at most {limit} open files, a node needs {DESCRIPTORS}. Raise the limit: ulimit -n {DESCRIPTORS}"
        )),
        Some(limit) => Ok(format!("at most {limit} open files")),
        None => Ok("no limit".to_owned()),
    }
}

/// The reaper is one.
fn shell() -> Result<String, String> {
    let name = "/bin/sh";
    match fs::metadata(name) {
        Ok(_) => Ok(name.to_owned()),
        Err(error) => Err(format!(
            "{name}: {error}. It is needed to stop the nodes of a killed test"
        )),
    }
}
