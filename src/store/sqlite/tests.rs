//! What only the writer's side shows: how much it writes, and how.

use std::future::Future;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, Txid};
use rusqlite::types::Value;
use rusqlite::Row;
use tempfile::TempDir;

use super::file::File;
use super::writer::{Request, Writer};
use crate::channel::test_support::{example, tip};
use crate::channel::{
    ChannelState, FundingTx, KeyId, KeyRole, PayeePhase, PayeeProgress, PayeeState, Progress, SignedPayment,
    UnverifiedSignature,
};
use crate::store::{ChannelName, StoreError, StoredChannel, Ticket};

fn file(folder: &TempDir) -> File {
    File::open(&folder.path().join("store")).unwrap()
}

fn progress(version: u64) -> Progress {
    Progress::Payee(PayeeProgress {
        version,
        phase: PayeePhase::Open,
        latest: Some(SignedPayment {
            paid: Amount::from_sat(version),
            signature: UnverifiedSignature::from_compact([7; 64]),
        }),
        parked: None,
        settlement: None,
        outcome: None,
    })
}

fn channel() -> StoredChannel {
    let params = example().params;
    let tx = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn::default()],
        output: vec![params.funding_output()],
    };
    let funding = FundingTx::find(&params, tx).unwrap();
    let Progress::Payee(progress) = progress(0) else {
        unreachable!()
    };
    StoredChannel {
        key_id: KeyId::from_bytes([1; 16]),
        state: ChannelState::Payee(PayeeState {
            params,
            funding,
            opened: tip(200, 1_700_000_000),
            progress,
        }),
    }
}

fn insert(channel: StoredChannel) -> (Request, Ticket) {
    let (holder, ticket) = Ticket::new();
    (Request::Insert(Box::new(channel), holder), ticket)
}

fn update(name: ChannelName, version: u64) -> (Request, Ticket) {
    let (holder, ticket) = Ticket::new();
    (Request::Update(name, progress(version), holder), ticket)
}

/// Serves these at once, and returns what each ticket says.
fn serve(writer: &mut Writer, requests: Vec<(Request, Ticket)>) -> Vec<Result<(), StoreError>> {
    let (requests, tickets): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
    writer.serve(requests);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut resolve = |mut ticket: Ticket| match std::pin::Pin::new(&mut ticket).poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("a request without an answer"),
    };
    tickets.into_iter().map(&mut resolve).collect()
}

#[test]
fn what_waits_together_is_written_once() {
    let folder = TempDir::new().unwrap();
    let mut writer = Writer::new(file(&folder));
    let channel = channel();
    let name = channel.name();
    let rows = |writer: &Writer| writer.file().connection().total_changes();
    let before = rows(&writer);
    // 1. A new channel with its first versions: a row in each table.
    let mut requests = vec![insert(channel)];
    requests.extend((1..=50).map(|version| update(name, version)));
    assert!(serve(&mut writer, requests).iter().all(Result::is_ok));
    assert_eq!(rows(&writer) - before, 2);
    // 2. Later ones: one row.
    let requests = (51..=1_000).map(|version| update(name, version)).collect();
    assert!(serve(&mut writer, requests).iter().all(Result::is_ok));
    assert_eq!(rows(&writer) - before, 3);
    assert_eq!(writer.file().load().unwrap()[0].state.version(), 1_000);
}

/// A version that does not follow ends the channel, and nothing else.
#[test]
fn a_version_that_does_not_follow_is_refused_and_so_is_every_later_one() {
    let folder = TempDir::new().unwrap();
    let mut writer = Writer::new(file(&folder));
    let channel = channel();
    let name = channel.name();
    let other = ChannelName {
        role: KeyRole::Payer,
        ..name
    };
    let unknown = ChannelName {
        funding: OutPoint::new(Txid::all_zeros(), 0),
        ..name
    };
    let again = || insert(channel.clone());
    let said = |results: Vec<Result<(), StoreError>>| -> Vec<_> {
        let word = |result| match result {
            Ok(()) => "ok".to_owned(),
            Err(StoreError::Conflict { found, written, .. }) => format!("{found} not before {written}"),
            Err(StoreError::Duplicate { .. }) => "duplicate".to_owned(),
            Err(StoreError::Unknown { channel }) => format!("unknown {:?}", channel.role),
            Err(other) => panic!("{other}"),
        };
        results.into_iter().map(word).collect()
    };
    // 1. Within one transaction.
    let requests = vec![again(), update(name, 1), update(name, 3), update(name, 2)];
    let results = said(serve(&mut writer, requests));
    assert_eq!(results, ["ok", "ok", "1 not before 3", "1 not before 3"]);
    // 2. After it.
    let requests = vec![update(name, 2), update(unknown, 1), update(unknown, 2)];
    let results = said(serve(&mut writer, requests));
    assert_eq!(results, ["1 not before 3", "unknown Payee", "unknown Payee"]);
    // 3. What was lost is not found again by a version that fits, because its owner may be another process.
    drop(writer);
    writer = Writer::new(file(&folder));
    assert_eq!(
        said(serve(&mut writer, vec![update(name, 3)])),
        ["1 not before 3"]
    );
    assert_eq!(
        said(serve(&mut writer, vec![update(name, 2)])),
        ["1 not before 3"]
    );
    // 4. Against the file: a process that begins anew is served, as long as it goes on from there.
    for (requests, expected) in [
        (vec![update(name, 3), update(name, 4)], vec!["1 not before 3"; 2]),
        (vec![again(), update(name, 1)], vec!["duplicate"; 2]),
        (
            vec![update(name, 2), again(), update(name, 3)],
            vec!["ok", "duplicate", "duplicate"],
        ),
        (
            vec![update(name, 3), update(other, 4)],
            vec!["ok", "unknown Payer"],
        ),
    ] {
        drop(writer);
        writer = Writer::new(file(&folder));
        assert_eq!(said(serve(&mut writer, requests)), expected);
    }
    assert_eq!(writer.file().load().unwrap()[0].state.version(), 3);
}

/// None of these can be seen from outside until the power fails.
#[test]
fn each_commit_is_synced() {
    let folder = TempDir::new().unwrap();
    let file = file(&folder);
    let ask = |pragma: &str| {
        let value = |row: &Row<'_>| row.get::<_, Value>(0);
        match file
            .connection()
            .query_row(&format!("PRAGMA {pragma}"), [], value)
        {
            Ok(Value::Integer(number)) => number.to_string(),
            Ok(Value::Text(text)) => text,
            other => panic!("{pragma}: {other:?}"),
        }
    };
    for (pragma, expected) in [
        ("synchronous", "2"),
        ("fullfsync", "1"),
        ("journal_mode", "wal"),
        ("locking_mode", "exclusive"),
        ("wal_autocheckpoint", "0"),
        ("foreign_keys", "1"),
        ("cell_size_check", "1"),
        ("trusted_schema", "0"),
    ] {
        assert_eq!(ask(pragma), expected, "{pragma}");
    }
}

#[test]
fn the_wal_is_moved_into_the_file() {
    let folder = TempDir::new().unwrap();
    let file = file(&folder);
    assert!(file.pending_pages().unwrap() > 0, "the generation");
    assert_eq!(file.checkpoint().unwrap(), 0);
    assert_eq!(file.pending_pages().unwrap(), 0);
}
