//! Two parties on a connection, with a chain that the test writes. Time is tokio's own and paused: it jumps
//! to the next timer when nobody has anything to do.

#[path = "common/pair.rs"]
mod pair;

use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::{FeeRate, OutPoint, Transaction, TxOut};
use pair::{amounts, co_signed, key, payout, sat, tip, Case, HEIGHT, MTP};
use spilman::channel::{
    Action, ChainView, Construction, Envelope, Event, Message, Payer, Protocol, Reason, SeenSpend, Stage,
    Tip, UnverifiedSignature,
};
use spilman::service::{
    accept, open, Chain, ChainError, ConnectionError, OpenError, PayError, PayeeHandle, PayerHandle,
    Proposal, Report, RequestError, Setup, Status, OPENING_TIMEOUT,
};
use spilman::wire::{self, MAX_MESSAGE};
use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use Protocol::{Bond, Example7, SteppedLocktime};

/// A chain on which everything is as the test says. What is broadcast is in the mempool at once.
#[derive(Clone)]
struct FakeChain {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
}

struct State {
    tip: Tip,
    confirmations: u32,
    spend: Option<SeenSpend>,
    broadcast: Vec<Transaction>,
}

impl FakeChain {
    fn new() -> Self {
        let state = State {
            tip: tip(HEIGHT, MTP),
            confirmations: 0,
            spend: None,
            broadcast: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changes: watch::Sender::new(1),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changes.send_modify(|serial| *serial += 1);
    }

    fn broadcast_so_far(&self) -> Vec<Transaction> {
        self.state.lock().unwrap().broadcast.clone()
    }

    fn confirm(&self, confirmations: u32) {
        self.change(|state| state.confirmations = confirmations);
    }

    fn bury_the_spend(&self) {
        self.change(|state| state.spend.as_mut().expect("something spends").confirmations = 6);
    }

    fn reach(&self, height: u32, mtp: u32) {
        self.change(|state| state.tip = tip(height, mtp));
    }
}

impl Chain for FakeChain {
    async fn tip(&self) -> Result<Tip, ChainError> {
        Ok(self.state.lock().unwrap().tip)
    }

    async fn view(&self, _: OutPoint) -> Result<ChainView, ChainError> {
        let state = self.state.lock().unwrap();
        Ok(ChainView {
            tip: state.tip,
            confirmations: state.confirmations,
            base: None,
            spend: state.spend.clone(),
        })
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ChainError> {
        self.change(|state| {
            let spends = state
                .broadcast
                .iter()
                .any(|b| b.compute_txid() == tx.input[0].previous_output.txid);
            if spends {
                state.spend = Some(SeenSpend {
                    tx: tx.clone(),
                    confirmations: 0,
                });
            }
            state.broadcast.push(tx.clone());
        });
        Ok(None)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn setup(label: &str) -> Setup {
    Setup::new(key(label), payout(label))
}

async fn open_payer(case: &Case, io: DuplexStream, chain: &FakeChain) -> Result<PayerHandle, OpenError> {
    let wallet = |output: &TxOut| Ok::<_, Infallible>(case.funding(output.clone()));
    let setup = Setup {
        limits: case.limits.clone(),
        ..setup("payer")
    };
    let proposal = Proposal {
        id: case.id,
        terms: case.terms.clone(),
    };
    open(io, chain.clone(), setup, proposal, wallet).await
}

async fn both(case: &Case, chain: &FakeChain) -> (PayerHandle, PayeeHandle) {
    let (a, b) = duplex(64 * 1024);
    let payee = Setup {
        limits: case.limits.clone(),
        ..setup("payee")
    };
    let (payer, payee) = tokio::join!(open_payer(case, a, chain), accept(b, chain.clone(), payee));
    (payer.unwrap(), payee.unwrap())
}

/// Waits for a status, for an hour of tokio's time.
#[allow(
    clippy::let_and_return,
    reason = "the borrow has to end before the receiver does"
)]
async fn until(mut status: watch::Receiver<Status>, what: &str, is: impl Fn(&Status) -> bool) -> Status {
    let found = soon(what, status.wait_for(|status| is(status))).await;
    let found = found.expect("the party is alive").clone();
    found
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let deadline = Duration::from_secs(3_600);
    tokio::time::timeout(deadline, future)
        .await
        .unwrap_or_else(|_| panic!("waited an hour for: {what}"))
}

/// A peer by hand: frames and messages, and a state machine that the test drives.
struct Hand {
    io: DuplexStream,
}

impl Hand {
    async fn send(&mut self, envelope: &Envelope) {
        let bytes = wire::encode(envelope);
        self.io.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
        self.io.write_all(&bytes).await.unwrap();
    }

    /// `None` when the other side has hung up.
    async fn receive(&mut self) -> Option<Envelope> {
        let len = self.io.read_u16().await.ok()?;
        let mut bytes = vec![0; len.into()];
        self.io.read_exact(&mut bytes).await.ok()?;
        Some(wire::decode(&bytes).unwrap())
    }

    /// Reads until a message of this kind comes.
    async fn refused(&mut self) -> Reason {
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

    /// Opens a channel with a payee on the other end, honestly, and waits until it is ready.
    async fn open_as_payer(&mut self, case: &Case, chain: &FakeChain) -> Payer {
        let (payer, message) = case.propose();
        self.send(&message).await;
        let payer = payer.accept(self.receive().await.unwrap()).unwrap();
        let funding = case.funding(payer.funding_output());
        let (payer, message) = co_signed(payer.hold(funding).unwrap());
        self.send(&message).await;
        let payer = payer.verify_refund(self.receive().await.unwrap()).unwrap();
        let (mut payer, actions) = payer.release();
        self.carry_out(actions).await;
        chain.confirm(3);
        let ready = self.receive().await.unwrap();
        let actions = payer.apply(Event::Message(ready)).unwrap();
        self.carry_out(actions).await;
        payer
    }

    async fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            if let Action::Send(envelope) = action {
                self.send(&envelope).await;
            }
        }
    }
}

/// A payee as a service, and the payer's end of its connection.
async fn payee_and_hand(
    case: &Case,
    chain: &FakeChain,
    buffer: usize,
) -> (PayeeHandle, Hand, Payer, Arc<Mutex<Vec<String>>>) {
    let (a, b) = duplex(buffer);
    let mut hand = Hand { io: a };
    let reports = Arc::new(Mutex::new(Vec::new()));
    let sink = reports.clone();
    let mut setup = setup("payee");
    setup.observer = Arc::new(move |report: Report<'_>| sink.lock().unwrap().push(format!("{report:?}")));
    let (payee, payer) = tokio::join!(accept(b, chain.clone(), setup), hand.open_as_payer(case, chain));
    (payee.unwrap(), hand, payer, reports)
}

#[tokio::test(start_paused = true)]
async fn three_lives() {
    for protocol in Protocol::ALL {
        let (case, chain) = (Case::new(protocol), FakeChain::new());
        // 1. Opened: only the funding transaction is with the network.
        let (payer, payee) = both(&case, &chain).await;
        chain.confirm(3);
        until(payer.status(), "the payer is ready", |s| s.stage == Stage::Open).await;
        assert_eq!(chain.broadcast_so_far(), [payer.funding().tx().clone()]);
        // 2. Paid twice, acknowledged.
        for paid in [1_000, 2_000] {
            if protocol == Bond {
                payee.request_payment(sat(1_000)).await.unwrap();
            }
            assert_eq!(
                soon("a payment", payer.pay(sat(1_000))).await.unwrap().paid,
                sat(paid)
            );
        }
        assert_eq!(
            payee.redeemable().await.unwrap().unwrap().balance().paid,
            sat(2_000)
        );
        // 3. Closed together; both say the same in the end.
        payer.close().await.unwrap();
        until(payee.status(), "the settlement", |s| s.stage == Stage::Closing).await;
        assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], 2_000);
        chain.bury_the_spend();
        let outcome = soon("the payer's outcome", payer.outcome()).await.unwrap();
        assert_eq!(
            (
                soon("the payee's outcome", payee.outcome()).await,
                outcome.to_payee
            ),
            (Some(outcome), sat(2_000))
        );
        assert_eq!(payer.pay(sat(1)).await, Err(RequestError::Ended));
    }
}

#[tokio::test(start_paused = true)]
async fn a_payee_that_dies_in_mid_payment_leaves_it_unacknowledged() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, payee) = both(&case, &chain).await;
    chain.confirm(3);
    until(payer.status(), "ready", |s| s.stage == Stage::Open).await;
    soon("a payment", payer.pay(sat(1_000))).await.unwrap();
    // 1. The payment is on its way when the payee loses power.
    let (paid, ()) = tokio::join!(soon("an answer", payer.pay(sat(1_000))), async { payee.kill() });
    assert_eq!(paid, Err(PayError::Unacknowledged { paid: sat(2_000) }.into()));
    // 2. Every later one is not even signed.
    assert_eq!(
        soon("an answer", payer.pay(sat(1_000))).await,
        Err(PayError::Disconnected.into())
    );
    assert_eq!(payer.status().borrow().paid, sat(2_000));
    assert!(!payer.status().borrow().connected);
    // 3. The refund is the way out.
    chain.reach(HEIGHT + 144, MTP);
    until(payer.status(), "the refund", |s| s.stage == Stage::Closing).await;
    assert_eq!(chain.broadcast_so_far().last(), Some(payer.refund().tx()));
    chain.bury_the_spend();
    assert_eq!(soon("the end", payer.outcome()).await.unwrap().to_payee, sat(0));
}

#[tokio::test(start_paused = true)]
async fn a_payer_that_dies_leaves_the_payee_its_payment() {
    for protocol in [Example7, SteppedLocktime] {
        let (case, chain) = (Case::new(protocol), FakeChain::new());
        let (payer, payee) = both(&case, &chain).await;
        chain.confirm(3);
        until(payer.status(), "ready", |s| s.stage == Stage::Open).await;
        payer.pay(sat(1_000)).await.unwrap();
        payer.kill();
        until(payee.status(), "the payee notices", |s| !s.connected).await;
        chain.reach(HEIGHT + 108, MTP);
        until(payee.status(), "the settlement", |s| s.stage == Stage::Closing).await;
        assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], 1_000, "{protocol}");
    }
}

/// With one signature for both, a close asks the payer first; here there is nobody to ask.
#[tokio::test(start_paused = true)]
async fn a_close_after_the_payer_is_gone_settles_at_once() {
    for feerate in [None, Some(FeeRate::from_sat_per_vb_u32(20))] {
        let (case, chain) = (Case::new(Example7).on(Construction::Taproot), FakeChain::new());
        let (payer, payee) = both(&case, &chain).await;
        chain.confirm(3);
        until(payer.status(), "ready", |s| s.stage == Stage::Open).await;
        payer.pay(sat(1_000)).await.unwrap();
        payer.kill();
        until(payee.status(), "the payee notices", |s| !s.connected).await;
        match feerate {
            None => payee.close().await.unwrap(),
            Some(feerate) => payee.close_at(feerate).await.unwrap(),
        }
        let held = payee.redeemable().await.unwrap().expect("a payment");
        assert_eq!(chain.broadcast_so_far().last(), Some(held.tx()), "{feerate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_not_waited_for() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let after = OPENING_TIMEOUT;
    // 1. The payer waits for an answer to its proposal.
    let (a, _silent) = duplex(4_096);
    let error = soon("the payer", open_payer(&case, a, &chain))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, OpenError::Timeout { stage: Stage::Proposing, after: a } if a == after),
        "{error}"
    );
    // 2. The payee waits for a proposal, and after that for the refund.
    for (says, at) in [(false, Stage::Proposing), (true, Stage::SigningRefund)] {
        let (a, b) = duplex(4_096);
        let mut hand = Hand { io: a };
        if says {
            hand.send(&case.propose().1).await;
        }
        let error = soon("the payee", accept(b, chain.clone(), setup("payee")))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(error, OpenError::Timeout { stage, .. } if stage == at),
            "{error}"
        );
    }
    assert!(chain.broadcast_so_far().is_empty());
}

/// A peer that sends, but never reads what it is sent.
#[tokio::test(start_paused = true)]
async fn an_opening_with_a_peer_that_does_not_read_ends() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (a, _b) = duplex(16);
    let error = soon("the payer gives up", open_payer(&case, a, &chain))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, OpenError::Disconnected { .. } | OpenError::Timeout { .. }),
        "{error}"
    );
}

/// The payer pays and never reads an acknowledgement. When the connection takes no more, the payee must not
/// wait for it: it would sleep through the expiry and lose everything that it was paid.
#[tokio::test(start_paused = true)]
async fn a_payer_that_does_not_read_cannot_keep_the_payee_from_settling() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payee, mut hand, mut payer, _) = payee_and_hand(&case, &chain, 128).await;
    // 1. Pay until the payee's answers fill the connection.
    for _ in 0..40 {
        let actions = payer.apply(Event::Pay(sat(1_000))).unwrap();
        let Ok(()) = tokio::time::timeout(Duration::from_secs(1), hand.carry_out(actions)).await else {
            break;
        };
    }
    // 2. The expiry comes near.
    chain.reach(HEIGHT + 108, MTP);
    let status = until(payee.status(), "the settlement", |s| s.stage == Stage::Closing).await;
    assert!(!status.connected);
    assert!(status.paid >= sat(10_000), "{}", status.paid);
    assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], status.paid.to_sat());
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_too_long_ends_the_connection() {
    // 1. While opening.
    let (a, b) = duplex(4_096);
    let mut hand = Hand { io: a };
    hand.io.write_all(&[0xff, 0xff]).await.unwrap();
    let error = accept(b, FakeChain::new(), setup("payee")).await.err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Connection(ConnectionError::FrameTooLong { limit: MAX_MESSAGE })
        ),
        "{error}"
    );
    assert_eq!(hand.refused().await, Reason::Malformed);
    // 2. One byte above the limit, and then a payee that waits for the limit's worth.
    for (len, refused) in [(MAX_MESSAGE + 1, true), (MAX_MESSAGE, false)] {
        let (a, b) = duplex(4_096);
        let mut hand = Hand { io: a };
        hand.io.write_u16(len.try_into().unwrap()).await.unwrap();
        let error = soon("an end", accept(b, FakeChain::new(), setup("payee")))
            .await
            .err()
            .unwrap();
        assert_eq!(
            matches!(error, OpenError::Connection(_)),
            refused,
            "{len}: {error}"
        );
        assert_eq!(
            matches!(error, OpenError::Timeout { .. }),
            !refused,
            "{len}: {error}"
        );
    }
    // 3. In mid-session: what was paid is still there.
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payee, mut hand, mut payer, reports) = payee_and_hand(&case, &chain, 4_096).await;
    hand.carry_out(payer.apply(Event::Pay(sat(1_000))).unwrap()).await;
    hand.io.write_all(&[0xff, 0xff]).await.unwrap();
    assert_eq!(hand.refused().await, Reason::Malformed);
    assert!(reports
        .lock()
        .unwrap()
        .iter()
        .any(|r| r.contains("Garbled(FrameTooLong { limit: 4096 })")));
    assert_eq!(
        payee.redeemable().await.unwrap().unwrap().balance().paid,
        sat(1_000)
    );
    payee.close().await.unwrap();
    assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], 1_000);
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_the_connection_and_nothing_else() {
    let endless: Vec<u8> = (0..2_000_u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    for garbage in [
        &[0, 0][..],
        &[0, 1, 0xff],
        &[0, 3, 0x82, 6, 7, 9, 9],
        b"GET / HTTP/1.1\r\n\r\n",
        &endless,
    ] {
        // 1. While opening.
        let (a, b) = duplex(64 * 1024);
        let mut hand = Hand { io: a };
        hand.io.write_all(garbage).await.unwrap();
        drop(hand);
        let error = soon("an end", accept(b, FakeChain::new(), setup("payee")))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(error, OpenError::Connection(_) | OpenError::Refused(_)),
            "{error}"
        );
        // 2. In mid-session.
        let (case, chain) = (Case::new(Example7), FakeChain::new());
        let (payee, mut hand, mut payer, _) = payee_and_hand(&case, &chain, 64 * 1024).await;
        hand.carry_out(payer.apply(Event::Pay(sat(1_000))).unwrap()).await;
        hand.io.write_all(garbage).await.unwrap();
        hand.io.shutdown().await.unwrap();
        until(payee.status(), "the end of the connection", |s| !s.connected).await;
        assert_eq!(payee.status().borrow().paid, sat(1_000));
        chain.reach(HEIGHT + 108, MTP);
        until(payee.status(), "the settlement", |s| s.stage == Stage::Closing).await;
        assert_eq!(amounts(&chain.broadcast_so_far()[1])[1], 1_000);
    }
}

#[tokio::test(start_paused = true)]
async fn one_wrong_payment_ends_the_connection() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payee, mut hand, mut payer, reports) = payee_and_hand(&case, &chain, 4_096).await;
    hand.carry_out(payer.apply(Event::Pay(sat(1_000))).unwrap()).await;
    let signature = UnverifiedSignature::from_compact([1; 64]);
    let message = Message::Payment {
        paid: sat(2_000),
        signature,
    };
    hand.send(&Envelope {
        channel: case.id,
        message,
    })
    .await;
    assert_eq!(hand.refused().await, Reason::SignatureWrong);
    assert!(reports
        .lock()
        .unwrap()
        .iter()
        .any(|r| r.starts_with("Refused(Signature(Wrong")));
    assert_eq!(payee.status().borrow().paid, sat(1_000));
}

/// 1. Payments up to 10,000 satoshi count before the funding transaction is confirmed.
/// 2. The third block is there. The payer has heard of it and pays more; the payee has not heard of it yet.
#[tokio::test(start_paused = true)]
async fn a_payer_that_hears_of_the_last_confirmation_first_can_pay() {
    let mut case = Case::new(Example7);
    case.limits.unconfirmed = sat(10_000);
    let (left, right) = (FakeChain::new(), FakeChain::new());
    let (a, b) = duplex(64 * 1024);
    let payee = Setup {
        limits: case.limits.clone(),
        ..setup("payee")
    };
    let (payer, payee) = tokio::join!(open_payer(&case, a, &left), accept(b, right.clone(), payee));
    let (payer, payee) = (payer.unwrap(), payee.unwrap());
    until(payer.status(), "ready", |s| s.stage == Stage::Open).await;
    payer.pay(sat(10_000)).await.unwrap();

    right.state.lock().unwrap().confirmations = 3;
    left.confirm(3);
    let news = *left.changes.borrow();
    until(payer.status(), "the third block", |s| s.seen == news).await;
    payer.pay(sat(10_000)).await.unwrap();
    assert_eq!(payee.status().borrow().paid, sat(20_000));
}

#[tokio::test(start_paused = true)]
async fn a_refused_proposal_tells_the_payer_why() {
    let (mut case, chain) = (Case::new(Example7), FakeChain::new());
    case.limits.capacity = sat(1)..=sat(1_000_000);
    let (a, b) = duplex(4_096);
    let mut strict = setup("payee");
    strict.limits.capacity = sat(1)..=sat(999_999);
    let (payer, payee) = tokio::join!(open_payer(&case, a, &chain), accept(b, chain.clone(), strict));
    let (payer, payee) = (payer.err().unwrap(), payee.err().unwrap());
    let expected = Reason::TermsOutOfLimits;
    assert!(
        matches!(payer, OpenError::PeerRefused { reason, .. } if reason == expected),
        "{payer}"
    );
    assert!(payee.to_string().contains("0.00999999"), "{payee}");
}

/// Example 7, step 5: the payer aborts, and nothing is on chain.
#[tokio::test(start_paused = true)]
async fn a_wrong_refund_signature_aborts_with_nothing_on_chain() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (a, b) = duplex(4_096);
    let mut hand = Hand { io: b };
    let (payer, reason) = tokio::join!(open_payer(&case, a, &chain), async {
        let (_, accept) = case.consider(hand.receive().await.unwrap()).unwrap();
        hand.send(&accept).await;
        hand.receive().await.unwrap();
        let signature = UnverifiedSignature::from_compact([1; 64]);
        let message = Message::RefundSignature { signature };
        hand.send(&Envelope {
            channel: case.id,
            message,
        })
        .await;
        hand.refused().await
    });
    assert!(matches!(payer.err().unwrap(), OpenError::Refused(_)));
    assert_eq!(reason, Reason::SignatureWrong);
    assert!(chain.broadcast_so_far().is_empty());
}

/// A chain whose news end: what needs no chain goes on, and nobody waits for ever.
#[tokio::test(start_paused = true)]
async fn a_party_without_news_of_the_chain_still_answers() {
    let case = Case::new(Example7);
    let (chain, blind) = (FakeChain::new(), Blind(FakeChain::new()));
    let (left, right) = duplex(4_096);
    let setup = setup("payee");
    let (payer, payee) = tokio::join!(open_payer(&case, left, &chain), accept(right, blind, setup));
    let (payer, payee) = (payer.unwrap(), payee.unwrap());
    let answer = tokio::time::timeout(Duration::from_secs(60), payee.redeemable()).await;
    assert_eq!(answer.expect("no hang").expect("running"), None);
    drop(payer);
}

/// A chain that can be asked, and says nothing by itself.
struct Blind(FakeChain);

impl Chain for Blind {
    fn tip(&self) -> impl Future<Output = Result<Tip, ChainError>> + Send {
        self.0.tip()
    }

    fn view(&self, funding: OutPoint) -> impl Future<Output = Result<ChainView, ChainError>> + Send {
        self.0.view(funding)
    }

    fn broadcast(&self, tx: &Transaction) -> impl Future<Output = Result<Option<String>, ChainError>> + Send {
        self.0.broadcast(tx)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(1).1
    }
}

/// A payee whose own node is down takes no payment: the expiry may have passed without its knowing. It looks
/// again by itself, and takes the payment when it can see.
#[tokio::test(start_paused = true)]
async fn a_payee_that_cannot_see_the_chain_takes_no_payment() {
    let case = Case::new(Example7);
    let (chain, shaky) = (FakeChain::new(), Shaky::new());
    let (left, right) = duplex(4_096);
    let (payer, payee) = tokio::join!(
        open_payer(&case, left, &chain),
        accept(right, shaky.clone(), setup("payee"))
    );
    let (payer, payee) = (payer.unwrap(), payee.unwrap());
    for chain in [&chain, &shaky.chain] {
        chain.change(|state| state.confirmations = 3);
    }
    payer
        .status()
        .wait_for(|status| status.stage == Stage::Open)
        .await
        .unwrap();
    // 1. The payee's node goes down, and nobody tells the payee: it finds out by itself.
    shaky.down.store(true, Ordering::Relaxed);
    let mut looks = shaky.failed_looks.subscribe();
    let looked = tokio::time::timeout(Duration::from_secs(60), looks.wait_for(|looks| *looks > 0)).await;
    looked.expect("a look without news").unwrap();
    // 2. A payment is sent, and not taken.
    let early = tokio::time::timeout(Duration::from_secs(10), payer.pay(sat(1_000))).await;
    early.expect_err("not acknowledged");
    assert_eq!(payee.status().borrow().paid, sat(0));
    // 3. The node is back; nobody tells the payee, it looks by itself.
    shaky.down.store(false, Ordering::Relaxed);
    payer.pay(sat(1_000)).await.expect("acknowledged");
    assert_eq!(payee.status().borrow().paid, sat(2_000));
}

/// A node that can be down.
#[derive(Clone)]
struct Shaky {
    chain: FakeChain,
    down: Arc<AtomicBool>,
    failed_looks: watch::Sender<u32>,
}

impl Shaky {
    fn new() -> Self {
        Self {
            chain: FakeChain::new(),
            down: Arc::new(AtomicBool::new(false)),
            failed_looks: watch::Sender::new(0),
        }
    }
}

impl Chain for Shaky {
    fn tip(&self) -> impl Future<Output = Result<Tip, ChainError>> + Send {
        self.chain.tip()
    }

    async fn view(&self, funding: OutPoint) -> Result<ChainView, ChainError> {
        if self.down.load(Ordering::Relaxed) {
            self.failed_looks.send_modify(|looks| *looks += 1);
            return Err(ChainError::new("look at the chain", "the node is down"));
        }
        self.chain.view(funding).await
    }

    fn broadcast(&self, tx: &Transaction) -> impl Future<Output = Result<Option<String>, ChainError>> + Send {
        self.chain.broadcast(tx)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.chain.changes()
    }
}

/// Whoever stops waiting for a payment may pay again, so what was not signed by then never is.
#[tokio::test(start_paused = true)]
async fn a_payment_that_nobody_waits_for_is_not_made() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, payee) = both(&case, &chain).await;
    chain.confirm(3);
    until(payer.status(), "ready", |s| s.stage == Stage::Open).await;
    // 1. The request is with the payer's task, which has not looked at it, when its user turns away.
    let given_up = tokio::time::timeout(Duration::ZERO, payer.pay(sat(1_000))).await;
    given_up.expect_err("no time at all");
    // 2. The second attempt is the only one that counts.
    soon("a payment", payer.pay(sat(1_000))).await.unwrap();
    assert_eq!(payee.status().borrow().paid, sat(1_000));
}

/// A network that refuses every transaction.
struct Refusing(FakeChain);

impl Chain for Refusing {
    fn tip(&self) -> impl Future<Output = Result<Tip, ChainError>> + Send {
        self.0.tip()
    }

    fn view(&self, funding: OutPoint) -> impl Future<Output = Result<ChainView, ChainError>> + Send {
        self.0.view(funding)
    }

    async fn broadcast(&self, _: &Transaction) -> Result<Option<String>, ChainError> {
        Ok(Some("min relay fee not met".to_owned()))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_funding_transaction_ends_the_opening() {
    let (case, chain) = (Case::new(SteppedLocktime), FakeChain::new());
    let (left, right) = duplex(4_096);
    let wallet = |output: &TxOut| Ok::<_, Infallible>(case.funding(output.clone()));
    let proposal = Proposal {
        id: case.id,
        terms: case.terms.clone(),
    };
    let payers = Setup {
        limits: case.limits.clone(),
        ..setup("payer")
    };
    let (payer, payee) = tokio::join!(
        open(left, Refusing(chain.clone()), payers, proposal, wallet),
        accept(right, chain, setup("payee")),
    );
    let refused = payer.err().expect("nothing to open");
    assert!(matches!(refused, OpenError::FundingRefused { .. }), "{refused}");
    let gone = payee.err().expect("nothing to accept");
    assert!(
        matches!(
            gone,
            OpenError::Disconnected {
                stage: Stage::Protected
            }
        ),
        "{gone}"
    );
}
