//! A stored channel as the rows of two tables: what a database holds, whichever it is.
//!
//! What was said is stored as it was said: `open` and `accept` as messages, the funding transaction in consensus encoding,
//! the latest payment as its sum and its signature. The rest has columns, and what a channel rarely has is one CBOR array.
//! A row has one form, so reading it makes it again and compares: no damage passes for another state.

mod rest;
mod value;

use std::fmt::Display;

use bitcoin::absolute::{Height, Time};
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{siphash24, Hash, HashEngine};
use bitcoin::{Amount, OutPoint, Transaction};
use thiserror::Error;

use super::{ChannelName, StoredChannel};
use crate::channel::{
    ChannelParams, ChannelState, FundingTx, KeyId, KeyRole, PayeePhase, PayeeState, PayerPhase, PayerState,
    Progress, SignedPayment, Tip,
};
use crate::wire;

use rest::{payee_rest, payer_rest, read_payee, read_payer, read_rest};
pub use value::Value;

/// What is written once of a channel.
pub const CHANNEL_COLUMNS: [&str; 11] = [
    "funding",
    "role",
    "key_id",
    "open",
    "accept",
    "funding_tx",
    "refund_signature",
    "opened_height",
    "opened_mtp",
    "broadcast_funding_after",
    "checksum",
];

/// What changes of a channel: one small row, written again with every payment.
pub const PROGRESS_COLUMNS: [&str; 6] = ["version", "phase", "paid", "signature", "rest", "checksum"];

/// The values of [`CHANNEL_COLUMNS`].
pub type ChannelRow = [Value; CHANNEL_COLUMNS.len()];

/// The values of [`PROGRESS_COLUMNS`].
pub type ProgressRow = [Value; PROGRESS_COLUMNS.len()];

/// A row that no channel could have been stored as.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{channel} is damaged in the store, in column {column}: {error}; restore a backup, and change no row by hand")]
pub struct DamagedRow {
    /// The channel, as far as it can be read.
    pub channel: String,
    /// The column.
    pub column: &'static str,
    /// What is wrong.
    pub error: String,
}

/// The same before it is known whose row it is: column and error.
type Fault = (&'static str, String);

impl StoredChannel {
    /// Returns the two rows.
    pub fn to_rows(&self) -> (ChannelRow, ProgressRow) {
        (self.channel_row(), progress_row(self.name(), &self.progress()))
    }

    /// Makes the channel of its two rows again. Signatures are not verified here: `restore` of either party does that.
    ///
    /// # Errors
    /// If the rows are not those of a channel, in any bit.
    pub fn from_rows(channel: &ChannelRow, progress: &ProgressRow) -> Result<Self, DamagedRow> {
        read(channel, progress).map_err(|(column, error)| DamagedRow {
            channel: describe(channel),
            column,
            error,
        })
    }

    fn channel_row(&self) -> ChannelRow {
        let [open, accept] = self.state.params().to_messages().map(|said| wire::encode(&said));
        let (opened, refund_signature, broadcast_funding_after) = match &self.state {
            ChannelState::Payer(state) => {
                let signature = state.refund_signature;
                (state.opened, signature, state.broadcast_funding_after)
            }
            ChannelState::Payee(state) => (state.opened, None, None),
        };
        let name = self.name();
        let mut row = [
            Value::Blob(serialize(&name.funding)),
            Value::Integer(number_of_role(name.role)),
            Value::Blob(self.key_id.to_bytes().to_vec()),
            Value::Blob(open),
            Value::Blob(accept),
            Value::Blob(serialize(self.state.funding().tx())),
            Value::signature(refund_signature),
            Value::Integer(opened.height.to_consensus_u32().into()),
            Value::Integer(opened.mtp.to_consensus_u32().into()),
            broadcast_funding_after.map_or(Value::Null, |blocks| Value::Integer(blocks.into())),
            Value::Null,
        ];
        seal(&[], &mut row);
        row
    }

    fn progress(&self) -> Progress {
        match &self.state {
            ChannelState::Payer(state) => Progress::Payer(state.progress.clone()),
            ChannelState::Payee(state) => Progress::Payee(state.progress.clone()),
        }
    }
}

/// Returns the row of a channel's progress.
pub fn progress_row(channel: ChannelName, progress: &Progress) -> ProgressRow {
    let (phase, paid, signature, rest) = match progress {
        Progress::Payer(payer) => {
            let phase = number_of_payer_phase(payer.phase);
            (phase, payer.signed, None, Some(payer_rest(payer)))
        }
        Progress::Payee(payee) => {
            let latest = payee.latest;
            let paid = latest.map_or(Amount::ZERO, |latest| latest.paid);
            let signature = latest.map(|latest| latest.signature);
            (
                number_of_payee_phase(payee.phase),
                paid,
                signature,
                payee_rest(payee),
            )
        }
    };
    let mut row = [
        Value::unsigned(progress.version()),
        Value::Integer(phase.into()),
        Value::unsigned(paid.to_sat()),
        Value::signature(signature),
        rest.map_or(Value::Null, Value::Blob),
        Value::Null,
    ];
    // A row in the place of another channel's is damage, too.
    seal(&name_values(channel), &mut row);
    row
}

pub(super) fn name_values(ChannelName { funding, role }: ChannelName) -> [Value; 2] {
    [
        Value::Blob(serialize(&funding)),
        Value::Integer(number_of_role(role)),
    ]
}

/// Puts the checksum of all other values into the last column: `SQLite` has none of its own.
fn seal(before: &[Value], row: &mut [Value]) {
    let mut engine = siphash24::HashEngine::with_keys(0, 0);
    for value in before.iter().chain(&*row) {
        match value {
            Value::Null => engine.input(&[0]),
            Value::Integer(number) => {
                engine.input(&[1]);
                engine.input(&number.to_le_bytes());
            }
            Value::Blob(bytes) => {
                engine.input(&[2]);
                engine.input(&(bytes.len() as u64).to_le_bytes());
                engine.input(bytes);
            }
        }
    }
    if let Some(last) = row.last_mut() {
        *last = Value::unsigned(siphash24::Hash::from_engine(engine).as_u64());
    }
}

fn read(channel: &ChannelRow, progress: &ProgressRow) -> Result<StoredChannel, Fault> {
    let [funding, role, key_id, open, accept, funding_tx, refund_signature, height, mtp, after, _] = channel;
    let message = |value: &Value| wire::decode(value.blob()?).map_err(|error| error.to_string());
    let open = message(open).map_err(in_column("open"))?;
    let accept = message(accept).map_err(in_column("accept"))?;
    let params = ChannelParams::from_messages(open, accept).map_err(in_column("accept"))?;
    let outpoint = read_outpoint(funding).map_err(in_column("funding"))?;
    let tx = funding_tx.blob().and_then(transaction);
    let tx = tx.map_err(in_column("funding_tx"))?;
    let funding = FundingTx::check(&params, outpoint, tx).map_err(in_column("funding_tx"))?;
    let key_id = key_id.array().map_err(in_column("key_id"))?;
    let opened = Tip {
        height: height
            .number()
            .and_then(read_height)
            .map_err(in_column("opened_height"))?,
        mtp: mtp
            .number()
            .and_then(read_time)
            .map_err(in_column("opened_mtp"))?,
    };
    let refund_signature = refund_signature.optional(Value::to_signature);
    let refund_signature = refund_signature.map_err(in_column("refund_signature"))?;
    let after = after
        .optional(Value::number)
        .map_err(in_column("broadcast_funding_after"))?;
    let role = read_role(role).map_err(in_column("role"))?;
    let state = match read_progress(role, progress)? {
        Progress::Payer(progress) => ChannelState::Payer(PayerState {
            params,
            funding,
            opened,
            refund_signature,
            broadcast_funding_after: after,
            progress,
        }),
        Progress::Payee(progress) => ChannelState::Payee(PayeeState {
            params,
            funding,
            opened,
            progress,
        }),
    };
    let stored = StoredChannel {
        key_id: KeyId::from_bytes(key_id),
        state,
    };
    let (expected, expected_progress) = stored.to_rows();
    compare(&CHANNEL_COLUMNS, &expected, channel)?;
    compare(&PROGRESS_COLUMNS, &expected_progress, progress)?;
    Ok(stored)
}

/// A row has one form.
fn compare(columns: &[&'static str], expected: &[Value], found: &[Value]) -> Result<(), Fault> {
    let values = expected.iter().zip(found);
    match columns
        .iter()
        .zip(values)
        .find(|(_, (expected, found))| expected != found)
    {
        None => Ok(()),
        Some((column, (expected, found))) => {
            let error = format!("expected {}, got {}", expected.describe(), found.describe());
            Err((column, error))
        }
    }
}

fn in_column<E: Display>(column: &'static str) -> impl Fn(E) -> Fault {
    move |error| (column, error.to_string())
}

fn describe(channel: &ChannelRow) -> String {
    let [funding, role, ..] = channel;
    match (read_outpoint(funding), read_role(role)) {
        (Ok(funding), Ok(role)) => ChannelName { funding, role }.to_string(),
        _ => format!("the channel {}", funding.describe()),
    }
}

fn read_progress(role: KeyRole, row: &ProgressRow) -> Result<Progress, Fault> {
    let [version, phase, paid, signature, rest, _] = row;
    let version = version.to_u64().map_err(in_column("version"))?;
    let phase = phase.number().map_err(in_column("phase"))?;
    let paid = paid.to_u64().map(Amount::from_sat).map_err(in_column("paid"))?;
    Ok(match role {
        KeyRole::Payer => {
            let phase = read_payer_phase(phase).map_err(in_column("phase"))?;
            let rest = rest.blob().and_then(read_rest).map_err(in_column("rest"))?;
            Progress::Payer(read_payer(version, phase, paid, rest).map_err(in_column("rest"))?)
        }
        KeyRole::Payee => {
            let phase = read_payee_phase(phase).map_err(in_column("phase"))?;
            let signature = signature.optional(Value::to_signature);
            let signature = signature.map_err(in_column("signature"))?;
            let latest = signature.map(|signature| SignedPayment { paid, signature });
            let rest = rest.optional(Value::blob).map_err(in_column("rest"))?;
            Progress::Payee(read_payee(version, phase, latest, rest).map_err(in_column("rest"))?)
        }
    })
}

fn unknown(what: &str, number: impl Display, last: u8) -> String {
    format!("the {what} {number} is unknown, the last known is {last}")
}

fn transaction(bytes: &[u8]) -> Result<Transaction, String> {
    wire::transaction(bytes).map_err(|error| error.to_string())
}

fn read_outpoint(funding: &Value) -> Result<OutPoint, String> {
    deserialize(funding.blob()?).map_err(|error| error.to_string())
}

fn read_height(height: u32) -> Result<Height, String> {
    Height::from_consensus(height).map_err(|error| error.to_string())
}

fn read_time(time: u32) -> Result<Time, String> {
    Time::from_consensus(time).map_err(|error| error.to_string())
}

const fn number_of_role(role: KeyRole) -> i64 {
    match role {
        KeyRole::Payer => 0,
        KeyRole::Payee => 1,
    }
}

fn read_role(value: &Value) -> Result<KeyRole, String> {
    match value.number()? {
        0_u8 => Ok(KeyRole::Payer),
        1 => Ok(KeyRole::Payee),
        other => Err(unknown("role", other, 1)),
    }
}

const fn number_of_payer_phase(phase: PayerPhase) -> u8 {
    match phase {
        PayerPhase::Protected => 0,
        PayerPhase::AwaitingReady => 1,
        PayerPhase::Open => 2,
        PayerPhase::Suspended => 3,
        PayerPhase::AwaitingCooperativeClose => 4,
        PayerPhase::Closing => 5,
        PayerPhase::Closed => 6,
        PayerPhase::Abandoned => 7,
    }
}

fn read_payer_phase(number: u8) -> Result<PayerPhase, String> {
    Ok(match number {
        0 => PayerPhase::Protected,
        1 => PayerPhase::AwaitingReady,
        2 => PayerPhase::Open,
        3 => PayerPhase::Suspended,
        4 => PayerPhase::AwaitingCooperativeClose,
        5 => PayerPhase::Closing,
        6 => PayerPhase::Closed,
        7 => PayerPhase::Abandoned,
        other => return Err(unknown("phase", other, 7)),
    })
}

const fn number_of_payee_phase(phase: PayeePhase) -> u8 {
    match phase {
        PayeePhase::AwaitingFunding => 0,
        PayeePhase::Open => 1,
        PayeePhase::Suspended => 2,
        PayeePhase::Settling => 3,
        PayeePhase::Closed => 4,
        PayeePhase::AwaitingSettlement { asked, was_open } => 5 + asked as u8 + 2 * was_open as u8,
    }
}

fn read_payee_phase(number: u8) -> Result<PayeePhase, String> {
    Ok(match number {
        0 => PayeePhase::AwaitingFunding,
        1 => PayeePhase::Open,
        2 => PayeePhase::Suspended,
        3 => PayeePhase::Settling,
        4 => PayeePhase::Closed,
        5..=8 => PayeePhase::AwaitingSettlement {
            asked: (number - 5) & 1 != 0,
            was_open: (number - 5) & 2 != 0,
        },
        other => return Err(unknown("phase", other, 8)),
    })
}
