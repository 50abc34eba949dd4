//! A connection breaks at any message, and either process dies or not: on the next connection both agree again on what was
//! paid, and the channel ends with that.

use bitcoin::Network;
use spilman::channel::{
    ApplyError, ChannelId, CommandError, Construction, Envelope, Event, Features, HelloRandoms, Message,
    Payee, PayeeState, Payer, PayerState, Protocol, RefusalReason, Resume, Resumed, ResumedState, Stage,
    UnverifiedSignature, VersionRange,
};
use spilman::transcript::{timeline, Entry, Names, Transcript, Unit};
use spilman::wire;

use crate::pair::{channels, hears, key, restart, sat, Case, Inspect, Pair, Side};
use Protocol::Example7;

const RANDOMS: HelloRandoms = HelloRandoms {
    payer: [1; 32],
    payee: [2; 32],
};

/// The channel's number on the new connection, which is another than before.
const CHANNEL: ChannelId = ChannelId(9);

const fn back() -> Event {
    Event::Reconnected {
        channel: CHANNEL,
        randoms: RANDOMS,
    }
}

/// Nothing arrives any more; some processes die with the connection, and the others look at the chain.
fn disconnect(pair: &mut Pair, died: &[Side]) {
    pair.network.messages_left = Some(0);
    for side in died {
        restart(pair, *side);
    }
    pair.poll_both(3, None).unwrap();
}

/// A new connection, after the old one has ended.
fn reconnect(pair: &mut Pair) {
    pair.network.messages_left = None;
    for side in [Side::Payee, Side::Payer] {
        pair.crash(side);
        pair.apply(side, back()).unwrap();
    }
}

/// The payer's user asks for each total until the payee has acknowledged it.
fn pay(pair: &mut Pair, totals: &[u64]) -> Result<(), ApplyError> {
    for total in totals {
        let asked = pair.tell(Side::Payer, Event::PayUpTo(sat(*total)))?;
        pair.queue(Side::Payer, asked);
        pair.run().unwrap();
    }
    Ok(())
}

/// The payer's user asks for the end, which may be on its way.
fn close(pair: &mut Pair) {
    if let Ok(actions) = pair.tell(Side::Payer, Event::Close) {
        pair.queue(Side::Payer, actions);
        pair.run().unwrap();
    }
}

const DEATHS: [&[Side]; 4] = [&[], &[Side::Payer], &[Side::Payee], &[Side::Payee, Side::Payer]];

/// In each channel: three payments and a close by the payer; after so many messages nothing arrives any more.
#[test]
fn a_connection_may_break_at_any_message() {
    for case in channels() {
        for (arrive, died) in (0..12).flat_map(|arrive| DEATHS.map(|died| (arrive, died))) {
            let at = format!("{}, {arrive} messages, died: {died:?}", case.name());
            let mut pair = case.open();
            pair.poll(Side::Payer, 3, None).unwrap();
            pair.network.messages_left = Some(arrive);
            pay(&mut pair, &[1_000, 2_000, 3_000]).unwrap();
            let acknowledged = pair.payer.acknowledged();
            // 1. Whoever died sees the chain before its peer is there.
            disconnect(&mut pair, died);
            reconnect(&mut pair);
            assert!(pair.payer.acknowledged() >= acknowledged, "{at}");
            assert_eq!(pair.payee.paid(), sat(3_000), "{at}");
            assert_eq!(pair.payer.acknowledged(), sat(3_000), "{at}");
            // 2. It goes on as if nothing had happened.
            pay(&mut pair, &[4_000]).unwrap();
            assert_eq!(pair.payer.acknowledged(), sat(4_000), "{at}");
            // 3. The close breaks as well.
            for left in 0..3 {
                pair.network.messages_left = Some(left);
                close(&mut pair);
                disconnect(&mut pair, died);
                reconnect(&mut pair);
            }
            let settlement = pair
                .payee
                .settlement()
                .unwrap_or_else(|| panic!("{at}: a settlement"));
            assert_eq!(settlement.balance().paid, sat(4_000), "{at}");
            assert_eq!(pair.stages(), [Stage::Closing; 2], "{at}");
        }
    }
}

/// The payee asked for a settlement with a nonce. It asks again with another, because the first died with its process.
#[test]
fn a_payee_that_asked_asks_again() {
    for case in channels() {
        for (arrive, died) in (0..3).flat_map(|arrive| DEATHS.map(|died| (arrive, died))) {
            let at = format!("{}, {arrive} messages, died: {died:?}", case.name());
            let mut pair = case.clone().paying(&[1_000]).open();
            pair.poll(Side::Payer, 3, None).unwrap();
            pair.network.messages_left = Some(arrive);
            pair.apply(
                Side::Payee,
                Event::CloseAt(bitcoin::FeeRate::from_sat_per_kwu(600)),
            )
            .unwrap();
            disconnect(&mut pair, died);
            reconnect(&mut pair);
            let settlement = pair
                .payee
                .settlement()
                .unwrap_or_else(|| panic!("{at}: a settlement"));
            assert_eq!(settlement.balance().paid, sat(1_000), "{at}");
        }
    }
}

/// An older copy of a store is restored. A payee gets the latest payment again; a payer learns what it signed.
#[test]
fn the_later_copy_heals_the_earlier_one() {
    for case in channels() {
        let at = case.name();
        let copy = || -> (Pair, PayerState, PayeeState) {
            let mut pair = case.clone().paying(&[1_000]).open();
            pair.poll(Side::Payer, 3, None).unwrap();
            let copies = (pair.payer.state(), pair.payee.state());
            pay(&mut pair, &[2_000, 3_000]).unwrap();
            (pair, copies.0, copies.1)
        };
        let (mut pair, _, older) = copy();
        pair.payee = Payee::restore(older.clone(), key("payee")).unwrap();
        pair.network.payee = Some(older);
        pair.poll(Side::Payee, 3, None).unwrap();
        assert_eq!(pair.payee.paid(), sat(1_000), "{at}");
        pair.network.news();
        reconnect(&mut pair);
        assert_eq!(pair.payee.paid(), sat(3_000), "{at}");
        let news = pair.network.news().join("\n");
        assert!(
            news.contains("payer learns peer rolled back 3000 1000"),
            "{at}: {news}"
        );

        let (mut pair, older, _) = copy();
        pair.payer = Payer::restore(older.clone(), key("payer")).unwrap();
        pair.network.payer = Some(older);
        pair.poll(Side::Payer, 3, None).unwrap();
        assert_eq!(pair.payer.paid(), sat(1_000), "{at}");
        pair.network.news();
        reconnect(&mut pair);
        assert_eq!(
            [pair.payer.paid(), pair.payer.acknowledged()],
            [sat(3_000); 2],
            "{at}"
        );
        let news = pair.network.news().join("\n");
        assert!(news.contains("payer learns recovered 3000"), "{at}: {news}");
        pay(&mut pair, &[4_000]).unwrap();
        assert_eq!(pair.payee.paid(), sat(4_000), "{at}");
    }
}

/// A payer has paid once more, which never arrived, and does what `then` says before its processes or its peer's die.
/// Meanwhile the funding transaction was reorganised away; it comes back after the channel was resumed.
fn back_after_a_reorganisation(case: &Case, died: &[Side], then: impl FnOnce(&mut Pair)) -> Pair {
    let mut pair = case.clone().paying(&[1_000]).open();
    pair.poll(Side::Payer, 3, None).unwrap();
    pair.network.messages_left = Some(0);
    pay(&mut pair, &[2_000]).unwrap();
    then(&mut pair);
    for side in died {
        restart(&mut pair, *side);
    }
    pair.poll_both(0, None).unwrap();
    reconnect(&mut pair);
    assert_eq!(pair.payer.acknowledged(), sat(1_000), "{}", case.name());
    pair.poll_both(3, None).unwrap();
    pair
}

/// The payment that is on its way waits for the funding transaction.
#[test]
fn a_reorganisation_may_come_between() {
    for case in channels() {
        let pair = back_after_a_reorganisation(&case, &[Side::Payee, Side::Payer], |_| {});
        assert_eq!(pair.payer.acknowledged(), sat(2_000), "{}", case.name());
    }
}

/// The same for a payer that was closing: the payee gets the payment, and then the settlement for it.
#[test]
fn a_close_may_wait_for_the_funding_transaction() {
    for case in channels() {
        let pair = back_after_a_reorganisation(&case, &[Side::Payee], |pair| {
            for _ in 0..2 {
                // Where both can close with one signature, the second close gives that up.
                close(pair);
            }
        });
        let at = case.name();
        let settlement = pair
            .payee
            .settlement()
            .unwrap_or_else(|| panic!("{at}: a settlement"));
        assert_eq!(settlement.balance().paid, sat(2_000), "{at}");
    }
}

/// Between *resume* and *resumed* nothing else is said, and nothing is signed.
#[test]
fn nothing_is_said_in_between() {
    let mut pair = Case::new(Example7).paying(&[1_000]).open();
    pair.poll(Side::Payer, 3, None).unwrap();
    let id = CHANNEL;
    pair.tell(Side::Payer, back()).unwrap();
    for command in [Event::Pay(sat(1)), Event::Close] {
        let refused = pair.tell(Side::Payer, command).unwrap_err();
        assert_eq!(refused, ApplyError::Command(CommandError::Resuming));
    }
    let reason = |refused: ApplyError| match refused {
        ApplyError::Refused(refusal) => refusal.reason(),
        other => panic!("{other}"),
    };
    let early = pair.tell(Side::Payer, hears(id, Message::Ready)).unwrap_err();
    assert_eq!(reason(early), RefusalReason::UnexpectedMessage);
    pair.tell(Side::Payee, back()).unwrap();
    let payment = Message::Payment {
        paid: sat(2_000),
        signature: UnverifiedSignature::from_compact([1; 64]),
    };
    let early = pair.tell(Side::Payee, hears(id, payment)).unwrap_err();
    assert_eq!(reason(early), RefusalReason::UnexpectedMessage);
    // A peer that is gone again is not waited for.
    pair.tell(Side::Payer, Event::PeerGone).unwrap();
    pair.tell(Side::Payer, Event::Pay(sat(1))).unwrap();
}

/// A payment that waits until payments count is not acknowledged by *resumed*, and is once it counts.
#[test]
fn what_is_parked_is_not_acknowledged_by_resuming() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.clone().paying(&[1_000]).open();
        pair.poll(Side::Payer, 3, None).unwrap();
        pair.tell(Side::Payee, Event::Blind(None)).unwrap();
        pay(&mut pair, &[2_000]).unwrap();
        reconnect(&mut pair);
        assert_eq!(pair.payer.acknowledged(), sat(1_000), "{at}");
        pair.poll(Side::Payee, 3, None).unwrap();
        assert_eq!(pair.payer.acknowledged(), sat(2_000), "{at}");
    }
}

/// A payment that was due on one connection, and went out on the next, does not go out again after a reorganisation.
#[test]
fn what_was_due_on_one_connection_is_not_due_on_the_next() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.clone().paying(&[1_000]).open();
        pair.poll(Side::Payer, 3, None).unwrap();
        pair.network.messages_left = Some(0);
        pay(&mut pair, &[2_000]).unwrap();
        pair.poll_both(0, None).unwrap();
        reconnect(&mut pair);
        assert_eq!(pair.payer.acknowledged(), sat(1_000), "{at}");
        pair.network.messages_left = Some(0);
        pair.poll_both(3, None).unwrap();
        reconnect(&mut pair);
        assert_eq!(pair.payer.acknowledged(), sat(2_000), "{at}");
        for confirmations in [0, 3] {
            pair.poll_both(confirmations, None).unwrap();
        }
        assert_eq!(pair.stages(), [Stage::Open; 2], "{at}");
    }
}

/// A payee has seen a spend that is gone again, and asked for nothing. The payer that was closing waits for its request.
#[test]
fn a_payee_that_has_seen_a_spend_asks_when_it_resumes() {
    for case in channels().filter(|case| case.terms.construction.closes_with_one_key()) {
        let at = case.name();
        let mut pair = case.open();
        pair.poll(Side::Payer, 3, None).unwrap();
        let refund = pair.payer.refund().tx().clone();
        pair.network.messages_left = Some(0);
        close(&mut pair);
        // It is not due yet, but a node may say so.
        for seen in [Some((&refund, 0)), None] {
            let seen = Event::Chain(pair.view(3, seen));
            pair.tell(Side::Payee, seen).unwrap();
        }
        reconnect(&mut pair);
        let settlement = pair.payee.settlement();
        let settlement = settlement.unwrap_or_else(|| panic!("{at}: a settlement"));
        assert_eq!(settlement.balance().paid, sat(0), "{at}");
    }
}

/// Who answers may be a stranger at a wrong address: only a proof, or the chain, ends the channel.
#[test]
fn a_refusal_before_the_proof_ends_nothing() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.clone().paying(&[1_000]).open();
        pair.poll(Side::Payer, 3, None).unwrap();
        disconnect(&mut pair, &[]);
        for reason in [
            RefusalReason::UnknownChannel,
            RefusalReason::ChannelBusy,
            RefusalReason::ProofWrong,
        ] {
            pair.tell(Side::Payer, back()).unwrap();
            let refused = hears(CHANNEL, Message::Refuse { reason });
            pair.tell(Side::Payer, refused).unwrap();
            assert_eq!(pair.payer.stage(), Stage::Open, "{at}, {reason}");
            pair.tell(Side::Payer, Event::PeerAway).unwrap();
        }
        reconnect(&mut pair);
        pay(&mut pair, &[2_000]).unwrap();
        assert_eq!(pair.payer.acknowledged(), sat(2_000), "{at}");
        // From whoever has proved the key it does end the channel.
        let reason = RefusalReason::ChannelExpiring;
        pair.tell(Side::Payer, hears(CHANNEL, Message::Refuse { reason }))
            .unwrap();
        assert_eq!(pair.payer.stage(), Stage::Closing, "{at}");
    }
}

/// Whoever reads a timeline learns what both sides compared.
#[test]
fn a_timeline_tells_what_is_resumed() {
    let pair = Case::new(Example7).paying(&[1_000]).open();
    let (params, funding) = (pair.payee.params().clone(), pair.outpoint());
    let hello = Message::Hello {
        versions: VersionRange::new(1, 2).unwrap(),
        features: Features::from_bits(0x8003),
        random: [1; 32],
    };
    let resume = Resume {
        funding,
        signed: sat(1_000),
        acknowledged: None,
    };
    let resumed = Resumed {
        latest_payment: pair.payee.state().progress.latest,
        state: ResumedState::Closed(None),
    };
    let said = [
        hello,
        Message::Resume(resume.sign(&RANDOMS, &params, &key("payer"))),
        Message::Resumed(resumed.sign(&RANDOMS, funding, &params, &key("payee"))),
    ];
    let entries = said.map(|message| Entry::Message {
        from: spilman::transcript::Side::Payer,
        bytes: wire::encode(&Envelope {
            channel: CHANNEL,
            message,
        }),
        tampered: false,
    });
    let text = timeline(&Transcript {
        scenario: String::new(),
        summary: String::new(),
        protocol: Example7,
        construction: Construction::P2wsh,
        unit: Unit::Satoshi,
        network: Network::Regtest,
        entries: entries.to_vec(),
        transactions: Vec::new(),
        names: Names::default(),
    });
    let told: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("         "))
        .collect();
    let told: Vec<_> = told.iter().filter(|line| line.contains(' ')).copied().collect();
    let channel = format!("the channel with the funding output {funding}");
    let expected = [
        "speaks versions 1 to 2",
        "features: resume, many channels, 0x8000",
        &channel,
        "signed 1,000 sat in total",
        "nothing was acknowledged",
        "holds 1,000 sat in total",
        "the channel is over, and nothing spent it",
    ];
    assert_eq!(told, expected);
}
