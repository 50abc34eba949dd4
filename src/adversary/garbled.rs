//! Bytes that are no message of the documented format, though some decoders of CBOR take them.

use super::bytes::{bytes, item, items, number, string};
use super::{garbled, Forgery};
use crate::channel::MessageKind;
use crate::transcript::MessagePosition;
use crate::transcript::Side::Payer;

const PAYMENT: MessagePosition = MessagePosition::new(Payer, MessageKind::Payment, 2);
const SETTLEMENT: MessagePosition = MessagePosition::new(Payer, MessageKind::Settlement, 0);
const COOPERATIVE: MessagePosition = MessagePosition::new(Payer, MessageKind::CooperativeSettlement, 0);

// The places of items in their arrays.
pub(super) const KIND: usize = 0;
const CHANNEL: usize = 1;
pub(super) const PAID: usize = 2;
const SIGNATURE: usize = 3;

pub(super) const ABOVE_ALL_MONEY: u64 = 2_100_000_000_000_001;
pub(super) const ABOVE_32_BITS: u64 = 1 << 32;

pub(super) const ALL: &[&[Forgery]] = &[FRAMES, ENCODINGS, VALUES];

#[rustfmt::skip]
const FRAMES: &[Forgery] = &[
    garbled("payment-empty", "a frame of no bytes", PAYMENT, &["array at byte 0"], Vec::clear),
    garbled("payment-cut", "the last byte is missing", PAYMENT, &["signature at byte 8"], |b| b.truncate(b.len() - 1)),
    garbled("payment-trailing", "a byte after the message", PAYMENT, &["72", "73"], |b| b.push(0)),
    garbled("payment-twice", "two messages in one frame", PAYMENT, &["72", "144"], |b| b.extend_from_within(..)),
    garbled("payment-too-long", "a signature of 60,000 bytes, in the longest frame but few", PAYMENT, &["60009 bytes", "4096"], |b| item(b, SIGNATURE, bytes(&[0; 60_000]))),
    garbled("payment-no-array", "a byte string and no array", PAYMENT, &["array at byte 0", "bytes"], |b| *b = bytes(b)),
    garbled("payment-map", "a map and no array", PAYMENT, &["array at byte 0", "map"], |b| b[0] = 0xa2),
    garbled("payment-tagged", "a tag before the array", PAYMENT, &["array at byte 0", "tag"], |b| b.insert(0, 0xc1)),
];

/// The right values, written as deterministic CBOR does not write them.
#[rustfmt::skip]
const ENCODINGS: &[Forgery] = &[
    garbled("payment-indefinite", "an array of indefinite length", PAYMENT, &["from byte 0"], |b| { b[0] = 0x9f; b.push(0xff); }),
    garbled("payment-long-head", "the array's length takes a byte more than it needs", PAYMENT, &["from byte 0"], |b| { b.splice(..1, [0x98, 4]); }),
    garbled("payment-long-kind", "the kind takes a byte more than it needs", PAYMENT, &["from byte 1"], |b| item(b, KIND, vec![0x18, MessageKind::Payment as u8])),
    garbled("payment-long-amount", "the sum takes eight bytes", PAYMENT, &["from byte 3"], |b| items(b, |items| { let paid = minicbor::decode::<u64>(&items[PAID]).expect("an honest sum is a number"); items[PAID] = [&[0x1b][..], &paid.to_be_bytes()].concat(); })),
    garbled("payment-signature-in-pieces", "a byte string of indefinite length", PAYMENT, &["signature at byte 6", "indefinite"], |b| items(b, |items| { items[SIGNATURE].insert(0, 0x5f); items[SIGNATURE].push(0xff); })),
    garbled("payment-signature-text", "text where bytes belong", PAYMENT, &["signature at byte 6", "string"], |b| items(b, |items| items[SIGNATURE][0] = 0x78)),
    garbled("payment-amount-float", "the sum is the floating-point number 1.0", PAYMENT, &["paid at byte 3", "f16"], |b| item(b, PAID, vec![0xf9, 0x3c, 0])),
    garbled("payment-amount-negative", "the sum is -1", PAYMENT, &["paid at byte 3", "i8"], |b| item(b, PAID, vec![0x20])),
    garbled("payment-amount-null", "the sum is null", PAYMENT, &["paid at byte 3", "null"], |b| item(b, PAID, vec![0xf6])),
    garbled("payment-amount-bignum", "the sum is a bignum of one byte", PAYMENT, &["paid at byte 3", "tag"], |b| item(b, PAID, vec![0xc2, 0x41, 1])),
];

#[rustfmt::skip]
const VALUES: &[Forgery] = &[
    garbled("payment-unknown-kind", "a kind that the format does not have", PAYMENT, &["kind 15", "18"], |b| item(b, KIND, number(15))),
    garbled("payment-huge-kind", "a kind of more than 8 bits", PAYMENT, &["kind at byte 1", "256"], |b| item(b, KIND, number(256))),
    garbled("payment-channel-out-of-range", "a channel of more than 16 bits", PAYMENT, &["channel at byte 2", "65536"], |b| item(b, CHANNEL, number(1 << 16))),
    garbled("payment-signature-missing", "an array of three", PAYMENT, &["4 elements", "got 3"], |b| items(b, |items| items.truncate(SIGNATURE))),
    garbled("payment-extra-field", "an array of five", PAYMENT, &["4 elements", "got 5"], |b| items(b, |items| items.push(number(0)))),
    garbled("payment-fields-swapped", "the signature before the sum", PAYMENT, &["paid at byte 3", "bytes"], |b| items(b, |items| items.swap(PAID, SIGNATURE))),
    garbled("payment-above-all-money", "a satoshi more than 21 million bitcoin", PAYMENT, &["21000000.00000001 BTC"], |b| item(b, PAID, number(ABOVE_ALL_MONEY))),
    garbled("payment-above-64-bits-signed", "the largest number of 64 bits", PAYMENT, &["paid at byte 3", "184467440737.09551615 BTC"], |b| item(b, PAID, number(u64::MAX))),
    garbled("payment-signature-short", "a signature of 63 bytes", PAYMENT, &["signature at byte 6", "64 bytes", "got 63"], |b| string(b, SIGNATURE, |s| s.truncate(s.len() - 1))),
    garbled("payment-signature-with-hash-type", "a signature of 65 bytes", PAYMENT, &["signature at byte 6", "64 bytes", "got 65"], |b| string(b, SIGNATURE, |s| s.push(1))),
    garbled("settlement-feerate-out-of-range", "a feerate of more than 32 bits", SETTLEMENT, &["feerate at byte 6", "4294967296"], |b| item(b, 3, number(ABOVE_32_BITS))),
    garbled("joint-part-out-of-range", "a partial signature above the curve's order", COOPERATIVE, &["partial signature", "ffffffff"], |b| string(b, 5, |s| s.fill(0xff))),
    garbled("joint-nonce-infinite", "a nonce with the point at infinity", COOPERATIVE, &["nonce at byte 9", "not two"], |b| string(b, 4, |s| s[..33].fill(0))),
    garbled("joint-nonce-short", "a nonce of one point", COOPERATIVE, &["nonce at byte 9", "66 bytes", "got 33"], |b| string(b, 4, |s| s.truncate(33))),
];
