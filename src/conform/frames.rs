//! What comes out of a program, as frames; and everything that is none.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio_util::bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use crate::channel::{MessageKind, RefusalReason};
use crate::wire::{self, WireError, FRAME_HEADER};

/// So many messages are more than any case has.
pub(super) const MOST_MESSAGES: u32 = 200;

/// What ends a conversation, whatever was awaited.
#[derive(Debug, Clone, Error)]
pub(super) enum WireFault {
    #[error(
        "it wrote text to standard output: {0} (only frames belong there; a log goes to standard error)"
    )]
    Text(String),
    #[error(
        "it announced a message of {announced} bytes, and no message has more than {}",
        wire::MAX_MESSAGE
    )]
    TooLong { announced: usize },
    #[error("its output ended within a frame: {0}, then the end")]
    CutOff(Unfinished),
    #[error("it sent {len} bytes that are no message: {error}; they begin with {head}")]
    Malformed {
        len: usize,
        error: WireError,
        head: String,
    },
    #[error("it sent more than {MOST_MESSAGES} messages")]
    Flood,
    #[error("it sent {kind} after its refuse, which is the last message")]
    SpeaksOn { kind: MessageKind },
    #[error("it left a message of {len} bytes unread on its input for {seconds} s")]
    DoesNotRead { len: usize, seconds: u64 },
    #[error("it refused our {kind} for {reason}")]
    Refuses {
        kind: MessageKind,
        reason: RefusalReason,
    },
    #[error("what it sent has to be refused for {reason}: {details}")]
    Refused { reason: RefusalReason, details: String },
    #[error("its output cannot be read: {0}")]
    Io(String),
}

impl From<io::Error> for WireFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// A frame of which a part is there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Unfinished {
    #[error("{received} of the {FRAME_HEADER} bytes of a length")]
    Length { received: usize },
    #[error("{received} of {announced} bytes")]
    Message { announced: usize, received: usize },
}

/// The frame that has begun, if one has, for the error if the rest does not come.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Option<Part>>>);

/// A part of a frame, and its bytes as text if they are.
type Part = (Unfinished, Option<String>);

impl Begun {
    fn set(&self, read: &[u8]) {
        let unfinished = (!read.is_empty()).then(|| (Unfinished::of(read), text_in(read)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = unfinished;
    }

    /// What there is of a frame, as part of a sentence; nothing between two frames.
    pub fn told(&self) -> Option<String> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (unfinished, text) = begun.as_ref()?;
        let text = text.as_ref().map(|text| format!("; as text: {text}"));
        Some(format!(
            "it left a frame unfinished, {unfinished}{}",
            text.unwrap_or_default()
        ))
    }
}

impl Unfinished {
    fn of(read: &[u8]) -> Self {
        announced(read).map_or(Self::Length { received: read.len() }, |announced| Self::Message {
            announced,
            received: read.len().saturating_sub(FRAME_HEADER),
        })
    }
}

/// The first bytes as text, escaped, if they are text: a log line, a banner, a traceback.
pub(super) fn text_in(read: &[u8]) -> Option<String> {
    /// So many bytes are shown.
    const SHOWN: usize = 160;
    let head = &read[..read.len().min(SHOWN)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A letter may be cut in two.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_text = |letter: char| !letter.is_control() || matches!(letter, '\n' | '\r' | '\t' | '\x1b');
    let more = if read.len() > SHOWN { " …" } else { "" };
    (!text.is_empty() && text.chars().all(is_text)).then(|| format!("{text:?}{more}"))
}

/// Frames of at most a message each. Nothing is kept of one that is announced to be longer.
#[derive(Default)]
pub(super) struct Frames {
    pub begun: Begun,
}

impl Decoder for Frames {
    type Item = Bytes;
    type Error = WireFault;

    fn decode(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, WireFault> {
        self.begun.set(read);
        let Some(announced) = announced(read) else {
            return Ok(None);
        };
        if announced > wire::MAX_MESSAGE {
            return Err(text_in(read).map_or(WireFault::TooLong { announced }, WireFault::Text));
        }
        if read.len() < FRAME_HEADER + announced {
            return Ok(None);
        }
        self.begun.set(&[]);
        read.advance(FRAME_HEADER);
        Ok(Some(read.split_to(announced).freeze()))
    }

    fn decode_eof(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, WireFault> {
        let frame = self.decode(read)?;
        if frame.is_none() && !read.is_empty() {
            let cut_off = || WireFault::CutOff(Unfinished::of(read));
            return Err(text_in(read).map_or_else(cut_off, WireFault::Text));
        }
        Ok(frame)
    }
}

fn announced(read: &[u8]) -> Option<usize> {
    let header: [u8; FRAME_HEADER] = read.get(..FRAME_HEADER)?.try_into().ok()?;
    Some(usize::from(u16::from_be_bytes(header)))
}
