use thiserror::Error;

use crate::channel::MessageKind;

/// Bytes that are not a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// The message is too long.
    #[error("the message has {len} bytes, more than the limit of {limit}")]
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
    #[error("unknown message kind {number}, the last known is {}", MessageKind::ALL[MessageKind::ALL.len() - 1] as u8)]
    UnknownKind {
        /// The kind's number.
        number: u8,
    },
    /// Too few or too many fields.
    #[error("a message of kind {kind} must have {expected} elements, got {received}")]
    FieldCount {
        /// The kind.
        kind: MessageKind,
        /// Elements of its array.
        expected: u64,
        /// Elements received.
        received: u64,
    },
    /// The peer uses another version.
    #[error("the peer uses protocol version {received}, expected version {expected}")]
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
    #[error("the message ends at byte {position}, but has {len} bytes")]
    Trailing {
        /// Where the message ends.
        position: usize,
        /// Bytes received.
        len: usize,
    },
    /// Valid CBOR, but not the canonical encoding.
    #[error("the encoding is not canonical from byte {position} on")]
    NotCanonical {
        /// The first byte that differs from the canonical encoding.
        position: usize,
    },
}
