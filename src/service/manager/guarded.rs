use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{sleep, Instant, Sleep};

use super::bounds::Place;

/// A stream that ends when the peer says nothing for too long, and that counts among the connections while it lives.
pub(super) struct Guarded<IO> {
    io: IO,
    idle: Duration,
    ends: Pin<Box<Sleep>>,
    _place: Place,
}

impl<IO> Guarded<IO> {
    pub fn new(io: IO, idle: Duration, place: Place) -> Self {
        Self {
            io,
            idle,
            ends: Box::pin(sleep(idle)),
            _place: place,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_ready() {
            let ends = Instant::now() + self.idle;
            self.ends.as_mut().reset(ends);
            return read;
        }
        // The end of a stream is that nothing was read.
        self.ends.as_mut().poll(context).map(Ok)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
