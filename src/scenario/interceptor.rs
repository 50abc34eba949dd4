use futures_util::{SinkExt, StreamExt};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::recorder::Recorder;
use crate::channel::{Envelope, MessageKind};
use crate::service::codec;
use crate::transcript::{Entry, MessagePosition, Side};
use crate::wire;

type FramedPipe = Framed<DuplexStream, LengthDelimitedCodec>;

/// Sits between the two parties: records every message, and does to the wire what the story calls for. Both parties
/// are real and honest; whatever is dishonest in a story happens here.
pub(super) struct Interceptor {
    payer: FramedPipe,
    payee: FramedPipe,
    rules: Vec<Rule>,
    recorder: Recorder,
    status: watch::Sender<TapStatus>,
    orders: mpsc::UnboundedReceiver<Order>,
    gone: &'static str,
    /// A party that vanished after the opening, and must not notice that the connection broke.
    dead: Option<Side>,
}

/// What to do with one message.
pub struct Rule {
    /// Which message; those before it pass unaltered.
    pub message: MessagePosition,
    /// What happens to it.
    pub effect: Effect,
}

/// What happens to a message.
pub enum Effect {
    /// It is never sent: the sender loses power at that moment, and the connection breaks.
    Vanish,
    /// It arrives, and at that moment the receiver loses power.
    VanishReceiver,
    /// It arrives, and at that moment the sender loses power.
    VanishSender,
    /// Something else arrives in its place.
    Replace(Box<dyn FnOnce(Envelope) -> Envelope + Send>),
}

/// What a story does to the connection while it is up.
pub(super) enum Order {
    Apply(Rule),
    /// This side loses power now.
    Cut(Side),
}

/// The connection between the two parties, as a story holds it. Dropping it ends a connection that was cut for the party
/// that lost its power, too.
pub(super) struct Wire {
    pub status: watch::Receiver<TapStatus>,
    sender: watch::Sender<TapStatus>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Wire {
    /// Returns the connection of parties that are not connected.
    pub fn unplugged() -> Self {
        let ended = TapStatus {
            ended: true,
            ..TapStatus::default()
        };
        let (sender, status) = watch::channel(ended);
        let (orders, _) = mpsc::unbounded_channel();
        Self {
            status,
            sender,
            orders,
        }
    }

    pub fn order(&self, order: Order) {
        // A connection that has ended needs no orders.
        let _ = self.orders.send(order);
    }

    /// Returns what says that a side has lost its power while it did something other than sending.
    pub fn vanishes(&self, who: Side) -> impl FnOnce() + Send + 'static {
        let sender = self.sender.clone();
        move || sender.send_modify(|status| status.vanished = Some(who))
    }
}

/// How many messages have gone through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TapStatus {
    pub from_payer: u64,
    pub from_payee: u64,
    /// Whether the payer resumed the channel on it.
    pub resumed: bool,
    /// Whether a side has refused to say more.
    pub refused: bool,
    /// The party that vanished, if a rule or a broken connection ended it.
    pub vanished: Option<Side>,
    pub ended: bool,
}

impl TapStatus {
    /// Whether a party that has ended has nothing more to say.
    pub const fn is_left(&self) -> bool {
        self.ended || self.refused || !self.resumed
    }
}

impl Interceptor {
    /// Starts between two parties, and returns their ends of the wire.
    ///
    /// `gone` is what the transcript says of a side that loses power.
    pub fn start(
        rules: Vec<Rule>,
        recorder: Recorder,
        gone: &'static str,
    ) -> (DuplexStream, DuplexStream, Wire) {
        let (payer, payer_end) = tokio::io::duplex(2 * wire::MAX_MESSAGE);
        let (payee, payee_end) = tokio::io::duplex(2 * wire::MAX_MESSAGE);
        let (status, receiver) = watch::channel(TapStatus::default());
        let (orders, ordered) = mpsc::unbounded_channel();
        let story = Wire {
            status: receiver,
            sender: status.clone(),
            orders,
        };
        let wire = |end| Framed::new(end, codec());
        let tap = Self {
            payer: wire(payer_end),
            payee: wire(payee_end),
            rules,
            recorder,
            status,
            orders: ordered,
            gone,
            dead: None,
        };
        tokio::spawn(tap.run());
        (payer, payee, story)
    }

    async fn run(mut self) {
        loop {
            let (from, frame) = tokio::select! {
                biased;
                Some(order) = self.orders.recv() => match order {
                    Order::Apply(rule) => {
                        self.rules.push(rule);
                        continue;
                    }
                    Order::Cut(who) => {
                        self.cut(who);
                        break;
                    }
                },
                frame = self.payer.next() => (Side::Payer, frame),
                frame = self.payee.next() => (Side::Payee, frame),
            };
            let Some(Ok(frame)) = frame else { break };
            if !self.pass(from, &frame).await {
                break;
            }
        }
        let Self {
            payer,
            payee,
            status,
            mut orders,
            ..
        } = self;
        // The task of a vanished party runs until the story ends it. A lost connection would make it act, which a
        // machine without power cannot do, so it alone does not see that the wire is broken.
        let (dead, survivor) = if self.dead == Some(Side::Payer) {
            (payer, payee)
        } else {
            (payee, payer)
        };
        let mut dead = self.dead.is_some().then_some(dead);
        drop(survivor);
        status.send_modify(|status| status.ended = true);
        if let Some(dead) = &mut dead {
            tokio::select! {
                () = async { while let Some(Ok(_)) = dead.next().await {} } => {}
                () = async { while orders.recv().await.is_some() {} } => {}
            }
        }
    }

    /// Passes one message on, and returns whether to continue.
    async fn pass(&mut self, from: Side, frame: &[u8]) -> bool {
        let (bytes, tampered) = match self.effect(from, frame) {
            None => (frame.to_vec(), false),
            Some((envelope, Effect::VanishSender)) => {
                self.forward(from, frame.to_vec(), false).await;
                return self.vanish(from, envelope.message.kind());
            }
            Some((envelope, Effect::Vanish)) => return self.vanish(from, envelope.message.kind()),
            Some((envelope, Effect::VanishReceiver)) => {
                self.recorder.message(from, frame, false);
                return self.vanish(from.peer(), envelope.message.kind());
            }
            Some((envelope, Effect::Replace(replace))) => (wire::encode(&replace(envelope)), true),
        };
        self.forward(from, bytes, tampered).await
    }

    async fn forward(&mut self, from: Side, bytes: Vec<u8>, tampered: bool) -> bool {
        self.recorder.message(from, &bytes, tampered);
        let kind = wire::decode(&bytes).ok().map(|envelope| envelope.message.kind());
        // Counted before it is passed on, so that its effect is never visible before the count.
        self.status.send_modify(|status| {
            status.refused |= kind == Some(MessageKind::Refuse);
            match (from, kind) {
                // The connection's, and not the party's.
                (_, Some(MessageKind::Hello)) => {}
                // The connection hands it to the party.
                (Side::Payer, Some(MessageKind::Resume)) => (status.from_payer, status.resumed) = (1, true),
                (Side::Payer, _) => status.from_payer += 1,
                (Side::Payee, _) => status.from_payee += 1,
            }
        });
        let to = if from == Side::Payer {
            &mut self.payee
        } else {
            &mut self.payer
        };
        to.send(Bytes::from(bytes)).await.is_ok()
    }

    /// Ends the wire: nothing passes any longer.
    fn vanish(&mut self, who: Side, at: MessageKind) -> bool {
        // A party that has not opened the channel yet waits for its peer.
        let is_open = at > MessageKind::Funding || (at == MessageKind::Funding && who == Side::Payer);
        self.dead = is_open.then_some(who);
        self.lose_power(who);
        false
    }

    fn cut(&mut self, who: Side) {
        self.dead = Some(who);
        if self.status.borrow().vanished.is_none() {
            self.lose_power(who);
        }
    }

    fn lose_power(&self, who: Side) {
        self.recorder.silence(who);
        self.recorder.add(Entry::Notice {
            by: who.into(),
            text: self.gone.to_owned(),
        });
        self.status.send_modify(|status| status.vanished = Some(who));
    }

    fn effect(&mut self, from: Side, frame: &[u8]) -> Option<(Envelope, Effect)> {
        let envelope = wire::decode(frame).ok()?;
        let kind = envelope.message.kind();
        let is_of_kind = |rule: &Rule| rule.message.from == from && rule.message.kind == kind;
        let index = self.rules.iter().position(is_of_kind)?;
        if !self.rules[index].message.reached(from, kind) {
            return None;
        }
        Some((envelope, self.rules.remove(index).effect))
    }
}
