//! What a party in each state answers to each event. Several states are one stage to its user, and differ here.
//!
//! A cell is `-` if the event is refused. Otherwise it is the stage afterwards (Protected, Awaiting funding, Open, Closing,
//! closed: X), and what the party does: sends, broadcasts, notifies.

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use spilman::channel::{
    Action, ApplyError, BroadcastResult, ChainView, Construction, Envelope, Event, Features, Message,
    Protocol, RefusalReason, Resume, Resumed, ResumedState, SeenSpend, SpendRole, Stage, Terms, Unverified,
    UnverifiedSignature, VersionRange, SETTLED_DEPTH,
};

use crate::pair::{restart, sat, says, tip, Case, Inspect, Pair, Side, Sign, HEIGHT, MTP};
use Protocol::{Bond, Example7, SteppedLocktime};

const PAYER: &str = "
               ready  accept wants  closed pay    away   ask    refuse close  relay  reject lost   deep   over   spent  ended
protected      -      -      -      -      -      P      -      Xnn    Xn     As     Cn     P      A      Cb     C      Xn
funding        On     -      -      -      -      A      Cs     Cn     Cs     As     Cn     Ab     A      Cb     C      Xn
awaiting       On     -      -      -      -      A      Cs     Cn     Cs     A      An     Anb    A      Cb     C      Xn
open           O      On     On     Cn     Os     O      Cs     Cn     Cs     O      On     An     O      Cb     C      Xn
suspended      On     An     A      Cn     -      A      Cs     Cn     Cs     A      An     Anb    On     Cb     C      Xn
suspended E    On     An     -      Cn     -      A      Cs     Cn     Cs     A      An     Anb    On     Cb     C      Xn
suspended S    On     An     -      Cn     -      A      Cs     Cn     Cs     A      An     Ab     On     Cb     C      Xn
asked          C      Cn     -      Cn     -      C      Cs     Cn     Cs     C      Cn     C      C      Cb     C      Xn
asked, closed  C      Cn     -      Cn     -      C      Cs     Cn     Cs     C      Cn     C      C      Cb     C      Xn
asked, spent   C      Cn     -      Cn     -      C      Cs     Cn     Cs     C      Cn     C      C      Cb     C      Xn
asked, told    C      Cn     -      Cn     -      C      Cs     Cn     -      C      Cn     C      C      Cb     C      Xn
closing        C      Cn     C      Cn     -      C      C      Cn     -      C      Cn     C      C      Cb     C      Xn
unfunded       C      -      -      Cn     -      C      C      Cn     Xn     Cs     Cn     C      C      Cb     C      Xn
unfunded, deep C      -      -      Cn     -      C      C      Cn     -      Cs     Cn     C      C      Cb     C      Xn
abandoned      -      -      -      -      -      X      -      Xn     -      Cns    Xn     X      Cn     Cnb    Cn     Xnn
closed         -      -      -      -      -      X      -      Xn     -      X      Xn     X      X      X      X      X
closed, kept   -      -      -      -      -      X      -      Xn     -      X      Xn     X      X      X      X      X
";

const PAYEE: &str = "
               paid   settle wants  gone   away   blind  ask    refuse close  relay  reject lost   deep   over   spent  ended
awaiting       -      Cb     -      Xn     A      A      -      An     Cs     A      An     Ab     Osn    Xn     C      Xn
open           Osn    Cb     Os     O      O      O      -      On     Cb     O      On     Anb    O      Cb     Cb     Xn
suspended      A      Cb     -      A      A      A      -      An     Cb     A      An     Ab     Osn    Csnb   Cb     Xn
asked          Csn    Cb     -      Cb     Cb     C      C      Cn     Cb     C      Cn     Cb     C      Cb     Cb     Xn
asked, parked  C      Cb     -      Cb     Cb     C      C      Cn     Cb     C      Cn     Cb     Csn    Cb     Cb     Xn
asked early    -      Cb     -      Xn     C      C      C      Cn     -      C      Cn     Cb     C      Xn     C      Xn
asked for two  Csn    Cb     -      C      C      C      -      Cn     -      C      Cn     Cb     C      Cb     C      Xn
spent          -      Cb     -      C      C      C      -      Cn     -      C      Cn     Cb     C      Xn     C      Xn
spared         Csn    Cb     -      Xn     C      C      -      Cn     -      C      Cn     Cb     C      Xn     C      Xn
spared early   -      Cb     -      Xn     C      C      -      Cn     -      C      Cn     Cb     C      Xn     C      Xn
settling       -      C      -      C      C      C      -      Cn     -      C      Cn     Cbb    Cb     Cb     Cb     Xn
cooperative    -      C      -      C      C      C      C      Cn     Cb     C      Cn     Cbb    Cb     Cnb    Cb     Xn
closed         -      -      -      X      X      X      -      Xn     -      X      Xn     X      X      X      X      X
";

type Step = fn(&Pair) -> Event;
type Column = (&'static str, Step);
/// A name, where it begins, and what happens then.
type Row = (&'static str, fn() -> Pair, &'static [Step]);

const ASK: Step = |p| {
    let feerate = Terms::FEERATE;
    message(p, Message::CloseRequest { feerate, nonce: None })
};
const CLOSED: Step = |p| {
    let txid = Txid::all_zeros();
    message(p, Message::Closed { txid })
};
const REFUSE: Step = |p| {
    let reason = RefusalReason::UnexpectedMessage;
    message(p, Message::Refuse { reason })
};
const CLOSE: Step = |_| Event::Close;
const REJECT: Step = |p| answer(p, Some("no"));
const LOST: Step = |p| view(p, 5, 0, None);
const DEEP: Step = |p| view(p, 5, 3, None);
const SPENT: Step = |p| view(p, 5, 3, Some(0));
const ENDED: Step = |p| view(p, 5, 3, Some(SETTLED_DEPTH));

/// The refund's lock has passed, whether it is a height, a time or relative.
const OVER: Step = |_| {
    Event::Chain(ChainView {
        tip: tip(HEIGHT + 300, MTP + 3 * 24 * 60 * 60),
        confirmations: 3,
        funding_parent: Some(tip(HEIGHT, MTP)),
        spend: None,
    })
};

/// What either side may meet.
const COMMON: [Column; 10] = [
    ("ask", ASK),
    ("refuse", REFUSE),
    ("close", CLOSE),
    ("relay", |p| answer(p, None)),
    ("reject", REJECT),
    // One block later than `LOST`: a funding transaction is broadcast once a block.
    ("lost", |p| view(p, 6, 0, None)),
    ("deep", DEEP),
    ("over", OVER),
    ("spent", SPENT),
    ("ended", ENDED),
];

fn message(pair: &Pair, message: Message) -> Event {
    let channel = pair.payer.params().id();
    Event::Message(Envelope { channel, message })
}

/// The node's answer to the funding transaction.
fn answer(pair: &Pair, rejected: Option<&str>) -> Event {
    Event::Broadcast(BroadcastResult {
        rejected: rejected.map(str::to_owned),
        ..BroadcastResult::accepted(SpendRole::Funding, pair.payer.funding().tx())
    })
}

/// The chain this many blocks after the opening; the refund is what spends, if anything does.
fn view(pair: &Pair, blocks: u32, confirmations: u32, refund: Option<u32>) -> Event {
    Event::Chain(ChainView {
        tip: tip(HEIGHT + blocks, MTP),
        confirmations,
        funding_parent: (confirmations > 0).then(|| tip(HEIGHT, MTP)),
        spend: refund.map(|confirmations| SeenSpend {
            tx: pair.payer.refund().tx().clone(),
            confirmations,
        }),
    })
}

/// The sum that a settlement is for.
fn held(pair: &Pair) -> u64 {
    pair.redeemable()
        .map_or(0, |payment| payment.balance().paid.to_sat())
}

fn after(side: Side, mut pair: Pair, steps: &[Step]) -> Pair {
    for step in steps {
        let event = step(&pair);
        pair.tell(side, event).unwrap();
    }
    pair
}

fn table(side: Side, rows: &[Row], columns: &[Column]) -> String {
    let line = |name: &str, cells: Vec<String>| {
        let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:<7}")).collect();
        format!("{name:<15}{}", cells.concat()).trim_end().to_owned() + "\n"
    };
    let columns = || columns.iter().chain(&COMMON);
    let mut table = "\n".to_owned() + &line("", columns().map(|(name, _)| (*name).to_owned()).collect());
    for (name, begin, steps) in rows {
        let cell = |(_, event): &Column| {
            let mut pair = after(side, begin(), steps);
            let event = event(&pair);
            let actions = pair.tell(side, event);
            let stage = match side {
                Side::Payer => pair.payer.stage(),
                Side::Payee => pair.payee.stage(),
            };
            actions.map_or("-".to_owned(), |actions| {
                letter(stage).to_owned() + &kinds(&actions)
            })
        };
        table += &line(name, columns().map(cell).collect());
    }
    table
}

const fn letter(stage: Stage) -> &'static str {
    match stage {
        Stage::Protected => "P",
        Stage::AwaitingFunding => "A",
        Stage::Open => "O",
        Stage::Closing => "C",
        Stage::Closed => "X",
        Stage::Proposing | Stage::SigningRefund => "?",
    }
}

fn kinds(actions: &[Action]) -> String {
    let kind = |action: &Action| match action {
        Action::Send(_) => 's',
        Action::Broadcast { .. } | Action::BroadcastPackage { .. } => 'b',
        Action::Notify(_) => 'n',
        _ => '?',
    };
    actions.iter().map(kind).collect()
}

fn taproot() -> Case {
    Case::new(Example7).on(Construction::Taproot)
}

/// The payer has let go of the funding transaction, and nothing has followed from that.
fn released(protocol: Protocol) -> Pair {
    let case = Case::new(protocol);
    let mut pair = case.funded();
    pair.payer = case.released().0;
    pair.network.payer = Some(pair.payer.state());
    pair
}

fn open(case: Case) -> Pair {
    case.paying(&[1_000]).open()
}

/// The payer has paid 1,000, which are acknowledged, and 1,000, which are not.
fn paying(case: Case) -> Pair {
    let mut pair = open(case);
    pair.poll(Side::Payer, 3, None).unwrap();
    pair.tell(Side::Payer, Event::Pay(sat(1_000))).unwrap();
    pair
}

fn payer_rows() -> Vec<Row> {
    vec![
        ("protected", || released(Bond), &[]),
        ("funding", || released(SteppedLocktime), &[]),
        ("awaiting", || Case::new(Bond).funded(), &[]),
        ("open", || paying(Case::new(Bond)), &[]),
        ("suspended", || paying(Case::new(Bond)), &[LOST]),
        ("suspended E", || paying(Case::new(Example7)), &[LOST]),
        ("suspended S", || paying(Case::new(SteppedLocktime)), &[LOST]),
        ("asked", || paying(taproot()), &[CLOSE]),
        ("asked, closed", || paying(taproot()), &[CLOSE, CLOSED]),
        ("asked, spent", || paying(taproot()), &[CLOSE, SPENT]),
        ("asked, told", || paying(taproot()), &[CLOSE, ASK]),
        ("closing", || paying(Case::new(Bond)), &[CLOSE]),
        ("unfunded", || released(SteppedLocktime), &[REJECT]),
        ("unfunded, deep", || released(SteppedLocktime), &[REJECT, DEEP]),
        ("abandoned", || released(SteppedLocktime), &[REJECT, CLOSE]),
        ("closed", || paying(Case::new(Bond)), &[ENDED]),
        ("closed, kept", || released(SteppedLocktime), &[ENDED]),
    ]
}

/// Every state of these tables, and what each becomes by each event.
#[cfg(feature = "service")]
pub fn every_state() -> impl Iterator<Item = (String, Side, Pair)> {
    let payer = payer_rows()
        .into_iter()
        .map(|row| (Side::Payer, row, PAYER_COLUMNS));
    let payee = payee_rows()
        .into_iter()
        .map(|row| (Side::Payee, row, PAYEE_COLUMNS));
    payer
        .chain(payee)
        .flat_map(|(side, (name, begin, steps), columns)| {
            let begins = std::iter::once((name.to_owned(), side, after(side, begin(), steps)));
            begins.chain(columns.into_iter().chain(COMMON).map(move |(event, step)| {
                let mut pair = after(side, begin(), steps);
                let event_of = step(&pair);
                // A refused event leaves the state as it was.
                let _ = pair.tell(side, event_of);
                (format!("{name}, {event}"), side, pair)
            }))
        })
}

const PAYER_COLUMNS: [Column; 6] = [
    ("ready", |p| message(p, Message::Ready)),
    ("accept", |p| {
        message(p, Message::PaymentAccepted { paid: sat(2_000) })
    }),
    ("wants", |p| {
        message(p, Message::PaymentRequest { paid: sat(3_000) })
    }),
    ("closed", CLOSED),
    ("pay", |_| Event::Pay(sat(1_000))),
    ("away", |_| Event::PeerAway),
];

#[test]
fn of_the_payer() {
    let table = table(Side::Payer, &payer_rows(), &PAYER_COLUMNS);
    assert!(table == PAYER, "{table}");
}

/// A process that goes on with what was stored answers every event as the one before it would have, once both see the same
/// chain. But a nonce dies with its process: the payee asks again, where the one before it waited for an answer.
#[test]
fn a_restored_party_answers_as_the_one_that_died() {
    let mut differences = Vec::new();
    for (side, rows, columns) in [
        (Side::Payer, payer_rows(), &PAYER_COLUMNS),
        (Side::Payee, payee_rows(), &PAYEE_COLUMNS),
    ] {
        for (name, begin, steps) in &rows {
            for (chain, look) in [("lost", LOST), ("deep", DEEP), ("spent", SPENT), ("ended", ENDED)] {
                for (event, step) in columns.iter().chain(&COMMON) {
                    let mut survivor = after(side, begin(), steps);
                    let mut restored = after(side, begin(), steps);
                    restart(&mut restored, side);
                    let answer = |pair: &mut Pair| {
                        let seen = look(pair);
                        pair.tell(side, seen).unwrap();
                        let event = step(pair);
                        pair.tell(side, event)
                    };
                    let answers = [answer(&mut survivor), answer(&mut restored)];
                    let awaits_partial = format!("{:?}", survivor.payee).contains("SecretNonce");
                    if awaits_partial && *event == "ask" {
                        assert_eq!(kinds(answers[1].as_ref().unwrap()), "s", "{name}, {chain}");
                    } else if answers[0] != answers[1] {
                        differences.push(format!("{name}, {chain}, {event}: {answers:?}"));
                    }
                    let stored = [survivor, restored].map(|pair| (pair.network.payer, pair.network.payee));
                    if stored[0] != stored[1] {
                        differences.push(format!("{name}, {chain}, {event}: {stored:?}"));
                    }
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The user's wallet may broadcast the bond before the payee requests it.
#[test]
fn a_bond_that_is_in_the_chain_is_still_handed_over() {
    let mut pair = after(Side::Payer, released(Bond), &[DEEP]);
    let request = message(&pair, Message::FundingRequest);
    assert_eq!(kinds(&pair.tell(Side::Payer, request).unwrap()), "s");
    let again = message(&pair, Message::FundingRequest);
    assert!(pair.tell(Side::Payer, again).is_err());
}

const BLIND: Step = |_| Event::Blind(None);
const PAID: Step = |p| message(p, p.payment(held(p) + 1_000, "payer"));

fn payee_rows() -> Vec<Row> {
    vec![
        ("awaiting", || Case::new(Bond).funded(), &[]),
        ("open", || open(Case::new(Bond)), &[]),
        ("suspended", || open(Case::new(Bond)), &[LOST]),
        ("asked", || open(taproot()), &[CLOSE]),
        ("asked, parked", || open(taproot()), &[CLOSE, BLIND, PAID]),
        ("asked early", || taproot().funded(), &[CLOSE]),
        ("asked for two", || open(Case::new(SteppedLocktime)), &[CLOSE]),
        ("spent", || Case::new(Bond).open(), &[SPENT]),
        ("spared", || Case::new(Bond).open(), &[SPENT, DEEP]),
        ("spared early", || Case::new(Bond).funded(), &[SPENT, DEEP]),
        ("settling", || open(Case::new(Example7)), &[CLOSE]),
        ("cooperative", cooperative, &[]),
        ("closed", || open(Case::new(Bond)), &[ENDED]),
    ]
}

const PAYEE_COLUMNS: [Column; 6] = [
    ("paid", PAID),
    ("settle", |p| message(p, p.settlement(held(p), "payer"))),
    ("wants", |_| Event::RequestPayment(sat(1_000))),
    ("gone", |_| Event::PeerGone),
    ("away", |_| Event::PeerAway),
    ("blind", BLIND),
];

#[test]
fn of_the_payee() {
    let table = table(Side::Payee, &payee_rows(), &PAYEE_COLUMNS);
    assert!(table == PAYEE, "{table}");
}

/// The payee has the settlement with one signature.
fn cooperative() -> Pair {
    let mut pair = open(taproot());
    pair.apply(Side::Payer, Event::Close).unwrap();
    pair
}

/// A block with another's spend may vanish. A nonce is made once, so the one that the payer was told must stay good.
#[test]
fn a_spend_does_not_cost_the_payee_its_nonce() {
    let mut pair = open(taproot());
    let asked = says(&mut pair, Side::Payee, Event::Close);
    let mut pair = after(Side::Payee, pair, &[|p| view(p, 5, 3, Some(1)), DEEP]);
    pair.apply(Side::Payer, Event::Message(asked[0].clone())).unwrap();
    assert!(pair.payee.settlement().unwrap().is_cooperative());
}

/// A channel is not resumed yet: every state refuses what would resume it.
#[test]
fn hello_resume_and_resumed_are_unexpected() {
    let signature = UnverifiedSignature::from_compact([1; 64]);
    let resume = Resume {
        funding: OutPoint::null(),
        signed: sat(0),
        acknowledged: None,
    };
    let resumed = Resumed {
        latest_payment: None,
        state: ResumedState::Open,
    };
    let messages = [
        Message::Hello {
            versions: VersionRange::new(1, 1).unwrap(),
            features: Features::RESUME,
            random: [1; 32],
        },
        Message::Resume(Unverified {
            claim: resume,
            proof: signature,
        }),
        Message::Resumed(Unverified {
            claim: resumed,
            proof: signature,
        }),
    ];
    let states: [fn() -> Pair; 6] = [
        || released(Bond),
        || Case::new(Bond).funded(),
        || open(Case::new(Bond)),
        || {
            after(
                Side::Payee,
                after(Side::Payer, open(taproot()), &[CLOSE]),
                &[CLOSE],
            )
        },
        || after(Side::Payee, open(Case::new(Example7)), &[CLOSE]),
        || {
            after(
                Side::Payee,
                after(Side::Payer, open(Case::new(Bond)), &[ENDED]),
                &[ENDED],
            )
        },
    ];
    for begin in states {
        for sent in &messages {
            for side in [Side::Payer, Side::Payee] {
                let mut pair = begin();
                let event = message(&pair, sent.clone());
                let Err(ApplyError::Refused(refusal)) = pair.tell(side, event) else {
                    panic!("{side:?} accepts {}", sent.kind());
                };
                assert_eq!(refusal.reason(), RefusalReason::UnexpectedMessage, "{refusal}");
            }
        }
    }
}
