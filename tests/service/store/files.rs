//! Files that are no store, or not a whole one: each is an error that says what to do, or nothing is missing.

use std::fs;
use std::path::Path;

use bitcoin::consensus::serialize;
use rusqlite::Connection;
use spilman::channel::Construction;
use spilman::store::{SqliteError, SqliteStore, Store};

use super::{at, channels, insert, load, update, wait};
use crate::common::assert_matches;
use crate::common::child::{child_of, is_child, isolated};

pub fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

/// A closed store with both sides of a channel on each construction.
fn fill(path: &Path) -> Vec<spilman::store::StoredChannel> {
    let store = SqliteStore::open(path).unwrap();
    let fill = |channel| {
        insert(&store, &channel).unwrap();
        update(&store, &channel, 1).unwrap();
        at(channel, 1)
    };
    Construction::ALL
        .into_iter()
        .flat_map(channels)
        .map(fill)
        .collect()
}

fn said(path: &Path) -> String {
    let error = SqliteStore::open(path).expect_err("no store").to_string();
    error.replace(&path.display().to_string(), "FILE")
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let not_a_store =
        "FILE is not a store of this program: its application id is 0x00000000, expected 0x5370696c; \
                       choose another path, or restore a backup if the file was overwritten";
    let text = b"something else altogether\n".repeat(100);
    for content in [&b""[..], b"x", &[0; 4_096], &vec![0; 20_000], &text] {
        fs::write(&path, content).unwrap();
        assert_eq!(said(&path), not_a_store);
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    fs::remove_file(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE wallet (id)").unwrap();
    drop(other);
    assert_eq!(said(&path), not_a_store);
    assert_eq!(names(folder.path()), ["store"]);
}

#[test]
fn a_store_needs_its_folder_and_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/store");
    assert_matches!(SqliteStore::open(&path), Err(SqliteError::NoFolder { folder: named }) if named == path.parent().unwrap());
    // The newest changes were left behind when the file was moved.
    let path = folder.path().join("store");
    fs::write(folder.path().join("store-wal"), "").unwrap();
    assert_eq!(
        said(&path),
        "FILE is missing, but FILE-wal is there: put the file back, because the two belong together"
    );
    assert_eq!(names(folder.path()), ["store-wal"]);
    assert_matches!(SqliteStore::open(folder.path()), Err(SqliteError::Io { .. }));
}

#[test]
fn another_schema_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let expected = fill(&path);
    for (version, known) in [(2, false), (0, false), (1, true)] {
        let file = Connection::open(&path).unwrap();
        file.pragma_update(None, "user_version", version).unwrap();
        drop(file);
        if known {
            assert_eq!(load(&path), expected);
        } else {
            assert_eq!(
                said(&path),
                format!(
                    "FILE has schema version {version}, and this program knows version 1: open it with the program that \
                     wrote it, or a later one"
                )
            );
        }
    }
}

/// Nothing is dropped in silence, and what the others have is not lost.
#[test]
fn a_damaged_row_names_its_channel() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let name = fill(&path)[1].name();
    for (damage, column) in [
        ("UPDATE progress SET paid = paid + 1 WHERE id = 2", "checksum"),
        ("UPDATE channel SET key_id = x'00' WHERE id = 2", "key_id"),
        (
            "PRAGMA foreign_keys = OFF; DELETE FROM progress WHERE id = 2",
            "version",
        ),
    ] {
        let damaged = folder.path().join("damaged");
        fs::copy(&path, &damaged).unwrap();
        let file = Connection::open(&damaged).unwrap();
        file.execute_batch(damage).unwrap();
        drop(file);
        let store = SqliteStore::open(&damaged).unwrap();
        let error = wait(store.load()).expect_err(damage).to_string();
        let expected = format!("{name} is damaged in the store, in column {column}: ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.contains("restore a backup"), "{error}");
        drop(store);
    }
}

/// What is loaded from a file in which something was changed is what was stored, or an error.
fn is_whole_or_refused(path: &Path, expected: &[spilman::store::StoredChannel], what: &str) -> bool {
    let Ok(store) = SqliteStore::open(path) else {
        return false;
    };
    let Ok(loaded) = wait(store.load()) else {
        return false;
    };
    assert_eq!(loaded, expected, "{what}");
    true
}

#[test]
fn a_file_that_was_cut_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let expected = fill(&path);
    let bytes = fs::read(&path).unwrap();
    for len in (0..bytes.len())
        .step_by(1_021)
        .chain((0..bytes.len()).step_by(4_096))
    {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(
            !is_whole_or_refused(&path, &expected, "cut"),
            "{len} bytes of {}",
            bytes.len()
        );
    }
}

/// The funding output is in the table, and in the index that finds a channel. Loading reads only the first.
#[test]
fn a_damaged_index_is_refused_when_the_file_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let outpoint = serialize(&fill(&path)[1].name().funding);
    let bytes = fs::read(&path).unwrap();
    let places = (0..bytes.len()).filter(|place| bytes[*place..].starts_with(&outpoint));
    let is_refused = |place: &usize| {
        let mut damaged = bytes.clone();
        damaged[*place] ^= 1;
        fs::write(&path, damaged).unwrap();
        match SqliteStore::open(&path) {
            // What the file no longer uses.
            Ok(_) => false,
            Err(SqliteError::Damaged { .. }) => true,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(places.filter(is_refused).count(), 4, "two sides, two places each");
}

#[test]
fn a_flipped_bit_is_found_wherever_it_matters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let expected = fill(&path);
    let bytes = fs::read(&path).unwrap();
    let mut refused = 0;
    for place in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        let _ = fs::remove_file(folder.path().join("store-wal"));
        fs::write(&path, damaged).unwrap();
        refused += u32::from(!is_whole_or_refused(&path, &expected, &format!("byte {place}")));
    }
    assert!(refused > 10, "{refused}");
}

/// On a file system that is mounted so: root may write to every folder.
#[test]
fn what_cannot_be_written_is_said_when_it_is_opened() {
    if is_child(|path| {
        let expected = "FILE cannot be written: make the file and its folder writable for this user";
        assert_eq!(said(Path::new(path)), expected);
    }) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fill(&folder.path().join("filled"));
    for name in ["filled", "new"] {
        let path = folder.path().join(name);
        let child = child_of(
            what_cannot_be_written_is_said_when_it_is_opened,
            path.to_str().unwrap(),
        );
        let read_only = "mount --bind $0 $0 && mount -o remount,bind,ro $0 && ";
        let output = isolated(&["--mount"], read_only, &child)
            .arg(folder.path())
            .output();
        let output = output.expect("unshare, of the package util-linux");
        assert!(output.status.success(), "{name}: {output:?}");
    }
}
