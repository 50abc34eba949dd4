//! What a dishonest payee says to the payer while they open the channel.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Amount, ScriptBuf, Sequence, Txid};

use super::change::{compact, other_channel, sign_as, sign_changed, sign_open, Open, SAT};
use super::forger::stranger;
use super::oracle::high_s;
use super::{bond, co_signed, message, never_asked, Forger, Forgery};
use crate::channel::{Confirmation, Envelope, Message, MessageKind, PayeeKey, RefusalReason};
use crate::transcript::{MessagePosition, Side};

pub(super) const ACCEPT: MessagePosition = MessagePosition::new(Side::Payee, MessageKind::Accept, 0);
pub(super) const SIGNED: MessagePosition = MessagePosition::new(Side::Payee, MessageKind::RefundSignature, 0);
const ASKED: MessagePosition = MessagePosition::new(Side::Payee, MessageKind::FundingRequest, 0);
const READY: MessagePosition = MessagePosition::new(Side::Payee, MessageKind::Ready, 0);
const OUT: RefusalReason = RefusalReason::TermsOutOfLimits;
const WRONG: RefusalReason = RefusalReason::SignatureWrong;
const CHANNEL: RefusalReason = RefusalReason::WrongChannel;
const UNEXPECTED: RefusalReason = RefusalReason::UnexpectedMessage;

pub(super) const ALL: &[&[Forgery]] = &[ACCEPTS, REFUNDS, OUT_OF_TURN, OPENING];

#[rustfmt::skip]
const ACCEPTS: &[Forgery] = &[
    message("accept-own-key", "the payer's own key", ACCEPT, RefusalReason::BadParams, &["same key"], |f, e| { let (key, _) = proposed(f); *accepted(e).0 = PayeeKey::new(key); }),
    message("accept-own-key-negated", "the payer's own key with the other sign, which Taproot takes for the same", ACCEPT, RefusalReason::BadParams, &["same key"], |f, e| { let (key, _) = proposed(f); *accepted(e).0 = PayeeKey::new(key.negate(&Secp256k1::new())); }),
    message("accept-own-payout", "the payer's own payout script", ACCEPT, RefusalReason::BadParams, &["same payout"], |f, e| *accepted(e).1 = proposed(f).1),
    message("accept-payout-not-standard", "the payee's money goes to a script that no node relays", ACCEPT, OUT, &["OP_PUSHNUM_1", "not a standard"], |_, e| *accepted(e).1 = ScriptBuf::from_bytes(vec![bitcoin::opcodes::OP_TRUE.to_u8()])),
    message("accept-no-confirmations", "payments count before the funding transaction is in a block", ACCEPT, OUT, &["0 confirmations", "1 to 12"], |_, e| accepted(e).2.depth = 0),
    message("accept-too-many-confirmations", "13 confirmations, one more than the payer waits for", ACCEPT, OUT, &["13 confirmations", "1 to 12"], |_, e| accepted(e).2.depth = 13),
    message("accept-wrong-channel", "the right answer for another channel", ACCEPT, CHANNEL, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
    message("accept-replaced-by-ready", "ready, and no key", ACCEPT, UNEXPECTED, &["ready", "proposing"], |_, e| e.message = Message::Ready),
];

#[rustfmt::skip]
const REFUNDS: &[Forgery] = &[
    message("refund-signature-by-stranger", "signed by a key that is nobody's here", SIGNED, WRONG, &["not made by key"], |f, e| sign_as(f, e, &stranger())),
    message("refund-signature-unlocked", "signed for a refund without its lock", SIGNED, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| tx.lock_time = LockTime::ZERO)),
    message("refund-signature-final-sequence", "signed for a refund with a final sequence", SIGNED, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| tx.input[0].sequence = Sequence::MAX)),
    message("refund-signature-less", "signed for a satoshi less", SIGNED, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| tx.output[0].value -= SAT)),
    message("refund-signature-other-outpoint", "signed for another output of the funding transaction", SIGNED, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| tx.input[0].previous_output.vout += 1)),
    message("refund-signature-none", "signed with the hash type NONE, which no wallet of the payer's adds", SIGNED, WRONG, &["not made by key"], |f, e| sign_open(f, e, Open::Outputs)),
    message("refund-signature-high-s", "the signature's other s, which no node relays", SIGNED, RefusalReason::SignatureHighS, &["high s"], |_, e| compact(e, high_s)),
    message("refund-signature-out-of-range", "r is not below the curve's order", SIGNED, RefusalReason::SignatureOutOfRange, &["below the order", "ffffffff"], |_, e| compact(e, |b| b[..32].fill(0xff))),
    message("refund-signature-zero", "64 zero bytes", SIGNED, WRONG, &["0000000000000000"], |_, e| compact(e, |b| b.fill(0))),
    message("refund-signature-wrong-channel", "the right signature for another channel", SIGNED, CHANNEL, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
    message("refund-signature-replaced-by-funding-request", "asks for the bond and has not signed the refund", SIGNED, UNEXPECTED, &["funding-request", "signing the refund"], |_, e| e.message = Message::FundingRequest),
];

/// What was said before, or is said later.
#[rustfmt::skip]
const OUT_OF_TURN: &[Forgery] = &[
    message("refund-signature-replaced-by-accept", "accepts once more", SIGNED, UNEXPECTED, &["accept", "signing the refund"], |f, e| e.message = said(f, MessageKind::Accept)),
    message("refund-signature-replaced-by-close-request", "a wish to close before there is anything to close", SIGNED, UNEXPECTED, &["close-request", "signing the refund"], |f, e| { let feerate = f.params().terms().feerate; e.message = Message::CloseRequest { feerate, nonce: None }; }),
    message("ready-replaced-by-accept", "accepts once more", READY, UNEXPECTED, &["accept", "waiting for the funding transaction to confirm"], |f, e| e.message = said(f, MessageKind::Accept)),
    message("ready-replaced-by-refund-signature", "the refund's signature once more", READY, UNEXPECTED, &["refund-signature", "waiting for the funding transaction to confirm"], |f, e| e.message = said(f, MessageKind::RefundSignature)).on(co_signed),
    message("ready-replaced-by-second-funding-request", "asks once more for the bond that was handed over", READY, UNEXPECTED, &["funding-request", "waiting for the funding transaction to confirm"], |_, e| e.message = Message::FundingRequest).on(bond),
];

#[rustfmt::skip]
const OPENING: &[Forgery] = &[
    message("funding-request-wrong-channel", "asks for the bond of another channel", ASKED, CHANNEL, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
    message("funding-request-replaced-by-ready", "ready before the bond was handed over", ASKED, UNEXPECTED, &["ready", "waiting to fund"], |_, e| e.message = Message::Ready),
    message("ready-wrong-channel", "another channel is ready", READY, CHANNEL, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
    message("ready-replaced-by-accepted", "acknowledges before the channel is open", READY, UNEXPECTED, &["payment-accepted", "waiting for the funding transaction to confirm"], |_, e| e.message = Message::PaymentAccepted { paid: Amount::ZERO }),
    message("ready-replaced-by-closed", "has settled a channel that is not open", READY, UNEXPECTED, &["closed", "waiting for the funding transaction to confirm"], |_, e| { let txid = Txid::all_zeros(); e.message = Message::Closed { txid }; }),
    message("ready-replaced-by-funding-request", "asks for the funding transaction, which the payer hands over unasked here", READY, UNEXPECTED, &["funding-request", "waiting for the funding transaction to confirm"], |_, e| e.message = Message::FundingRequest).on(never_asked),
];

/// The latest message of this kind.
fn said(forger: &Forger, kind: MessageKind) -> Message {
    let newest = forger.said().find(|message| message.kind() == kind);
    newest.expect("it was said before").clone()
}

/// The payer's key and payout.
fn proposed(forger: &Forger) -> (bitcoin::secp256k1::PublicKey, ScriptBuf) {
    match &forger.open().message {
        Message::Open {
            payer_key,
            payer_payout,
            ..
        } => (payer_key.to_public_key(), payer_payout.clone()),
        other => unreachable!("a conversation begins with a proposal, not with {}", other.kind()),
    }
}

fn accepted(envelope: &mut Envelope) -> (&mut PayeeKey, &mut ScriptBuf, &mut Confirmation) {
    match &mut envelope.message {
        Message::Accept {
            payee_key,
            payee_payout,
            confirmation,
        } => (payee_key, payee_payout, confirmation),
        other => unreachable!("{} has no key", other.kind()),
    }
}
