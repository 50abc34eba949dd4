//! What comes out of a program, as frames; and everything that is none.

use std::io;

use thiserror::Error;
use tokio_util::bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use crate::channel::{Kind, Reason};
use crate::wire::{self, WireError, FRAME_HEADER};

/// So many messages are more than any case has.
pub(super) const MOST_MESSAGES: u32 = 200;

/// What ends a conversation, whatever was awaited.
#[derive(Debug, Clone, Error)]
pub(super) enum Fault {
    #[error(
        "it announced a message of {announced} bytes, and no message has more than {}",
        wire::MAX_MESSAGE
    )]
    TooLong { announced: usize },
    #[error(
        "its output ended within a frame: {} of {announced} bytes, then the end",
        received
    )]
    CutOff { announced: usize, received: usize },
    #[error("it sent {len} bytes that are no message: {error}; they begin with {head}")]
    Malformed {
        len: usize,
        error: WireError,
        head: String,
    },
    #[error("it sent more than {MOST_MESSAGES} messages")]
    Flood,
    #[error("it sent {kind} after its refuse, which is the last message")]
    SpeaksOn { kind: Kind },
    #[error("it left a message of {len} bytes unread on its input for {seconds} s")]
    DoesNotRead { len: usize, seconds: u64 },
    #[error("it refused our {kind} for {reason}")]
    Refuses { kind: Kind, reason: Reason },
    #[error("what it sent has to be refused for {reason}: {details}")]
    Refused { reason: Reason, details: String },
    #[error("its output cannot be read: {0}")]
    Io(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// Frames of at most a message each. Nothing is kept of one that is announced to be longer.
pub(super) struct Frames;

impl Decoder for Frames {
    type Item = Bytes;
    type Error = Fault;

    fn decode(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, Fault> {
        let Some(announced) = announced(read) else {
            return Ok(None);
        };
        if announced > wire::MAX_MESSAGE {
            return Err(Fault::TooLong { announced });
        }
        if read.len() < FRAME_HEADER + announced {
            return Ok(None);
        }
        read.advance(FRAME_HEADER);
        Ok(Some(read.split_to(announced).freeze()))
    }

    fn decode_eof(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, Fault> {
        let frame = self.decode(read)?;
        if frame.is_none() && !read.is_empty() {
            return Err(Fault::CutOff {
                announced: announced(read).unwrap_or(FRAME_HEADER),
                received: read.len().saturating_sub(FRAME_HEADER),
            });
        }
        Ok(frame)
    }
}

fn announced(read: &[u8]) -> Option<usize> {
    let header: [u8; FRAME_HEADER] = read.get(..FRAME_HEADER)?.try_into().ok()?;
    Some(usize::from(u16::from_be_bytes(header)))
}
