//! Messages to bytes and back.
//!
//! A message is one CBOR array (RFC 8949) of definite length, `[kind, channel, field…]`, and travels in a
//! frame: its length as two bytes, big endian, then the array. There is one encoding for every message;
//! anything else that CBOR would allow (longer integers, indefinite lengths, trailing bytes) is refused.
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
//!
//! Unsigned integers: channel (16 bits), amounts in satoshi, feerates in sat/kwu (32 bits), locks as in `nLockTime`
//! (the expiry of a construction with a relative lock as in `nSequence`, BIP 68), confirmations (32 bits), the closing
//! margin in blocks (16 bits), and the numbers of [`Protocol`], [`Construction`] and [`Reason`]. Byte strings:
//! compressed keys (33), compact signatures (64, `r` then `s`, always for `SIGHASH_ALL`; for Taproot those of BIP 340,
//! always for the default), public nonces (66) and partial signatures (32) of BIP 327, output scripts, transactions in
//! consensus encoding, txids in the order of their hash. `paid` is always the sum so far.
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

use std::convert::Infallible;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize as consensus_bytes;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{relative, Amount, FeeRate, ScriptBuf, Transaction, Txid};
use minicbor::{Decoder, Encoder};
use thiserror::Error;

use crate::channel::{
    Capacity, ChannelId, ClosingMargin, Confirmation, Construction, Envelope, Expiry, Kind, Message,
    PartialSignature, PayeeKey, PayerKey, Protocol, PublicNonce, Reason, RefundLock, Terms,
    UnverifiedSignature,
};

/// The version of the conversation, the first field of [`Message::Open`].
pub const VERSION: u8 = 1;

/// The largest message, in bytes, without its frame header. A funding transaction is the largest thing to
/// say.
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
/// If the bytes are too many, are not the one encoding of a message, or a value is out of its range.
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
const fn elements(kind: Kind) -> u64 {
    2 + match kind {
        Kind::Open => 13,
        Kind::Accept | Kind::JointSettlement => 4,
        Kind::Settlement => 3,
        Kind::Payment | Kind::CloseRequest => 2,
        Kind::FundingRequest | Kind::Ready => 0,
        Kind::RefundRequest
        | Kind::RefundSignature
        | Kind::Funding
        | Kind::PaymentRequest
        | Kind::PaymentAccepted
        | Kind::Closed
        | Kind::Refuse => 1,
    }
}

type Write = Encoder<Vec<u8>>;
type Written = Result<(), minicbor::encode::Error<Infallible>>;

fn write(e: &mut Write, envelope: &Envelope) -> Written {
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
            e.u64(confirmation.unconfirmed.to_sat())?;
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
            match nonce {
                Some(nonce) => e.bytes(&nonce.to_bytes())?,
                None => e.null()?,
            };
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
        Message::JointSettlement {
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
        Message::FundingRequest | Message::Ready => {}
    }
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

struct Reader<'b>(Decoder<'b>);

impl Reader<'_> {
    fn envelope(&mut self) -> Result<Envelope, WireError> {
        let received = self.0.array().map_err(|e| self.cbor("array", &e))?;
        let received = received.ok_or(WireError::NotCanonical { position: 0 })?;
        let number = self.number::<u8>("kind")?;
        let kind = *Kind::ALL
            .get(usize::from(number))
            .ok_or(WireError::UnknownKind { number })?;
        let expected = elements(kind);
        if received != expected {
            return Err(WireError::FieldCount {
                kind,
                expected,
                received,
            });
        }
        let channel = ChannelId(self.number("channel")?);
        Ok(Envelope {
            channel,
            message: self.message(kind)?,
        })
    }

    fn message(&mut self, kind: Kind) -> Result<Message, WireError> {
        Ok(match kind {
            Kind::Open => self.open()?,
            Kind::Accept => Message::Accept {
                payee_key: PayeeKey::new(self.key("payee key")?),
                payee_payout: self.script("payee payout")?,
                confirmation: Confirmation {
                    depth: self.number("confirmations")?,
                    unconfirmed: self.amount("unconfirmed limit")?,
                },
            },
            Kind::RefundRequest => Message::RefundRequest {
                tx: self.transaction()?,
            },
            Kind::RefundSignature => Message::RefundSignature {
                signature: self.signature()?,
            },
            Kind::FundingRequest => Message::FundingRequest,
            Kind::Funding => Message::Funding {
                tx: self.transaction()?,
            },
            Kind::Ready => Message::Ready,
            Kind::PaymentRequest => Message::PaymentRequest {
                paid: self.amount("paid")?,
            },
            Kind::Payment => Message::Payment {
                paid: self.amount("paid")?,
                signature: self.signature()?,
            },
            Kind::PaymentAccepted => Message::PaymentAccepted {
                paid: self.amount("paid")?,
            },
            Kind::CloseRequest => Message::CloseRequest {
                feerate: self.feerate("feerate")?,
                nonce: self.optional("nonce", Self::nonce)?,
            },
            Kind::JointSettlement => Message::JointSettlement {
                paid: self.amount("paid")?,
                feerate: self.feerate("feerate")?,
                nonce: self.nonce("nonce")?,
                partial: self.partial("partial signature")?,
            },
            Kind::Settlement => Message::Settlement {
                paid: self.amount("paid")?,
                feerate: self.feerate("feerate")?,
                signature: self.signature()?,
            },
            Kind::Closed => Message::Closed {
                txid: Txid::from_byte_array(self.array("txid")?),
            },
            Kind::Refuse => Message::Refuse {
                reason: self.one_of("reason", Reason::ALL)?,
            },
        })
    }

    fn open(&mut self) -> Result<Message, WireError> {
        let version = self.number::<u8>("version")?;
        if version != VERSION {
            return Err(WireError::Version {
                expected: VERSION,
                received: version,
            });
        }
        let protocol = self.one_of("protocol", &Protocol::ALL)?;
        let construction = self.one_of("construction", &Construction::ALL)?;
        let terms = Terms {
            protocol,
            construction,
            capacity: {
                let position = self.0.position();
                let amount = self.amount("capacity")?;
                Capacity::new(amount).map_err(|e| WireError::Value {
                    field: "capacity",
                    position,
                    error: e.to_string(),
                })?
            },
            feerate: self.feerate("feerate")?,
            dust_feerate: self.feerate("dust feerate")?,
            refund_lock: if construction.has_relative_lock() {
                self.relative_lock("expiry")?
            } else {
                self.expiry("expiry")?.into()
            },
            payment_expiry: self.optional("payment expiry", Self::expiry)?,
            closing_margin: ClosingMargin::from_blocks(self.number("closing margin")?),
            minimum_payment: self.amount("minimum payment")?,
            reserve: self.amount("reserve")?,
        };
        Ok(Message::Open {
            terms,
            payer_key: PayerKey::new(self.key("payer key")?),
            payer_payout: self.script("payer payout")?,
        })
    }

    /// An unsigned number of at most the type's size.
    fn number<T: TryFrom<u64>>(&mut self, field: &'static str) -> Result<T, WireError> {
        let position = self.0.position();
        let value = self.0.u64().map_err(|e| self.cbor(field, &e))?;
        T::try_from(value).map_err(|_| WireError::Value {
            field,
            position,
            error: format!("{value} is out of range"),
        })
    }

    fn one_of<T: Copy>(&mut self, field: &'static str, all: &[T]) -> Result<T, WireError> {
        let position = self.0.position();
        let number = self.number::<u8>(field)?;
        all.get(usize::from(number))
            .copied()
            .ok_or_else(|| WireError::Value {
                field,
                position,
                error: format!("{number} is unknown, the last known is {}", all.len() - 1),
            })
    }

    fn amount(&mut self, field: &'static str) -> Result<Amount, WireError> {
        let position = self.0.position();
        let amount = Amount::from_sat(self.number(field)?);
        if amount > Amount::MAX_MONEY {
            let error = format!("{amount} is more than will ever exist, {}", Amount::MAX_MONEY);
            return Err(WireError::Value {
                field,
                position,
                error,
            });
        }
        Ok(amount)
    }

    /// In sat/kwu, and no more than 32 bits, so that no fee computed from it can overflow.
    fn feerate(&mut self, field: &'static str) -> Result<FeeRate, WireError> {
        Ok(FeeRate::from_sat_per_kwu(u64::from(self.number::<u32>(field)?)))
    }

    fn expiry(&mut self, field: &'static str) -> Result<Expiry, WireError> {
        Ok(match LockTime::from_consensus(self.number(field)?) {
            LockTime::Blocks(height) => Expiry::from_height(height),
            LockTime::Seconds(time) => Expiry::from_time(time),
        })
    }

    /// BIP 68 gives a meaning to 17 bits of a sequence; with any other there is no lock, or a second way to write it.
    fn relative_lock(&mut self, field: &'static str) -> Result<RefundLock, WireError> {
        let position = self.0.position();
        let number: u32 = self.number(field)?;
        let lock = relative::LockTime::from_consensus(number).ok();
        let lock = lock.filter(|lock| lock.to_consensus_u32() == number && number & 0xffff != 0);
        lock.map(RefundLock::Relative).ok_or_else(|| WireError::Value {
            field,
            position,
            error: format!("{number:#010x} is not a relative lock"),
        })
    }

    fn optional<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        if self.0.datatype().map_err(|e| self.cbor(field, &e))? == minicbor::data::Type::Null {
            self.0.null().map_err(|e| self.cbor(field, &e))?;
            return Ok(None);
        }
        read(self, field).map(Some)
    }

    fn nonce(&mut self, field: &'static str) -> Result<PublicNonce, WireError> {
        let position = self.0.position();
        PublicNonce::from_bytes(self.array(field)?).map_err(|e| WireError::Value {
            field,
            position,
            error: e.to_string(),
        })
    }

    fn partial(&mut self, field: &'static str) -> Result<PartialSignature, WireError> {
        let position = self.0.position();
        PartialSignature::from_bytes(self.array(field)?).map_err(|e| WireError::Value {
            field,
            position,
            error: e.to_string(),
        })
    }

    fn bytes(&mut self, field: &'static str) -> Result<Vec<u8>, WireError> {
        match self.0.bytes() {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(e) => Err(self.cbor(field, &e)),
        }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let position = self.0.position();
        let bytes = self.bytes(field)?;
        let len = bytes.len();
        bytes.try_into().map_err(|_| WireError::Value {
            field,
            position,
            error: format!("expected {N} bytes, got {len}"),
        })
    }

    fn signature(&mut self) -> Result<UnverifiedSignature, WireError> {
        self.array("signature").map(UnverifiedSignature::from_compact)
    }

    fn key(&mut self, field: &'static str) -> Result<PublicKey, WireError> {
        let position = self.0.position();
        let bytes: [u8; 33] = self.array(field)?;
        PublicKey::from_slice(&bytes).map_err(|e| WireError::Value {
            field,
            position,
            error: e.to_string(),
        })
    }

    fn script(&mut self, field: &'static str) -> Result<ScriptBuf, WireError> {
        self.bytes(field).map(ScriptBuf::from_bytes)
    }

    fn transaction(&mut self) -> Result<Transaction, WireError> {
        let field = "transaction";
        let position = self.0.position();
        let bytes = self.bytes(field)?;
        bitcoin::consensus::deserialize(&bytes).map_err(|e| WireError::Value {
            field,
            position,
            error: e.to_string(),
        })
    }

    fn cbor(&self, field: &'static str, error: &minicbor::decode::Error) -> WireError {
        let position = error.position().unwrap_or_else(|| self.0.position());
        WireError::Cbor {
            field,
            position,
            error: error.to_string(),
        }
    }
}

/// Bytes that are not a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// More bytes than any message has.
    #[error("a message of {len} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not CBOR, cut short, or another type than the field has.
    #[error("{field} at byte {position}: {error}")]
    Cbor {
        /// The field that was being read.
        field: &'static str,
        /// Where, in bytes from the start of the message.
        position: usize,
        /// What the CBOR decoder said.
        error: String,
    },
    /// A kind of message that this version does not know.
    #[error("unknown kind of message {number}, the last known is {}", Kind::ALL.len() - 1)]
    UnknownKind {
        /// The kind's number.
        number: u8,
    },
    /// Too few or too many fields.
    #[error("a message of kind {kind} has {expected} elements, got {received}")]
    FieldCount {
        /// The kind.
        kind: Kind,
        /// Elements of its array.
        expected: u64,
        /// Elements received.
        received: u64,
    },
    /// The peer speaks another version.
    #[error("the peer speaks version {received}, this is version {expected}")]
    Version {
        /// This version.
        expected: u8,
        /// The peer's.
        received: u8,
    },
    /// A value that its field cannot have.
    #[error("{field} at byte {position}: {error}")]
    Value {
        /// The field.
        field: &'static str,
        /// Where, in bytes from the start of the message.
        position: usize,
        /// Both values.
        error: String,
    },
    /// Bytes after the end of the message.
    #[error("the message ends at byte {position}, but {len} were sent")]
    Trailing {
        /// Where the message ends.
        position: usize,
        /// Bytes received.
        len: usize,
    },
    /// CBOR, but not the shortest.
    #[error("not the canonical encoding, from byte {position} on")]
    NotCanonical {
        /// The first byte that differs from the canonical encoding.
        position: usize,
    },
}
