//! What a party reports, as `tracing` events.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use spilman::channel::Construction;
use spilman::channel::Protocol::Example7;
use tokio::io::duplex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::set_default;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::chains::{Answer, FakeChain, Odd};
use crate::hand::{both, loses_peer, open_payer, opens, setup, soon};
use crate::pair::{sat, Case};

type Fields = BTreeMap<&'static str, String>;

/// Keeps every event, with the fields of the span that it is in.
#[derive(Clone, Default)]
struct Kept {
    events: Arc<Mutex<Vec<(Level, Fields)>>>,
    spans: Arc<Mutex<BTreeMap<u64, Fields>>>,
    inside: Arc<Mutex<Vec<u64>>>,
    next: Arc<AtomicU64>,
    panics: bool,
}

struct Reading<'a>(&'a mut Fields);

impl Visit for Reading<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "spilman::service"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::new();
        span.record(&mut Reading(&mut fields));
        self.spans.lock().unwrap().insert(id, fields);
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        assert!(!self.panics, "the log is full");
        let inside = self.inside.lock().unwrap().last().copied();
        let span = inside.and_then(|id| self.spans.lock().unwrap().get(&id).cloned());
        let mut fields = span.unwrap_or_default();
        event.record(&mut Reading(&mut fields));
        self.events
            .lock()
            .unwrap()
            .push((*event.metadata().level(), fields));
    }

    fn enter(&self, span: &Id) {
        self.inside.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.inside.lock().unwrap().pop();
    }
}

impl Kept {
    /// The events with these fields, in order.
    fn of(&self, wanted: &[(&str, &str)]) -> Vec<(Level, Fields)> {
        let has = |fields: &Fields| {
            wanted
                .iter()
                .all(|(name, value)| fields.get(name).map(String::as_str) == Some(*value))
        };
        let events = self.events.lock().unwrap();
        events.iter().filter(|(_, fields)| has(fields)).cloned().collect()
    }
}

/// 1. The payer's refund is safe before anything is broadcast; then the payee broadcasts.
/// 2. Each event says whose it is, and those of the running parties, of which channel.
/// 3. What the parties notice is there, too.
#[tokio::test(start_paused = true)]
async fn reports_are_events_with_fields() {
    let kept = Kept::default();
    let _reading = set_default(kept.clone());
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let (payer, payee) = both(&case, &chain).await;
    let txid = payer.funding().tx().compute_txid().to_string();
    let refund = payer.refund().tx().compute_txid().to_string();
    for (report, txid) in [("funding-held", &txid), ("refundable", &refund)] {
        let found = kept.of(&[
            ("side", "payer"),
            ("channel", "7"),
            ("report", report),
            ("txid", txid),
        ]);
        assert_eq!(found.len(), 1, "{report}: {found:?}");
    }
    let funding = payee.funding().outpoint().to_string();
    let broadcast = [
        ("side", "payee"),
        ("funding", &funding),
        ("role", "funding"),
        ("txid", &txid),
    ];
    let found = kept.of(&broadcast);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, Level::INFO);

    chain.confirm(3);
    opens(&payer).await;
    let found = kept.of(&[("side", "payee"), ("report", "notice"), ("notice", "Ready")]);
    assert_eq!(found.len(), 1, "{found:?}");
    payer.abort();
    loses_peer(payee.status()).await;
    let found = kept.of(&[("side", "payee"), ("report", "disconnected")]);
    assert_eq!(found.len(), 1, "{found:?}");
}

/// A transaction that the node rejects is a warning, in the node's words.
#[tokio::test(start_paused = true)]
async fn a_rejection_is_a_warning() {
    let kept = Kept::default();
    let _reading = set_default(kept.clone());
    let (case, odd) = (Case::new(Example7).on(Construction::P2wsh), Odd::new());
    odd.change(|mood| mood.broadcast = Answer::Refused);
    let (a, b) = duplex(64 * 1024);
    let opened = async {
        tokio::join!(
            open_payer(&case, a, &odd.chain),
            setup("payee").accept(b, odd.clone())
        )
    };
    let (_payer, payee) = soon("both", opened).await;
    assert!(payee.is_ok());
    let found = kept.of(&[("side", "payee"), ("report", "broadcast"), ("role", "funding")]);
    let (level, fields) = &found[0];
    assert_eq!(*level, Level::WARN);
    assert!(fields["reason"].contains("min relay fee not met"), "{fields:?}");
}

/// A subscriber that panics is to the party as an observer that does.
#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_does_not_end_the_party() {
    let (case, chain) = (Case::new(Example7), FakeChain::new());
    let _reading = set_default(Kept {
        panics: true,
        ..Kept::default()
    });
    let (payer, payee) = both(&case, &chain).await;
    chain.confirm(3);
    let status = opens(&payer).await;
    assert_eq!(status.fault.expect("panics").message, "the log is full");
    soon("a payment", payer.pay(sat(1_000))).await.unwrap();
    assert_eq!(payee.status().borrow().paid, sat(1_000));
}
