//! What the system knows of processes, from `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether a process runs; one that has ended and is not waited for by its parent does not.
pub fn is_alive(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// The command lines of what a process of this number started in its folder, its reaper included.
pub fn daemons_of(process: u32) -> Vec<String> {
    let folder = format!("/spilman-{process}-");
    let entries = fs::read_dir("/proc").expect("Linux");
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(&folder).then(|| format!("{pid}: {line}"))
        })
        .collect()
}

/// The addresses on which a process listens, as text.
pub fn listening(pid: i32) -> BTreeSet<String> {
    let sockets: BTreeSet<PathBuf> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("a separate process")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .collect();
    let mut addresses = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let table = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let socket = PathBuf::from(format!("socket:[{}]", fields[9]));
            // State 0A is "listening".
            if fields[3] == "0A" && sockets.contains(&socket) {
                addresses.insert(readable(fields[1]));
            }
        }
    }
    addresses
}

/// `0100007F:1F90` is 127.0.0.1:8080; what is longer is IPv6 and stays as it is.
fn readable(hex: &str) -> String {
    let parsed = hex.split_once(':').and_then(|(address, port)| {
        let address = u32::from_str_radix(address, 16).ok()?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(SocketAddrV4::new(Ipv4Addr::from(address.swap_bytes()), port))
    });
    parsed.map_or_else(|| hex.to_owned(), |address| address.to_string())
}

/// The command lines of all that was started for this folder, or that keeps its data there.
pub fn marked(folder: &Path) -> Vec<String> {
    let folder = folder.as_os_str().as_bytes();
    let has = |pid: i32, file, before: &[u8]| {
        let (bytes, mark) = (
            fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default(),
            [before, folder].concat(),
        );
        bytes.windows(mark.len()).any(|part| part == mark)
    };
    let entries = fs::read_dir("/proc").expect("Linux");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let marked = pids.filter(|&pid| has(pid, "environ", b"SPILMAN_FOLDER=") || has(pid, "cmdline", b"dir="));
    marked
        .map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("{pid}: {}", String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect()
}

/// The reaper of a process.
pub fn reaper_of(process: u32) -> i32 {
    let daemons = daemons_of(process);
    let reaper = daemons.iter().find(|line| line.contains("spilman-reaper"));
    let reaper = reaper.unwrap_or_else(|| panic!("no reaper in {daemons:?}"));
    reaper
        .split_once(':')
        .expect("a number")
        .0
        .parse()
        .expect("a number")
}

/// The names in a folder, sorted.
pub fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Sends a signal to a process, or with a minus in front to a group of them.
pub fn signal(target: &str, name: &str) {
    let sent = Command::new("/bin/sh")
        .args(["-c", &format!("kill -{name} {target}")])
        .status()
        .unwrap();
    assert!(sent.success(), "kill -{name} {target}: {sent}");
}
