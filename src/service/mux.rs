use std::collections::HashMap;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use futures_util::stream::SelectAll;
use futures_util::StreamExt;
use tokio::io::{duplex, split, AsyncWrite, DuplexStream, ReadHalf, WriteHalf};
use tokio_util::bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::{Encoder, FramedRead, LengthDelimitedCodec};

use super::connection::{codec, Connection, Received};
use super::hello::{refuse, CONNECTION};
use crate::channel::{ChannelId, Envelope, RefusalReason};
use crate::wire;

/// How many bytes of one channel wait in each direction.
const PIPE: usize = 16 * 1_024;

/// Several channels on one connection. Each has a pipe, which its party uses like a connection of its own.
///
/// The peer's pace, and that of a slow channel, hold up this connection and no other.
pub(super) struct Mux {
    connection: Connection,
    channels: HashMap<ChannelId, WriteHalf<DuplexStream>>,
    /// What the channels say, in frames.
    outgoing: SelectAll<Outgoing>,
    /// What one channel has not taken yet. Nothing more is read until it has.
    incoming: Option<(ChannelId, BytesMut)>,
}

/// What one channel says; `None` at its end.
struct Outgoing {
    channel: ChannelId,
    frames: Option<FramedRead<ReadHalf<DuplexStream>, LengthDelimitedCodec>>,
}

impl futures_util::Stream for Outgoing {
    type Item = (ChannelId, Option<BytesMut>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let channel = self.channel;
        let Some(frames) = &mut self.frames else {
            return Poll::Ready(None);
        };
        // Both ends are in this process, so a frame is whole.
        let frame = ready!(frames.poll_next_unpin(context)).and_then(Result::ok);
        if frame.is_none() {
            self.frames = None;
        }
        Poll::Ready(Some((channel, frame)))
    }
}

impl Mux {
    pub fn new(connection: Connection) -> Self {
        Self {
            connection,
            channels: HashMap::new(),
            outgoing: SelectAll::new(),
            incoming: None,
        }
    }

    /// Returns the number of channels.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Returns the stream of a new channel; `None` if there is one with this number.
    pub fn channel(&mut self, channel: ChannelId) -> Option<DuplexStream> {
        if self.channels.contains_key(&channel) {
            return None;
        }
        let (here, there) = duplex(PIPE);
        let (read, write) = split(here);
        self.channels.insert(channel, write);
        let frames = Some(FramedRead::new(read, codec()));
        self.outgoing.push(Outgoing { channel, frames });
        Some(there)
    }

    pub fn send(&mut self, envelope: &Envelope) {
        self.connection.send(envelope);
    }

    /// Ends the connection with this.
    pub fn end(mut self, envelope: &Envelope) {
        self.connection.send(envelope);
        self.connection.close();
    }

    /// Ends the connection once what the channels said is sent.
    pub fn close(mut self) {
        self.pass_out(&mut Context::from_waker(std::task::Waker::noop()));
        self.connection.close();
    }

    /// Passes messages on in both directions. Returns those for a channel that does not exist, and `None` at the end of the
    /// connection. Cancel safe.
    pub async fn next(&mut self) -> Option<Envelope> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Envelope>> {
        loop {
            self.pass_out(context);
            if self.pass_in(context).is_pending() {
                let was_long = self.connection.is_long();
                // What is to be sent is sent all the same.
                let _ = self.connection.poll_queue(context);
                if was_long && !self.connection.is_long() {
                    continue;
                }
                return Poll::Pending;
            }
            match ready!(self.connection.poll_receive(context, false)) {
                Received::Room => {}
                Received::Gone => return Poll::Ready(None),
                Received::Garbled(_) => {
                    self.connection
                        .send(&refuse(CONNECTION, RefusalReason::Malformed));
                    self.connection.close();
                    return Poll::Ready(None);
                }
                Received::Message(envelope) if self.channels.contains_key(&envelope.channel) => {
                    let mut bytes = BytesMut::new();
                    let frame = Bytes::from(wire::encode(&envelope));
                    if codec().encode(frame, &mut bytes).is_ok() {
                        self.incoming = Some((envelope.channel, bytes));
                    }
                }
                Received::Message(envelope) => return Poll::Ready(Some(envelope)),
            }
        }
    }

    /// Hands a message to its channel.
    fn pass_in(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some((channel, bytes)) = &mut self.incoming {
            let pipe = self.channels.get_mut(channel);
            let written = match pipe {
                Some(pipe) => ready!(Pin::new(pipe).poll_write(context, bytes)),
                None => Ok(0),
            };
            match written {
                Ok(written) if written > 0 => bytes.advance(written),
                // Whoever reads it has ended.
                _ => bytes.clear(),
            }
            if bytes.is_empty() {
                self.incoming = None;
            }
        }
        Poll::Ready(())
    }

    /// Queues what the channels say.
    fn pass_out(&mut self, context: &mut Context<'_>) {
        while !self.connection.is_long() {
            let Poll::Ready(Some((channel, frame))) = self.outgoing.poll_next_unpin(context) else {
                return;
            };
            let Some(frame) = frame else {
                // The peer cannot see that this channel is over, because the connection is not.
                self.channels.remove(&channel);
                self.connection.send(&refuse(channel, RefusalReason::ChannelBusy));
                continue;
            };
            self.connection.send_frame(frame.freeze());
        }
    }
}
