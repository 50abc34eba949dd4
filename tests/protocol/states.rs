//! What a party in each state answers to each event. Several states are one stage to its user, and differ here.
//!
//! A cell is `-` if the event is refused. Otherwise it is the stage afterwards (Protected, Awaiting funding, Open, Closing,
//! closed: X), and what the party does: sends, broadcasts, notifies.

use bitcoin::hashes::Hash;
use bitcoin::Txid;
use spilman::channel::{
    Action, ApplyError, BroadcastResult, ChainView, Construction, Envelope, Event, Message, Payer, Protocol,
    RefusalReason, SeenSpend, SpendRole, Stage, Terms, SETTLED_DEPTH,
};

use crate::pair::{sat, says, tip, Case, Inspect, Pair, Side, Sign, HEIGHT, MTP};
use Protocol::{Bond, Example7, SteppedLocktime};

const PAYER: &str = "
               ready  accept wants  ask    closed refuse pay    close  relay  reject lost   deep   spent  final
protected      -      -      -      -      -      Xnn    -      Xn     Ps     Cn     P      P      C      Xn
funding        On     -      -      Cs     -      Cn     -      Cs     As     Cn     Ab     A      C      Xn
awaiting       On     -      -      Cs     -      Cn     -      Cs     A      An     Anb    A      C      Xn
open           O      On     On     Cs     Cn     Cn     Os     Cs     O      On     An     O      C      Xn
suspended      On     An     A      Cs     Cn     Cn     -      Cs     A      An     Anb    On     C      Xn
suspended E    On     An     -      Cs     Cn     Cn     -      Cs     A      An     Anb    On     C      Xn
suspended S    On     An     -      Cs     Cn     Cn     -      Cs     A      An     Ab     On     C      Xn
asked          C      Cn     -      Cs     Cn     Cn     -      Cs     C      Cn     C      C      C      Xn
asked, closed  C      Cn     -      Cs     Cn     Cn     -      Cs     C      Cn     C      C      C      Xn
asked, spent   C      Cn     -      Cs     Cn     Cn     -      Cs     C      Cn     C      C      C      Xn
asked, told    C      Cn     -      Cs     Cn     Cn     -      -      C      Cn     C      C      C      Xn
closing        C      Cn     C      C      Cn     Cn     -      -      C      Cn     C      C      C      Xn
unfunded       C      -      -      C      Cn     Cn     -      Xn     Cs     Cn     C      C      C      Xn
closed         -      -      -      -      -      Xn     -      -      X      Xn     X      X      X      X
";

const PAYEE: &str = "
               pay    settle ask    refuse wants  close  gone   relay  reject lost   deep   spent  final  blind
awaiting       -      Cb     -      An     -      Cs     Xn     A      An     Ab     Osn    C      Xn     A
open           Osn    Cb     -      On     Os     Cb     O      O      On     Anb    O      Cb     Xn     O
suspended      A      Cb     -      An     -      Cb     A      A      An     Ab     Osn    Cb     Xn     A
asked          Csn    Cb     C      Cn     -      Cb     Cb     C      Cn     Cb     C      Cb     Xn     C
asked, parked  C      Cb     C      Cn     -      Cb     Cb     C      Cn     Cb     Csn    Cb     Xn     C
asked early    -      Cb     C      Cn     -      -      Xn     C      Cn     Cb     C      C      Xn     C
asked for two  Csn    Cb     -      Cn     -      -      C      C      Cn     Cb     C      C      Xn     C
spent          -      Cb     -      Cn     -      -      C      C      Cn     Cb     C      C      Xn     C
spared         Csn    Cb     -      Cn     -      -      Xn     C      Cn     Cb     C      C      Xn     C
spared early   -      Cb     -      Cn     -      -      Xn     C      Cn     Cb     C      C      Xn     C
settling       -      C      -      Cn     -      -      C      C      Cn     Cbb    Cb     Cb     Xn     Cb
cooperative    -      C      C      Cn     -      Cb     C      C      Cn     Cbb    Cb     Cb     Xn     Cb
closed         -      -      -      Xn     -      -      X      X      Xn     X      X      X      X      X
";

type Row<P> = (&'static str, fn() -> P);
type Column<P> = (&'static str, fn(&P) -> Event);

fn table<P>(
    rows: &[Row<P>],
    columns: &[Column<P>],
    apply: fn(&mut P, Event) -> Result<Vec<Action>, ApplyError>,
    stage: fn(&P) -> Stage,
) -> String {
    let line = |name: &str, cells: Vec<String>| {
        let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:<7}")).collect();
        format!("{name:<15}{}", cells.concat()).trim_end().to_owned() + "\n"
    };
    let mut table = "\n".to_owned() + &line("", columns.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, make) in rows {
        let cell = |(_, event): &Column<P>| {
            let mut party = make();
            let event = event(&party);
            match apply(&mut party, event) {
                Ok(actions) => letter(stage(&party)).to_owned() + &kinds(&actions),
                Err(_) => "-".to_owned(),
            }
        };
        table += &line(name, columns.iter().map(cell).collect());
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

fn message(payer: &Payer, message: Message) -> Event {
    let channel = payer.params().id();
    Event::Message(Envelope { channel, message })
}

fn ask() -> Message {
    Message::CloseRequest {
        feerate: Terms::FEERATE,
        nonce: None,
    }
}

fn refuse() -> Message {
    let reason = RefusalReason::UnexpectedMessage;
    Message::Refuse { reason }
}

fn closed() -> Message {
    let txid = Txid::all_zeros();
    Message::Closed { txid }
}

/// The node's answer to the funding transaction.
fn answer(payer: &Payer, rejected: Option<&str>) -> Event {
    Event::Broadcast(BroadcastResult {
        rejected: rejected.map(str::to_owned),
        ..BroadcastResult::accepted(SpendRole::Funding, payer.funding().tx())
    })
}

/// The chain this many blocks after the opening; the refund is what spends, if anything does.
fn view(payer: &Payer, blocks: u32, confirmations: u32, refund: Option<u32>) -> Event {
    Event::Chain(ChainView {
        tip: tip(HEIGHT + blocks, MTP),
        confirmations,
        funding_parent: (confirmations > 0).then(|| tip(HEIGHT, MTP)),
        spend: refund.map(|confirmations| SeenSpend {
            tx: payer.refund().tx().clone(),
            confirmations,
        }),
    })
}

/// It has paid 1,000, which are acknowledged, and 1,000, which are not.
fn paying(case: &Case) -> Payer {
    let mut pair = case.clone().paying(&[1_000]).open();
    pair.poll(Side::Payer, 3, None).unwrap();
    pair.tell(Side::Payer, Event::Pay(sat(1_000))).unwrap();
    pair.payer
}

fn after(mut payer: Payer, events: &[fn(&Payer) -> Event]) -> Payer {
    for event in events {
        let event = event(&payer);
        payer.apply(event).unwrap();
    }
    payer
}

fn taproot() -> Case {
    Case::new(Example7).on(Construction::Taproot)
}

#[test]
fn of_the_payer() {
    let rows: &[Row<Payer>] = &[
        ("protected", || Case::new(Bond).released().0),
        ("funding", || Case::new(SteppedLocktime).released().0),
        ("awaiting", || Case::new(Bond).funded().payer),
        ("open", || paying(&Case::new(Bond))),
        ("suspended", || {
            after(paying(&Case::new(Bond)), &[|p| view(p, 5, 0, None)])
        }),
        ("suspended E", || {
            after(paying(&Case::new(Example7)), &[|p| view(p, 5, 0, None)])
        }),
        ("suspended S", || {
            after(paying(&Case::new(SteppedLocktime)), &[|p| view(p, 5, 0, None)])
        }),
        ("asked", || after(paying(&taproot()), &[|_| Event::Close])),
        ("asked, closed", || {
            after(paying(&taproot()), &[|_| Event::Close, |p| message(p, closed())])
        }),
        ("asked, spent", || {
            after(
                paying(&taproot()),
                &[|_| Event::Close, |p| view(p, 5, 3, Some(0))],
            )
        }),
        ("asked, told", || {
            after(paying(&taproot()), &[|_| Event::Close, |p| message(p, ask())])
        }),
        ("closing", || after(paying(&Case::new(Bond)), &[|_| Event::Close])),
        ("unfunded", || {
            after(
                Case::new(SteppedLocktime).released().0,
                &[|p| answer(p, Some("no"))],
            )
        }),
        ("closed", || {
            after(
                paying(&Case::new(Bond)),
                &[|p| view(p, 5, 3, Some(SETTLED_DEPTH))],
            )
        }),
    ];
    let columns: &[Column<Payer>] = &[
        ("ready", |p| message(p, Message::Ready)),
        ("accept", |p| {
            message(p, Message::PaymentAccepted { paid: sat(2_000) })
        }),
        ("wants", |p| {
            message(p, Message::PaymentRequest { paid: sat(3_000) })
        }),
        ("ask", |p| message(p, ask())),
        ("closed", |p| message(p, closed())),
        ("refuse", |p| message(p, refuse())),
        ("pay", |_| Event::Pay(sat(1_000))),
        ("close", |_| Event::Close),
        ("relay", |p| answer(p, None)),
        ("reject", |p| answer(p, Some("no"))),
        ("lost", |p| view(p, 6, 0, None)),
        ("deep", |p| view(p, 6, 3, None)),
        ("spent", |p| view(p, 6, 3, Some(0))),
        ("final", |p| view(p, 6, 3, Some(SETTLED_DEPTH))),
    ];
    let table = table(rows, columns, Payer::apply, Payer::stage);
    assert!(table == PAYER, "{table}");
}

/// The sum that a settlement is for.
fn held(pair: &Pair) -> u64 {
    pair.redeemable()
        .map_or(0, |payment| payment.balance().paid.to_sat())
}

fn then(mut pair: Pair, events: &[fn(&Pair) -> Event]) -> Pair {
    for event in events {
        let event = event(&pair);
        pair.tell(Side::Payee, event).unwrap();
    }
    pair
}

fn open(case: Case) -> Pair {
    case.paying(&[1_000]).open()
}

#[test]
fn of_the_payee() {
    let rows: &[Row<Pair>] = &[
        ("awaiting", || Case::new(Bond).funded()),
        ("open", || open(Case::new(Bond))),
        ("suspended", || {
            then(open(Case::new(Bond)), &[|p| view(&p.payer, 5, 0, None)])
        }),
        ("asked", || then(open(taproot()), &[|_| Event::Close])),
        ("asked, parked", || {
            then(
                open(taproot()),
                &[
                    |_| Event::Close,
                    |_| Event::Blind(None),
                    |p| message(&p.payer, p.payment(2_000, "payer")),
                ],
            )
        }),
        ("asked early", || then(taproot().funded(), &[|_| Event::Close])),
        ("asked for two", || {
            then(open(Case::new(SteppedLocktime)), &[|_| Event::Close])
        }),
        ("spent", || {
            then(Case::new(Bond).open(), &[|p| view(&p.payer, 5, 3, Some(0))])
        }),
        ("spared", || {
            then(
                Case::new(Bond).open(),
                &[|p| view(&p.payer, 5, 3, Some(0)), |p| view(&p.payer, 5, 3, None)],
            )
        }),
        ("spared early", || {
            then(
                Case::new(Bond).funded(),
                &[|p| view(&p.payer, 5, 3, Some(0)), |p| view(&p.payer, 5, 3, None)],
            )
        }),
        ("settling", || {
            then(open(Case::new(Example7)), &[|_| Event::Close])
        }),
        ("cooperative", || {
            let mut pair = open(taproot());
            pair.apply(Side::Payer, Event::Close).unwrap();
            pair
        }),
        ("closed", || {
            then(
                open(Case::new(Bond)),
                &[|p| view(&p.payer, 5, 3, Some(SETTLED_DEPTH))],
            )
        }),
    ];
    let columns: &[Column<Pair>] = &[
        ("pay", |p| message(&p.payer, p.payment(held(p) + 1_000, "payer"))),
        ("settle", |p| message(&p.payer, p.settlement(held(p), "payer"))),
        ("ask", |p| message(&p.payer, ask())),
        ("refuse", |p| message(&p.payer, refuse())),
        ("wants", |_| Event::RequestPayment(sat(1_000))),
        ("close", |_| Event::Close),
        ("gone", |_| Event::PeerGone),
        ("relay", |p| answer(&p.payer, None)),
        ("reject", |p| answer(&p.payer, Some("no"))),
        ("lost", |p| view(&p.payer, 6, 0, None)),
        ("deep", |p| view(&p.payer, 6, 3, None)),
        ("spent", |p| view(&p.payer, 6, 3, Some(0))),
        ("final", |p| view(&p.payer, 6, 3, Some(SETTLED_DEPTH))),
        ("blind", |_| Event::Blind(Some(tip(HEIGHT + 5, MTP)))),
    ];
    let apply = |pair: &mut Pair, event| pair.tell(Side::Payee, event);
    let table = table(rows, columns, apply, |pair| pair.payee.stage());
    assert!(table == PAYEE, "{table}");
}

/// A spend by another may vanish. A nonce is made once, so the one that the payer was told must stay good.
#[test]
fn a_spend_does_not_cost_the_payee_its_nonce() {
    let mut pair = open(taproot());
    let asked = says(&mut pair, Side::Payee, Event::Close);
    let mut pair = then(
        pair,
        &[|p| view(&p.payer, 5, 3, Some(1)), |p| view(&p.payer, 6, 3, None)],
    );
    pair.apply(Side::Payer, Event::Message(asked[0].clone())).unwrap();
    assert!(pair.payee.settlement().unwrap().is_cooperative());
}
