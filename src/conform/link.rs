//! The link between our side and the program. Every message passes through it, and the rule of a case applies here.

use std::time::Duration;

use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, Txid};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, FramedRead, LengthDelimitedCodec};

use super::case::{Interference, InterferenceRule};
use super::frames::{text_in, Begun, Frames, WireFault, MOST_MESSAGES};
use super::program::{Killer, Pipes};
use crate::adversary::Forger;
use crate::channel::{Envelope, Features, Message, MessageKind, RefusalReason, Resume, Resumed};
use crate::scenario::Recorder;
use crate::service::{codec, Observer, OpenError, Report};
use crate::transcript::{Entry, Side};
use crate::wire;

/// What was observed on the link so far.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each has happened or not, whatever the others"
)]
pub(super) struct Observations {
    /// The number of messages of the program.
    pub messages: u32,
    /// The program's last message, and the kind of ours.
    pub last: Option<Message>,
    pub last_ours: Option<MessageKind>,
    /// The last payment that the payee, on either side, has acknowledged, and the last that it has requested.
    pub accepted: Option<Amount>,
    pub requested: Option<Amount>,
    /// The payee has announced that payments count.
    pub ready: bool,
    /// The settlement that the payee named last.
    pub closed: Option<Txid>,
    /// What the program can do besides, by its *hello*.
    pub hello: Option<Features>,
    /// What the program said to resume the channel, as the payer or as the payee.
    pub resume: Option<Resume>,
    pub resumed: Option<Resumed>,
    /// The sum of the program's last payment, or of its last acknowledgement.
    pub said: Option<Amount>,
    /// Our side has disconnected, or sent a forgery.
    pub cut: bool,
    /// The program's first message after that.
    pub answer: Option<Message>,
    pub killed: bool,
    pub fault: Option<WireFault>,
    /// The program's output has ended.
    pub ended: bool,
}

impl Observations {
    /// The kind of the program's last message.
    pub fn last_kind(&self) -> Option<MessageKind> {
        self.last.as_ref().map(Message::kind)
    }
}

pub(super) struct ProgramLink {
    pub heard: watch::Receiver<Observations>,
    pub observer: Observer,
    /// The program's incomplete frame.
    pub begun: Begun,
    task: JoinHandle<()>,
}

impl Drop for ProgramLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct LinkTask {
    /// Our side.
    side: Side,
    ours: Framed<DuplexStream, LengthDelimitedCodec>,
    /// `None` once our side has disconnected.
    input: Option<pipe::Sender>,
    output: FramedRead<pipe::Receiver, Frames>,
    rule: Option<InterferenceRule>,
    forger: Forger,
    killer: Killer,
    recorder: Recorder,
    heard: watch::Sender<Observations>,
    deadline: Duration,
}

pub(super) struct LinkSetup {
    pub side: Side,
    pub rule: Option<InterferenceRule>,
    pub forger: Forger,
    pub killer: Killer,
    pub recorder: Recorder,
    pub deadline: Duration,
}

impl ProgramLink {
    /// Starts the link; returns our side's end of it.
    pub fn start(setup: LinkSetup, pipes: Pipes) -> (Self, DuplexStream) {
        let (end, ours) = tokio::io::duplex(2 * wire::MAX_MESSAGE);
        let heard = watch::Sender::new(Observations::default());
        let receiver = heard.subscribe();
        let observer = observer(setup.side, &setup.recorder, &heard);
        let begun = Begun::default();
        let frames = Frames { begun: begun.clone() };
        let wire = LinkTask {
            side: setup.side,
            ours: Framed::new(ours, codec()),
            input: Some(pipes.input),
            output: FramedRead::new(pipes.output, frames),
            rule: setup.rule,
            forger: setup.forger,
            killer: setup.killer,
            recorder: setup.recorder,
            heard,
            deadline: setup.deadline,
        };
        let link = Self {
            heard: receiver,
            observer,
            begun,
            task: tokio::spawn(wire.run()),
        };
        (link, end)
    }
}

/// Records what our side does. If it refuses a message of the program, the case ends.
fn observer(side: Side, recorder: &Recorder, heard: &watch::Sender<Observations>) -> Observer {
    let (written, heard) = (recorder.observer(side, ""), heard.clone());
    std::sync::Arc::new(move |report: Report<'_>| {
        match &report {
            Report::Refused(refusal) => fail(&heard, WireFault::from(*refusal)),
            Report::NotOpened(OpenError::Refused(refusal)) => fail(&heard, WireFault::from(refusal)),
            Report::NotOpened(error) => fail(&heard, WireFault::NotOpened(error.to_string())),
            _ => {}
        }
        written(report);
    })
}

/// Notes a fault; only the first counts.
fn fail(heard: &watch::Sender<Observations>, fault: WireFault) {
    heard.send_modify(|heard| {
        heard.fault.get_or_insert(fault);
    });
}

/// Decodes a frame. Of one that is not a message, the fault has the text that the program may have printed.
fn decode(frame: &[u8]) -> Result<Envelope, WireFault> {
    wire::decode(frame).map_err(|error| {
        let len = frame.len();
        let header = u16::try_from(len).unwrap_or_default().to_be_bytes();
        if let Some(text) = text_in(&[&header, frame].concat()) {
            return WireFault::Text(text);
        }
        let head = frame[..len.min(16)].to_lower_hex_string();
        WireFault::Malformed { len, error, head }
    })
}

impl LinkTask {
    async fn run(mut self) {
        let mut ours_is_there = true;
        loop {
            let silent = self.heard.borrow().cut;
            tokio::select! {
                biased;
                frame = self.ours.next(), if ours_is_there && !silent => {
                    if let Some(Ok(frame)) = frame {
                        self.pass_ours(&frame).await;
                    } else {
                        ours_is_there = false;
                        self.input = None;
                    }
                }
                frame = self.output.next() => match frame {
                    Some(Ok(frame)) => self.pass_programs(&frame).await,
                    Some(Err(fault)) => fail(&self.heard, fault),
                    None => self.heard.send_modify(|heard| heard.ended = true),
                },
            }
            let (over, silent) = {
                let heard = self.heard.borrow();
                (heard.ended || heard.fault.is_some(), heard.cut)
            };
            if over && silent {
                // A side that sent a forgery or vanished does not see it, so it does nothing more.
                std::future::pending::<()>().await;
            }
            if over {
                return;
            }
        }
    }

    async fn pass_ours(&mut self, frame: &[u8]) {
        let Ok(envelope) = wire::decode(frame) else { return };
        let kind = envelope.message.kind();
        let interference = self.interference(self.side, kind);
        self.heard.send_modify(|heard| heard.last_ours = Some(kind));
        match interference {
            Some(Interference::Vanish) => {
                self.silence("disconnects");
                self.input = None;
            }
            Some(Interference::Forge(forgery)) => {
                let forged = forgery.forge(&self.forger, &envelope);
                self.recorder.message(self.side, &forged, true);
                self.silence(&format!("sends a forged message: {}", forgery.comment));
                self.write(&forged).await;
            }
            Some(Interference::Lose) => {
                self.recorder.message(self.side, frame, false);
                self.lose(kind);
            }
            Some(Interference::Lie(comment)) => {
                self.recorder.message(self.side, frame, true);
                self.tell(format!("sends what must be refused: {comment}"));
                self.heard.send_modify(|heard| heard.cut = true);
                self.write(frame).await;
            }
            Some(Interference::Kill) | None => {
                self.forger.saw(self.side, &envelope);
                self.recorder.message(self.side, frame, false);
                self.note(&envelope.message);
                self.write(frame).await;
            }
        }
    }

    /// Cuts off our side, which is not told.
    fn silence(&mut self, text: &str) {
        self.recorder.silence(self.side);
        self.tell(text.to_owned());
        self.heard.send_modify(|heard| heard.cut = true);
    }

    fn tell(&self, text: String) {
        let by = self.side.into();
        self.recorder.add(Entry::Notice { by, text });
    }

    /// Breaks the connection: the program will have another one when it is started again.
    fn lose(&mut self, kind: MessageKind) {
        self.tell(format!(
            "loses the connection: {kind} does not arrive, and the program is killed"
        ));
        self.killer.kill();
        self.input = None;
        self.heard.send_modify(|heard| heard.cut = true);
    }

    async fn write(&mut self, message: &[u8]) {
        let Some(input) = &mut self.input else { return };
        let len = message.len();
        let Ok(header) = u16::try_from(len) else {
            return fail(&self.heard, WireFault::Io(format!("no frame has {len} bytes")));
        };
        let frame = [&header.to_be_bytes(), message].concat();
        match tokio::time::timeout(self.deadline, input.write_all(&frame)).await {
            Ok(Ok(())) => {}
            // The program closed its input, but may still send messages.
            Ok(Err(_)) => self.input = None,
            Err(_) => {
                let seconds = self.deadline.as_secs();
                fail(&self.heard, WireFault::DoesNotRead { len, seconds });
            }
        }
    }

    async fn pass_programs(&mut self, frame: &[u8]) {
        let envelope = match decode(frame) {
            Ok(envelope) => envelope,
            Err(fault) => return fail(&self.heard, fault),
        };
        let program = self.side.peer();
        let (kind, message) = (envelope.message.kind(), &envelope.message);
        self.recorder.message(program, frame, false);
        if let Err(fault) = self.hear(message) {
            return fail(&self.heard, fault);
        }
        if self.heard.borrow().cut {
            // A dishonest side sends nothing more.
            self.input = None;
            return;
        }
        self.note(message);
        if let Message::Refuse { reason } = *message {
            if self.ends_channel(reason) {
                return;
            }
            let kind = self.heard.borrow().last_ours.unwrap_or(MessageKind::Refuse);
            return fail(&self.heard, WireFault::Refuses { kind, reason });
        }
        self.forger.saw(program, &envelope);
        match self.interference(program, kind) {
            Some(Interference::Lose) => return self.lose(kind),
            Some(Interference::Kill) => {
                // The kill comes before our side gets the message, so that the program cannot answer.
                self.killer.kill();
                self.input = None;
                self.heard.send_modify(|heard| heard.killed = true);
            }
            _ => {}
        }
        // Our side may be gone.
        let _ = self.ours.send(Bytes::copy_from_slice(frame)).await;
    }

    /// Where a connection may have several channels, this is how a side ends one that is over.
    fn ends_channel(&self, reason: RefusalReason) -> bool {
        let heard = self.heard.borrow();
        let has_many = heard
            .hello
            .is_some_and(|features| features.contains(Features::MANY_CHANNELS));
        let begins = matches!(
            heard.last_ours,
            Some(MessageKind::Hello | MessageKind::Open | MessageKind::Resume)
        );
        let may_be_over = !begins || heard.resumed.is_some();
        has_many && may_be_over && reason == RefusalReason::ChannelBusy
    }

    /// Counts a message of the program, and keeps its answer to a lie.
    fn hear(&self, message: &Message) -> Result<(), WireFault> {
        let (count, refused) = {
            let heard = self.heard.borrow();
            let refused = matches!(heard.answer, Some(Message::Refuse { .. }));
            (heard.messages + 1, refused)
        };
        if count > MOST_MESSAGES {
            return Err(WireFault::Flood);
        }
        if refused {
            return Err(WireFault::SpeaksOn { kind: message.kind() });
        }
        self.heard.send_modify(|heard| {
            heard.messages = count;
            heard.last = Some(message.clone());
            match *message {
                Message::Hello { features, .. } => heard.hello = Some(features),
                Message::Resume(resume) => heard.resume = Some(resume.claim),
                Message::Resumed(resumed) => heard.resumed = Some(resumed.claim),
                Message::Payment { paid, .. } | Message::PaymentAccepted { paid } => heard.said = Some(paid),
                _ => {}
            }
            if heard.cut {
                heard.answer.get_or_insert_with(|| message.clone());
            }
        });
        Ok(())
    }

    fn note(&self, message: &Message) {
        self.heard.send_modify(|heard| match message {
            Message::Ready => heard.ready = true,
            Message::PaymentAccepted { paid } => heard.accepted = Some(*paid),
            Message::PaymentRequest { paid } => heard.requested = Some(*paid),
            Message::Closed { txid } => heard.closed = Some(*txid),
            _ => {}
        });
    }

    /// Returns what happens to this message, if the rule applies to it.
    fn interference(&mut self, from: Side, kind: MessageKind) -> Option<Interference> {
        let rule = self.rule.as_mut()?;
        if !rule.message.reached(from, kind) {
            return None;
        }
        self.rule.take().map(|rule| rule.interference)
    }
}
