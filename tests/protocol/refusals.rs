//! What a peer can get wrong that the catalogue of forgeries does not have, since it depends on limits, the tip, or what
//! happened before: one table. Each row takes the message that an honest peer would send at some stage, changes it in one
//! way, and says how the receiver has to refuse it, on every construction on which that can happen.

mod rows;
mod scene;

use std::cell::Cell;
use std::convert::Infallible;

use bitcoin::{OutPoint, Transaction};
use spilman::channel::{
    Action, ApplyError, ChannelParams, Construction, Envelope, Event, Message, MessageKind, Refusal,
    RefusalReason, Stage,
};
use spilman::sim::{self, Network, SimError};

use self::rows::ROWS;
use self::scene::{bare, other_output, tx, Row, World};
use crate::adversary::catalogue;
use crate::pair::{payout, sat, Case, Side, Sign};
use crate::refusal_keeps_state::{assert_none, Before};
use Side::{Payee, Payer};
use Stage::{AwaitingFunding, Closing, Proposing, Protected, SigningRefund};

/// Takes the honest message of the row's stage, mutates it, delivers it.
fn refuse(row: &Row, case: &Case) -> Refusal {
    let kind = match (row.by, row.at) {
        (Payee, Proposing) => MessageKind::Open,
        (Payer, Proposing) => MessageKind::Accept,
        (Payee, SigningRefund) => MessageKind::RefundRequest,
        (Payer, SigningRefund) => MessageKind::RefundSignature,
        (Payee, Protected) => MessageKind::Funding,
        (by, at) => return refuse_running(row, by, walk(case, at)),
    };
    let world = World {
        params: params(case),
        pair: None,
    };
    let delivered = Cell::new(None);
    let spoiled = Spoiled {
        row,
        kind,
        world,
        delivered: &delivered,
    };
    match sim::Pair::funded(case.setup(), spoiled, |output| case.funding(output)) {
        Err(SimError::Refused { by, kind, refusal }) if by == row.by && delivered.get() == Some(kind) => {
            refusal
        }
        other => panic!("{}: {other:?}", row.name),
    }
}

/// An opening in which the message of this kind is the row's.
#[derive(Debug)]
struct Spoiled<'a> {
    row: &'a Row,
    kind: MessageKind,
    world: World,
    /// What became of it: the refusal must be of this message, not of a later one.
    delivered: &'a Cell<Option<MessageKind>>,
}

impl Network for Spoiled<'_> {
    type Error = Infallible;

    fn deliver(&mut self, _: Side, mut envelope: Envelope) -> Result<Option<Envelope>, Infallible> {
        if envelope.message.kind() == self.kind {
            (self.row.mutation)(&mut self.world, &mut envelope);
            self.delivered.set(Some(envelope.message.kind()));
        }
        Ok(Some(envelope))
    }
}

fn params(case: &Case) -> ChannelParams {
    case.agreed().0.params().clone()
}

fn walk(case: &Case, at: Stage) -> World {
    let mut pair = if at == AwaitingFunding {
        case.funded()
    } else {
        case.open()
    };
    if at == Closing {
        pair.tell(Payer, Event::Close).unwrap();
        pair.tell(Payee, Event::Close).unwrap();
    }
    World {
        params: params(case),
        pair: Some(pair),
    }
}

fn refuse_running(row: &Row, by: Side, mut world: World) -> Refusal {
    let pair = world.pair();
    let message = match by {
        Payee => {
            let paid = pair.payee.paid().to_sat() + 100;
            pair.payment(paid, "payer")
        }
        Payer => Message::PaymentAccepted {
            paid: pair.payer.paid(),
        },
    };
    let mut envelope = Envelope {
        channel: pair.payer.params().id(),
        message,
    };
    (row.mutation)(&mut world, &mut envelope);
    let pair = world.pair();
    assert_eq!(
        [pair.payee.stage(), pair.payer.stage()][usize::from(by == Payer)],
        row.at,
        "{}",
        row.name
    );
    let before = Before::of(pair);
    let refused = pair.tell(by, Event::Message(envelope));
    let refusal = refusal(row, refused);
    before.assert_kept(pair, by, &refusal, row.name);
    refusal
}

fn refusal(row: &Row, result: Result<Vec<Action>, ApplyError>) -> Refusal {
    match result.expect_err(row.name) {
        ApplyError::Refused(refusal) => refusal,
        error => panic!("{}: {error}", row.name),
    }
}

/// The row's words, with this channel's sums.
fn says(row: &Row, case: &Case) -> Vec<String> {
    let params = params(case);
    let (spendable, refund) = (params.spendable(), params.refund_amount());
    let sums = [
        ("{spendable}", spendable),
        ("{above}", spendable + sat(1)),
        ("{refund}", refund),
        ("{less}", refund - sat(1)),
    ];
    let filled = |words: &&str| {
        let sum = sums.iter().find(|(name, _)| name == words);
        sum.map_or_else(|| (*words).to_owned(), |(_, sum)| sum.to_string())
    };
    row.says.iter().map(filled).collect()
}

#[test]
fn every_wrong_message_is_refused_by_name_and_changes_nothing() {
    let mut wrong = Vec::new();
    let mut played = 0;
    for row in ROWS {
        assert_ne!(row.cases().count(), 0, "{} is on no construction", row.name);
        for case in row.cases() {
            played += 1;
            let refusal = refuse(row, &case);
            let (text, says) = (refusal.to_string(), says(row, &case));
            if refusal.reason() != row.reason || !says.iter().all(|words| text.contains(words)) {
                let (at, reason) = (case.name(), refusal.reason());
                wrong.push(format!(
                    "{} ({at}): {reason} ({text}), not {} {says:?}",
                    row.name, row.reason
                ));
            }
        }
    }
    assert_none(&wrong, played);
}

/// Table and catalogue leave no reason out.
#[test]
fn every_reason_is_known() {
    let catalogue = catalogue().map(|forgery| forgery.reason);
    let known: Vec<_> = catalogue.chain(ROWS.iter().map(|row| row.reason)).collect();
    for reason in RefusalReason::OF_MESSAGES {
        let elsewhere = matches!(
            reason,
            // Behind the signature check; nothing that passes it is known to fail, see src/channel/script_check.rs.
            RefusalReason::SpendInvalid
            // Of connections, before a party has the message: tests/service/manager.rs.
            | RefusalReason::NoCommonVersion
            | RefusalReason::ChannelBusy
        );
        assert_ne!(known.contains(reason), elsewhere, "{reason}");
    }
}

/// The payee knows the funding transaction by its hash when it signs the refund. Afterwards the payer hands
/// over what the hash stands for, and it is not what was agreed.
#[test]
fn a_refund_of_a_worthless_funding_transaction() {
    type Spoil = fn(&ChannelParams, &mut Transaction, &mut u32);
    #[rustfmt::skip]
    let rows: [(&str, Spoil, &[&str]); 6] = [
        ("a satoshi less", |_, tx, _| tx.output[0].value -= sat(1), &["0.00999999", "0.01000000"]),
        ("a satoshi more", |_, tx, _| tx.output[0].value += sat(1), &["0.01000001", "0.01000000"]),
        ("the payer's own script", |_, tx, _| tx.output[0].script_pubkey = payout("payer"), &["OP_0 OP_PUSHBYTES_20", "expected"]),
        (
            "the keys in the other order",
            |params, tx, _| tx.output[0].script_pubkey = other_output(params, params.terms(), true),
            &["the funding output has the script", "expected"],
        ),
        (
            "an output with the payer's refund in the script",
            |params, tx, _| {
                let other = params.terms().clone().on(Construction::Cltv);
                tx.output[0].script_pubkey = other_output(params, &other, false);
            },
            &["the funding output has the script OP_0", "expected"],
        ),
        ("an output that does not exist", |_, _, vout| *vout = 2, &["output 2", "2 outputs"]),
    ];
    let on = Construction::ALL.into_iter().filter(|on| scene::co_signed(*on));
    for (construction, (name, spoil, says)) in on.flat_map(|on| rows.map(|row| (on, row))) {
        let case = bare().on(construction);
        let (_payer, payee, mut request) = case.held();
        let mut funding = case.funding(payee.params().funding_output());
        let mut vout = 0;
        spoil(payee.params(), &mut funding, &mut vout);
        tx(&mut request).input[0].previous_output = OutPoint::new(funding.compute_txid(), vout);
        let (payee, _) = payee.sign_refund(request, case.now).unwrap();
        let message = Message::Funding { tx: funding };
        let refusal = payee
            .receive_funding(Envelope {
                channel: case.id,
                message,
            })
            .expect_err(name);
        let text = refusal.to_string();
        let at = format!("{name}, {}", case.name());
        assert_eq!(refusal.reason(), RefusalReason::FundingMismatch, "{at}: {text}");
        assert!(
            says.iter().all(|words| text.contains(words)),
            "{at}: {text}, not {says:?}"
        );
    }
}

/// A slip of the payer's own wallet: the capacity would be locked without a refund.
#[test]
fn the_payer_does_not_hold_a_transaction_that_does_not_fund_the_channel() {
    for construction in Construction::ALL {
        let case = bare().on(construction);
        let with = |change: fn(&mut Transaction)| {
            let payer = case.agreed().0;
            let mut tx = case.funding(payer.funding_output());
            change(&mut tx);
            payer.fund(tx).unwrap_err().to_string()
        };
        let missing = with(|tx| tx.output[0].value -= sat(1));
        assert!(
            missing.contains("no output of 0.01000000 BTC"),
            "{construction}: {missing}"
        );
        let twice = with(|tx| tx.output[1] = tx.output[0].clone());
        assert_eq!(twice, "outputs 0 and 1 both fund the channel", "{construction}");
    }
}
