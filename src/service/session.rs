use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use bitcoin::{Amount, Txid};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::channel::{
    Action, ApplyError, Balance, BroadcastResult, Envelope, Event, Message, Notice, Outcome, PaymentError,
    Reason, Refusal, SpendRole, Stage,
};

use super::chain::{Chain, ChainError};
use super::connection::{Connection, ConnectionError};
use super::party::Party;
use super::report::{Observer, Report, Status};
use super::request::{PayError, Request};

/// How long one's own node may take for an answer.
const CHAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// After what time a party looks at the chain although nobody told it that something changed: news may be lost,
/// and the one who brings them may be gone. When to look is all that a clock decides.
const LOOK: Duration = Duration::from_secs(30);

/// The same after a look that failed.
const RETRY: Duration = Duration::from_secs(2);

/// An answer of one's own node, or the failure to give one in time.
pub(super) async fn in_time<T>(
    task: &'static str,
    answer: impl Future<Output = Result<T, ChainError>>,
) -> Result<T, ChainError> {
    let waited = tokio::time::timeout(CHAIN_TIMEOUT, answer).await;
    waited.unwrap_or_else(|elapsed| Err(ChainError::new(task, elapsed)))
}

/// One party on one connection, after the opening.
pub(super) struct Session<P, IO, C> {
    party: P,
    connection: Connection<IO>,
    chain: C,
    observer: Observer,
    status: watch::Sender<Status>,
    unacknowledged: VecDeque<(Amount, oneshot::Sender<Result<Balance, PayError>>)>,
    seen: u64,
    outcome: Option<Outcome>,
    /// The last look at the chain, or the last broadcast, failed.
    blind: bool,
    next_look: Instant,
}

impl<P: Party, IO: AsyncRead + AsyncWrite + Unpin + Send, C: Chain> Session<P, IO, C> {
    pub fn new(
        party: P,
        connection: Connection<IO>,
        chain: C,
        observer: Observer,
    ) -> (Self, watch::Receiver<Status>) {
        let (status, receiver) = watch::channel(Status {
            stage: party.stage(),
            paid: party.paid(),
            connected: true,
            received: connection.received,
            sent: connection.sent,
            seen: 0,
            outcome: None,
        });
        let unacknowledged = VecDeque::new();
        let session = Self {
            party,
            connection,
            chain,
            observer,
            status,
            unacknowledged,
            seen: 0,
            outcome: None,
            blind: false,
            next_look: Instant::now() + LOOK,
        };
        (session, receiver)
    }

    /// Deals with one thing after the other until the funding output is spent for good.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut changes = self.chain.changes();
        // The chain may have moved during the opening.
        changes.mark_changed();
        let (mut watching, mut commanded) = (true, true);
        self.next_look = Instant::now() + LOOK;
        let mut alone = false;
        loop {
            // Whoever ended it: no answer will come any more.
            if !alone && !self.connection.is_open() {
                alone = true;
                self.on_event(Event::PeerGone).await;
            }
            self.publish();
            if self.is_over() {
                return;
            }
            tokio::select! {
                // In this order when several are ready: what the chain says decides over money, one's own user comes
                // before a peer that talks without pause, and a fixed order makes a run repeatable.
                biased;
                changed = changes.changed(), if watching => {
                    if changed.is_err() {
                        watching = false;
                        (self.observer)(Report::NoMoreNews);
                        continue;
                    }
                    let serial = *changes.borrow_and_update();
                    self.on_change().await;
                    self.seen = serial;
                    // However fast the news come and however slow the node is, the user gets a word in.
                    while let Ok(request) = requests.try_recv() {
                        self.on_request(request).await;
                    }
                }
                () = tokio::time::sleep_until(self.next_look) => self.on_change().await,
                request = requests.recv(), if commanded => match request {
                    Some(request) => self.on_request(request).await,
                    // The handle is gone; the channel still has to be brought to its end.
                    None => commanded = false,
                },
                // Who cannot see the chain must not take payments: it reads no message until it can.
                received = self.connection.receive(), if self.connection.is_open() && !(self.blind && P::IS_PAID) => {
                    self.on_received(received).await;
                }
            }
        }
    }

    /// Whether the channel has come to its end.
    pub fn is_over(&self) -> bool {
        self.party.stage() == Stage::Closed
    }

    /// Whether this side's node refused its funding transaction.
    pub fn is_unfunded(&self) -> bool {
        self.party.is_unfunded()
    }

    /// Carries out actions, and what follows from the network's answers.
    pub async fn perform(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(envelope) => self.send(&envelope).await,
                Action::Notify(notice) => self.on_notice(&notice),
                Action::Broadcast { role, tx } => {
                    let answer = in_time("broadcast a transaction", self.chain.broadcast(&tx)).await;
                    if let Ok(rejected) = &answer {
                        let rejected = rejected.as_deref();
                        (self.observer)(Report::Broadcast {
                            role,
                            tx: &tx,
                            rejected,
                        });
                    }
                    actions.extend(self.answered(role, tx.compute_txid(), answer));
                }
                Action::BroadcastPackage { role, package } => {
                    let answer = in_time("submit a package", self.chain.broadcast_package(&package)).await;
                    if let Ok(rejected) = &answer {
                        let (package, rejected) = (&package, rejected.as_deref());
                        (self.observer)(Report::BroadcastPackage {
                            role,
                            package,
                            rejected,
                        });
                    }
                    actions.extend(self.answered(role, package.parent().compute_txid(), answer));
                }
            }
        }
    }

    /// What follows from the network's answer, or from its silence.
    fn answered(
        &mut self,
        role: SpendRole,
        txid: Txid,
        answer: Result<Option<String>, ChainError>,
    ) -> Vec<Action> {
        let event = match answer {
            Ok(rejected) => Event::Broadcast(BroadcastResult { role, txid, rejected }),
            Err(error) => {
                (self.observer)(Report::ChainFailed(&error));
                self.lose_sight();
                Event::BroadcastUnknown { role, txid }
            }
        };
        self.party.apply(event).unwrap_or_else(|error| {
            (self.observer)(Report::Failed(&error));
            Vec::new()
        })
    }

    /// A connection that breaks here is never asked for messages again, so this is where it is noticed.
    async fn send(&mut self, envelope: &Envelope) {
        let was_open = self.connection.is_open();
        self.connection.send(envelope).await;
        if was_open && !self.connection.is_open() {
            (self.observer)(Report::Disconnected);
            self.give_up_waiting(None);
        }
    }

    async fn on_request(&mut self, request: Request) {
        match request {
            Request::Apply(event, reply) => {
                let result = self.apply(event).await;
                // Whoever asked may have stopped waiting.
                let _ = reply.send(result);
            }
            // Whoever asked has stopped waiting, and may ask again: paying now would pay twice.
            Request::Pay(_, reply) if reply.is_closed() => {}
            Request::Pay(_, reply) if !self.connection.is_open() => {
                let _ = reply.send(Err(PayError::Disconnected));
            }
            Request::Pay(amount, reply) => match self.party.apply(Event::Pay(amount)) {
                Ok(actions) => {
                    self.unacknowledged.push_back((self.party.paid(), reply));
                    self.perform(actions).await;
                    if !self.connection.is_open() {
                        self.give_up_waiting(None);
                    }
                }
                Err(error) => {
                    let _ = reply.send(Err(error.into()));
                }
            },
            Request::Redeemable(reply) => {
                let _ = reply.send(self.party.redeemable());
            }
            Request::Settlement(reply) => {
                let _ = reply.send(self.party.settlement());
            }
        }
    }

    async fn apply(&mut self, event: Event) -> Result<(), ApplyError> {
        let actions = self.party.apply(event)?;
        self.perform(actions).await;
        if !self.connection.is_open() {
            // What the peer was asked for will not come.
            self.on_event(Event::PeerGone).await;
        }
        Ok(())
    }

    async fn on_received(&mut self, received: Option<Result<Envelope, ConnectionError>>) {
        let envelope = match received {
            Some(Ok(envelope)) => envelope,
            Some(Err(error)) => {
                (self.observer)(Report::Garbled(&error));
                return self.hang_up(Reason::Malformed).await;
            }
            None => {
                // Who leaves while the channel closes has nothing more to say.
                if !matches!(self.party.stage(), Stage::Closing | Stage::Closed) {
                    (self.observer)(Report::Disconnected);
                }
                return self.give_up_waiting(None);
            }
        };
        let mut result = self.party.apply(Event::Message(envelope.clone()));
        if let Err(ApplyError::Refused(Refusal::Payment(PaymentError::Unconfirmed { .. }))) = &result {
            // The payer may have heard of a block first.
            self.on_change().await;
            result = self.party.apply(Event::Message(envelope));
        }
        match result {
            Ok(actions) => self.perform(actions).await,
            Err(ApplyError::Refused(refusal)) => {
                (self.observer)(Report::Refused(&refusal));
                self.hang_up(refusal.reason()).await;
            }
            Err(error) => (self.observer)(Report::Failed(&error)),
        }
    }

    /// One wrong message ends the connection: what the peer sends next is not worth reading.
    async fn hang_up(&mut self, reason: Reason) {
        let message = Message::Refuse { reason };
        self.connection
            .send(&Envelope {
                channel: self.party.channel(),
                message,
            })
            .await;
        self.connection.close();
        self.give_up_waiting(None);
    }

    async fn on_event(&mut self, event: Event) {
        match self.party.apply(event) {
            Ok(actions) => self.perform(actions).await,
            Err(error) => (self.observer)(Report::Failed(&error)),
        }
    }

    fn lose_sight(&mut self) {
        self.blind = true;
        self.next_look = Instant::now() + RETRY;
    }

    async fn on_change(&mut self) {
        let view = in_time(
            "look at the chain",
            self.chain.view(self.party.funding_outpoint()),
        )
        .await;
        self.blind = false;
        self.next_look = Instant::now() + LOOK;
        if view.is_err() {
            self.lose_sight();
        }
        match view {
            Ok(view) => self.on_event(Event::Chain(view)).await,
            Err(error) => (self.observer)(Report::ChainFailed(&error)),
        }
    }

    fn on_notice(&mut self, notice: &Notice) {
        (self.observer)(Report::Notice(notice));
        match notice {
            Notice::PaymentAccepted(balance) => {
                while self
                    .unacknowledged
                    .front()
                    .is_some_and(|(paid, _)| *paid <= balance.paid)
                {
                    if let Some((_, reply)) = self.unacknowledged.pop_front() {
                        let _ = reply.send(Ok(*balance));
                    }
                }
            }
            Notice::PeerRefused { reason } => {
                // It has said that it says nothing more.
                self.connection.close();
                self.give_up_waiting(Some(*reason));
            }
            Notice::Closed(outcome) => self.outcome = Some(*outcome),
            _ => {}
        }
    }

    fn give_up_waiting(&mut self, refused: Option<Reason>) {
        for (paid, reply) in self.unacknowledged.drain(..) {
            let error = refused.map_or(PayError::Unacknowledged { paid }, |reason| PayError::Refused {
                reason,
            });
            let _ = reply.send(Err(error));
        }
    }

    fn publish(&self) {
        self.status.send_replace(Status {
            stage: self.party.stage(),
            paid: self.party.paid(),
            connected: self.connection.is_open(),
            received: self.connection.received,
            sent: self.connection.sent,
            seen: self.seen,
            outcome: self.outcome,
        });
    }
}
