use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::Amount;
use spilman::channel::{Envelope, Event, Message, Payer};
use spilman::wire;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::case;
use crate::common::pair::{co_signed, sat, sent};

pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A payer by hand, which has signed all of its payments in advance.
pub struct Client {
    io: Box<dyn Io>,
    payer: Payer,
    frames: Vec<Vec<u8>>,
}

impl Client {
    pub async fn open(io: impl Io + 'static, number: u32) -> Self {
        let mut io: Box<dyn Io> = Box::new(io);
        let (payer, open) = case().propose();
        send(&mut io, &open).await;
        let payer = payer.accept(receive(&mut io).await).expect("accepted");
        let mut funding = case().funding(payer.funding_output());
        // Every channel has another one.
        funding.lock_time = LockTime::from_consensus(number);
        let (payer, request) = co_signed(payer.fund(funding).expect("funded"));
        send(&mut io, &request).await;
        let payer = payer.verify_refund(receive(&mut io).await).expect("signed");
        let (mut payer, actions) = payer.into_payer();
        for envelope in sent(actions) {
            send(&mut io, &envelope).await;
        }
        let ready = receive(&mut io).await;
        let actions = payer.apply(Event::Message(ready)).expect("ready");
        for envelope in sent(actions) {
            send(&mut io, &envelope).await;
            receive(&mut io).await;
        }
        Self {
            io,
            payer,
            frames: Vec::new(),
        }
    }

    pub fn sign(&mut self, count: u32) {
        let frames = (0..count).map(|_| {
            let actions = self
                .payer
                .apply(Event::Pay(sat(1)))
                .expect("there is enough left");
            frame(&sent(actions).next().expect("a payment is a message"))
        });
        self.frames = frames.collect();
    }

    /// Sends all at once, and reads until the last one is acknowledged.
    pub async fn pay_all(&mut self) {
        let all = std::mem::take(&mut self.frames).concat();
        let total = self.payer.paid();
        let (mut reads, mut writes) = tokio::io::split(&mut self.io);
        let write = async { writes.write_all(&all).await.expect("sent") };
        let read = async {
            let mut reads = tokio::io::BufReader::new(&mut reads);
            while acknowledged(&receive(&mut reads).await) < total {}
        };
        tokio::join!(write, read);
    }

    /// Sends the next one when the last one is acknowledged. Returns how long each took.
    pub async fn pay_each(&mut self) -> Vec<Duration> {
        let mut times = Vec::new();
        for frame in std::mem::take(&mut self.frames) {
            let begin = Instant::now();
            self.io.write_all(&frame).await.expect("sent");
            receive(&mut self.io).await;
            times.push(begin.elapsed());
        }
        times
    }
}

fn acknowledged(envelope: &Envelope) -> Amount {
    match envelope.message {
        Message::PaymentAccepted { paid } => paid,
        ref other => panic!("not an acknowledgement: {other:?}"),
    }
}

fn frame(envelope: &Envelope) -> Vec<u8> {
    let bytes = wire::encode(envelope);
    let len = u16::try_from(bytes.len()).expect("a message is short");
    [&len.to_be_bytes()[..], &bytes].concat()
}

async fn send(io: &mut (impl AsyncWrite + Unpin), envelope: &Envelope) {
    io.write_all(&frame(envelope)).await.expect("sent");
}

async fn receive(io: &mut (impl AsyncRead + Unpin)) -> Envelope {
    let len = io.read_u16().await.expect("an answer");
    let mut bytes = vec![0; len.into()];
    io.read_exact(&mut bytes).await.expect("an answer");
    wire::decode(&bytes).expect("a message")
}
