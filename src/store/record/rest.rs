//! The column `rest`: what a channel rarely has, as one CBOR array that begins with the number of its format.

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, FeeRate, Transaction, Txid};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::Decoder;

use super::{read_height, read_time, transaction, unknown};
use crate::channel::{
    Outcome, PayeePhase, PayeeProgress, PayerPhase, PayerProgress, SettlementForm, SignedPayment,
    SignedSettlement, Tip, UnverifiedSignature,
};

/// The first element of the column `rest`.
const FORMAT: u8 = 1;

type RawTip = (u32, u32);
type RawPayment = (u64, ByteArray<64>);
type RawOutcome = (ByteArray<32>, u64, u64);
/// Form, paid, fee, signature, child.
type RawSettlement = (u8, u64, u64, ByteArray<64>, Option<ByteVec>);
/// Format, handed over, confirmed, acknowledged, greatest feerate, child, malleated, outcome.
pub(super) type PayerRest = (
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
pub(super) type PayeeRest = (u8, Option<RawPayment>, Option<RawSettlement>, Option<RawOutcome>);

pub(super) fn payer_rest(payer: &PayerProgress) -> Vec<u8> {
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

pub(super) fn read_payer(
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
pub(super) fn payee_rest(payee: &PayeeProgress) -> Option<Vec<u8>> {
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

pub(super) fn read_payee(
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
pub(super) fn read_rest<'b, T: minicbor::Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, String> {
    let read = |e: minicbor::decode::Error| e.to_string();
    let mut first = Decoder::new(bytes);
    first.array().map_err(read)?;
    let format = first.u8().map_err(read)?;
    if format != FORMAT {
        return Err(unknown("format", format, FORMAT));
    }
    minicbor::decode(bytes).map_err(read)
}

fn tx_bytes(tx: &Transaction) -> ByteVec {
    serialize(tx).into()
}
