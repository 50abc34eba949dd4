//! What counts before the funding transaction is confirmed: as much as the payee can afford to lose.

use bitcoin::{Amount, OutPoint};
use spilman::channel::{
    ApplyError, CommandError, Construction, Event, Notice, PaymentError, Refusal, SpendRole, Stage,
};
use spilman::regtest::{CoinKind, Regtest, RejectReason};

use super::{funded_by, sat, start, Cast, Channel, Side};
use crate::common::judge::Judge as _;

const LIMIT: Amount = sat(10_000);

/// The payee counts this much.
fn case(chain: &Regtest, construction: Construction, kind: CoinKind) -> Cast {
    let mut case = funded_by(chain, construction, kind, sat(1_000_000));
    case.setup.payee.limits.zero_conf_limit = LIMIT;
    case
}

#[track_caller]
fn both_are(channel: &Channel, stage: Stage) {
    assert_eq!(
        (channel.pair.payer.stage(), channel.pair.payee.stage()),
        (stage, stage),
        "{}: {:?}",
        channel.construction(),
        channel.refused
    );
}

/// Why the payer's user cannot pay more.
#[track_caller]
fn payer_waits(channel: &mut Channel, more: Amount, confirmations: u32) {
    let error = CommandError::Unconfirmed {
        unconfirmed: LIMIT,
        confirmations,
        required: 3,
    };
    let answer = channel.tell(Side::Payer, Event::Pay(more));
    assert_eq!(answer, Err(error.into()), "{}", channel.construction());
}

/// Why the payee refuses what the payer sent.
#[track_caller]
fn payee_waits(channel: &mut Channel, unconfirmed: Amount, confirmations: u32) {
    let error = PaymentError::Unconfirmed {
        unconfirmed,
        confirmations,
        required: 3,
    };
    let refused = std::mem::take(&mut channel.refused);
    let expected = ApplyError::Refused(Refusal::Payment(error));
    assert_eq!(refused, [(Side::Payee, expected)], "{}", channel.construction());
}

/// 1. The network accepts the funding transaction, and both sides are open at their first poll.
/// 2. Payments up to the limit count. The payer makes no larger ones, with no confirmation and with two.
/// 3. A payer that was told of a higher limit makes one, and the payee refuses it.
/// 4. With the agreed three, any payment counts.
#[test]
fn up_to_a_limit_payments_count_at_once() {
    let chain = start();
    for construction in Construction::ALL {
        let mut honest = case(&chain, construction, CoinKind::Segwit).fund(&chain);
        both_are(&honest, Stage::Open);
        honest.pay(LIMIT - Amount::ONE_SAT);
        honest.pay(Amount::ONE_SAT);
        payer_waits(&mut honest, Amount::ONE_SAT, 0);

        let mut misled = case(&chain, construction, CoinKind::Segwit);
        misled.promised = Some(LIMIT * 2);
        let mut misled = misled.fund(&chain);
        misled
            .tell(Side::Payer, Event::Pay(LIMIT + Amount::ONE_SAT))
            .expect("it may, it thinks");
        payee_waits(&mut misled, LIMIT, 0);

        chain.mine(2).expect("blocks");
        for channel in [&mut honest, &mut misled] {
            channel.poll();
            both_are(channel, Stage::Open);
        }
        payer_waits(&mut honest, Amount::ONE_SAT, 2);
        misled
            .tell(Side::Payer, Event::Pay(Amount::ONE_SAT))
            .expect("it may, it thinks");
        payee_waits(&mut misled, LIMIT, 2);
        assert_eq!(misled.pair.payee.paid(), Amount::ZERO, "{construction}");

        chain.mine(1).expect("a block");
        for channel in [&mut honest, &mut misled] {
            channel.poll();
            channel.pay(LIMIT * 3);
        }
    }
}

/// Anyone can change the id of a funding transaction with a legacy input, so nothing counts before it has its
/// confirmations, whatever the limit.
#[test]
fn a_malleable_funding_transaction_never_counts_before() {
    let chain = start();
    for construction in Construction::ALL {
        let mut channel = case(&chain, construction, CoinKind::Legacy).fund(&chain);
        channel.assert_answer(SpendRole::Funding, None);
        let warned = (Side::Payee, Notice::MalleableFunding);
        assert!(
            channel.pair.network.notices.contains(&warned),
            "{construction}: {:?}",
            channel.pair.network.notices
        );
        for mined in 0..3 {
            channel.poll();
            both_are(&channel, Stage::AwaitingFunding);
            let early = channel.tell(Side::Payer, Event::Pay(Amount::ONE_SAT));
            let error = CommandError::WrongStage {
                command: "pay",
                stage: Stage::AwaitingFunding,
            };
            assert_eq!(early, Err(error.into()), "{construction}: {mined} confirmations");
            chain.mine(1).expect("a block");
        }
        channel.poll();
        both_are(&channel, Stage::Open);
        channel.pay(sat(1));
    }
}

/// 1. The payer pays up to the limit, and then spends its coin once more, for a higher fee: the node drops the funding
///    transaction.
/// 2. The payee learns of it with the next block. It says so, and is open no longer.
/// 3. What it holds is worth nothing, and is not more than its limit.
#[test]
fn a_double_spend_costs_the_payee_no_more_than_its_limit() {
    let chain = start();
    let node = chain.node();
    for construction in Construction::ALL {
        let mut channel = case(&chain, construction, CoinKind::Segwit).fund(&chain);
        channel.pay(LIMIT);
        let funding = channel.pair.payee.funding().tx().compute_txid();
        let double = channel.cast.coin.spend(vec![channel.to_payer(sat(990_000))]);
        let double = double.expect("the same coin");
        let txid = node.broadcasts(&double);
        assert_eq!(
            node.mempool().expect("mempool"),
            [txid],
            "{construction}: not {funding}"
        );
        payer_waits(&mut channel, Amount::ONE_SAT, 0);

        chain.mine(1).expect("a block");
        channel.poll();
        assert_eq!(
            channel.pair.payee.stage(),
            Stage::AwaitingFunding,
            "{construction}"
        );
        channel.assert_answer(SpendRole::Funding, Some(RejectReason::MissingInputs));
        let lost = (Side::Payee, Notice::FundingLost { confirmations: 0 });
        assert!(
            channel.pair.network.notices.contains(&lost),
            "{construction}: {:?}",
            channel.pair.network.notices
        );
        assert_eq!(channel.pair.payee.paid(), LIMIT, "{construction}");
        node.rejects_at(
            channel.redeemable().tx(),
            RejectReason::MissingInputs,
            construction,
        );
        assert_eq!(node.utxo(OutPoint::new(funding, 0)).expect("an answer"), None);
    }
}

/// 1. The funding transaction has three confirmations, and a reorganisation takes it back to the mempool.
/// 2. If no more was paid than the limit, both go on; if more, both wait for its confirmations once more.
#[test]
fn after_a_reorganisation_the_limit_counts_again() {
    let chain = start();
    for construction in Construction::ALL {
        for (paid, stage) in [
            (LIMIT, Stage::Open),
            (LIMIT + Amount::ONE_SAT, Stage::AwaitingFunding),
        ] {
            let mut channel = case(&chain, construction, CoinKind::Segwit).open(&chain);
            channel.pay(paid);
            let tip = chain.tip().expect("tip").height;
            let block = chain.node().block_hash_at(tip - 2).expect("the funding's block");
            chain.node().invalidate_block(block).expect("reorganised");
            channel.poll();
            channel.assert_answer(SpendRole::Funding, None);
            both_are(&channel, stage);
            if stage == Stage::Open {
                payer_waits(&mut channel, Amount::ONE_SAT, 0);
            }
            chain.mine(3).expect("blocks");
            channel.poll();
            both_are(&channel, Stage::Open);
            channel.pay(LIMIT);
        }
    }
}

/// 1. The payee closes before the funding transaction is confirmed. A settlement of version 3 cannot have an unconfirmed
///    parent of version 2, so the node rejects it, and the payee says so.
/// 2. One block later it goes through.
/// 3. A settlement with one signature is of version 2 and is accepted at once.
#[test]
fn a_settlement_waits_for_the_funding_transaction() {
    let chain = start();
    for construction in Construction::ALL {
        let mut channel = case(&chain, construction, CoinKind::Segwit).fund(&chain);
        channel.pay(LIMIT);
        channel.tell(Side::Payee, Event::Close).expect("closed");
        let settlement = channel.pair.payee.settlement().expect("settled").clone();
        let early = (!construction.closes_with_one_key()).then_some(RejectReason::Truc);
        channel.assert_answer(settlement.role(), early);
        let said = |(side, notice): &(Side, Notice)| {
            matches!(notice, Notice::BroadcastRejected(result)
                if *side == Side::Payee && result.txid == settlement.tx().compute_txid())
        };
        let said = channel.pair.network.notices.iter().any(said);
        assert_eq!(
            said,
            early.is_some(),
            "{construction}: {:?}",
            channel.pair.network.notices
        );

        chain.mine(1).expect("a block");
        channel.poll();
        channel.assert_answer(settlement.role(), None);
        chain.mine(6).expect("blocks");
        channel.poll();
        both_are(&channel, Stage::Closed);
        let closed = channel
            .pair
            .network
            .notices
            .iter()
            .rev()
            .find_map(|(_, notice)| match notice {
                Notice::Closed(outcome) => Some(outcome.to_payee),
                _ => None,
            });
        assert_eq!(closed, Some(LIMIT), "{construction}");
    }
}
