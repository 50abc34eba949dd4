//! A settlement that pays more than was agreed at the opening, if both agree.

use bitcoin::{Amount, FeeRate};
use spilman::channel::{
    ApplyError, CommandError, Construction, Event, Message, PaymentError, Refusal, SettlementTx, Stage, Terms,
};
use spilman::regtest::{Regtest, RejectReason};

use super::{cast, per_vb, sat, start, Channel, Side};

/// What the payer of these channels agrees to.
fn limit() -> FeeRate {
    per_vb(50)
}

fn open(chain: &Regtest, construction: Construction) -> Channel {
    let mut case = cast(chain, construction);
    case.setup.payer.limits.settlement_feerate = limit();
    case.open(chain)
}

/// The settlement is in the mempool, pays what was paid, and this feerate: exactly that with signatures of the largest
/// size, hardly more with shorter ones.
#[track_caller]
fn check(chain: &Regtest, channel: &Channel, settlement: &SettlementTx, paid: Amount, feerate: FeeRate) {
    let (at, tx) = (channel.construction(), settlement.tx());
    assert_eq!(
        chain.node().mempool().expect("mempool"),
        [tx.compute_txid()],
        "{at}: {:?}",
        channel.pair.network.broadcasts
    );
    let fee = channel.fee(tx);
    // Two signatures can be short by a byte or two each, and in P2SH one is four weight units.
    let longest = tx.weight() + bitcoin::Weight::from_wu(if at.closes_with_one_key() { 0 } else { 6 * 4 });
    let (least, most) = (feerate.fee_wu(tx.weight()), feerate.fee_wu(longest));
    assert!(
        Some(fee) >= least && Some(fee) <= most,
        "{at}: {fee}, not {least:?} to {most:?}"
    );
    assert_eq!(fee, settlement.balance().fee_on_chain(), "{at}");
    let change = channel.params().terms().capacity.to_amount() - fee - paid;
    assert_eq!(
        tx.output,
        [channel.to_payer(change), channel.to_payee(paid)],
        "{at}: the payer's change pays for it"
    );
    chain.mine(1).expect("a block");
}

/// 1. The payee asks for 20 sat/vB, which is within what the payer agrees to.
/// 2. Another asks for 80, and is granted 50.
/// 3. A third is asked by the payer, which may settle at what it likes.
#[test]
fn a_settlement_pays_more_if_both_agree() {
    let chain = start();
    let paid = sat(300_000);
    for construction in Construction::ALL {
        for (asked, granted) in [
            (per_vb(20), per_vb(20)),
            (limit(), limit()),
            (per_vb(80), limit()),
        ] {
            let mut channel = open(&chain, construction);
            channel.pay(paid);
            let settlement = channel.close_at(asked);
            check(&chain, &channel, &settlement, paid, granted);
        }
        let mut channel = open(&chain, construction);
        channel.pay(paid);
        channel
            .tell(Side::Payer, Event::CloseAt(per_vb(80)))
            .expect("the payer can close");
        let settlement = channel.pair.payee.settlement().expect("settled").clone();
        check(&chain, &channel, &settlement, paid, per_vb(80));
    }
}

/// The channels hold 20,000 satoshi, of which 16,000 are paid: at 50 sat/vB a settlement costs more than the rest.
///
/// 1. Neither side's user can ask for it.
/// 2. If the payee asks nevertheless, the payer signs at the agreed feerate.
#[test]
fn change_that_cannot_pay_grants_the_agreed_feerate() {
    let chain = start();
    let paid = sat(16_000);
    for construction in Construction::ALL {
        let mut case = cast(&chain, construction);
        case.setup.terms.capacity = spilman::channel::Capacity::new(sat(20_000)).expect("a capacity");
        case.setup.payer.limits.settlement_feerate = limit();
        let mut channel = case.open(&chain);
        channel.pay(paid);
        let asked = Event::CloseAt(limit());
        for side in [Side::Payer, Side::Payee] {
            let refused = channel.tell(side, asked.clone());
            let error = CommandError::SettlementFeerate {
                paid,
                feerate: limit(),
                change: sat(4_000),
            };
            assert_eq!(refused, Err(error.into()), "{construction} {side:?}");
        }

        // Without a nonce, the answer of a channel with one key is one with two signatures.
        let request = Message::CloseRequest {
            feerate: limit(),
            nonce: None,
        };
        channel.hear(Side::Payer, request).expect("heard");
        assert_eq!(channel.refused, [], "{construction}");
        let settlement = channel.pair.payee.settlement().expect("settled").clone();
        check(&chain, &channel, &settlement, paid, Terms::FEERATE);
    }
}

/// A settlement for less than was agreed may never confirm.
///
/// 1. Neither side's user can ask for one.
/// 2. The payer refuses to sign one.
/// 3. The payee refuses one that the payer signed: the same message, but for the feerate.
#[test]
fn no_one_settles_below_the_agreed_feerate() {
    let chain = start();
    let (agreed, low) = (Terms::FEERATE, per_vb(1));
    let refused = Refusal::Payment(PaymentError::SettlementFeerate {
        expected: agreed,
        received: low,
    });
    for construction in Construction::ALL {
        let mut channel = open(&chain, construction);
        let paid = sat(300_000);
        channel.pay(paid);
        for side in [Side::Payer, Side::Payee] {
            let answer = channel.tell(side, Event::CloseAt(low));
            let error = matches!(
                answer,
                Err(ApplyError::Command(CommandError::SettlementFeerate { feerate, .. })) if feerate == low
            );
            assert!(error, "{construction} {side:?}: {answer:?}");
        }
        let request = Message::CloseRequest {
            feerate: low,
            nonce: None,
        };
        let answer = channel.hear(Side::Payer, request);
        assert_eq!(answer, Err(refused.clone().into()), "{construction}");
        assert_eq!(channel.pair.payer.stage(), Stage::Open, "{construction}");

        for answer in signed_low(&mut channel, low) {
            let answer = channel.hear(Side::Payee, answer);
            assert_eq!(answer, Err(refused.clone().into()), "{construction}");
        }
        assert_eq!(channel.pair.payee.settlement(), None, "{construction}");
    }
}

/// What a payer sends that has agreed to less: the messages of one that was told other terms.
fn signed_low(channel: &mut Channel, low: FeeRate) -> Vec<Message> {
    let asked = channel.pair.tell(Side::Payee, Event::CloseAt(per_vb(3)));
    let asked = asked.expect("asked");
    let mut messages = Vec::new();
    for action in asked {
        let spilman::channel::Action::Send(envelope) = action else {
            panic!("asked: {action:?}")
        };
        let answers = channel.pair.tell(Side::Payer, Event::Message(envelope));
        let answers = answers.expect("signed");
        messages.extend(answers.into_iter().map(|answer| match answer {
            spilman::channel::Action::Send(envelope) => envelope.message,
            other => panic!("signed: {other:?}"),
        }));
    }
    for message in &mut messages {
        match message {
            Message::Settlement { feerate, .. } | Message::CooperativeSettlement { feerate, .. } => {
                *feerate = low;
            }
            other => panic!("no settlement: {other:?}"),
        }
    }
    messages
}

/// 1. The payee's user gives an older payment to the network, as the PSBT lets any wallet do. The payee has not heard of it
///    and goes on.
/// 2. From the first poll that shows the spend, nothing more is acknowledged, and the latest payment is given to the network
///    against it. It pays no more, so that the older one stays.
/// 3. What the payee gets is what was older, and not less.
#[test]
fn nothing_counts_once_an_older_payment_is_in_the_mempool() {
    let chain = start();
    for construction in Construction::ALL {
        let mut channel = cast(&chain, construction).open(&chain);
        channel.pay(sat(50_000));
        let older = channel.redeemable();
        channel.pay(sat(10_000));
        let verdict = chain.node().submit(older.tx()).expect("verdict");
        verdict.expect_accepted();

        channel.poll_as(Side::Payee);
        assert_eq!(channel.pair.payee.stage(), Stage::Closing, "{construction}");
        let newest = channel.pair.payee.settlement().expect("settled");
        assert_eq!(newest.balance().paid, sat(60_000), "{construction}");
        channel.assert_answer(newest.role(), Some(RejectReason::InsufficientFee));
        let paid = channel.tell(Side::Payer, Event::Pay(sat(100_000)));
        paid.expect("the payer has not seen it");
        assert_eq!(channel.pair.payee.paid(), sat(60_000), "{construction}");
        let refused: Vec<_> = channel.refused.drain(..).map(|(side, _)| side).collect();
        assert_eq!(refused, [Side::Payee], "{construction}");

        chain.mine(6).expect("blocks");
        channel.poll();
        assert_eq!(channel.pair.payee.stage(), Stage::Closed, "{construction}");
    }
}
