//! Channels that go on over new connections, in new processes, and several on one connection.

mod bounds;
mod greetings;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::TxOut;
use spilman::channel::Protocol::Example7;
use spilman::channel::{ChannelId, ChannelKeys, Envelope, Features, Stage};
use spilman::service::{
    wallet_fn, Bounds, ChannelError, ChannelManager, ChannelManagerBuilder, OpenError, PayeeConnection,
    PayeeHandle, PayerHandle, Proposal, Report, ResumeError,
};
use tokio::io::{duplex, DuplexStream};
use tokio::time::sleep;

use crate::chains::FakeChain;
use crate::common::assert_matches;
use crate::disk::{Disk, Mood};
use crate::hand::{opens, settles, soon, until, Hand};
use crate::pair::{channels, payout, sat, Case};
use greetings::hello;

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
