//! Channels as the rows of a database: nothing is lost, and no damage passes for another state.

use std::fmt::Write;

use bitcoin::hashes::{sha256, Hash};
use bitcoin::FeeRate;
use proptest::prelude::*;
use spilman::channel::{
    ChannelState, Construction, Event, KeyId, Outcome, PayeePhase, PayeeProgress, PayerPhase, PayerProgress,
    Protocol, SettlementForm, SignedPayment, SignedSettlement, UnverifiedSignature,
};
use spilman::store::{
    ChannelRow, DamagedRow, ProgressRow, StoredChannel, Value, CHANNEL_COLUMNS, PROGRESS_COLUMNS,
};

use crate::pair::{channels, sat, tip, Case, Pair, Side, HEIGHT, MTP};
use crate::states::every_state;

const KEY_ID: KeyId = KeyId::from_bytes([7; 16]);

fn stored(side: Side, pair: &Pair) -> StoredChannel {
    let state = match side {
        Side::Payer => ChannelState::Payer(pair.payer.state()),
        Side::Payee => ChannelState::Payee(pair.payee.state()),
    };
    StoredChannel {
        key_id: KEY_ID,
        state,
    }
}

/// Either party is the same after it was stored as rows.
pub fn survives_as_rows(pair: &Pair) {
    for side in [Side::Payer, Side::Payee] {
        let stored = stored(side, pair);
        let (channel, progress) = stored.to_rows();
        assert_eq!(StoredChannel::from_rows(&channel, &progress), Ok(stored));
    }
}

#[test]
fn every_state_survives_as_rows() {
    for (name, side, pair) in every_state() {
        let stored = stored(side, &pair);
        let (channel, progress) = stored.to_rows();
        assert_eq!(
            StoredChannel::from_rows(&channel, &progress),
            Ok(stored),
            "{name}"
        );
    }
}

/// Rows are on people's disks: what this version reads and writes changes only with the format's number.
#[test]
fn the_rows_of_this_format_stay_what_they_are() {
    let pair = Case::new(Protocol::Example7).open();
    let payment = |paid, byte| SignedPayment {
        paid: sat(paid),
        signature: UnverifiedSignature::from_compact([byte; 64]),
    };
    let tx = pair.payer.refund().tx();
    let outcome = Some(Outcome {
        txid: pair.payer.funding().outpoint().txid,
        to_payer: sat(1),
        to_payee: sat(2),
    });
    let mut payer = pair.payer.state();
    payer.broadcast_funding_after = Some(10);
    payer.progress = PayerProgress {
        version: u64::MAX,
        phase: PayerPhase::Closing,
        handed_over: Some(tip(HEIGHT, MTP)),
        confirmed: true,
        signed: sat(3_000),
        acknowledged: Some(sat(2_000)),
        max_feerate: FeeRate::from_sat_per_kwu(5_000),
        child: Some(Box::new(tx.clone())),
        malleated: Some(Box::new(tx.clone())),
        outcome,
    };
    let mut payee = pair.payee.state();
    payee.progress = PayeeProgress {
        version: 300,
        phase: PayeePhase::AwaitingSettlement {
            asked: true,
            was_open: false,
        },
        latest: Some(payment(1_000, 1)),
        parked: Some(payment(2_000, 2)),
        settlement: Some(Box::new(SignedSettlement {
            form: SettlementForm::Cooperative,
            paid: sat(1_000),
            fee: sat(400),
            signature: payment(0, 3).signature,
            child: Some(tx.clone()),
        })),
        outcome,
    };
    let mut rows = String::new();
    for state in [ChannelState::Payer(payer), ChannelState::Payee(payee)] {
        let stored = StoredChannel {
            key_id: KEY_ID,
            state,
        };
        let (channel, progress) = stored.to_rows();
        writeln!(rows, "{channel:?} {progress:?}").unwrap();
        assert_eq!(StoredChannel::from_rows(&channel, &progress), Ok(stored));
    }
    let hash = sha256::Hash::hash(rows.as_bytes()).to_string();
    let expected = "0b6730c5f2cedbbef4269656b99d2881bf536cff03122bb130d17d7ffd0349a3";
    assert_eq!(hash, expected, "{rows}");
}

#[test]
fn a_payment_is_a_small_row() {
    let mut pair = Case::new(Protocol::Example7).paying(&[1_000]).open();
    pair.apply(Side::Payer, Event::Pay(sat(1_000))).unwrap();
    for (side, expected) in [(Side::Payer, 52), (Side::Payee, 96)] {
        let (_, progress) = stored(side, &pair).to_rows();
        let size = |value: &Value| match value {
            Value::Null => 0,
            Value::Integer(_) => 8,
            Value::Blob(bytes) => bytes.len(),
        };
        assert_eq!(progress.iter().map(size).sum::<usize>(), expected, "{side:?}");
    }
}

/// Each value with one byte changed, cut at every length, longer by one byte, missing, or of another type.
fn damaged(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => vec![Value::Integer(0), Value::Blob(vec![0; 64])],
        Value::Integer(number) => {
            let changed = (0..64).map(|bit| Value::Integer(number ^ (1 << bit)));
            changed.chain([Value::Null, Value::Blob(vec![])]).collect()
        }
        Value::Blob(bytes) => {
            let changed = (0..bytes.len()).map(|at| {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << (at % 8);
                bytes
            });
            let cut = (0..bytes.len()).map(|len| bytes[..len].to_vec());
            let longer = [[bytes.as_slice(), &[0]].concat()];
            let blobs = changed.chain(cut).chain(longer).map(Value::Blob);
            blobs.chain([Value::Null, Value::Integer(0)]).collect()
        }
    }
}

fn refused(channel: &ChannelRow, progress: &ProgressRow, what: &str) -> DamagedRow {
    StoredChannel::from_rows(channel, progress).expect_err(what)
}

/// The error names the column, unless only the checksum can tell, or a value is missing that another one belongs to.
#[test]
fn any_damage_to_a_row_is_an_error() {
    for (name, side, pair) in every_state().filter(|(name, ..)| !name.contains(',')) {
        let (channel, progress) = stored(side, &pair).to_rows();
        for (at, column) in PROGRESS_COLUMNS.into_iter().enumerate() {
            for value in damaged(&progress[at]) {
                let mut progress = progress.clone();
                progress[at] = value;
                let what = format!("{name}, {column}: {:?}", progress[at]);
                let error = refused(&channel, &progress, &what);
                let is_named = [column, "checksum"].contains(&error.column) || progress[at] == Value::Null;
                assert!(is_named, "{what}: {error}");
            }
        }
    }
    // A payee has no more columns than a payer.
    let payers = Construction::ALL.map(|construction| (construction, Side::Payer));
    for (construction, side) in payers.into_iter().chain([(Construction::Taproot, Side::Payee)]) {
        let pair = Case::new(Protocol::Example7).on(construction).open();
        let (channel, progress) = stored(side, &pair).to_rows();
        for (at, column) in CHANNEL_COLUMNS.into_iter().enumerate() {
            for value in damaged(&channel[at]) {
                let mut channel = channel.clone();
                channel[at] = value;
                let what = format!("{construction}, {column}: {:?}", channel[at]);
                refused(&channel, &progress, &what);
            }
        }
    }
}

#[test]
fn a_damaged_row_is_named_with_what_to_do() {
    let pair = Case::new(Protocol::Bond).open();
    let (channel, mut progress) = stored(Side::Payee, &pair).to_rows();
    progress[1] = Value::Integer(9);
    let error = refused(&channel, &progress, "an unknown phase").to_string();
    let funding = pair.payer.funding().outpoint();
    assert_eq!(
        error,
        format!(
            "the payee's channel {funding} is damaged in the store, in column phase: the phase 9 is unknown, the last \
             known is 8; restore a backup, and change no row by hand"
        )
    );
}

#[test]
fn a_row_of_another_channel_is_damage() {
    let rows =
        |construction| stored(Side::Payee, &Case::new(Protocol::Bond).on(construction).open()).to_rows();
    let ((channel, _), (_, progress)) = (rows(Construction::P2wsh), rows(Construction::P2sh));
    assert_eq!(refused(&channel, &progress, "another's").column, "checksum");
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (0_i64..10).prop_map(Value::Integer),
        prop::collection::vec(any::<u8>(), 0..80).prop_map(Value::Blob),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Never a panic.
    #[test]
    fn any_values_are_read_or_refused(
        case in prop::sample::select(channels().collect::<Vec<_>>()),
        side in prop::sample::select(&[Side::Payer, Side::Payee][..]),
        channel_values in prop::collection::vec((0..CHANNEL_COLUMNS.len(), value()), 0..3),
        progress_values in prop::collection::vec((0..PROGRESS_COLUMNS.len(), value()), 0..6),
    ) {
        let (channel, progress) = stored(side, &case.open()).to_rows();
        let (mut changed, mut changed_progress) = (channel.clone(), progress.clone());
        for (at, value) in channel_values {
            changed[at] = value;
        }
        for (at, value) in progress_values {
            changed_progress[at] = value;
        }
        let read = StoredChannel::from_rows(&changed, &changed_progress);
        prop_assert_eq!(read.is_ok(), (changed, changed_progress) == (channel, progress));
    }
}
