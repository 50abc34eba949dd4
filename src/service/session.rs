mod attach;
mod outbox;
mod perform;
mod poll_schedule;
mod polling;

use std::collections::BTreeMap;

use bitcoin::Amount;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};

use crate::channel::{
    Action, ApplyError, Balance, Envelope, Event, Message, Outcome, PaymentError, Refusal, RefusalReason,
    Stage, Tip,
};

use super::chain::Chain;
use super::connection::{Connection, Received};
use super::party::Party;
use super::report::{Report, Status};
use super::request::{PayError, Payment, Request};
use super::resume_error::ResumeError;
use super::teller::Teller;
use crate::store::StoreError;
pub(super) use attach::Attachment;
use attach::Resuming;
use outbox::Outbox;
pub(super) use outbox::Shelf;
pub(super) use poll_schedule::Pace;
use poll_schedule::PollSchedule;

/// How many waiting requests and messages are handled between two polls of the chain.
const TURN: usize = 64;

/// One party on one connection, after the opening.
pub(super) struct Session<P, C> {
    party: P,
    connection: Connection,
    chain: C,
    teller: Teller,
    status: watch::Sender<Status>,
    outbox: Outbox,
    /// Why the store failed. This process has lost the channel then: it takes no message and no order any more, and only
    /// watches the chain.
    store_failed: Option<StoreError>,
    /// What the payee's user was told to have been accepted: never more than the store holds.
    paid: Amount,
    /// By the sum that each of them waits for.
    unacknowledged: BTreeMap<Amount, Vec<oneshot::Sender<Result<Balance, PayError>>>>,
    seen: u64,
    outcome: Option<Outcome>,
    polls: PollSchedule,
    /// This side has ended the connection.
    hung_up: bool,
    /// The end of the connection has been dealt with.
    alone: bool,
    /// The channel is being resumed on this connection.
    resuming: Option<Resuming>,
    /// A block spends the funding output.
    spend_confirmed: bool,
    /// What this side's node said when it last rejected the funding transaction.
    funding_rejected: Option<String>,
}

/// What became of the first actions.
pub(super) enum Launched {
    UnderWay,
    /// The node rejected the funding transaction. The party goes on.
    Rejected(String),
    /// The channel was not stored, so nothing was done, and the party has ended.
    NotStored(StoreError),
}

/// What a session hears from its side.
pub(super) struct Inbox {
    pub requests: mpsc::Receiver<Request>,
    pub payments: mpsc::Receiver<Payment>,
    /// Signals that the opener has the handle; dropped if the opener is gone.
    pub kept: oneshot::Receiver<()>,
}

/// What says nothing any more.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each ends without the others")]
struct Ended {
    news: bool,
    requests: bool,
    payments: bool,
    opener: bool,
}

/// What a session does first.
pub(super) struct Start {
    pub actions: Vec<Action>,
    /// Told when they are carried out.
    pub carried_out: oneshot::Sender<Launched>,
}

impl<P: Party, C: Chain> Session<P, C> {
    pub fn new(
        party: P,
        connection: Connection,
        chain: C,
        teller: Teller,
        shelf: Option<Shelf>,
        (pace, tip): (Pace, Tip),
    ) -> Self {
        let paid = party.paid();
        let status = watch::Sender::new(Status {
            stage: party.stage(),
            paid,
            deadline: party.deadline(),
            connected: true,
            blind: false,
            received: connection.received,
            sent: connection.sent,
            seen: 0,
            outcome: None,
            fault: None,
            store_failed: None,
            panicked: None,
        });
        Self {
            outbox: Outbox::new(shelf),
            store_failed: None,
            paid,
            party,
            connection,
            chain,
            teller,
            status,
            unacknowledged: BTreeMap::new(),
            seen: 0,
            outcome: None,
            polls: PollSchedule::new(pace, tip),
            hung_up: false,
            alone: false,
            resuming: None,
            spend_confirmed: false,
            funding_rejected: None,
        }
    }

    /// Begins without a peer: not one that is gone, but one that may come back.
    pub fn alone(mut self) -> Self {
        (self.alone, self.hung_up) = (true, true);
        self.status.send_modify(|status| status.connected = false);
        self
    }

    pub const fn party(&self) -> &P {
        &self.party
    }

    pub const fn status(&self) -> &watch::Sender<Status> {
        &self.status
    }

    /// Deals with one thing after the other until the funding output is spent for good.
    pub async fn run(mut self, start: Start, mut inbox: Inbox) {
        self.perform(start.actions).await;
        self.catch_up_with_store().await;
        // The one who opened it may have stopped waiting; `kept` tells.
        if let Some(error) = self.store_failed.clone() {
            let _ = start.carried_out.send(Launched::NotStored(error));
            return self.publish();
        }
        let rejected = self.funding_rejected.take().filter(|_| self.party.is_unfunded());
        let launched = rejected.map_or(Launched::UnderWay, Launched::Rejected);
        let _ = start.carried_out.send(launched);
        let mut changes = self.changes();
        let mut ended = Ended::default();
        loop {
            if !self.alone && !self.connection.is_open() {
                self.alone = true;
                self.on_end_of_connection().await;
            }
            self.publish();
            let closed = self.party.stage() == Stage::Closed && self.outbox.is_empty();
            if closed || self.store_failed.as_ref().is_some_and(StoreError::is_conflict) {
                break;
            }
            self.next(&mut inbox, &mut changes, &mut ended).await;
        }
        self.close();
        self.give_up_waiting(None);
    }

    /// Waits for the next thing, and deals with it.
    async fn next(&mut self, inbox: &mut Inbox, changes: &mut watch::Receiver<u64>, ended: &mut Ended) {
        let keeps_up = !self.outbox.is_full();
        // After the end, nothing that is said is of any use.
        let listens = keeps_up && self.connection.is_open() && self.party.stage() != Stage::Closed;
        let takes_payments = !ended.payments && !self.connection.is_long() && keeps_up;
        let resumes_by = self.resuming.as_ref().map(Resuming::deadline);
        tokio::select! {
            // In this order when several are ready: what the chain says decides over money, one's own user comes
            // before a peer that talks without pause, and a fixed order makes a run repeatable.
            biased;
            changed = changes.changed(), if !ended.news && self.polls.heeds_news() => {
                if changed.is_err() {
                    ended.news = true;
                    self.teller.tell(Report::NoMoreNews);
                    return;
                }
                self.poll(changes).await;
                self.catch_up(inbox).await;
            }
            () = tokio::time::sleep_until(self.polls.next_poll) => {
                self.poll(changes).await;
                self.catch_up(inbox).await;
            }
            () = tokio::time::sleep_until(resumes_by.unwrap_or(self.polls.next_poll)), if resumes_by.is_some() => {
                self.fail_to_resume(ResumeError::Timeout);
                self.close();
            }
            next = self.outbox.next(), if !self.outbox.is_empty() => {
                self.do_next(next).await;
                self.do_what_is_stored().await;
            }
            kept = &mut inbox.kept, if !ended.opener => {
                ended.opener = true;
                if kept.is_err() {
                    self.on_opener_gone().await;
                }
            }
            request = inbox.requests.recv(), if !ended.requests => match request {
                Some(request) => self.on_request(request).await,
                // The handle is gone; the channel must still be brought to its end.
                None => ended.requests = true,
            },
            payment = inbox.payments.recv(), if takes_payments => match payment {
                Some(payment) => self.on_payment(payment).await,
                None => ended.payments = true,
            },
            received = self.connection.receive(P::IS_PAID), if listens => {
                self.on_received(received).await;
            }
        }
    }

    /// Hears the user and the peer after each poll, however fast news come and however slow the node is.
    async fn catch_up(&mut self, inbox: &mut Inbox) {
        // Nothing that is said is of any use after the end.
        if self.party.stage() == Stage::Closed {
            return;
        }
        for _ in 0..TURN {
            let Ok(request) = inbox.requests.try_recv() else {
                break;
            };
            self.on_request(request).await;
        }
        for _ in 0..TURN {
            if self.connection.is_long() || self.outbox.is_full() {
                break;
            }
            let Ok(payment) = inbox.payments.try_recv() else {
                break;
            };
            self.on_payment(payment).await;
        }
        for _ in 0..TURN {
            let is_deaf = !self.connection.is_open() || self.outbox.is_full();
            if is_deaf || self.party.stage() == Stage::Closed {
                break;
            }
            let Some(received) = self.connection.receive(P::IS_PAID).now_or_never() else {
                break;
            };
            self.on_received(received).await;
            self.publish();
        }
    }

    /// The peer's last word was said: no answer will come any more.
    async fn on_end_of_connection(&mut self) {
        // A peer that leaves while the channel closes has nothing more to say.
        if !self.hung_up && !matches!(self.party.stage(), Stage::Closing | Stage::Closed) {
            self.teller.tell(Report::Disconnected);
        }
        self.fail_to_resume(ResumeError::Disconnected);
        self.give_up_waiting(None);
        if self.store_failed.is_none() {
            self.on_event(self.peer_is_off()).await;
        }
    }

    /// The opener dropped the handle, so the channel is closed to free its money soon.
    async fn on_opener_gone(&mut self) {
        // The node rejected the funding transaction, and the payee never heard of it: all that is left is to watch.
        if self.party.is_unfunded() {
            return self.close();
        }
        if self.store_failed.is_some() {
            return;
        }
        if let Err(error) = self.apply(Event::Close).await {
            self.teller.tell(Report::Failed(&error));
        }
    }

    async fn on_request(&mut self, request: Request) {
        match request {
            // The handle says why, when no answer comes. A child changes nothing but the fee.
            Request::Apply(event, _) if self.store_failed.is_some() && !matches!(*event, Event::Bump(_)) => {}
            Request::Attach(attachment) => self.attach(*attachment).await,
            Request::Apply(event, reply) => {
                let result = self.apply(*event).await;
                // The caller may have stopped waiting.
                let _ = reply.send(result);
            }
            Request::Redeemable(reply) => {
                let _ = reply.send(self.party.redeemable());
            }
            Request::Settlement(reply) => {
                let _ = reply.send(self.party.settlement());
            }
            Request::Raisable(reply) => {
                let raisable = self.party.raisable().filter(|_| !self.spend_confirmed);
                let _ = reply.send(raisable.map(Box::new));
            }
            Request::Refund(reply) => {
                let _ = reply.send(self.party.refund());
            }
        }
    }

    async fn apply(&mut self, event: Event) -> Result<(), ApplyError> {
        let actions = self.party.apply(event)?;
        self.perform(actions).await;
        if !self.connection.takes() {
            // What the peer was asked for will not come.
            self.on_event(self.peer_is_off()).await;
        }
        Ok(())
    }

    /// A channel that is stored waits for its peer until it is told to close.
    fn peer_is_off(&self) -> Event {
        if self.outbox.is_stored() && self.party.stage() != Stage::Closing {
            Event::PeerAway
        } else {
            Event::PeerGone
        }
    }

    async fn on_received(&mut self, received: Received) {
        match received {
            // The loop sees to both.
            Received::Room | Received::Gone => {}
            Received::Message(envelope) => self.on_message(envelope).await,
            Received::Garbled(error) => {
                self.teller.tell(Report::Garbled(&error));
                self.catch_up_with_store().await;
                self.hang_up(RefusalReason::Malformed);
            }
        }
    }

    async fn on_message(&mut self, envelope: Envelope) {
        let is_payment = matches!(envelope.message, Message::Payment { .. });
        let resumes = matches!(envelope.message, Message::Resume(_) | Message::Resumed(_));
        let mut result = self.party.apply(Event::Message(envelope.clone()));
        if let Err(ApplyError::Refused(Refusal::Payment(PaymentError::Unconfirmed { .. }))) = &result {
            // The payer may have heard of a block first.
            self.poll_again().await;
            result = self.party.apply(Event::Message(envelope));
        }
        match result {
            Ok(actions) => {
                let is_answered = actions.iter().any(|action| matches!(action, Action::Send(_)));
                if is_payment && !is_answered {
                    // It waits until payments count again, and that may be so by now.
                    self.polls.poll_soon();
                }
                self.perform(actions).await;
                if resumes {
                    self.on_resumed();
                }
            }
            Err(ApplyError::Refused(refusal)) => {
                self.teller.tell(Report::Refused(&refusal));
                self.fail_to_resume(ResumeError::Refused(Box::new(refusal.clone())));
                // What was acknowledged before is said before.
                self.catch_up_with_store().await;
                self.hang_up(refusal.reason());
            }
            Err(error) => self.teller.tell(Report::Failed(&error)),
        }
    }

    /// One wrong message ends the connection: what the peer sends next is not worth reading.
    fn hang_up(&mut self, reason: RefusalReason) {
        let (channel, message) = (self.party.channel(), Message::Refuse { reason });
        self.connection.send(&Envelope { channel, message });
        self.close();
        self.give_up_waiting(None);
    }

    fn close(&mut self) {
        self.hung_up = true;
        self.connection.close();
    }

    async fn on_event(&mut self, event: Event) {
        match self.party.apply(event) {
            Ok(actions) => self.perform(actions).await,
            Err(error) => self.teller.tell(Report::Failed(&error)),
        }
    }

    fn publish(&self) {
        self.status.send_replace(Status {
            stage: self.party.stage(),
            paid: if P::IS_PAID { self.paid } else { self.party.paid() },
            deadline: self.party.deadline(),
            connected: self.connection.is_open(),
            blind: self.polls.blind,
            received: self.connection.received,
            sent: self.connection.sent,
            seen: self.seen,
            outcome: self.outcome,
            fault: self.teller.fault.clone(),
            store_failed: self.store_failed.as_ref().map(ToString::to_string),
            panicked: None,
        });
    }
}
