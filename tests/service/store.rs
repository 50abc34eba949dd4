//! The store in a file, on a real file system: what is there after it was closed, killed, filled up or damaged.

mod crash;
mod files;

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use std::{fs, thread};

use spilman::channel::{
    ChannelState, Construction, KeyId, PayeeProgress, PayerProgress, Progress, Protocol, SignedPayment,
    UnverifiedSignature,
};
use spilman::store::{MemoryStore, SqliteError, SqliteStore, Store, StoreError, StoredChannel};

use crate::common::assert_matches;
use crate::common::child::{child_of, is_child};
use crate::pair::{sat, Case};

/// Both sides of a channel.
fn channels(construction: Construction) -> [StoredChannel; 2] {
    let pair = Case::new(Protocol::Example7).on(construction).open();
    let states = [
        ChannelState::Payer(pair.payer.state()),
        ChannelState::Payee(pair.payee.state()),
    ];
    states.map(|state| {
        let key_id = KeyId::from_bytes([construction as u8; 16]);
        at(StoredChannel { key_id, state }, 0)
    })
}

/// The channel at this version, whose sum and signature follow from it.
fn at(mut channel: StoredChannel, version: u64) -> StoredChannel {
    let progress = progress(&channel, version);
    match (&mut channel.state, progress) {
        (ChannelState::Payer(state), Progress::Payer(progress)) => state.progress = progress,
        (ChannelState::Payee(state), Progress::Payee(progress)) => state.progress = progress,
        _ => unreachable!("a side's progress is its own"),
    }
    channel
}

fn progress(channel: &StoredChannel, version: u64) -> Progress {
    let paid = sat(version);
    match &channel.state {
        ChannelState::Payer(state) => Progress::Payer(PayerProgress {
            version,
            signed: paid,
            ..state.progress.clone()
        }),
        ChannelState::Payee(state) => {
            let signature = std::array::from_fn(|byte| version.to_le_bytes()[byte % 8]);
            let signature = UnverifiedSignature::from_compact(signature);
            Progress::Payee(PayeeProgress {
                version,
                latest: Some(SignedPayment { paid, signature }),
                ..state.progress.clone()
            })
        }
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

fn insert(store: &impl Store, channel: &StoredChannel) -> Result<(), StoreError> {
    wait(store.insert(channel.clone()))
}

fn update(store: &impl Store, channel: &StoredChannel, version: u64) -> Result<(), StoreError> {
    wait(store.update(channel.name().funding, progress(channel, version)))
}

fn load(path: &Path) -> Vec<StoredChannel> {
    wait(SqliteStore::open(path).unwrap().load()).unwrap()
}

#[test]
fn what_was_stored_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut expected = Vec::new();
    for construction in Construction::ALL {
        // Each is added by a process of its own.
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(wait(store.load()).unwrap(), expected);
        for channel in channels(construction) {
            insert(&store, &channel).unwrap();
            update(&store, &channel, 1).unwrap();
            update(&store, &channel, 2).unwrap();
            expected.push(at(channel, 2));
        }
    }
    assert_eq!(load(&path), expected);
    // A store that was closed is one file, and no one else's business.
    assert_eq!(files::names(folder.path()), ["store"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// What every store promises.
#[test]
fn a_store_replaces_one_version_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    keeps_versions(&MemoryStore::default());
    keeps_versions(&SqliteStore::open(folder.path().join("store")).unwrap());
}

fn keeps_versions(store: &impl Store) {
    let [payer, payee] = channels(Construction::P2wsh);
    let [stranger, _] = channels(Construction::Taproot);
    for channel in [&payer, &payee] {
        insert(store, channel).unwrap();
        for version in 1..=3 {
            update(store, channel, version).unwrap();
        }
    }
    assert_matches!(insert(store, &payee), Err(StoreError::Duplicate { channel }) if channel == payee.name());
    let skipped = update(store, &payer, 5);
    assert_matches!(skipped, Err(StoreError::Conflict { channel, found: 3, written: 5 }) if channel == payer.name());
    assert_matches!(update(store, &stranger, 1), Err(StoreError::Unknown { channel }) if channel == stranger.name());
    assert_eq!(wait(store.load()).unwrap(), [at(payer, 3), at(payee, 3)]);
}

#[test]
fn dropping_a_store_waits_for_what_was_queued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = SqliteStore::open(&path).unwrap();
    let [_, channel] = channels(Construction::P2wsh);
    let mut tickets = vec![store.insert(channel.clone())];
    let funding = channel.name().funding;
    tickets.extend((1..=500).map(|version| store.update(funding, progress(&channel, version))));
    // What was queued before is loaded, too.
    let loaded = store.load();
    assert_eq!(wait(loaded).unwrap(), [at(channel.clone(), 500)]);
    tickets.extend((501..=1_000).map(|version| store.update(funding, progress(&channel, version))));
    drop(store);
    assert_eq!(load(&path), [at(channel, 1_000)]);
    for ticket in tickets {
        wait(ticket).unwrap();
    }
}

/// Without a request that would make it do so. The file is not opened here to see it: closing it would unlock it.
#[test]
fn an_idle_store_moves_the_wal_into_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = SqliteStore::open(&path).unwrap();
    let len = || fs::metadata(&path).unwrap().len();
    let before = len();
    for channel in Construction::ALL.into_iter().flat_map(channels) {
        insert(&store, &channel).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while len() == before {
        assert!(Instant::now() < deadline, "the file did not grow");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A second store gets nothing, and takes nothing from the first.
#[test]
fn a_file_serves_one_store_at_a_time() {
    let is_in_use = |path: &Path| assert_matches!(SqliteStore::open(path), Err(SqliteError::InUse { path: named }) if named == path);
    if is_child(|path| is_in_use(Path::new(path))) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let [channel, _] = channels(Construction::P2wsh);
    let store = SqliteStore::open(&path).unwrap();
    insert(&store, &channel).unwrap();
    for version in 1..=2 {
        is_in_use(&path);
        let child = child_of(a_file_serves_one_store_at_a_time, path.to_str().unwrap()).output();
        let output = child.unwrap();
        assert!(output.status.success(), "{output:?}");
        update(&store, &channel, version).unwrap();
    }
    drop(store);
    assert_eq!(load(&path), [at(channel, 2)]);
}

#[test]
fn of_stores_that_are_created_at_once_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (start, end) = (Arc::new(Barrier::new(8)), Arc::new(Barrier::new(8)));
    let open = |_| {
        let (path, start, end) = (path.clone(), start.clone(), end.clone());
        thread::spawn(move || {
            start.wait();
            let store = SqliteStore::open(path);
            end.wait();
            store.map(drop)
        })
    };
    let threads: Vec<_> = (0..8).map(open).collect();
    let (won, lost): (Vec<_>, Vec<_>) = threads
        .into_iter()
        .map(|t| t.join().unwrap())
        .partition(Result::is_ok);
    assert_eq!(won.len(), 1, "{lost:?}");
    for error in lost {
        assert_matches!(error, Err(SqliteError::InUse { .. }));
    }
    assert_eq!(files::names(folder.path()), ["store"]);
}
