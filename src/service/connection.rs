use std::future::Future;
use std::pin::{pin, Pin};
use std::task::{Context, Poll};

use futures_util::StreamExt;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Sleep;
use tokio_util::bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::{Encoder, FramedRead, LengthDelimitedCodec, LengthDelimitedCodecError};

use crate::channel::Envelope;
use crate::wire::{self, WireError};

use super::guard::catch;
use super::timing::{LINGER, SEND_TIMEOUT};

/// While more than this waits to be sent, a payee reads nothing, and a payer pays nothing.
const LONG: usize = 16 * 1_024;

/// A peer that requests more than this without reading any of it is disconnected.
const TOO_LONG: usize = 256 * 1_024;

/// Returns the framing of [`crate::wire`]: two bytes of length, big endian, then the message.
#[must_use]
pub fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .length_field_type::<u16>()
        .max_frame_length(wire::MAX_MESSAGE)
        .new_codec()
}

/// A stream of bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Stream for IO {}

/// Messages over any stream of bytes.
///
/// What is sent waits in a queue. The queue is written whenever this side reads, or waits for the chain, so that
/// neither the peer's pace nor its silence ever holds a party up.
pub(super) struct Connection {
    framed: Option<FramedRead<Box<dyn Stream>, LengthDelimitedCodec>>,
    /// Encoded frames; the first may be sent in part.
    queue: BytesMut,
    /// Runs while the peer makes no room for what is queued.
    stall: Option<Pin<Box<Sleep>>>,
    unflushed: bool,
    /// The peer no longer reads. What it sent before is still read.
    deaf: bool,
    /// Messages received and messages queued, to tell whether both sides are idle.
    pub received: u64,
    pub sent: u64,
}

/// What the connection brings.
pub(super) enum Received {
    Message(Envelope),
    /// Bytes that are not a valid message.
    Garbled(ConnectionError),
    /// The peer disconnected.
    Gone,
    /// The queue was long, and is not any more.
    Room,
}

impl Connection {
    pub fn new(io: impl Stream + 'static) -> Self {
        let io: Box<dyn Stream> = Box::new(io);
        Self {
            framed: Some(FramedRead::new(io, codec())),
            deaf: false,
            ..Self::none()
        }
    }

    /// Returns what stands for a peer that is not there.
    pub fn none() -> Self {
        Self {
            framed: None,
            queue: BytesMut::new(),
            stall: None,
            unflushed: false,
            deaf: true,
            received: 0,
            sent: 0,
        }
    }

    /// Returns whether something may still be read.
    pub const fn is_open(&self) -> bool {
        self.framed.is_some()
    }

    /// Returns whether the peer may still get what is sent to it.
    pub const fn takes(&self) -> bool {
        self.framed.is_some() && !self.deaf
    }

    /// Returns whether the peer reads more slowly than this side has something to say.
    pub fn is_long(&self) -> bool {
        self.queue.len() > LONG
    }

    /// Queues a message. If the peer is gone, the message is lost, which is not an error here.
    pub fn send(&mut self, envelope: &Envelope) {
        self.send_frame(Bytes::from(wire::encode(envelope)));
    }

    /// The same with the bytes of a message.
    pub fn send_frame(&mut self, frame: Bytes) {
        let Some(framed) = self.framed.as_mut().filter(|_| !self.deaf) else {
            return;
        };
        let encoded = framed.decoder_mut().encode(frame, &mut self.queue);
        if encoded.is_err() || self.queue.len() > TOO_LONG {
            return self.cut_off();
        }
        self.sent += 1;
    }

    /// Returns the next thing that comes, while what is queued is written. With `in_step`, nothing is read as long as
    /// the queue is long. Cancelling it loses nothing.
    pub async fn receive(&mut self, in_step: bool) -> Received {
        std::future::poll_fn(|context| self.poll_receive(context, in_step)).await
    }

    /// Waits for something else, while what is queued is written.
    pub async fn write_during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        std::future::poll_fn(|context| {
            // Nothing depends on whether it is all written yet.
            let _ = self.poll_queue(context);
            other.as_mut().poll(context)
        })
        .await
    }

    pub fn poll_receive(&mut self, context: &mut Context<'_>, in_step: bool) -> Poll<Received> {
        let was_long = self.is_long();
        // What is left wakes this task when there is room for it.
        let _ = self.poll_queue(context);
        let is_long = self.is_long();
        let Some(framed) = &mut self.framed else {
            return Poll::Ready(Received::Gone);
        };
        if was_long && !is_long {
            return Poll::Ready(Received::Room);
        }
        if in_step && is_long {
            return Poll::Pending;
        }
        let frame = catch(|| framed.poll_next_unpin(context));
        let frame = match frame.unwrap_or(Poll::Ready(None)) {
            Poll::Pending if !self.deaf => return Poll::Pending,
            Poll::Pending | Poll::Ready(None) => {
                self.cut_off();
                return Poll::Ready(Received::Gone);
            }
            Poll::Ready(Some(frame)) => frame,
        };
        self.received += 1;
        let message = frame
            .map_err(classify)
            .and_then(|bytes| Ok(wire::decode(&bytes)?));
        Poll::Ready(message.map_or_else(Received::Garbled, Received::Message))
    }

    /// Writes as much of the queue as the peer makes room for.
    pub fn poll_queue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let (Some(framed), true) = (&mut self.framed, self.queue.has_remaining() || self.unflushed) {
            let mut io = Pin::new(framed.get_mut());
            let written = catch(|| {
                if self.queue.has_remaining() {
                    io.as_mut().poll_write(context, &self.queue)
                } else {
                    io.as_mut().poll_flush(context).map_ok(|()| 0)
                }
            });
            match written.unwrap_or_else(|panicked| Poll::Ready(Err(std::io::Error::other(panicked)))) {
                Poll::Ready(Ok(0)) if self.queue.has_remaining() => self.deafen(),
                Poll::Ready(Ok(written)) => {
                    self.unflushed = self.queue.has_remaining();
                    self.queue.advance(written);
                    self.stall = None;
                }
                Poll::Ready(Err(_)) => self.deafen(),
                Poll::Pending => {
                    let stall = self
                        .stall
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep(SEND_TIMEOUT)));
                    if stall.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.cut_off();
                }
            }
        }
        Poll::Ready(())
    }

    fn deafen(&mut self) {
        self.deaf = true;
        self.unflushed = false;
        self.queue.clear();
        self.stall = None;
    }

    /// Ends the connection, and loses what is queued.
    fn cut_off(&mut self) {
        self.deafen();
        self.framed = None;
    }

    /// Ends the connection. A separate task still sends what is queued, so that a peer that does not read
    /// cannot stop this side from watching the chain.
    pub fn close(&mut self) {
        if let Some((io, queue)) = self.take() {
            tokio::spawn(async move {
                if let Some(io) = say(io, queue).await {
                    drain(io).await;
                }
            });
        }
    }

    /// Ends the connection when what is queued is sent: for a side that may be gone right after that.
    pub async fn finish(&mut self) {
        if let Some((io, queue)) = self.take() {
            if let Some(io) = say(io, queue).await {
                tokio::spawn(drain(io));
            }
        }
    }

    /// The connection with what is still to be sent over it, if anything is.
    fn take(&mut self) -> Option<(Box<dyn Stream>, BytesMut)> {
        let rests = self.queue.has_remaining() || self.unflushed;
        let framed = self.framed.take().filter(|_| rests)?;
        self.stall = None;
        Some((framed.into_inner(), self.queue.split()))
    }
}

async fn say(mut io: Box<dyn Stream>, queue: BytesMut) -> Option<Box<dyn Stream>> {
    let said = async {
        io.write_all(&queue).await?;
        // Not every stream does this when it is shut down; standard output does not.
        io.flush().await?;
        io.shutdown().await
    };
    let said = tokio::time::timeout(LINGER, said).await;
    matches!(said, Ok(Ok(()))).then_some(io)
}

/// Closing a TCP connection with unread bytes resets it, and the peer may lose the last message.
async fn drain(mut io: Box<dyn Stream>) {
    let mut nowhere = tokio::io::sink();
    // Nothing depends on how it ends.
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut io, &mut nowhere)).await;
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

/// The connection delivered no message.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer sent bytes that are not a message.
    #[error("malformed message: {0}")]
    Malformed(#[from] WireError),
    /// The peer announced a frame that is larger than any message.
    #[error("the peer announced a message longer than the limit of {limit} bytes")]
    FrameTooLong {
        /// The most that is allowed.
        limit: usize,
    },
    /// The connection broke.
    #[error("connection lost: {0}")]
    Io(#[from] std::io::Error),
}
