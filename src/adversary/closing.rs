//! How the payer ends the channel: the settlement that the payee checks, with two signatures or with one.

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, FeeRate, Sequence};

use super::change::{compact, other_channel, paid, part, sign, sign_as, sign_changed, sign_open, Open, SAT};
use super::forger::stranger;
use super::oracle::high_s;
use super::{ecdsa, message, stepped, Forger, Forgery};
use crate::channel::{Envelope, Message, MessageKind, PublicNonce, RefusalReason, LOCKED_SEQUENCE};
use crate::transcript::{MessagePosition, Side};

const SETTLEMENT: MessagePosition = MessagePosition::new(Side::Payer, MessageKind::Settlement, 0);
const ASKED: MessagePosition = MessagePosition::new(Side::Payer, MessageKind::CloseRequest, 0);
const COOPERATIVE: MessagePosition = MessagePosition::new(Side::Payer, MessageKind::CooperativeSettlement, 0);
const WRONG: RefusalReason = RefusalReason::SignatureWrong;
const PARTIAL: RefusalReason = RefusalReason::PartialSignatureWrong;
const DIFFERS: RefusalReason = RefusalReason::SettlementDiffers;
const FEERATE: RefusalReason = RefusalReason::SettlementFeerate;

pub(super) const ALL: &[&[Forgery]] = &[SETTLEMENTS, ASKING, COOPERATIVE_SUMS, COOPERATIVE_PARTS];

#[rustfmt::skip]
const SETTLEMENTS: &[Forgery] = &[
    message("settlement-less", "a satoshi less than was accepted", SETTLEMENT, DIFFERS, &["{paid-1}", "{paid}"], |f, e| settles(f, e, f.paid() - SAT)),
    message("settlement-more", "a satoshi more than was accepted", SETTLEMENT, DIFFERS, &["{paid+1}", "{paid}"], |f, e| settles(f, e, f.paid() + SAT)),
    message("settlement-of-nothing", "everything back to the payer", SETTLEMENT, DIFFERS, &[" 0 BTC", "{paid}"], |f, e| settles(f, e, Amount::ZERO)),
    message("settlement-feerate-low", "one sat/kwu below the agreed feerate", SETTLEMENT, FEERATE, &["{feerate-1}", "{feerate}"], |f, e| { let lower = FeeRate::from_sat_per_kwu(feerate(e).to_sat_per_kwu() - 1); *feerate(e) = lower; sign(f, e); }),
    message("settlement-feerate-unpayable", "a feerate that the payer's change does not pay", SETTLEMENT, FEERATE, &["4294967295 sat/kwu"], |f, e| { *feerate(e) = FeeRate::from_sat_per_kwu(u64::from(u32::MAX)); sign(f, e); }),
    message("settlement-signed-less", "the sum is right, and signed is a satoshi less", SETTLEMENT, WRONG, &["not made by key"], |f, e| { let honest = *paid(e); settles(f, e, honest - SAT); *paid(e) = honest; }),
    message("settlement-signed-with-payment-lock", "signed as a payment is, with its lock", SETTLEMENT, WRONG, &["not made by key"], |f, e| { let lock = f.params().terms().payment_expiry.expect("the protocol has one").to_lock_time(); sign_changed(f, e, |tx| { tx.lock_time = lock; tx.input[0].sequence = LOCKED_SEQUENCE; }); }).on(stepped),
    message("settlement-signed-final-lock", "signed with a lock time that a final sequence disables", SETTLEMENT, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| { tx.lock_time = LockTime::from_consensus(1); tx.input[0].sequence = Sequence::MAX; })),
    message("settlement-signed-none", "signed with the hash type NONE: any outputs", SETTLEMENT, WRONG, &["not made by key"], |f, e| sign_open(f, e, Open::Outputs)),
    message("settlement-by-stranger", "signed by a key that is nobody's here", SETTLEMENT, WRONG, &["not made by key"], |f, e| sign_as(f, e, &stranger())),
    message("settlement-high-s", "the signature's other s, which no node relays", SETTLEMENT, RefusalReason::SignatureHighS, &["high s"], |_, e| compact(e, high_s)).on(ecdsa),
    message("settlement-wrong-channel", "the right settlement for another channel", SETTLEMENT, RefusalReason::WrongChannel, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
];

#[rustfmt::skip]
const ASKING: &[Forgery] = &[
    message("close-request-feerate-low", "one sat/kwu below the agreed feerate", ASKED, FEERATE, &["{feerate-1}", "{feerate}"], |_, e| { let lower = FeeRate::from_sat_per_kwu(feerate(e).to_sat_per_kwu() - 1); *feerate(e) = lower; }),
    message("close-request-with-nonce", "a nonce from the payer, who answers the payee's", ASKED, RefusalReason::UnexpectedMessage, &["close-request", "open"], |_, e| if let Message::CloseRequest { nonce, .. } = &mut e.message { *nonce = Some(any_nonce()); }),
    message("close-request-wrong-channel", "the wish to close another channel", ASKED, RefusalReason::WrongChannel, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
];

#[rustfmt::skip]
const COOPERATIVE_SUMS: &[Forgery] = &[
    message("joint-less", "a satoshi less than was accepted", COOPERATIVE, DIFFERS, &["{paid-1}", "{paid}"], |f, e| joins(f, e, f.paid() - SAT)),
    message("joint-more", "a satoshi more than was accepted", COOPERATIVE, DIFFERS, &["{paid+1}", "{paid}"], |f, e| joins(f, e, f.paid() + SAT)),
    message("joint-feerate-low", "one sat/kwu below the agreed feerate", COOPERATIVE, FEERATE, &["{feerate-1}", "{feerate}"], |f, e| { let lower = FeeRate::from_sat_per_kwu(feerate(e).to_sat_per_kwu() - 1); e.message = f.join(f.paid(), lower, &f.nonce()); }),
    message("joint-feerate-unpayable", "a feerate that the payer's change does not pay", COOPERATIVE, FEERATE, &["4294967295 sat/kwu"], |f, e| e.message = f.join(f.paid(), FeeRate::from_sat_per_kwu(u64::from(u32::MAX)), &f.nonce())),
    message("joint-wrong-channel", "the right settlement for another channel", COOPERATIVE, RefusalReason::WrongChannel, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
    message("joint-replaced-by-payment", "the newest payment once more", COOPERATIVE, RefusalReason::PaidRepeated, &["{paid}"], |f, e| { let newest = f.said().find(|message| message.kind() == MessageKind::Payment); e.message = newest.expect("there were payments").clone(); }),
];

#[rustfmt::skip]
const COOPERATIVE_PARTS: &[Forgery] = &[
    message("joint-part-changed", "one bit of the payer's part is another", COOPERATIVE, PARTIAL, &["not made by key"], |_, e| part(e, |b| b[31] ^= 1)),
    message("joint-part-zero", "a part of 32 zero bytes", COOPERATIVE, PARTIAL, &["00000000", "not made by key"], |_, e| part(e, |b| b.fill(0))),
    message("joint-part-by-stranger", "the part of a key that is nobody's here", COOPERATIVE, PARTIAL, &["not made by key"], |f, e| e.message = f.join_as(&stranger(), f.paid(), *feerate(e), &f.nonce())),
    message("joint-part-for-less", "the sum is right, and signed is a satoshi less", COOPERATIVE, PARTIAL, &["not made by key"], |f, e| { joins(f, e, f.paid() - SAT); *paid(e) = f.paid(); }),
    message("joint-part-for-other-feerate", "signed for one sat/vB more than it says", COOPERATIVE, PARTIAL, &["not made by key"], |f, e| { let honest = *feerate(e); let higher = FeeRate::from_sat_per_kwu(honest.to_sat_per_kwu() + 250); e.message = f.join(f.paid(), higher, &f.nonce()); *feerate(e) = honest; }),
    message("joint-part-for-other-nonce", "answers a nonce that the payee did not ask with", COOPERATIVE, PARTIAL, &["not made by key"], |f, e| e.message = f.join(f.paid(), *feerate(e), &any_nonce())),
    message("joint-nonce-of-payee", "gives the payee's own nonce back", COOPERATIVE, PARTIAL, &["not made by key"], |f, e| if let Message::CooperativeSettlement { nonce, .. } = &mut e.message { *nonce = f.nonce(); }),
];

fn settles(forger: &Forger, envelope: &mut Envelope, sum: Amount) {
    *paid(envelope) = sum;
    sign(forger, envelope);
}

fn joins(forger: &Forger, envelope: &mut Envelope, sum: Amount) {
    envelope.message = forger.join(sum, *feerate(envelope), &forger.nonce());
}

fn feerate(envelope: &mut Envelope) -> &mut FeeRate {
    match &mut envelope.message {
        Message::Settlement { feerate, .. }
        | Message::CooperativeSettlement { feerate, .. }
        | Message::CloseRequest { feerate, .. } => feerate,
        other => unreachable!("{} has no feerate", other.kind()),
    }
}

/// Two points of the curve that no one made as a nonce.
pub(super) fn any_nonce() -> PublicNonce {
    let point = stranger().public_key().serialize();
    let mut bytes = [0; 66];
    bytes[..33].copy_from_slice(&point);
    bytes[33..].copy_from_slice(&point);
    PublicNonce::from_bytes(bytes).expect("two points of the curve")
}
