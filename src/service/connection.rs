use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, LengthDelimitedCodec, LengthDelimitedCodecError};

use crate::channel::Envelope;
use crate::wire::{self, WireError};

/// How long a peer may take to make room for a message. Whoever sends cannot watch the chain meanwhile: a
/// payer that never reads would otherwise keep the payee waiting until the refund is final.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// The framing of [`crate::wire`]: two bytes of length, big endian, then the message.
#[must_use]
pub fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .length_field_type::<u16>()
        .max_frame_length(wire::MAX_MESSAGE)
        .new_codec()
}

/// Messages over any stream of bytes.
#[derive(Debug)]
pub(super) struct Connection<IO> {
    framed: Option<Framed<IO, LengthDelimitedCodec>>,
    /// Messages taken in and given out, for whoever wants to know whether both sides have come to rest.
    pub received: u64,
    pub sent: u64,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    pub fn new(io: IO) -> Self {
        Self {
            framed: Some(Framed::new(io, codec())),
            received: 0,
            sent: 0,
        }
    }

    pub const fn is_open(&self) -> bool {
        self.framed.is_some()
    }

    /// Ends the connection; what was sent is on its way.
    pub fn close(&mut self) {
        self.framed = None;
    }

    /// The next message; `None` when the peer is gone. Cancelling it loses nothing.
    pub async fn receive(&mut self) -> Option<Result<Envelope, ConnectionError>> {
        let frame = self.framed.as_mut()?.next().await;
        if frame.is_none() {
            self.close();
        }
        let frame = frame?;
        self.received += 1;
        Some(match frame {
            Ok(bytes) => wire::decode(&bytes).map_err(ConnectionError::Malformed),
            Err(error) => Err(classify(error)),
        })
    }

    /// Sends a message; if the peer is gone, or does not read, the connection is over, and that is no error
    /// here.
    pub async fn send(&mut self, envelope: &Envelope) {
        let Some(framed) = &mut self.framed else { return };
        let sending = framed.send(Bytes::from(wire::encode(envelope)));
        match tokio::time::timeout(SEND_TIMEOUT, sending).await {
            Ok(Ok(())) => self.sent += 1,
            Ok(Err(_)) | Err(_) => self.close(),
        }
    }
}

fn classify(error: std::io::Error) -> ConnectionError {
    let too_long = matches!(error.get_ref(), Some(inner) if inner.is::<LengthDelimitedCodecError>());
    if too_long {
        ConnectionError::FrameTooLong {
            limit: wire::MAX_MESSAGE,
        }
    } else {
        ConnectionError::Io(error)
    }
}

/// The connection brought no message.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer sent bytes that are not a message.
    #[error("malformed message: {0}")]
    Malformed(#[from] WireError),
    /// The peer announced a frame that is larger than any message.
    #[error("the peer announced a message of more than {limit} bytes")]
    FrameTooLong {
        /// The most that is allowed.
        limit: usize,
    },
    /// The connection broke.
    #[error("connection lost: {0}")]
    Io(#[from] std::io::Error),
}
