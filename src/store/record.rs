//! A stored channel as the rows of two tables: what a database holds, whichever it is.
//!
//! What was said is stored as it was said: `open` and `accept` as messages, the funding transaction in consensus encoding,
//! the latest payment as its sum and its signature. The rest has columns, and what a channel rarely has is one CBOR array.
//! A row has one form, so reading it makes it again and compares: no damage passes for another state.

use std::fmt::Display;

use bitcoin::absolute::{Height, Time};
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{siphash24, Hash, HashEngine};
use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::Decoder;
use thiserror::Error;

use super::{ChannelName, StoredChannel};
use crate::channel::{
    ChannelParams, ChannelState, FundingTx, KeyId, KeyRole, Outcome, PayeePhase, PayeeProgress, PayeeState,
    PayerPhase, PayerProgress, PayerState, Progress, SettlementForm, SignedPayment, SignedSettlement, Tip,
    UnverifiedSignature,
};
use crate::wire;

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

/// A value in a column. Unsigned numbers of 64 bits are stored as the signed ones with the same bits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of SQL")]
pub enum Value {
    Null,
    Integer(i64),
    Blob(Vec<u8>),
}

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

/// The first element of the column `rest`.
const FORMAT: u8 = 1;

type RawTip = (u32, u32);
type RawPayment = (u64, ByteArray<64>);
type RawOutcome = (ByteArray<32>, u64, u64);
/// Form, paid, fee, signature, child.
type RawSettlement = (u8, u64, u64, ByteArray<64>, Option<ByteVec>);
/// Format, handed over, confirmed, acknowledged, greatest feerate, child, malleated, outcome.
type PayerRest = (
    u8,
    Option<RawTip>,
    bool,
    Option<u64>,
    u64,
    Option<ByteVec>,
    Option<ByteVec>,
    Option<RawOutcome>,
);
/// Format, parked, settlement, outcome.
type PayeeRest = (u8, Option<RawPayment>, Option<RawSettlement>, Option<RawOutcome>);

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

fn payer_rest(payer: &PayerProgress) -> Vec<u8> {
    let raw_tip = |tip: Tip| (tip.height.to_consensus_u32(), tip.mtp.to_consensus_u32());
    let bytes = |tx: &Option<Box<Transaction>>| tx.as_deref().map(tx_bytes);
    let rest: PayerRest = (
        FORMAT,
        payer.handed_over.map(raw_tip),
        payer.confirmed,
        payer.acknowledged.map(Amount::to_sat),
        payer.max_feerate.to_sat_per_kwu(),
        bytes(&payer.child),
        bytes(&payer.malleated),
        payer.outcome.map(raw_outcome),
    );
    to_cbor(rest)
}

fn read_payer(
    version: u64,
    phase: PayerPhase,
    signed: Amount,
    rest: PayerRest,
) -> Result<PayerProgress, String> {
    let (_, handed_over, confirmed, acknowledged, max_feerate, child, malleated, outcome) = rest;
    let tip = |(height, mtp)| -> Result<Tip, String> {
        Ok(Tip {
            height: read_height(height)?,
            mtp: read_time(mtp)?,
        })
    };
    let boxed = |bytes: ByteVec| transaction(&bytes).map(Box::new);
    Ok(PayerProgress {
        version,
        phase,
        handed_over: handed_over.map(tip).transpose()?,
        confirmed,
        signed,
        acknowledged: acknowledged.map(Amount::from_sat),
        max_feerate: FeeRate::from_sat_per_kwu(max_feerate),
        child: child.map(boxed).transpose()?,
        malleated: malleated.map(boxed).transpose()?,
        outcome: outcome.map(read_outcome),
    })
}

/// Nothing while the channel is in use, so that the row of a payment is small.
fn payee_rest(payee: &PayeeProgress) -> Option<Vec<u8>> {
    let rest: PayeeRest = (
        FORMAT,
        payee
            .parked
            .map(|parked| (parked.paid.to_sat(), parked.signature.to_compact().into())),
        payee.settlement.as_deref().map(raw_settlement),
        payee.outcome.map(raw_outcome),
    );
    let is_empty = matches!(rest, (_, None, None, None));
    (!is_empty).then(|| to_cbor(rest))
}

fn read_payee(
    version: u64,
    phase: PayeePhase,
    latest: Option<SignedPayment>,
    rest: Option<&[u8]>,
) -> Result<PayeeProgress, String> {
    let rest = rest.map(read_rest::<PayeeRest>).transpose()?;
    let (_, parked, settlement, outcome) = rest.unwrap_or((FORMAT, None, None, None));
    let settlement = settlement.map(read_settlement).transpose()?;
    Ok(PayeeProgress {
        version,
        phase,
        latest,
        parked: parked.map(|(paid, signature)| SignedPayment {
            paid: Amount::from_sat(paid),
            signature: UnverifiedSignature::from_compact(signature.into()),
        }),
        settlement: settlement.map(Box::new),
        outcome: outcome.map(read_outcome),
    })
}

fn raw_settlement(settlement: &SignedSettlement) -> RawSettlement {
    let form = match settlement.form {
        SettlementForm::Payment => 0,
        SettlementForm::Separate => 1,
        SettlementForm::Cooperative => 2,
    };
    let (paid, fee) = (settlement.paid.to_sat(), settlement.fee.to_sat());
    let signature = settlement.signature.to_compact().into();
    (
        form,
        paid,
        fee,
        signature,
        settlement.child.as_ref().map(tx_bytes),
    )
}

fn read_settlement((form, paid, fee, signature, child): RawSettlement) -> Result<SignedSettlement, String> {
    Ok(SignedSettlement {
        form: match form {
            0 => SettlementForm::Payment,
            1 => SettlementForm::Separate,
            2 => SettlementForm::Cooperative,
            other => return Err(unknown("settlement form", other, 2)),
        },
        paid: Amount::from_sat(paid),
        fee: Amount::from_sat(fee),
        signature: UnverifiedSignature::from_compact(signature.into()),
        child: child.map(|bytes| transaction(&bytes)).transpose()?,
    })
}

fn raw_outcome(outcome: Outcome) -> RawOutcome {
    let (to_payer, to_payee) = (outcome.to_payer.to_sat(), outcome.to_payee.to_sat());
    (outcome.txid.to_byte_array().into(), to_payer, to_payee)
}

fn read_outcome((txid, to_payer, to_payee): RawOutcome) -> Outcome {
    Outcome {
        txid: Txid::from_byte_array(txid.into()),
        to_payer: Amount::from_sat(to_payer),
        to_payee: Amount::from_sat(to_payee),
    }
}

fn to_cbor<T: minicbor::Encode<()>>(rest: T) -> Vec<u8> {
    minicbor::to_vec(rest).expect("a Vec takes every byte, and every element has an encoding")
}

/// Another format may have another length, so the format is read first.
fn read_rest<'b, T: minicbor::Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, String> {
    let read = |e: minicbor::decode::Error| e.to_string();
    let mut first = Decoder::new(bytes);
    first.array().map_err(read)?;
    let format = first.u8().map_err(read)?;
    if format != FORMAT {
        return Err(unknown("format", format, FORMAT));
    }
    minicbor::decode(bytes).map_err(read)
}

fn unknown(what: &str, number: impl Display, last: u8) -> String {
    format!("the {what} {number} is unknown, the last known is {last}")
}

fn tx_bytes(tx: &Transaction) -> ByteVec {
    serialize(tx).into()
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

impl Value {
    const fn unsigned(number: u64) -> Self {
        Self::Integer(number.cast_signed())
    }

    fn signature(signature: Option<UnverifiedSignature>) -> Self {
        signature.map_or(Self::Null, |signature| {
            Self::Blob(signature.to_compact().to_vec())
        })
    }

    fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Blob(bytes) => bytes.as_hex().to_string(),
        }
    }

    fn blob(&self) -> Result<&[u8], String> {
        match self {
            Self::Blob(bytes) => Ok(bytes),
            other => Err(format!("expected bytes, got {}", other.describe())),
        }
    }

    fn array<const N: usize>(&self) -> Result<[u8; N], String> {
        let bytes = self.blob()?;
        let error = |_| format!("expected {N} bytes, got {}", bytes.len());
        bytes.try_into().map_err(error)
    }

    fn to_signature(&self) -> Result<UnverifiedSignature, String> {
        self.array().map(UnverifiedSignature::from_compact)
    }

    fn to_u64(&self) -> Result<u64, String> {
        match self {
            Self::Integer(number) => Ok(number.cast_unsigned()),
            other => Err(format!("expected a number, got {}", other.describe())),
        }
    }

    fn number<T: TryFrom<u64>>(&self) -> Result<T, String> {
        let number = self.to_u64()?;
        T::try_from(number).map_err(|_| format!("{} is out of range", number.cast_signed()))
    }

    fn optional<'v, T>(
        &'v self,
        read: impl FnOnce(&'v Self) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        match self {
            Self::Null => Ok(None),
            value => read(value).map(Some),
        }
    }
}
