use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Session;
use crate::channel::{ChannelId, Envelope, Event, HelloRandoms, Message, RefusalReason, Stage};
use crate::service::chain::Chain;
use crate::service::connection::Connection;
use crate::service::party::Party;
use crate::service::report::Report;
use crate::service::resume_error::ResumeError;
use crate::service::timing::SEND_TIMEOUT;

/// A new connection for a channel, on which both sides have said hello.
pub(in crate::service) struct Attachment {
    pub connection: Connection,
    /// The channel's number on it.
    pub channel: ChannelId,
    pub randoms: HelloRandoms,
    /// The payer's *resume*, with a proof that was verified.
    pub resume: Option<Envelope>,
    /// Told what became of it.
    pub reply: oneshot::Sender<Result<(), ResumeError>>,
}

/// The peer's next message is to be its half of resuming.
pub(super) struct Resuming {
    deadline: Instant,
    reply: oneshot::Sender<Result<(), ResumeError>>,
}

impl Resuming {
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// How a party goes on over a new connection.
impl<P: Party, C: Chain> Session<P, C> {
    /// The newest connection wins: an older one may be dead, and this side does not know yet.
    pub(super) async fn attach(&mut self, attachment: Attachment) {
        let Attachment {
            mut connection,
            channel,
            randoms,
            resume,
            reply,
        } = attachment;
        let busy = Message::Refuse {
            reason: RefusalReason::ChannelBusy,
        };
        if self.store_failed.is_some() || self.party.stage() == Stage::Closed {
            // Another process may have the channel, or soon will.
            connection.send(&Envelope {
                channel,
                message: busy,
            });
            return connection.close();
        }
        if P::IS_PAID {
            let channel = self.party.channel();
            self.connection.send(&Envelope {
                channel,
                message: busy,
            });
        }
        self.connection.close();
        self.fail_to_resume(ResumeError::Replaced);
        self.outbox.drop_messages();
        self.connection = connection;
        (self.hung_up, self.alone) = (false, false);
        self.resuming = Some(Resuming {
            // An honest peer may be polling the chain, and broadcasting what follows from that.
            deadline: Instant::now() + SEND_TIMEOUT,
            reply,
        });
        self.on_event(Event::Reconnected { channel, randoms }).await;
        if let Some(resume) = resume {
            self.on_message(resume).await;
        }
    }

    pub(super) fn on_resumed(&mut self) {
        if let Some(resuming) = self.resuming.take() {
            self.teller.tell(Report::Resumed);
            // The caller may have stopped waiting.
            let _ = resuming.reply.send(Ok(()));
        }
    }

    pub(super) fn fail_to_resume(&mut self, error: ResumeError) {
        if let Some(resuming) = self.resuming.take() {
            let _ = resuming.reply.send(Err(error));
        }
    }
}
