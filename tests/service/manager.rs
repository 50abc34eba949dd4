//! Channels that go on over new connections, in new processes, and several on one connection.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::TxOut;
use spilman::channel::Protocol::Example7;
use spilman::channel::{
    ChannelId, ChannelKeys, Envelope, Event, Features, HelloRandoms, Message, RefusalReason, Resume, Stage,
    UnverifiedSignature, VersionRange,
};
use spilman::service::{
    wallet_fn, Bounds, ChannelError, ChannelManager, ChannelManagerBuilder, HelloError, OpenError,
    PayeeConnection, PayeeHandle, PayerHandle, Proposal, Report, ResumeError,
};
use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::sleep;

use crate::chains::FakeChain;
use crate::common::assert_matches;
use crate::disk::{Disk, Mood};
use crate::hand::{opens, settles, setup, soon, until, Hand};
use crate::pair::{channels, payout, sat, Case};

pub type Manager = ChannelManager<FakeChain>;

/// Both sides, each with its store, on one chain.
pub struct Sides {
    case: Case,
    pub chain: FakeChain,
    pub disks: [Disk; 2],
    reports: Arc<Mutex<Vec<String>>>,
    bounds: Bounds,
}

impl Sides {
    pub fn of(case: Case) -> Self {
        Self {
            case,
            chain: FakeChain::new(),
            disks: [Disk::default(), Disk::default()],
            reports: Arc::default(),
            bounds: Bounds::default(),
        }
    }

    pub fn builder(&self, side: usize) -> ChannelManagerBuilder {
        let (label, reports) = (["payer", "payee"][side], Arc::clone(&self.reports));
        let keys = ChannelKeys::new([u8::try_from(side).unwrap(); 32]);
        ChannelManagerBuilder::new(Arc::new(self.disks[side].clone()), keys, payout(label))
            .limits(self.case.limits.clone())
            .bounds(self.bounds)
            .observer(Arc::new(move |name, report: Report<'_>| {
                assert_eq!(
                    name.is_none(),
                    matches!(
                        report,
                        Report::NotOpened(_) | Report::FundingHeld(_) | Report::Refundable(_)
                    )
                );
                reports.lock().unwrap().push(format!("{label}: {report:?}"));
            }))
    }

    pub async fn payers(&self) -> Manager {
        self.builder(0).start(self.chain.clone()).await.unwrap()
    }

    pub async fn payees(&self) -> Manager {
        self.builder(1).start(self.chain.clone()).await.unwrap()
    }

    async fn open(
        &self,
        payers: &Manager,
        io: DuplexStream,
        number: u16,
    ) -> Result<Arc<PayerHandle>, OpenError> {
        let wallet = wallet_fn(|output: &TxOut| {
            let mut funding = self.case.funding(output.clone());
            // Channels of one chain differ.
            funding.lock_time = bitcoin::absolute::LockTime::from_consensus(number.into());
            Ok::<_, Infallible>(funding)
        });
        let proposal = Proposal {
            id: ChannelId(number),
            terms: self.case.terms.clone(),
        };
        payers.open(io, proposal, wallet).await
    }

    /// A channel on a connection of its own, as before there was *hello*.
    pub async fn opened(
        &self,
        payers: &Manager,
        payees: &Manager,
        number: u16,
    ) -> (Arc<PayerHandle>, Arc<PayeeHandle>) {
        let payer = self.open(payers, connect(payees), number).await.unwrap();
        self.chain.confirm(3);
        opens(&payer).await;
        (Arc::clone(&payer), payee_of(&payer, payees))
    }

    pub fn reported(&self, what: &str) -> usize {
        let reports = self.reports.lock().unwrap();
        reports.iter().filter(|report| report.contains(what)).count()
    }
}

/// A connection to the payee.
fn connect(payees: &Manager) -> DuplexStream {
    connect_from(payees, None)
}

fn connect_from(payees: &Manager, peer: Option<&str>) -> DuplexStream {
    let (here, there) = duplex(64 * 1_024);
    let (payees, peer) = (payees.clone(), peer.map(|peer| peer.parse().unwrap()));
    tokio::spawn(async move { payees.accept(there, peer).await });
    here
}

async fn greet(payees: &Manager) -> PayeeConnection {
    soon("hello", PayeeConnection::new(connect(payees)))
        .await
        .unwrap()
}

fn payee_of(payer: &PayerHandle, payees: &Manager) -> Arc<PayeeHandle> {
    payees.payee(payer.funding().outpoint()).expect("the payee runs")
}

pub async fn pays(payer: &PayerHandle, total: u64) {
    let paid = soon("a payment", payer.pay_up_to(sat(total))).await;
    assert_eq!(paid.unwrap().paid, sat(total));
}

/// On each construction: the connection breaks, then either process dies, then both; each time the channel is resumed, paid on,
/// and in the end the payee gets all of it.
#[tokio::test(start_paused = true)]
async fn a_channel_goes_on_over_new_connections_and_in_new_processes() {
    for case in channels().filter(|case| !case.terms.construction.has_relative_lock()) {
        let at = case.name();
        let sides = Sides::of(case);
        let (mut payers, mut payees) = (sides.payers().await, sides.payees().await);
        let (mut payer, mut payee) = sides.opened(&payers, &payees, 1).await;
        let mut total = 10_000;
        pays(&payer, total).await;
        for died in [[false, false], [true, false], [false, true], [true, true]] {
            if died[0] {
                payer.abort();
                payers = sides.payers().await;
                payer = payers.payer(payer.funding().outpoint()).unwrap();
            }
            if died[1] {
                payee.abort();
                payees = sides.payees().await;
            }
            soon(&at, payer.resume(&greet(&payees).await)).await.unwrap();
            payee = payee_of(&payer, &payees);
            total += 1_000;
            pays(&payer, total).await;
            until(payee.status(), "the payment", |status| status.paid == sat(total)).await;
        }
        payer.close().await.unwrap();
        settles(payee.status()).await;
        sleep(Duration::from_secs(60)).await;
        sides.chain.confirm_the_spend();
        let outcome = soon("the outcome", payee.outcome()).await.unwrap();
        assert_eq!(outcome.to_payee, sat(total), "{at}");
        soon("the outcome", payer.outcome()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(
            (payers.payers().len(), payees.payees().len()),
            (0, 0),
            "{at}: they have ended"
        );
    }
}

/// Old channels and new ones share a connection, and one that ends leaves the others alone.
#[tokio::test(start_paused = true)]
async fn one_connection_carries_several_channels() {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (first, _) = sides.opened(&payers, &payees, 1).await;
    let (second, _) = sides.opened(&payers, &payees, 1).await;
    let connection = greet(&payees).await;
    assert_eq!(connection.features(), Features::RESUME | Features::MANY_CHANNELS);
    // Both were opened as number 1.
    first.resume(&connection).await.unwrap();
    second.resume(&connection).await.unwrap();
    assert_matches!(
        connection.channel(ChannelId(1)).await.map(drop),
        Err(ChannelError::Taken)
    );
    let stream = connection.channel(ChannelId(7)).await.unwrap();
    let third = sides.open(&payers, stream, 7).await.unwrap();
    sides.chain.confirm(3);
    opens(&third).await;
    let all = [&first, &second, &third];
    let paying = (1..=50).flat_map(|step| all.map(|payer| (payer, step * 1_000)));
    for (payer, total) in paying {
        pays(payer, total).await;
    }
    // The payee ends one of them.
    payee_of(&third, &payees).abort();
    until(third.status(), "the end", |status| !status.connected).await;
    pays(&first, 51_000).await;
    pays(&second, 51_000).await;
    // Nobody else gets its number, for which something may still be on its way.
    assert_matches!(
        connection.channel(ChannelId(7)).await.map(drop),
        Err(ChannelError::Taken)
    );
    // All of them end with the connection, and only the connection does.
    drop(connection);
    pays(&first, 52_000).await;
    assert_eq!(payees.payees().len(), 2);
}

/// Of two connections for one channel, the newer one has it.
#[tokio::test(start_paused = true)]
async fn the_newest_connection_wins() {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, payee) = sides.opened(&payers, &payees, 1).await;
    pays(&payer, 1_000).await;
    // A second copy of the payer's process, such as a clone of its machine.
    let clone = sides.payers().await.payer(payer.funding().outpoint()).unwrap();
    clone.resume(&greet(&payees).await).await.unwrap();
    until(payer.status(), "the end", |status| !status.connected).await;
    assert_eq!(
        sides.reported("payer: Notice(PeerRefused { reason: ChannelBusy })"),
        1
    );
    assert_eq!(clone.status().borrow().stage, Stage::Open);
    // It takes the channel back, however often.
    for connection in 2..5 {
        soon("resume", payer.resume(&greet(&payees).await)).await.unwrap();
        assert!(payer.status().borrow().connected);
        pays(&payer, connection * 1_000).await;
    }
    assert_eq!(payee.status().borrow().paid, sat(4_000));
}

fn hello(random: [u8; 32], features: Features) -> Envelope {
    Envelope {
        channel: ChannelId(0),
        message: Message::Hello {
            versions: VersionRange::new(1, 1).unwrap(),
            features,
            random,
        },
    }
}

/// A payer by hand that has said hello.
async fn greeted(payees: &Manager, features: Features) -> (Hand, HelloRandoms) {
    let mut hand = Hand { io: connect(payees) };
    hand.send(&hello([5; 32], features)).await;
    let Some(Message::Hello { random, .. }) = hand.receive().await.map(|envelope| envelope.message) else {
        panic!("no hello")
    };
    let randoms = HelloRandoms {
        payer: [5; 32],
        payee: random,
    };
    (hand, randoms)
}

/// Whoever cannot prove that it is the payer learns nothing, and throws nobody out.
#[tokio::test(start_paused = true)]
async fn a_stranger_does_not_get_the_channel() {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, payee) = sides.opened(&payers, &payees, 1).await;
    pays(&payer, 1_000).await;
    let (params, funding) = (payer.params(), payer.funding().outpoint());
    for features in [Features::RESUME, Features::RESUME | Features::MANY_CHANNELS] {
        for (key, outpoint, refused) in [
            ("stranger", funding, RefusalReason::ProofWrong),
            (
                "stranger",
                bitcoin::OutPoint { vout: 9, ..funding },
                RefusalReason::UnknownChannel,
            ),
        ] {
            let (mut hand, randoms) = greeted(&payees, features).await;
            let resume = Resume {
                funding: outpoint,
                signed: sat(1_000),
                acknowledged: None,
            };
            let resume = resume.sign(&randoms, params, &crate::pair::key(key));
            let channel = ChannelId(3);
            hand.send(&Envelope {
                channel,
                message: Message::Resume(resume),
            })
            .await;
            let answer = hand.receive().await.unwrap();
            assert_eq!(
                answer,
                Envelope {
                    channel,
                    message: Message::Refuse { reason: refused }
                }
            );
        }
    }
    pays(&payer, 2_000).await;
    assert_eq!(sides.reported("Resumed"), 0);
    assert_eq!(payee.status().borrow().paid, sat(2_000));
}

/// Without the feature, *resume* is a message out of place, whoever sends it.
#[tokio::test(start_paused = true)]
async fn a_connection_without_the_feature_resumes_nothing() {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, _) = sides.opened(&payers, &payees, 1).await;
    for features in [Features::from_bits(0), Features::MANY_CHANNELS] {
        let (mut hand, randoms) = greeted(&payees, features).await;
        let resume = Resume {
            funding: payer.funding().outpoint(),
            signed: sat(0),
            acknowledged: None,
        };
        let resume = resume.sign(&randoms, payer.params(), &crate::pair::key("stranger"));
        let (channel, message) = (ChannelId(3), Message::Resume(resume));
        hand.send(&Envelope { channel, message }).await;
        let answer = hand.receive().await.unwrap().message;
        let reason = RefusalReason::UnexpectedMessage;
        assert_eq!(answer, Message::Refuse { reason });
    }
}

/// A wrong address, or a payee that has lost everything: the payer goes on alone, and can still find the right one.
#[tokio::test(start_paused = true)]
async fn a_payee_that_does_not_know_the_channel_costs_nothing() {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, _) = sides.opened(&payers, &payees, 1).await;
    pays(&payer, 1_000).await;
    let stranger = Sides::of(Case::new(Example7)).payees().await;
    let refused = payer.resume(&greet(&stranger).await).await.unwrap_err();
    let reason = RefusalReason::UnknownChannel;
    assert_matches!(refused, ResumeError::PeerRefused { reason: said } if said == reason);
    assert_eq!(payer.status().borrow().stage, Stage::Open);
    payer.resume(&greet(&payees).await).await.unwrap();
    pays(&payer, 2_000).await;
}

/// A payee as it was before there was *hello*, and peers that say other things.
#[tokio::test(start_paused = true)]
async fn a_payee_without_hello_is_named() {
    let (io, other) = duplex(4_096);
    let accepting = setup("payee").accept(other, FakeChain::new());
    let (refused, _) = tokio::join!(PayeeConnection::new(io), accepting);
    let reason = RefusalReason::UnexpectedMessage;
    assert_matches!(refused.map(drop), Err(HelloError::PeerRefused { reason: said }) if said == reason);
    // Silence, an end, a version of the future, garbage, another message.
    let future = Message::Hello {
        versions: VersionRange::new(2, 3).unwrap(),
        features: Features::RESUME,
        random: [1; 32],
    };
    let answers = [None, Some(future), Some(Message::Ready)];
    let mut errors = Vec::new();
    for answer in answers {
        let (mut hand, io) = Hand::over(4_096);
        let (error, ()) = tokio::join!(soon("an end", PayeeConnection::new(io)), async {
            hand.receive().await.unwrap();
            match answer {
                Some(message) => {
                    hand.send(&Envelope {
                        channel: ChannelId(0),
                        message,
                    })
                    .await;
                }
                None => sleep(Duration::from_secs(600)).await,
            }
        });
        errors.push(error.map(drop).unwrap_err());
    }
    assert_matches!(errors[0], HelloError::Timeout(_));
    assert_matches!(errors[1], HelloError::NoCommonVersion { .. });
    assert_matches!(errors[2], HelloError::Refused(_));
    let (io, other) = duplex(4_096);
    drop(other);
    assert_matches!(
        PayeeConnection::new(io).await.map(drop),
        Err(HelloError::Disconnected)
    );
}

/// What the payee says as its first messages, and then closes.
#[tokio::test(start_paused = true)]
async fn a_connection_that_begins_wrongly_is_refused() {
    let sides = Sides::of(Case::new(Example7));
    let payees = sides.payees().await;
    let say = |message| Envelope {
        channel: ChannelId(0),
        message,
    };
    let future = Message::Hello {
        versions: VersionRange::new(2, 3).unwrap(),
        features: Features::RESUME,
        random: [1; 32],
    };
    let wrong_channel = Envelope {
        channel: ChannelId(1),
        ..hello([1; 32], Features::RESUME)
    };
    for (first, reason) in [
        (say(Message::Ready), RefusalReason::UnexpectedMessage),
        (say(future), RefusalReason::NoCommonVersion),
        (wrong_channel, RefusalReason::WrongChannel),
    ] {
        let mut hand = Hand { io: connect(&payees) };
        hand.send(&first).await;
        assert_eq!(hand.refused().await, reason);
    }
    // Behind hello, too.
    for features in [Features::RESUME, Features::RESUME | Features::MANY_CHANNELS] {
        let (mut hand, _) = greeted(&payees, features).await;
        hand.send(&hello([5; 32], features)).await;
        assert_eq!(hand.refused().await, RefusalReason::UnexpectedMessage);
    }
    // Garbage in one of several channels ends the connection.
    let (mut hand, _) = greeted(&payees, Features::MANY_CHANNELS).await;
    hand.io.write_all(&[0, 1, 0xff]).await.unwrap();
    assert_eq!(hand.refused().await, RefusalReason::Malformed);
    // Silence.
    let mut hand = Hand { io: connect(&payees) };
    assert!(soon("the end", hand.receive()).await.is_none());
}

/// What leaves on the new connection is what the store holds, however slow it is.
#[tokio::test(start_paused = true)]
async fn what_is_not_stored_yet_is_not_said_on_the_new_connection() {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, payee) = sides.opened(&payers, &payees, 1).await;
    sides.disks[1].set(Mood::Slow);
    let paying = tokio::spawn({
        let payer = Arc::clone(&payer);
        async move { payer.pay_up_to(sat(5_000)).await }
    });
    sleep(Duration::from_secs(1)).await;
    let connection = greet(&payees).await;
    let mut resuming = tokio::spawn({
        let payer = Arc::clone(&payer);
        async move { payer.resume(&connection).await }
    });
    tokio::time::timeout(Duration::from_secs(5), &mut resuming)
        .await
        .unwrap_err();
    assert_eq!(payee.status().borrow().paid, sat(0));
    sides.disks[1].set(Mood::Prompt);
    sides.disks[1].catch_up().await;
    soon("resumed", resuming).await.unwrap().unwrap();
    // The acknowledgement of the old connection is lost; this says the same.
    assert_eq!(
        soon("the payment", paying).await.unwrap().unwrap().paid,
        sat(5_000)
    );
    assert_eq!(payee.status().borrow().paid, sat(5_000));
}

/// Nothing is resumed when the payee does not answer, and the payer tries again.
#[tokio::test(start_paused = true)]
async fn a_payee_that_does_not_answer_is_given_up() {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, _) = sides.opened(&payers, &payees, 1).await;
    let (mut hand, io) = Hand::over(4_096);
    let (connection, ()) = tokio::join!(PayeeConnection::new(io), async {
        hand.receive().await.unwrap();
        hand.send(&hello([6; 32], Features::RESUME)).await;
    });
    let connection = connection.unwrap();
    let (late, unsigned) = tokio::join!(payer.resume(&connection), async {
        sleep(Duration::from_secs(1)).await;
        payer.pay(sat(1_000)).await
    });
    assert_matches!(late, Err(ResumeError::Timeout));
    assert!(unsigned.is_err(), "nothing is signed meanwhile");
    // A payee that carries one channel at a time.
    let first = connection.channel(ChannelId(2)).await.unwrap();
    let second = connection.channel(ChannelId(3)).await.map(drop);
    assert_matches!(second, Err(ChannelError::Unsupported { .. }));
    drop(first);
    payer.resume(&greet(&payees).await).await.unwrap();
    pays(&payer, 1_000).await;
}

/// Bounds hold, and what is freed can be taken again.
#[tokio::test(start_paused = true)]
async fn peers_get_no_more_than_their_share() {
    let mut sides = Sides::of(Case::new(Example7));
    sides.bounds = Bounds {
        connections: 4,
        connections_per_peer: 2,
        channels_per_connection: 2,
        unfunded_channels: 3,
        unfunded_channels_per_peer: 2,
        idle: Duration::from_secs(600),
    };
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let here = Some("192.0.2.1");
    // 1. Connections.
    let held = [connect_from(&payees, here), connect_from(&payees, here)];
    let mut third = Hand {
        io: connect_from(&payees, here),
    };
    assert_eq!(third.refused().await, RefusalReason::ChannelBusy);
    let others = [connect_from(&payees, Some("192.0.2.2")), connect(&payees)];
    let mut fifth = Hand { io: connect(&payees) };
    assert_eq!(fifth.refused().await, RefusalReason::ChannelBusy);
    drop((held, others));
    sleep(Duration::from_secs(1)).await;
    // 2. Channels that wait for their funding.
    let io = connect_from(&payees, here);
    let connection = PayeeConnection::new(io).await.unwrap();
    for number in [1, 2] {
        let stream = connection.channel(ChannelId(number)).await.unwrap();
        sides.open(&payers, stream, number).await.unwrap();
    }
    let busy = |opened: Result<Arc<PayerHandle>, OpenError>| {
        let reason = RefusalReason::ChannelBusy;
        assert_matches!(opened.map(drop), Err(OpenError::PeerRefused { reason: said, .. }) if said == reason);
    };
    // 3. Channels on one connection.
    let stream = connection.channel(ChannelId(3)).await.unwrap();
    busy(sides.open(&payers, stream, 3).await);
    busy(sides.open(&payers, connect_from(&payees, here), 4).await);
    sides.open(&payers, connect(&payees), 5).await.unwrap();
    busy(sides.open(&payers, connect(&payees), 6).await);
    // A restart does not make room.
    for payee in payees.payees() {
        payee.abort();
    }
    let payees = sides.payees().await;
    busy(sides.open(&payers, connect(&payees), 7).await);
    sides.chain.confirm(3);
    sleep(Duration::from_secs(60)).await;
    sides.open(&payers, connect(&payees), 8).await.unwrap();
    // 4. A peer that says nothing.
    let silent = payers.payers().into_iter().next().unwrap();
    silent.resume(&greet(&payees).await).await.unwrap();
    sleep(Duration::from_secs(590)).await;
    assert!(silent.status().borrow().connected);
    until(silent.status(), "the end", |status| !status.connected).await;
    silent.resume(&greet(&payees).await).await.unwrap();
}

/// A channel that closes before its funding transaction is confirmed keeps its place: it has cost its peer nothing.
#[tokio::test(start_paused = true)]
async fn closing_makes_no_room() {
    let mut sides = Sides::of(Case::new(Example7));
    sides.bounds.unfunded_channels = 1;
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let mut hand = Hand { io: connect(&payees) };
    let mut payer = hand.fund_as_payer(&sides.case).await;
    sleep(Duration::from_secs(1)).await;
    hand.carry_out(payer.apply(Event::Close).unwrap()).await;
    let payee = payees.payees().pop().unwrap();
    until(payee.status(), "the close", |status| {
        status.stage == Stage::Closing
    })
    .await;
    let reason = RefusalReason::ChannelBusy;
    let refused = sides.open(&payers, connect(&payees), 2).await.map(drop);
    assert_matches!(refused, Err(OpenError::PeerRefused { reason: said, .. }) if said == reason);
    sides.chain.confirm_the_spend();
    sleep(Duration::from_secs(60)).await;
    sides.open(&payers, connect(&payees), 2).await.unwrap();
}

/// Who is told that there are too many connections has one for a while; the others are just dropped.
#[tokio::test(start_paused = true)]
async fn refusals_are_counted_as_well() {
    let mut sides = Sides::of(Case::new(Example7));
    sides.bounds.connections = 1;
    let payees = sides.payees().await;
    let _held = greet(&payees).await;
    let mut hands: Vec<_> = (0..20).map(|_| Hand { io: connect(&payees) }).collect();
    sleep(Duration::from_secs(1)).await;
    let mut told = 0;
    for hand in &mut hands {
        told += u32::from(soon("an answer", hand.receive()).await.is_some());
    }
    assert_eq!(told, 16);
    drop(hands);
    sleep(Duration::from_secs(20)).await;
    let mut hand = Hand { io: connect(&payees) };
    assert_eq!(hand.refused().await, RefusalReason::ChannelBusy);
}

/// A peer that does not read, or that floods one of its channels, holds up its own connection and no other.
#[tokio::test(start_paused = true)]
async fn a_hostile_peer_costs_others_nothing() {
    let mut sides = Sides::of(Case::new(Example7));
    sides.bounds.idle = Duration::from_secs(600);
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, _) = sides.opened(&payers, &payees, 1).await;
    let (mut hand, _) = greeted(&payees, Features::MANY_CHANNELS | Features::RESUME).await;
    let flood = tokio::spawn(async move {
        for channel in (0..=u16::MAX).map(ChannelId).cycle() {
            let message = Message::Payment {
                paid: sat(1),
                signature: UnverifiedSignature::from_compact([1; 64]),
            };
            let bytes = spilman::wire::encode(&Envelope { channel, message });
            let sent = async {
                hand.io.write_u16(bytes.len().try_into().unwrap()).await?;
                hand.io.write_all(&bytes).await
            };
            if sent.await.is_err() {
                break;
            }
        }
    });
    for total in 1..=20 {
        pays(&payer, total * 1_000).await;
    }
    assert!(!flood.is_finished(), "it is still at it");
    flood.abort();
    // Openings that nobody continues, each refused in time, and none of them read.
    let (mut hand, _) = greeted(&payees, Features::MANY_CHANNELS).await;
    for channel in (0..200).map(ChannelId) {
        let (_, open) = sides.case.propose();
        hand.send(&Envelope { channel, ..open }).await;
    }
    pays(&payer, 30_000).await;
    let ended = tokio::spawn(async move { hand.io.read_to_end(&mut Vec::new()).await });
    sleep(Duration::from_secs(300)).await;
    pays(&payer, 35_000).await;
    soon("the end of it", ended).await.unwrap().unwrap();
    pays(&payer, 40_000).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(payees.payees().len(), 1);
}

/// A channel's last word is a refusal, say, and its user drops the connection at once: the payee hears it all the same.
#[tokio::test(start_paused = true)]
async fn the_last_word_on_a_dropped_connection_arrives() {
    // Less than what is said.
    let (mut hand, io) = Hand::over(64);
    let (connection, ()) = tokio::join!(PayeeConnection::new(io), async {
        hand.receive().await.unwrap();
        hand.send(&hello([7; 32], Features::RESUME)).await;
    });
    let connection = connection.unwrap();
    let channel = ChannelId(1);
    let mut stream = Hand {
        io: connection.channel(channel).await.unwrap(),
    };
    let (random, features) = ([3; 32], Features::RESUME);
    let mut said = Vec::new();
    for _ in 0..4 {
        let message = hello(random, features).message;
        said.push(Envelope { channel, message });
    }
    for envelope in &said {
        stream.send(envelope).await;
    }
    drop(stream);
    drop(connection);
    // The channel ends, and then nobody needs the connection.
    tokio::task::yield_now().await;
    for envelope in said {
        assert_eq!(soon("a message", hand.receive()).await, Some(envelope));
    }
}
