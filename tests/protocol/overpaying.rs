//! Settlements that pay more than is good for them.

use bitcoin::{Amount, FeeRate, Transaction};
use spilman::channel::{Action, ApplyError, BroadcastResult, CommandError, Event, Protocol, SpendRole};

use crate::pair::{channels, sat, Inspect, Pair, Side, HEIGHT, MTP};

/// The payee is told that the network rejects this, and does what follows.
fn refused(pair: &mut Pair, tx: &Transaction) -> Vec<(SpendRole, Transaction)> {
    let result = BroadcastResult {
        role: SpendRole::Settlement,
        txid: tx.compute_txid(),
        rejected: Some("max-fee-exceeded".to_owned()),
    };
    let actions = pair.tell(Side::Payee, Event::Broadcast(result)).unwrap();
    let broadcast = |action| match action {
        Action::Broadcast { role, tx } => Some((role, tx)),
        _ => None,
    };
    actions.into_iter().filter_map(broadcast).collect()
}

/// 1. The payer pays, and settles at a feerate that no node accepts from its users.
/// 2. The network rejects it, and the payee gives it the latest payment instead; where payments have a lock, from then on.
/// 3. If that is refused as well, nothing more follows.
/// 4. With the next block, the settlement is offered again; once the closing margin has begun, and the payment with it.
#[test]
fn a_settlement_that_the_network_refuses_does_not_stand_before_the_payment() {
    for case in channels() {
        let at = case.name();
        let case = case.capacity(100_000_000).paying(&[10_000_000]);
        let mut pair = case.open();
        let dear = FeeRate::from_sat_per_kwu(5_000_000);
        pair.apply(Side::Payer, Event::CloseAt(dear)).unwrap();
        let settlement = pair.payee.settlement().expect("settled").tx().clone();
        let held = pair.redeemable().expect("a payment");
        let stepped = case.terms.protocol == Protocol::SteppedLocktime;
        if stepped {
            assert_eq!(refused(&mut pair, &settlement), [], "{at}");
            pair.at(crate::pair::tip(HEIGHT + 108, MTP))
                .poll(Side::Payee, 3, None)
                .unwrap();
        }
        let instead = refused(&mut pair, &settlement);
        assert_eq!(instead, [(held.role(), held.tx().clone())], "{at}");
        assert_eq!(refused(&mut pair, held.tx()), [], "{at}");

        for height in [101, 108] {
            let before = pair.network.broadcast.len();
            pair.at(crate::pair::tip(HEIGHT + height, MTP + 86_400 - 21_600))
                .poll(Side::Payee, 3, None)
                .unwrap();
            let both = [
                (SpendRole::Settlement, settlement.clone()),
                (held.role(), held.tx().clone()),
            ];
            let in_margin = height == 108 || case.terms.protocol == Protocol::Bond;
            // One signature of both can be pinned, so that it gives way.
            let gives_way = usize::from(in_margin && case.terms.construction.closes_with_one_key());
            let expected = &both[gives_way..=usize::from(in_margin)];
            assert_eq!(pair.network.broadcast[before..], *expected, "{at}");
        }
    }
}

/// A fee that leaves neither side an output would leave no transaction: no one can ask for it.
#[test]
fn no_fee_eats_both_outputs() {
    for case in channels() {
        let at = case.name();
        let mut pair = case.capacity(10_000).open();
        let params = pair.payer.params();
        let rates = (500..100_000).map(FeeRate::from_sat_per_kwu);
        let affordable = |feerate: &FeeRate| params.balance_at(Amount::ZERO, *feerate).is_some();
        let highest = rates.take_while(affordable).last().expect("the agreed one");
        let balance = params.balance_at(Amount::ZERO, highest).expect("affordable");
        assert_eq!(balance.to_payer, Some(balance.change), "{at}: {highest}");

        let feerate = FeeRate::from_sat_per_kwu(highest.to_sat_per_kwu() + 1);
        let change = sat(10_000);
        for side in [Side::Payer, Side::Payee] {
            let answer = pair.tell(side, Event::CloseAt(feerate));
            let paid = Amount::ZERO;
            let error = CommandError::SettlementFeerate {
                paid,
                feerate,
                change,
            };
            assert_eq!(answer, Err(ApplyError::Command(error)), "{at} {side:?}");
        }
    }
}
