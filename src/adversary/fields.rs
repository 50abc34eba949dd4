//! The same for every other message: fields that cannot be.

use super::bytes::{bytes, item, number, string};
use super::garbled::{ABOVE_32_BITS, ABOVE_ALL_MONEY, KIND, PAID};
use super::{co_signed, garbled, relative, Forgery};
use crate::channel::MessageKind;
use crate::transcript::MessagePosition;
use crate::transcript::Side::{Payee, Payer};

const OPEN: MessagePosition = MessagePosition::new(Payer, MessageKind::Open, 0);
const REFUND: MessagePosition = MessagePosition::new(Payer, MessageKind::RefundRequest, 0);
const FUNDING: MessagePosition = MessagePosition::new(Payer, MessageKind::Funding, 0);
const ACCEPT: MessagePosition = MessagePosition::new(Payee, MessageKind::Accept, 0);
const SIGNED: MessagePosition = MessagePosition::new(Payee, MessageKind::RefundSignature, 0);
const ACCEPTED: MessagePosition = MessagePosition::new(Payee, MessageKind::PaymentAccepted, 2);
const REQUEST: MessagePosition = MessagePosition::new(Payee, MessageKind::PaymentRequest, 2);
const NONCE: MessagePosition = MessagePosition::new(Payee, MessageKind::CloseRequest, 0);
const CLOSED: MessagePosition = MessagePosition::new(Payee, MessageKind::Closed, 0);

// Where it stands in its message.
const TX: usize = 2;

pub(super) const ALL: &[&[Forgery]] = &[PROPOSALS, TRANSACTIONS, REPLIES];

#[rustfmt::skip]
const PROPOSALS: &[Forgery] = &[
    garbled("open-version-2", "the second version of the conversation, which there is not", OPEN, &["version 2", "version 1"], |b| item(b, 2, number(2))),
    garbled("open-unknown-protocol", "the protocol 3", OPEN, &["protocol at byte 4", "3 is unknown"], |b| item(b, 3, number(3))),
    garbled("open-unknown-construction", "the construction 6", OPEN, &["construction at byte 5", "6 is unknown"], |b| item(b, 4, number(6))),
    garbled("open-capacity-zero", "a capacity of nothing", OPEN, &["capacity at byte 6", "0 BTC"], |b| item(b, 5, number(0))),
    garbled("open-capacity-above-limit", "a capacity of more than 32 bits", OPEN, &["capacity at byte 6", "42.94967296 BTC"], |b| item(b, 5, number(ABOVE_32_BITS))),
    garbled("open-capacity-above-all-money", "a capacity of more than 21 million bitcoin", OPEN, &["capacity at byte 6", "21000000.00000001 BTC"], |b| item(b, 5, number(ABOVE_ALL_MONEY))),
    garbled("open-feerate-out-of-range", "a feerate of more than 32 bits", OPEN, &["feerate at byte 11", "4294967296"], |b| item(b, 6, number(ABOVE_32_BITS))),
    garbled("open-lock-out-of-range", "a lock of more than 32 bits", OPEN, &["expiry at byte 17", "4294967296"], |b| item(b, 8, number(ABOVE_32_BITS))),
    garbled("open-relative-lock-disabled", "a sequence that is no lock (BIP 68's disable flag)", OPEN, &["expiry at byte 17", "0x80000090"], |b| item(b, 8, number(0x8000_0090))).on(relative),
    garbled("open-relative-lock-zero", "a lock of no blocks", OPEN, &["expiry at byte 17", "0x00000000"], |b| item(b, 8, number(0))).on(relative),
    garbled("open-relative-lock-stray-bit", "a sequence with a bit that means nothing", OPEN, &["expiry at byte 17", "0x00010090"], |b| item(b, 8, number(0x0001_0090))).on(relative),
    garbled("open-margin-out-of-range", "a closing margin of more than 16 bits", OPEN, &["closing margin", "65536"], |b| item(b, 10, number(1 << 16))),
    garbled("open-key-off-curve", "a key that is no point of the curve", OPEN, &["payer key"], |b| string(b, 13, |s| s[1..].fill(0xff))),
    garbled("open-key-uncompressed", "a key in its long form", OPEN, &["payer key", "33 bytes", "got 65"], |b| string(b, 13, |s| s.resize(65, 4))),
];

#[rustfmt::skip]
const TRANSACTIONS: &[Forgery] = &[
    garbled("refund-tx-cut", "the refund's last byte is missing", REFUND, &["transaction at byte 3"], |b| string(b, TX, |s| s.truncate(s.len() - 1))),
    garbled("refund-tx-trailing", "a byte after the refund", REFUND, &["transaction at byte 3"], |b| string(b, TX, |s| s.push(0))),
    garbled("refund-tx-empty", "no refund", REFUND, &["transaction at byte 3"], |b| string(b, TX, Vec::clear)),
    garbled("funding-tx-cut", "the funding transaction's last byte is missing", FUNDING, &["transaction at byte 3"], |b| string(b, TX, |s| s.truncate(s.len() - 1))),
    garbled("funding-tx-trailing", "a byte after the funding transaction", FUNDING, &["transaction at byte 3"], |b| string(b, TX, |s| s.push(0))),
];

/// What a payer receives.
#[rustfmt::skip]
const REPLIES: &[Forgery] = &[
    garbled("accept-key-off-curve", "a key that is no point of the curve", ACCEPT, &["payee key at byte 3"], |b| string(b, 2, |s| s[1..].fill(0xff))),
    garbled("accept-unconfirmed-above-all-money", "payments count up to more than 21 million bitcoin", ACCEPT, &["unconfirmed limit at byte 62", "21000000.00000001 BTC"], |b| item(b, 5, number(ABOVE_ALL_MONEY))),
    garbled("accept-cut", "the last byte is missing", ACCEPT, &["unconfirmed limit at byte 62"], |b| b.truncate(b.len() - 1)),
    garbled("refund-signature-short", "a signature of 63 bytes", SIGNED, &["signature at byte 3", "64 bytes", "got 63"], |b| string(b, 2, |s| s.truncate(s.len() - 1))).on(co_signed),
    garbled("accepted-above-all-money", "acknowledges more than 21 million bitcoin", ACCEPTED, &["paid at byte 3", "21000000.00000001 BTC"], |b| item(b, PAID, number(ABOVE_ALL_MONEY))),
    garbled("accepted-trailing", "a byte after the message", ACCEPTED, &["byte 6", "7 bytes"], |b| b.push(0)),
    garbled("accepted-unknown-kind", "a kind that the format does not have", ACCEPTED, &["kind 23", "18"], |b| item(b, KIND, number(23))),
    garbled("accepted-too-long", "a message of 60,000 bytes", ACCEPTED, &["60006 bytes", "4096"], |b| item(b, PAID, bytes(&[0; 60_000]))),
    garbled("request-above-all-money", "asks for more than 21 million bitcoin", REQUEST, &["paid at byte 3", "21000000.00000001 BTC"], |b| item(b, PAID, number(ABOVE_ALL_MONEY))),
    garbled("nonce-infinite", "a nonce with the point at infinity", NONCE, &["nonce at byte 6", "not two"], |b| string(b, 3, |s| s[33..].fill(0))),
    garbled("nonce-off-curve", "a nonce that is no point of the curve", NONCE, &["nonce at byte 6", "not two"], |b| string(b, 3, |s| s[1..33].fill(0xff))),
    garbled("closed-txid-short", "a txid of 31 bytes", CLOSED, &["txid at byte 3", "32 bytes", "got 31"], |b| string(b, 2, |s| s.truncate(s.len() - 1))),
];
