use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::bounds::Place;
use super::guarded::Guarded;
use super::{observer, ChannelManager, Inner};
use crate::channel::{ChannelId, Envelope, Features, HelloRandoms, KeyRole, Message, RefusalReason, Stage};
use crate::service::chain::Chain;
use crate::service::connection::{Connection, Received};
use crate::service::handle::PayeeHandle;
use crate::service::hello::{answer, refuse, Greeting, CONNECTION};
use crate::service::mux::Mux;
use crate::service::open::open_as_payee;
use crate::service::open_error::OpenError;
use crate::service::report::Report;
use crate::service::session::Attachment;
use crate::service::teller::Teller;

/// How long to wait when the system accepts no connection: usually it is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

impl<C: Chain + Clone> ChannelManager<C> {
    /// Serves every connection of a listener, as the payee. Cancel safe: the connections go on.
    pub async fn serve(&self, listener: TcpListener) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // A payment is one small frame, and its acknowledgement another.
                    let _ = stream.set_nodelay(true);
                    let manager = self.clone();
                    tokio::spawn(async move { manager.accept(stream, Some(peer.ip())).await });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

impl<C: Chain + Clone> Inner<C> {
    pub(super) async fn serve<IO>(self: &Arc<Self>, io: IO, peer: Option<IpAddr>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(place) = self.connections.take(peer) else {
            // To say so takes a descriptor for a while, so that only a few are told.
            if let Some(place) = self.refusals.take(None) {
                let connection = Connection::new(Guarded::new(io, self.parts.bounds.idle, place));
                end(connection, CONNECTION, RefusalReason::ChannelBusy);
            }
            return;
        };
        let mut connection = Connection::new(Guarded::new(io, self.parts.bounds.idle, place));
        let Some(first) = self.first(&mut connection).await else {
            return connection.close();
        };
        if first.message.kind() != crate::channel::MessageKind::Hello {
            return self.begin(connection, first, None, peer).await;
        }
        let channel = first.channel;
        let greeting = match answer(&mut connection, first, || self.parts.random.hello()) {
            Ok(greeting) => greeting,
            Err(reason) => return end(connection, channel, reason),
        };
        if greeting.features.contains(Features::MANY_CHANNELS) {
            self.serve_many(Mux::new(connection), resumes_with(&greeting), peer)
                .await;
        } else if let Some(first) = self.first(&mut connection).await {
            self.begin(connection, first, resumes_with(&greeting), peer).await;
        }
    }

    /// The next message of a connection that has no channel yet.
    async fn first(&self, connection: &mut Connection) -> Option<Envelope> {
        let received = tokio::time::timeout(self.parts.opening_timeout, connection.receive(false)).await;
        match received {
            Ok(Received::Message(envelope)) => Some(envelope),
            Ok(Received::Garbled(_)) => {
                connection.send(&refuse(CONNECTION, RefusalReason::Malformed));
                None
            }
            Ok(Received::Gone | Received::Room) | Err(_) => None,
        }
    }

    /// Several channels on one connection.
    async fn serve_many(self: &Arc<Self>, mut mux: Mux, randoms: Option<HelloRandoms>, peer: Option<IpAddr>) {
        while let Some(envelope) = mux.next().await {
            let channel = envelope.channel;
            match envelope.message {
                Message::Open { .. } | Message::Resume(_) => {}
                Message::Hello { .. } => {
                    return mux.end(&refuse(CONNECTION, RefusalReason::UnexpectedMessage));
                }
                // It was on its way when the channel ended here.
                _ => continue,
            }
            let stream = (mux.len() < self.parts.bounds.channels_per_connection)
                .then(|| mux.channel(channel))
                .flatten();
            let Some(stream) = stream else {
                mux.send(&refuse(channel, RefusalReason::ChannelBusy));
                continue;
            };
            let manager = Arc::clone(self);
            tokio::spawn(async move {
                let connection = Connection::new(stream);
                manager.begin(connection, envelope, randoms, peer).await;
            });
        }
    }

    /// One channel on its connection, which begins with this message.
    async fn begin(
        self: &Arc<Self>,
        connection: Connection,
        first: Envelope,
        randoms: Option<HelloRandoms>,
        peer: Option<IpAddr>,
    ) {
        match (&first.message, randoms) {
            (Message::Open { .. }, _) => self.open_channel(connection, first, peer).await,
            (Message::Resume(_), Some(randoms)) => self.resume(connection, first, randoms).await,
            _ => end(connection, first.channel, RefusalReason::UnexpectedMessage),
        }
    }

    async fn open_channel(self: &Arc<Self>, connection: Connection, first: Envelope, peer: Option<IpAddr>) {
        let Some(place) = self.unfunded.take(peer) else {
            return end(connection, first.channel, RefusalReason::ChannelBusy);
        };
        let opened = async {
            let setup = self.setup(KeyRole::Payee)?;
            open_as_payee(connection, Some(first), self.chain.clone(), setup).await
        };
        let opened: Result<_, OpenError> = opened.await;
        match opened {
            Ok(opened) => {
                let funding = opened.funding();
                let (handle, launch) = self.registry.add_payee(funding, |on_end| opened.spawn(on_end));
                // Nobody waits for the first things that it does; the observer hears of them.
                launch.keep();
                hold_until_funded(&handle, place);
            }
            Err(error) => {
                Teller::new(observer(&self.parts.observer, None)).tell(Report::NotOpened(&error));
            }
        }
    }

    async fn resume(&self, connection: Connection, first: Envelope, randoms: HelloRandoms) {
        let channel = first.channel;
        let Message::Resume(resume) = first.message else {
            return;
        };
        let Some(payee) = self.registry.payee(resume.claim.funding) else {
            return end(connection, channel, RefusalReason::UnknownChannel);
        };
        // Only the payer itself may end the connection that its channel has now.
        if resume.verify(&randoms, payee.params()).is_err() {
            return end(connection, channel, RefusalReason::ProofWrong);
        }
        // What became of it, the payer hears from the party.
        let (reply, _) = oneshot::channel();
        let attachment = Attachment {
            connection,
            channel,
            randoms,
            resume: Some(first),
            reply,
        };
        if let Err(attachment) = payee.attach(attachment).await {
            end(attachment.connection, channel, RefusalReason::UnknownChannel);
        }
    }
}

/// What proofs on this connection are made for, if channels can be resumed on it.
fn resumes_with(greeting: &Greeting) -> Option<HelloRandoms> {
    let resumes = greeting.features.contains(Features::RESUME);
    resumes.then_some(greeting.randoms)
}

fn end(mut connection: Connection, channel: ChannelId, reason: RefusalReason) {
    connection.send(&refuse(channel, reason));
    connection.close();
}

/// Counts a channel as unfunded until payments count, or it is over: one that closes before costs its peer nothing.
pub(super) fn hold_until_funded(payee: &PayeeHandle, place: Place) {
    let mut status = payee.status();
    tokio::spawn(async move {
        // An error means that the party has ended.
        let _ = status
            .wait_for(|status| matches!(status.stage, Stage::Open | Stage::Closed))
            .await;
        drop(place);
    });
}
