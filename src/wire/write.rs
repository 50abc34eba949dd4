use std::convert::Infallible;

use bitcoin::consensus::encode::serialize as consensus_bytes;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, Txid};
use minicbor::Encoder;

use super::{elements, VERSION};
use crate::channel::{Envelope, Message, PublicNonce, Terms, Unverified};

pub(super) type Write = Encoder<Vec<u8>>;
type Written = Result<(), minicbor::encode::Error<Infallible>>;

pub(super) fn write(e: &mut Write, envelope: &Envelope) -> Written {
    let kind = envelope.message.kind();
    e.array(elements(kind))?.u8(kind as u8)?.u16(envelope.channel.0)?;
    match &envelope.message {
        Message::Open {
            terms,
            payer_key,
            payer_payout,
        } => {
            e.u8(VERSION)?;
            write_terms(e, terms)?;
            e.bytes(&payer_key.to_public_key().serialize())?
                .bytes(payer_payout.as_bytes())?;
        }
        Message::Accept {
            payee_key,
            payee_payout,
            confirmation,
        } => {
            e.bytes(&payee_key.to_public_key().serialize())?;
            e.bytes(payee_payout.as_bytes())?.u32(confirmation.depth)?;
            e.u64(confirmation.zero_conf_limit.to_sat())?;
        }
        Message::RefundRequest { tx } | Message::Funding { tx } => {
            e.bytes(&consensus_bytes(tx))?;
        }
        Message::RefundSignature { signature } => {
            e.bytes(&signature.to_compact())?;
        }
        Message::PaymentRequest { paid } | Message::PaymentAccepted { paid } => {
            e.u64(paid.to_sat())?;
        }
        Message::Payment { paid, signature } => {
            e.u64(paid.to_sat())?.bytes(&signature.to_compact())?;
        }
        Message::CloseRequest { feerate, nonce } => {
            e.u64(feerate.to_sat_per_kwu())?;
            write_optional_bytes(e, nonce.map(PublicNonce::to_bytes))?;
        }
        Message::Settlement {
            paid,
            feerate,
            signature,
        } => {
            e.u64(paid.to_sat())?
                .u64(feerate.to_sat_per_kwu())?
                .bytes(&signature.to_compact())?;
        }
        Message::CooperativeSettlement {
            paid,
            feerate,
            nonce,
            partial,
        } => {
            e.u64(paid.to_sat())?.u64(feerate.to_sat_per_kwu())?;
            e.bytes(&nonce.to_bytes())?.bytes(&partial.to_bytes())?;
        }
        Message::Closed { txid } => {
            e.bytes(txid.as_byte_array())?;
        }
        Message::Refuse { reason } => {
            e.u8(*reason as u8)?;
        }
        Message::Hello {
            versions,
            features,
            random,
        } => {
            e.u8(versions.least())?.u8(versions.greatest())?;
            e.bytes(&features.to_bits().to_be_bytes())?.bytes(random)?;
        }
        Message::Resume(Unverified { claim, proof }) => {
            e.bytes(claim.funding.txid.as_byte_array())?;
            e.u32(claim.funding.vout)?.u64(claim.signed.to_sat())?;
            write_optional_amount(e, claim.acknowledged)?;
            e.bytes(&proof.to_compact())?;
        }
        Message::Resumed(Unverified { claim, proof }) => {
            let (state, txid) = claim.state.to_parts();
            write_optional_amount(e, claim.latest_payment.map(|payment| payment.paid))?;
            write_optional_bytes(
                e,
                claim.latest_payment.map(|payment| payment.signature.to_compact()),
            )?;
            e.u8(state)?;
            write_optional_bytes(e, txid.map(Txid::to_byte_array))?;
            e.bytes(&proof.to_compact())?;
        }
        Message::FundingRequest | Message::Ready => {}
    }
    Ok(())
}

fn write_optional_bytes<const N: usize>(e: &mut Write, bytes: Option<[u8; N]>) -> Written {
    match bytes {
        Some(bytes) => e.bytes(&bytes)?,
        None => e.null()?,
    };
    Ok(())
}

fn write_optional_amount(e: &mut Write, amount: Option<Amount>) -> Written {
    match amount {
        Some(amount) => e.u64(amount.to_sat())?,
        None => e.null()?,
    };
    Ok(())
}

fn write_terms(e: &mut Write, terms: &Terms) -> Written {
    e.u8(terms.protocol as u8)?.u8(terms.construction as u8)?;
    e.u64(terms.capacity.to_amount().to_sat())?;
    e.u64(terms.feerate.to_sat_per_kwu())?
        .u64(terms.dust_feerate.to_sat_per_kwu())?;
    e.u32(terms.refund_lock.to_consensus_u32())?;
    match terms.payment_expiry {
        Some(expiry) => e.u32(expiry.to_lock_time().to_consensus_u32())?,
        None => e.null()?,
    };
    e.u16(terms.closing_margin.to_blocks())?;
    e.u64(terms.minimum_payment.to_sat())?
        .u64(terms.reserve.to_sat())?;
    Ok(())
}
