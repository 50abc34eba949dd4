//! The output of a program: frames, and everything that is not a frame.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio_util::bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use crate::channel::{MessageKind, Refusal, RefusalReason};
use crate::wire::{self, WireError, FRAME_HEADER};

/// More messages than any case has.
pub(super) const MOST_MESSAGES: u32 = 200;

/// A fault that ends a conversation.
#[derive(Debug, Clone, Error)]
pub(super) enum WireFault {
    #[error("wrote text to standard output: {0} (write only frames there, and the log to standard error)")]
    Text(String),
    #[error(
        "announced a message of {announced} bytes, more than the limit of {}",
        wire::MAX_MESSAGE
    )]
    TooLong { announced: usize },
    #[error("closed its output in the middle of a frame, after {0}")]
    CutOff(Unfinished),
    #[error("sent {len} bytes that do not decode as a message: {error}; the first bytes are {head}")]
    Malformed {
        len: usize,
        error: WireError,
        head: String,
    },
    #[error("sent more than {MOST_MESSAGES} messages")]
    Flood,
    #[error("sent {kind} after refuse, which must be its last message")]
    SpeaksOn { kind: MessageKind },
    #[error("did not read a message of {len} bytes from its input for {seconds} s")]
    DoesNotRead { len: usize, seconds: u64 },
    #[error("refused our {kind} with {reason}")]
    Refuses {
        kind: MessageKind,
        reason: RefusalReason,
    },
    #[error("sent a message that must be refused with {reason}: {details}")]
    Refused { reason: RefusalReason, details: String },
    #[error("the opening ended: {0}")]
    NotOpened(String),
    #[error("cannot read its output: {0}")]
    Io(String),
}

impl From<&Refusal> for WireFault {
    fn from(refusal: &Refusal) -> Self {
        let (reason, details) = (refusal.reason(), refusal.to_string());
        Self::Refused { reason, details }
    }
}

impl From<io::Error> for WireFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// An incomplete frame.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Unfinished {
    #[error("{received} of the {FRAME_HEADER} bytes of the length")]
    Length { received: usize },
    #[error("{received} of {announced} bytes")]
    Message { announced: usize, received: usize },
}

/// The incomplete frame, if any. The error has it if the rest does not arrive.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Option<Part>>>);

/// An incomplete frame, and its bytes if they are text.
type Part = (Unfinished, Option<String>);

impl Begun {
    fn set(&self, read: &[u8]) {
        let unfinished = (!read.is_empty()).then(|| (Unfinished::of(read), text_in(read)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = unfinished;
    }

    /// Describes the incomplete frame as part of a sentence; `None` between two frames.
    pub fn told(&self) -> Option<String> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (unfinished, text) = begun.as_ref()?;
        let text = text.as_ref().map(|text| format!("; as text: {text}"));
        Some(format!(
            "left a frame unfinished after {unfinished}{}",
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

/// Returns the first bytes as escaped text, if they are text: a log line, a banner, a traceback.
pub(super) fn text_in(read: &[u8]) -> Option<String> {
    /// The number of bytes shown.
    const SHOWN: usize = 160;
    let head = &read[..read.len().min(SHOWN)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The last character may be truncated.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_text = |letter: char| !letter.is_control() || matches!(letter, '\n' | '\r' | '\t' | '\x1b');
    let more = if read.len() > SHOWN { " …" } else { "" };
    (!text.is_empty() && text.chars().all(is_text)).then(|| format!("{text:?}{more}"))
}

/// Decodes frames of at most one message each. Keeps nothing of a longer one.
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
