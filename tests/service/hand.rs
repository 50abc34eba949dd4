//! Both parties as services, or one of them and a peer by hand.

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::{Amount, TxOut};
use spilman::channel::{
    AcceptedProposal, Action, AwaitsFunding, Balance, ChainView, Envelope, Event, Message, Payee,
    PayeeOpening, Payer, RefusalReason, Stage, UnverifiedSignature,
};
use spilman::service::{
    wallet_fn, Chain, KeyReuse, OpenError, PayeeHandle, PayerHandle, Proposal, Report, RequestError, Setup,
    Status, Wallet,
};
use spilman::wire;
use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::chains::FakeChain;
use crate::pair::{co_signed, key, payout, sent, Case};

pub fn setup(label: &str) -> Setup {
    Setup::new(key(label), payout(label))
        // Every test uses the same keys.
        .key_reuse(KeyReuse::Allow)
}

pub async fn open_payer<C: Chain + Clone>(
    case: &Case,
    io: DuplexStream,
    chain: &C,
) -> Result<PayerHandle, OpenError> {
    open_with(case, io, chain, setup("payer")).await
}

pub async fn open_with<C: Chain + Clone>(
    case: &Case,
    io: DuplexStream,
    chain: &C,
    setup: Setup,
) -> Result<PayerHandle, OpenError> {
    let wallet = wallet_fn(|output: &TxOut| Ok::<_, Infallible>(case.funding(output.clone())));
    open_by(case, (io, chain), setup, wallet).await
}

/// The payer's wallet may be an odd one.
pub async fn open_by<C: Chain + Clone>(
    case: &Case,
    (io, chain): (DuplexStream, &C),
    setup: Setup,
    wallet: impl Wallet,
) -> Result<PayerHandle, OpenError> {
    let setup = setup.limits(case.limits.clone());
    let proposal = Proposal {
        id: case.id,
        terms: case.terms.clone(),
    };
    setup.open(io, chain.clone(), proposal, wallet).await
}

type Opened = (Result<PayerHandle, OpenError>, Result<PayeeHandle, OpenError>);

/// What becomes of an opening in which the payer sees one chain and the payee another.
pub async fn opening<A: Chain + Clone, B: Chain + Clone>(case: &Case, payers: &A, payees: &B) -> Opened {
    opening_over(case, 64 * 1024, payers, payees).await
}

/// The same over a connection that holds this many bytes in each direction.
pub async fn opening_over<A: Chain + Clone, B: Chain + Clone>(
    case: &Case,
    buffer: usize,
    payers: &A,
    payees: &B,
) -> Opened {
    let (a, b) = duplex(buffer);
    let payee = setup("payee").limits(case.limits.clone());
    tokio::join!(open_payer(case, a, payers), payee.accept(b, payees.clone()))
}

/// A channel whose funding transaction is not confirmed.
pub async fn both(case: &Case, chain: &FakeChain) -> (PayerHandle, PayeeHandle) {
    let (payer, payee) = opening(case, chain, chain).await;
    (payer.unwrap(), payee.unwrap())
}

/// A channel that is open.
pub async fn open(case: &Case, chain: &FakeChain) -> (PayerHandle, PayeeHandle) {
    let (payer, payee) = both(case, chain).await;
    chain.confirm(3);
    opens(&payer).await;
    (payer, payee)
}

/// Waits until payments count.
pub async fn opens(payer: &PayerHandle) -> Status {
    until(payer.status(), "ready", |s| s.stage == Stage::Open).await
}

/// Waits until a party has broadcast what ends the channel.
pub async fn settles(status: watch::Receiver<Status>) -> Status {
    until(status, "the settlement or the refund", |s| {
        s.stage == Stage::Closing
    })
    .await
}

/// Waits until a party notices that its peer is gone.
pub async fn loses_peer(status: watch::Receiver<Status>) -> Status {
    until(status, "the end of the connection", |s| !s.connected).await
}

/// This many payments at once, each in a separate task.
pub fn pay_at_once(
    payer: &Arc<PayerHandle>,
    count: u64,
    amount: u64,
) -> Vec<JoinHandle<Result<Balance, RequestError>>> {
    let pay = |_| {
        let payer = Arc::clone(payer);
        tokio::spawn(async move { payer.pay(Amount::from_sat(amount)).await })
    };
    (0..count).map(pay).collect()
}

/// Waits for a status, for an hour of tokio's time.
#[allow(
    clippy::let_and_return,
    reason = "the borrow has to end before the receiver does"
)]
pub async fn until(mut status: watch::Receiver<Status>, what: &str, is: impl Fn(&Status) -> bool) -> Status {
    let found = soon(what, status.wait_for(|status| is(status))).await;
    let found = found.expect("the party is alive").clone();
    found
}

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let deadline = Duration::from_secs(3_600);
    tokio::time::timeout(deadline, future)
        .await
        .unwrap_or_else(|_| panic!("waited an hour for: {what}"))
}

/// A peer by hand: frames and messages, and a state machine that the test drives.
pub struct Hand {
    pub io: DuplexStream,
}

impl Hand {
    /// A peer by hand, and the other end of its connection, which holds this many bytes in each direction.
    pub fn over(buffer: usize) -> (Self, DuplexStream) {
        let (io, other) = duplex(buffer);
        (Self { io }, other)
    }

    pub async fn send(&mut self, envelope: &Envelope) {
        let bytes = wire::encode(envelope);
        self.io.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
        self.io.write_all(&bytes).await.unwrap();
    }

    /// Sends what no honest side would.
    pub async fn say(&mut self, case: &Case, message: Message) {
        let channel = case.id;
        self.send(&Envelope { channel, message }).await;
    }

    /// `None` when the other side has hung up.
    pub async fn receive(&mut self) -> Option<Envelope> {
        let len = self.io.read_u16().await.ok()?;
        let mut bytes = vec![0; len.into()];
        self.io.read_exact(&mut bytes).await.ok()?;
        Some(wire::decode(&bytes).unwrap())
    }

    /// Reads until a message of this kind comes.
    pub async fn refused(&mut self) -> RefusalReason {
        loop {
            let envelope = soon("a refusal", self.receive())
                .await
                .expect("a refusal before the end");
            if let Message::Refuse { reason } = envelope.message {
                assert!(
                    soon("the end", self.receive()).await.is_none(),
                    "nothing more is said"
                );
                return reason;
            }
        }
    }

    /// Opens a channel with a payer on the other end, honestly, until it hands over the funding transaction.
    pub async fn open_as_payee(&mut self, case: &Case) -> Payee {
        let payee = self.sign_refund(case).await;
        payee.receive_funding(self.receive().await.unwrap()).unwrap().0
    }

    /// The same until the payer's refund is safe.
    pub async fn sign_refund(&mut self, case: &Case) -> PayeeOpening<AwaitsFunding> {
        let (considered, accept) = case.considered(self.receive().await.unwrap()).unwrap();
        self.send(&accept).await;
        match considered {
            AcceptedProposal::AwaitsFunding(payee) => payee,
            AcceptedProposal::SignsRefund(payee) => {
                let request = self.receive().await.unwrap();
                let (payee, answers) = payee.sign_refund(request, case.now).unwrap();
                // The request for the funding transaction, if there is one, comes last.
                self.send(&answers[0]).await;
                payee
            }
        }
    }

    /// Says that payments count, and accepts the empty one.
    pub async fn make_ready(&mut self, payee: &mut Payee, case: &Case) {
        let view = ChainView {
            tip: case.now,
            confirmations: 3,
            funding_parent: None,
            spend: None,
        };
        self.carry_out(payee.apply(Event::Chain(view)).unwrap()).await;
        let empty = self.receive().await.unwrap();
        self.carry_out(payee.apply(Event::Message(empty)).unwrap()).await;
    }

    /// Opens a channel with a payee on the other end, honestly, and waits until it is ready.
    pub async fn open_as_payer(&mut self, case: &Case, chain: &FakeChain) -> Payer {
        let mut payer = self.fund_as_payer(case).await;
        chain.confirm(3);
        let ready = self.receive().await.unwrap();
        let actions = payer.apply(Event::Message(ready)).unwrap();
        self.carry_out(actions).await;
        payer
    }

    /// The same until the funding transaction is handed over.
    pub async fn fund_as_payer(&mut self, case: &Case) -> Payer {
        let (payer, message) = case.propose();
        self.send(&message).await;
        let payer = payer.accept(self.receive().await.unwrap()).unwrap();
        let funding = case.funding(payer.funding_output());
        let (payer, message) = co_signed(payer.fund(funding).unwrap());
        self.send(&message).await;
        let payer = payer.verify_refund(self.receive().await.unwrap()).unwrap();
        let (payer, actions) = payer.into_payer();
        self.carry_out(actions).await;
        payer
    }

    pub async fn carry_out(&mut self, actions: Vec<Action>) {
        for envelope in sent(actions) {
            self.send(&envelope).await;
        }
    }
}

/// Why a payee on this connection opens no channel; nothing is on chain.
pub async fn denied(io: DuplexStream) -> OpenError {
    let chain = FakeChain::new();
    let opened = setup("payee").accept(io, chain.clone());
    let opened = soon("the payee to give up", opened).await;
    assert_eq!(chain.broadcast_so_far(), []);
    opened.err().expect("no channel")
}

/// A payment of this sum with a signature over nothing.
pub fn garbled(paid: u64) -> Message {
    Message::Payment {
        paid: Amount::from_sat(paid),
        signature: UnverifiedSignature::from_compact([1; 64]),
    }
}

/// A payee as a service, and the payer's end of its connection.
pub async fn payee_and_hand<C: Chain + Clone>(
    case: &Case,
    (view, chain): (&C, &FakeChain),
    buffer: usize,
) -> (PayeeHandle, Hand, Payer, Arc<Mutex<Vec<String>>>) {
    let (mut hand, io) = Hand::over(buffer);
    let reports = Arc::new(Mutex::new(Vec::new()));
    let sink = reports.clone();
    let setup = setup("payee").observer(Arc::new(move |report: Report<'_>| {
        sink.lock().unwrap().push(format!("{report:?}"));
    }));
    let (payee, payer) = tokio::join!(setup.accept(io, view.clone()), hand.open_as_payer(case, chain));
    (payee.unwrap(), hand, payer, reports)
}

/// A payer as a service, ready to pay, and the payee's end of its connection.
pub async fn payer_and_hand<C: Chain + Clone>(
    case: &Case,
    (view, chain): (&C, &FakeChain),
    buffer: usize,
) -> (PayerHandle, Hand, Payee) {
    let (mut hand, io) = Hand::over(buffer);
    let (payer, mut payee) = tokio::join!(open_payer(case, io, view), hand.open_as_payee(case));
    let payer = payer.unwrap();
    chain.confirm(3);
    hand.make_ready(&mut payee, case).await;
    opens(&payer).await;
    (payer, hand, payee)
}

/// An open channel: both have seen the funding transaction confirmed.
pub async fn ready<A: Chain + Clone, B: Chain + Clone>(
    case: &Case,
    (payer, payers): (&A, &FakeChain),
    (payee, payees): (&B, &FakeChain),
    with: Setup,
) -> (PayerHandle, PayeeHandle) {
    let (a, b) = duplex(64 * 1024);
    let (payer, payee) = tokio::join!(open_payer(case, a, payer), with.accept(b, payee.clone()));
    let (payer, payee) = (payer.unwrap(), payee.unwrap());
    for chain in [payers, payees] {
        chain.change(|state| state.confirmations = 3);
    }
    opens(&payer).await;
    (payer, payee)
}
