//! Processes that are killed and disks that fill up: what a ticket called durable is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};

use spilman::channel::{Construction, KeyRole};
use spilman::store::{SqliteStore, Store, StoredChannel};

use super::{at, channels, insert, load, progress, update, wait};
use crate::common::child::{child_of, is_child, isolated};

/// How often a process is killed.
const KILLS: u64 = 32;

/// For the parent, past the test runner's own words.
fn tell(said: &str) {
    io::stdout().write_all(format!("{said}\n").as_bytes()).unwrap();
}

/// The same numbers in every run.
fn drawn(seed: u64, below: u64) -> u64 {
    (seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % below
}

fn durable(line: &str) -> Option<(KeyRole, u64)> {
    let mut words = line.strip_prefix("durable ")?.split(' ');
    let role = if words.next()? == "0" {
        KeyRole::Payer
    } else {
        KeyRole::Payee
    };
    Some((role, words.next()?.parse().ok()?))
}

/// Pays on both sides of a channel for ever, some payments ahead of the disk, and tells what is durable.
fn pay(path: &Path, ahead: u64) {
    tell("begins");
    let store = SqliteStore::open(path).unwrap();
    let mut stored = wait(store.load()).unwrap();
    if stored.is_empty() {
        stored = channels(Construction::P2wsh).into();
        let tickets: Vec<_> = stored
            .iter()
            .map(|channel| store.insert(channel.clone()))
            .collect();
        for ticket in tickets {
            wait(ticket).unwrap();
        }
    }
    let mut waiting = Vec::new();
    for payment in 1.. {
        for (role, channel) in stored.iter().enumerate() {
            let version = channel.state.version() + payment;
            let ticket = store.update(channel.name().funding, progress(channel, version));
            waiting.push((role, version, ticket));
        }
        if waiting.len() as u64 > 2 * ahead {
            for (role, version, ticket) in waiting.drain(..) {
                wait(ticket).unwrap();
                tell(&format!("durable {role} {version}"));
            }
        }
    }
}

/// Lets the process say this many lines, kills it, and returns what was durable by then.
fn killed(mut child: Command, lines: u64) -> BTreeMap<KeyRole, u64> {
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let is_ours = |line: &String| line == "begins" || durable(line).is_some();
    let mut heard: Vec<_> = said
        .by_ref()
        .filter(is_ours)
        .take(usize::try_from(lines).unwrap())
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died, and no one had read. The last line may be cut.
    heard.extend(said);
    heard.iter().filter_map(|line| durable(line)).collect()
}

fn check(stored: &[StoredChannel], durable: &BTreeMap<KeyRole, u64>, what: &str) {
    for (role, version) in durable {
        let channel = stored.iter().find(|channel| channel.name().role == *role);
        let found = channel
            .unwrap_or_else(|| panic!("{what}: {role:?} is gone"))
            .state
            .version();
        assert!(found >= *version, "{what}: {role:?} has {found} after {version}");
    }
    for channel in stored {
        assert_eq!(channel, &at(channel.clone(), channel.state.version()), "{what}");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_durable() {
    if is_child(|what| {
        let (ahead, path) = what.split_once(' ').unwrap();
        pay(Path::new(path), ahead.parse().unwrap());
    }) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let mut all = 0;
    for seed in 0..KILLS {
        // At first the store is being made.
        let lines = 1 + if seed < 4 { 0 } else { drawn(seed, 60) };
        let what = format!("{} {}", drawn(seed, 8), path.display());
        let child = child_of(a_killed_process_loses_nothing_that_was_durable, &what);
        let durable = killed(child, lines);
        all += durable.len();
        check(&load(&path), &durable, &format!("kill {seed}"));
    }
    assert!(all > 20, "{all}");
}

/// Pays until a ticket fails; then no other may succeed.
fn pay_until_failure(path: &Path, expected: &str) {
    let store = SqliteStore::open(path).unwrap();
    let [_, channel] = channels(Construction::P2wsh);
    let pay = |version| update(&store, &channel, version);
    let paid = (1..10_000).map(|version| (version, pay(version)));
    let mut told = paid.inspect(|(version, result)| {
        if result.is_ok() {
            tell(&format!("durable 1 {version}"));
        }
    });
    let failed = told.find(|(_, result)| result.is_err());
    let (version, error) = failed.expect("no room at some time");
    let error = error.unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    let [other, _] = channels(Construction::Taproot);
    for result in [
        pay(version),
        pay(version + 1),
        insert(&store, &other),
        wait(store.load()).map(drop),
    ] {
        assert_eq!(result.unwrap_err().to_string(), error);
    }
    // Closing it writes nothing, either.
    drop(store);
    assert!(path.with_extension("sqlite-wal").exists());
}

/// Whatever a limit of this process or a disk that is full leaves of it.
fn is_durable_after_failure(output: &std::process::Output, stored: &[StoredChannel]) {
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    let durable: BTreeMap<_, _> = said.lines().filter_map(durable).collect();
    assert!(!durable.is_empty(), "{said}");
    check(stored, &durable, "after the failure");
}

#[test]
fn a_file_that_may_not_grow_is_the_end() {
    if is_child(|path| pay_until_failure(Path::new(path), "disk I/O error")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let [_, channel] = channels(Construction::P2wsh);
    insert(&SqliteStore::open(&path).unwrap(), &channel).unwrap();
    let child = child_of(a_file_that_may_not_grow_is_the_end, path.to_str().unwrap());
    let limited = isolated(&[], "trap '' XFSZ && ulimit -f 200 && ", &child).output();
    let output = limited.expect("unshare, of the package util-linux");
    is_durable_after_failure(&output, &load(&path));
}

#[test]
fn a_full_disk_is_the_end_until_there_is_room_again() {
    if is_child(|folder| {
        let folder = Path::new(folder);
        let path = folder.join("store.sqlite");
        let [_, channel] = channels(Construction::P2wsh);
        insert(&SqliteStore::open(&path).unwrap(), &channel).unwrap();
        pay_until_failure(&path, &format!("no room left for {}: free some", path.display()));
        // There is no room to open it either, and then there is.
        let error = SqliteStore::open(&path).unwrap_err().to_string();
        assert!(error.contains("no room left for"), "{error}");
        fs::remove_file(folder.join("other")).unwrap();
        let store = SqliteStore::open(&path).unwrap();
        let stored = wait(store.load()).unwrap();
        let version = stored[0].state.version();
        tell(&format!("stored {version}"));
        assert_eq!(stored, [at(channel.clone(), version)]);
        update(&store, &channel, version + 1).unwrap();
    }) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [_, channel] = channels(Construction::P2wsh);
    let place = folder.path().to_str().unwrap();
    let child = child_of(a_full_disk_is_the_end_until_there_is_room_again, place);
    let small = "mount -t tmpfs -o size=300k none $0 && head -c 100000 /dev/zero >$0/other && ";
    let output = isolated(&["--mount"], small, &child).arg(place).output();
    let output = output.expect("unshare, of the package util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let stored = said
        .lines()
        .find_map(|line| line.strip_prefix("stored ")?.parse().ok());
    let stored = stored.unwrap_or_else(|| panic!("{output:?}"));
    is_durable_after_failure(&output, &[at(channel, stored)]);
}
