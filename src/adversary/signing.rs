//! Payments with a signature that is wrong in one way.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Sequence};

use super::change::{
    compact, paid, sign_as, sign_changed, sign_for, sign_for_other_channel, sign_for_other_value, sign_open,
    stranger_payout, Open, SAT,
};
use super::forger::stranger;
use super::oracle::high_s;
use super::paying::{pays, PAYMENT};
use super::{ecdsa, message, stepped, taproot, unlocked, Forger, Forgery};
use crate::channel::{Construction, Envelope, RefusalReason, SpendPath, LOCKED_SEQUENCE};

const WRONG: RefusalReason = RefusalReason::SignatureWrong;

pub(super) const ALL: &[&[Forgery]] = &[FORMS, TRANSACTIONS, SIGNERS];

/// The right signature, changed, or written in another way.
#[rustfmt::skip]
const FORMS: &[Forgery] = &[
    message("payment-signature-changed", "one bit of s is another", PAYMENT, WRONG, &["not made by key"], |_, e| compact(e, |b| b[63] ^= 1)),
    message("payment-signature-zero", "64 zero bytes", PAYMENT, WRONG, &["0000000000000000"], |_, e| compact(e, |b| b.fill(0))),
    message("payment-r-zero", "r is zero", PAYMENT, WRONG, &["00000000", "not made by key"], |_, e| compact(e, |b| b[..32].fill(0))),
    message("payment-s-zero", "s is zero", PAYMENT, WRONG, &["00000000", "not made by key"], |_, e| compact(e, |b| b[32..].fill(0))),
    message("payment-halves-swapped", "s before r", PAYMENT, WRONG, &["not made by key"], |_, e| compact(e, |b| b.rotate_left(32))).on(taproot),
    message("payment-high-s", "the signature's other s, which consensus takes and no node relays", PAYMENT, RefusalReason::SignatureHighS, &["high s"], |_, e| compact(e, high_s)).on(ecdsa),
    message("payment-r-out-of-range", "r is not below the curve's order", PAYMENT, RefusalReason::SignatureOutOfRange, &["below the order", "ffffffff"], |_, e| compact(e, |b| b[..32].fill(0xff))).on(ecdsa),
    message("payment-s-out-of-range", "s is not below the curve's order", PAYMENT, RefusalReason::SignatureOutOfRange, &["below the order", "ffffffff"], |_, e| compact(e, |b| b[32..].fill(0xff))).on(ecdsa),
    message("payment-schnorr-other-s", "n - s, which is no signature of BIP 340", PAYMENT, WRONG, &["not made by key"], |_, e| compact(e, high_s)).on(taproot),
    message("payment-schnorr-r-out-of-range", "r is not below the field's size", PAYMENT, WRONG, &["ffffffff", "not made by key"], |_, e| compact(e, |b| b[..32].fill(0xff))).on(taproot),
    message("payment-schnorr-s-out-of-range", "s is not below the curve's order", PAYMENT, WRONG, &["ffffffff", "not made by key"], |_, e| compact(e, |b| b[32..].fill(0xff))).on(taproot),
];

/// Signatures of the payer over something else.
#[rustfmt::skip]
const TRANSACTIONS: &[Forgery] = &[
    message("payment-signed-less", "the sum is right, and signed is a satoshi less", PAYMENT, WRONG, &["not made by key"], |f, e| { let less = *paid(e) - SAT; signed_for(f, e, less); }),
    message("payment-signed-before", "the sum is right, and the signature that of the payment before", PAYMENT, WRONG, &["not made by key"], |f, e| signed_for(f, e, f.paid())),
    message("payment-signed-other-outpoint", "signed for another output of the funding transaction", PAYMENT, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| tx.input[0].previous_output.vout += 1)),
    message("payment-signed-other-channel", "signed for a channel with another payee", PAYMENT, WRONG, &["not made by key"], sign_for_other_channel),
    message("payment-signed-other-value", "signed for a funding output of a satoshi more", PAYMENT, WRONG, &["not made by key"], sign_for_other_value).on(|_, on| on != Construction::P2sh),
    message("payment-signed-other-script", "signed for an output to somebody else", PAYMENT, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| { let output = tx.output.last_mut().expect("a payment pays"); output.script_pubkey = stranger_payout(); })),
    message("payment-signed-swapped-outputs", "signed with the payee's output first", PAYMENT, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| tx.output.reverse())),
    message("payment-signed-version-2", "signed for version 2", PAYMENT, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| tx.version = Version::TWO)),
    message("payment-signed-sequence", "signed for another sequence", PAYMENT, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| tx.input[0].sequence = Sequence::ENABLE_RBF_NO_LOCKTIME)),
    message("payment-signed-with-lock", "signed with a lock that was not agreed", PAYMENT, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| { tx.lock_time = LockTime::from_consensus(1); tx.input[0].sequence = LOCKED_SEQUENCE; })).on(unlocked),
    message("payment-signed-without-lock", "signed without the payments' lock", PAYMENT, WRONG, &["not made by key"], |f, e| sign_changed(f, e, |tx| { tx.lock_time = LockTime::ZERO; tx.input[0].sequence = Sequence::MAX; })).on(stepped),
    message("payment-signed-none", "signed with the hash type NONE: any outputs", PAYMENT, WRONG, &["not made by key"], |f, e| sign_open(f, e, Open::Outputs)),
    message("payment-signed-single-anyonecanpay", "signed with the hash type SINGLE|ANYONECANPAY", PAYMENT, WRONG, &["not made by key"], |f, e| sign_open(f, e, Open::Others)),
    message("payment-signed-refund-leaf", "signed for the refund's leaf", PAYMENT, WRONG, &["not made by key"], |f, e| sign_for(f, e, SpendPath::Refund)).on(taproot),
    message("payment-signed-key-path", "signed for the key of both", PAYMENT, WRONG, &["not made by key"], |f, e| sign_for(f, e, SpendPath::Cooperative)).on(taproot),
];

#[rustfmt::skip]
const SIGNERS: &[Forgery] = &[
    message("payment-by-stranger", "signed by a key that is nobody's here", PAYMENT, WRONG, &["not made by key"], |f, e| sign_as(f, e, &stranger())),
    message("payment-ecdsa", "an ECDSA signature where it is a Schnorr one", PAYMENT, WRONG, &["not made by key"], |f, e| { let params = f.params(); let (tx, path) = f.signed_by(&params, &e.message); let digest = params.scripts().digest(&tx, &params.funding_output(), path); *super::change::signature(e) = f.key().sign(crate::channel::Scheme::Ecdsa, &digest).to_unverified(); }).on(taproot),
];

/// The honest sum with a signature over another.
fn signed_for(forger: &Forger, envelope: &mut Envelope, sum: Amount) {
    let honest = *paid(envelope);
    pays(forger, envelope, sum);
    *paid(envelope) = honest;
}
