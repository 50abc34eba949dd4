//! Encodes and decodes messages.
//!
//! A message is one CBOR array (RFC 8949) of definite length, `[kind, channel, field…]`, and travels in a
//! frame: its length as two bytes, big endian, then the array. Every message has exactly one encoding;
//! anything else that CBOR allows (longer integers, indefinite lengths, trailing bytes) is refused.
//!
//! | kind | message | fields after `kind` and `channel` |
//! |---|---|---|
//! | 0 | open | version (1), protocol, construction, capacity, feerate, dust feerate, expiry, payment expiry or null, closing margin, minimum payment, reserve, payer key, payer payout |
//! | 1 | accept | payee key, payee payout, confirmations, unconfirmed limit |
//! | 2 | refund-request | transaction, unsigned |
//! | 3 | refund-signature | signature |
//! | 4 | funding-request | |
//! | 5 | funding | transaction, signed |
//! | 6 | ready | |
//! | 7 | payment-request | paid |
//! | 8 | payment | paid, signature |
//! | 9 | payment-accepted | paid |
//! | 10 | close-request | feerate, nonce or null |
//! | 11 | settlement | paid, feerate, signature |
//! | 12 | closed | txid |
//! | 13 | refuse | reason |
//! | 14 | joint-settlement | paid, feerate, nonce, partial signature |
//! | 16 | hello | least version, greatest version, features, random |
//! | 17 | resume | txid, vout, signed, acknowledged or null, proof |
//! | 18 | resumed | paid or null, signature or null, state, txid or null, proof |
//!
//! Unsigned integers: channel (16 bits), amounts in satoshi, feerates in sat/kwu (32 bits), locks as in `nLockTime`
//! (the expiry of a construction with a relative lock as in `nSequence`, BIP 68), confirmations (32 bits), the closing
//! margin in blocks (16 bits), and the numbers of [`Protocol`](crate::channel::Protocol),
//! [`Construction`](crate::channel::Construction) and [`RefusalReason`](crate::channel::RefusalReason). Byte strings:
//! compressed keys (33), compact signatures (64, `r` then `s`, always for `SIGHASH_ALL`; for Taproot those of BIP 340,
//! always for the default), public nonces (66) and partial signatures (32) of BIP 327, output scripts, transactions in
//! consensus encoding, txids in the order of their hash, a proof (64, a signature), features (8, big endian) and random
//! bytes (32). `paid` is always the sum so far.
//!
//! ```
//! use bitcoin::Amount;
//! use spilman::channel::{ChannelId, Envelope, Message, UnverifiedSignature};
//! use spilman::wire;
//!
//! let signature = UnverifiedSignature::from_compact([1; 64]);
//! let payment = Envelope {
//!     channel: ChannelId(u16::MAX),
//!     message: Message::Payment { paid: Amount::from_btc(42.0)?, signature },
//! };
//! let bytes = wire::encode(&payment);
//! assert!(wire::FRAME_HEADER + bytes.len() <= 78);
//! assert_eq!(wire::decode(&bytes)?, payment);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod read;
mod walk;
mod write;

use minicbor::{Decoder, Encoder};

use crate::channel::{Envelope, MessageKind};
use read::Reader;
use write::write;

pub use error::WireError;
#[cfg(feature = "fixtures")]
pub(crate) use walk::block;
pub(crate) use walk::{transaction, Walk};

/// The version of the conversation, the first field of [`Message::Open`](crate::channel::Message::Open).
pub const VERSION: u8 = 1;

/// The largest message, in bytes, without its frame header. A funding transaction is the largest
/// content.
pub const MAX_MESSAGE: usize = 4_096;

/// Bytes of the length before each message.
pub const FRAME_HEADER: usize = 2;

/// Encodes a message, without its frame header.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "encoding into a Vec cannot fail")]
pub fn encode(envelope: &Envelope) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::with_capacity(80));
    write(&mut encoder, envelope).expect("a Vec takes every byte, and every field has an encoding");
    encoder.into_writer()
}

/// Decodes a message, without its frame header.
///
/// # Errors
/// If there are too many bytes, they are not the one encoding of a message, or a value is out of its range.
pub fn decode(bytes: &[u8]) -> Result<Envelope, WireError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(WireError::TooLong {
            len: bytes.len(),
            limit: MAX_MESSAGE,
        });
    }
    let mut reader = Reader(Decoder::new(bytes));
    let envelope = reader.envelope()?;
    let position = reader.0.position();
    if position != bytes.len() {
        return Err(WireError::Trailing {
            position,
            len: bytes.len(),
        });
    }
    let canonical = encode(&envelope);
    if canonical != bytes {
        let position = canonical.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        return Err(WireError::NotCanonical { position });
    }
    Ok(envelope)
}

/// How many elements a message's array has, kind and channel included.
const fn elements(kind: MessageKind) -> u64 {
    2 + match kind {
        MessageKind::Open => 13,
        MessageKind::Accept | MessageKind::CooperativeSettlement | MessageKind::Hello => 4,
        MessageKind::Resume | MessageKind::Resumed => 5,
        MessageKind::Settlement => 3,
        MessageKind::Payment | MessageKind::CloseRequest => 2,
        MessageKind::FundingRequest | MessageKind::Ready => 0,
        MessageKind::RefundRequest
        | MessageKind::RefundSignature
        | MessageKind::Funding
        | MessageKind::PaymentRequest
        | MessageKind::PaymentAccepted
        | MessageKind::Closed
        | MessageKind::Refuse => 1,
    }
}
