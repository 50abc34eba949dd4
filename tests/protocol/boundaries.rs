//! Both sides of every boundary.

use bitcoin::{Amount, FeeRate};
use proptest::prelude::*;
use spilman::channel::{
    Capacity, ClosingMargin, CommandError, Event, Expiry, Limits, ParamsError, Protocol, Refusal, Terms,
    TermsError,
};

use crate::pair::{amounts, assert_spends, sat, tip, Case, Side, HEIGHT, MTP};
use Protocol::{Bond, Example7, SteppedLocktime};

/// 1 input of 2-of-2 and 2 P2WPKH outputs at 2 sat/vB.
const FEE: u64 = 664;
/// P2WPKH at 3 sat/vB.
const DUST: u64 = 294;

#[test]
fn a_payment_below_dust_is_accepted_and_not_enforceable() {
    for (paid, enforceable, outputs) in [
        (DUST - 1, false, vec![1_000_000 - FEE - (DUST - 1)]),
        (DUST, true, vec![1_000_000 - FEE - DUST, DUST]),
    ] {
        // 1. The payee takes either, and says which it is.
        let mut pair = Case::new(Example7).paying(&[paid]).open();
        let best = *pair.payee.best().unwrap().balance();
        assert_eq!((best.paid, best.is_enforceable()), (sat(paid), enforceable));
        let redeemable = pair.redeemable().unwrap();
        assert_eq!(amounts(redeemable.tx()), outputs);
        assert_spends(pair.payee.params(), redeemable.tx());
        // 2. The miner gets what is too small.
        assert_eq!(
            best.fee_on_chain(),
            sat(if enforceable { FEE } else { FEE + paid })
        );
        // 3. Near the expiry, a payee settles only what brings it something.
        pair.tip = tip(HEIGHT + 120, MTP);
        pair.look(Side::Payee, 100, None);
        assert_eq!(
            pair.broadcast.len(),
            if enforceable { 2 } else { 1 },
            "funding, then {paid}"
        );
    }
}

#[test]
fn change_below_dust_goes_to_the_fee() {
    let spendable = 1_000_000 - FEE;
    for (change, outputs) in [
        (DUST, vec![DUST, spendable - DUST]),
        (DUST - 1, vec![spendable - DUST + 1]),
        (0, vec![spendable]),
    ] {
        let pair = Case::new(Example7).paying(&[spendable - change]).open();
        let redeemable = pair.redeemable().unwrap();
        assert_eq!(amounts(redeemable.tx()), outputs, "change {change}");
        assert_spends(pair.payee.params(), redeemable.tx());
    }
}

#[test]
fn everything_can_be_paid_and_a_satoshi_more_cannot() {
    let spendable = 1_000_000 - FEE;
    let mut pair = Case::new(SteppedLocktime).open();
    assert_eq!(pair.payer.params().spendable(), sat(spendable));
    let refused = pair.apply(Side::Payer, Event::Pay(sat(spendable + 1)));
    let expected = CommandError::InsufficientBalance {
        left: sat(spendable),
        asked: sat(spendable + 1),
    };
    assert_eq!(refused, Err(expected.into()));
    assert_eq!(
        pair.apply(Side::Payer, Event::Pay(Amount::ZERO)),
        Err(CommandError::BelowMinimum {
            minimum: sat(1),
            asked: Amount::ZERO
        }
        .into())
    );
    assert_eq!(pair.payer.paid(), Amount::ZERO);
    pair.apply(Side::Payer, Event::Pay(sat(spendable))).unwrap();
    assert_eq!(pair.payee.paid(), sat(spendable));
    let refused = pair.apply(Side::Payer, Event::Pay(sat(1)));
    let expected = CommandError::InsufficientBalance {
        left: sat(0),
        asked: sat(1),
    };
    assert_eq!(refused, Err(expected.into()));
}

#[test]
fn the_smallest_capacity_leaves_one_output_above_dust() {
    let needed = FEE + 2 * DUST;
    let case = |capacity| {
        let mut case = Case::new(Example7).capacity(capacity);
        case.limits.capacity = sat(1)..=sat(10_000);
        case
    };
    let refused = case(needed - 1)
        .consider(case(needed - 1).propose().1)
        .unwrap_err();
    let expected = ParamsError::CapacityTooSmall {
        needed: sat(needed),
        capacity: sat(needed - 1),
    };
    assert_eq!(refused, Refusal::Params(expected));
    for paid in 0..=2 * DUST {
        let mut pair = case(needed).open();
        if paid > 0 {
            pair.apply(Side::Payer, Event::Pay(sat(paid))).unwrap();
        }
        assert_spends(pair.payee.params(), pair.redeemable().unwrap().tx());
    }
}

/// Without dust limits a capacity of just the fee would leave a payment transaction without any output,
/// which no block can hold.
#[test]
fn without_dust_limits_the_capacity_is_more_than_the_fee() {
    let case = |capacity| {
        let mut case = Case::new(Example7).capacity(capacity).free();
        case.terms.feerate = Terms::FEERATE;
        case
    };
    let refused = case(FEE).consider(case(FEE).propose().1).unwrap_err();
    let expected = ParamsError::CapacityTooSmall {
        needed: sat(FEE + 1),
        capacity: sat(FEE),
    };
    assert_eq!(refused, Refusal::Params(expected));
    for payments in [&[][..], &[1]] {
        let pair = case(FEE + 1).paying(payments).open();
        let redeemable = pair.redeemable().unwrap();
        assert_eq!(amounts(redeemable.tx()), [1]);
        assert_spends(pair.payee.params(), redeemable.tx());
    }
}

#[test]
fn the_window_for_the_lock_has_two_ends() {
    let limits = Limits::default();
    let now = tip(HEIGHT, MTP);
    let height = |distance| Expiry::blocks_after(now, distance).unwrap();
    let time = |distance| Expiry::seconds_after(now, distance).unwrap();
    for (expiry, inside) in [
        (height(71), false),
        (height(72), true),
        (height(4_032), true),
        (height(4_033), false),
        (time(72 * 600 - 1), false),
        (time(72 * 600), true),
        (time(4_032 * 600), true),
        (time(4_032 * 600 + 1), false),
    ] {
        let distance = expiry.distance(now);
        match limits.check_lock(expiry.into(), now) {
            Ok(()) => assert!(inside, "{expiry} was taken"),
            Err(TermsError::Expiry { distance: said, .. }) => {
                assert!(!inside, "{expiry} was refused");
                assert_eq!(said, distance);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn the_first_moment_to_settle_leaves_room_for_one_payment() {
    for (margin, room) in [(140, true), (141, false)] {
        let mut case = Case::new(Example7);
        case.terms.closing_margin = ClosingMargin::from_blocks(margin);
        assert_eq!(case.limits.check(&case.terms, case.now).is_ok(), room, "{margin}");
    }
    for (payment_expiry, room) in [(4, true), (3, false)] {
        let mut case = Case::new(SteppedLocktime);
        case.terms.payment_expiry = Expiry::blocks_after(case.now, payment_expiry);
        assert_eq!(
            case.limits.check(&case.terms, case.now).is_ok(),
            room,
            "{payment_expiry}"
        );
    }
}

/// Both sides stop together: the payer does not sign what the payee would refuse.
#[test]
fn the_last_block_for_a_payment() {
    let cases = [
        (Example7, tip(HEIGHT + 107, MTP), tip(HEIGHT + 108, MTP)),
        // The article's payments have a lock of their own, and are worth something from there on.
        (SteppedLocktime, tip(HEIGHT + 107, MTP), tip(HEIGHT + 108, MTP)),
        (
            Bond,
            tip(900, MTP + 86_400 - 21_601),
            tip(901, MTP + 86_400 - 21_600),
        ),
    ];
    for (protocol, last, over) in cases {
        let mut pair = Case::new(protocol).open();
        pair.tip = last;
        pair.chain(100, None);
        pair.apply(Side::Payer, Event::Pay(sat(1_000))).unwrap();
        assert_eq!(pair.payee.paid(), sat(1_000), "{protocol}");
        pair.tip = over;
        pair.look(Side::Payer, 100, None);
        let refused = pair
            .raw(Side::Payer, Event::Pay(sat(1_000)))
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("too late for a payment: the channel is"),
            "{protocol}: {refused}"
        );
        assert_eq!(pair.payer.paid(), sat(1_000), "{protocol}");
    }
}

#[test]
fn a_time_lock_waits_until_the_median_time_past_is_above_it() {
    let mut case = Case::new(SteppedLocktime).paying(&[1_000]);
    case.terms.refund_lock = Expiry::seconds_after(case.now, 86_400).unwrap().into();
    case.terms.payment_expiry = Expiry::seconds_after(case.now, 43_200);
    let mut pair = case.open();
    for (mtp, role) in [(43_200, None), (43_201, Some("payment"))] {
        pair.tip = tip(HEIGHT + 900, MTP + mtp);
        pair.look(Side::Payee, 900, None);
        let last = pair
            .broadcast
            .last()
            .map(|(role, _)| role.name())
            .filter(|role| *role != "funding");
        assert_eq!(last, role, "{mtp}");
    }
    for (mtp, role) in [(86_400, "payment"), (86_401, "refund")] {
        pair.tip = tip(HEIGHT + 900, MTP + mtp);
        pair.look(Side::Payer, 900, None);
        assert_eq!(pair.broadcast.last().unwrap().0.name(), role, "{mtp}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// `capacity = paid + change + fee`, and nothing is lost between outputs and miner.
    #[test]
    fn every_division_adds_up(
        capacity in 1_u64..=u64::from(u32::MAX),
        feerate in 0_u64..20_000,
        dust in 0_u64..7_500,
        part in 0.0_f64..=1.0,
    ) {
        let mut case = Case::new(Example7).free();
        case.limits.feerate = FeeRate::ZERO..=FeeRate::from_sat_per_kwu(20_000);
        case.limits.dust_feerate = FeeRate::ZERO..=FeeRate::from_sat_per_kwu(7_500);
        case.terms.capacity = Capacity::new(sat(capacity)).unwrap();
        case.terms.feerate = FeeRate::from_sat_per_kwu(feerate);
        case.terms.dust_feerate = FeeRate::from_sat_per_kwu(dust);
        let Ok((payee, _)) = case.consider(case.propose().1) else { return Ok(()) };
        let params = payee.params();
        let spendable = params.spendable().to_sat();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let paid = ((spendable as f64 * part) as u64).min(spendable);
        for paid in [0, paid, spendable] {
            let balance = params.balance(sat(paid)).unwrap();
            prop_assert_eq!(balance.paid + balance.change + balance.fee, sat(capacity));
            let outputs = balance.to_payee.unwrap_or(Amount::ZERO) + balance.to_payer.unwrap_or(Amount::ZERO);
            prop_assert_eq!(outputs + balance.fee_on_chain(), sat(capacity));
            prop_assert!(outputs > Amount::ZERO, "a transaction without outputs");
            prop_assert_eq!(balance.is_enforceable(), balance.paid > Amount::ZERO && balance.paid >= params.payee_dust());
        }
        prop_assert_eq!(params.balance(sat(spendable + 1)), None);
        prop_assert!(params.refund_amount() >= params.spendable());
    }
}
