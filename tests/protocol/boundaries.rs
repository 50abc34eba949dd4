//! Both sides of every boundary.

use bitcoin::{Amount, FeeRate};
use proptest::prelude::*;
use spilman::channel::{
    Capacity, ClosingMargin, CommandError, Construction, Event, Expiry, Limits, ParamsError, Protocol,
    RefundLock, Refusal, Terms, TermsError,
};

use crate::pair::{amounts, assert_spends, channels, sat, tip, Case, Inspect, Side, HEIGHT, MTP};
use Protocol::{Bond, Example7, SteppedLocktime};

/// 1 input of 2-of-2 and 2 P2WPKH outputs at 2 sat/vB, on P2SH.
const FEE: u64 = 664;
/// P2WPKH at 3 sat/vB.
const DUST: u64 = 294;

/// Example 7 on every construction, with what a payment costs there.
pub fn constructions() -> impl Iterator<Item = (Case, u64)> {
    channels()
        .filter(|case| case.terms.protocol == Example7)
        .map(|case| {
            let params = case.agreed().0.params().clone();
            let fee = (params.terms().capacity.to_amount() - params.spendable()).to_sat();
            (case, fee)
        })
}

#[test]
fn the_scripts_of_p2sh_cost_the_most() {
    for (case, fee) in constructions() {
        let most = case.terms.construction == Construction::P2sh;
        assert_eq!(fee == FEE, most, "{}: {fee}", case.name());
        assert!(fee <= FEE, "{}: {fee}", case.name());
    }
}

#[test]
fn a_payment_below_dust_is_accepted_and_not_enforceable() {
    for (case, fee) in constructions() {
        for (paid, enforceable, outputs) in [
            (DUST - 1, false, vec![1_000_000 - fee - (DUST - 1)]),
            (DUST, true, vec![1_000_000 - fee - DUST, DUST]),
        ] {
            // 1. The payee accepts either, and says which it is.
            let mut pair = case.clone().paying(&[paid]).open();
            let best = *pair.payee.latest_payment().unwrap().balance();
            assert_eq!((best.paid, best.is_enforceable()), (sat(paid), enforceable));
            let redeemable = pair.redeemable().unwrap();
            assert_eq!(amounts(redeemable.tx()), outputs);
            assert_spends(pair.payee.params(), redeemable.tx());
            // 2. The miner gets what is too small.
            assert_eq!(
                best.fee_on_chain(),
                sat(if enforceable { fee } else { fee + paid })
            );
            // 3. Near the expiry, a payee settles only what brings it something.
            pair.at(tip(HEIGHT + 120, MTP))
                .poll(Side::Payee, 100, None)
                .unwrap();
            assert_eq!(
                pair.network.broadcast.len(),
                if enforceable { 2 } else { 1 },
                "funding, then {paid}"
            );
        }
    }
}

#[test]
fn change_below_dust_goes_to_the_fee() {
    for (case, fee) in constructions() {
        let spendable = 1_000_000 - fee;
        for (change, outputs) in [
            (DUST, vec![DUST, spendable - DUST]),
            (DUST - 1, vec![spendable - DUST + 1]),
            (0, vec![spendable]),
        ] {
            let pair = case.clone().paying(&[spendable - change]).open();
            let redeemable = pair.redeemable().unwrap();
            assert_eq!(amounts(redeemable.tx()), outputs, "change {change}");
            assert_spends(pair.payee.params(), redeemable.tx());
        }
    }
}

#[test]
fn everything_can_be_paid_and_a_satoshi_more_cannot() {
    for (case, fee) in constructions() {
        let spendable = 1_000_000 - fee;
        let mut pair = case.clone().open();
        assert_eq!(pair.payer.params().spendable(), sat(spendable));
        let refused = pair.tell(Side::Payer, Event::Pay(sat(spendable + 1)));
        let expected = CommandError::InsufficientBalance {
            left: sat(spendable),
            asked: sat(spendable + 1),
        };
        assert_eq!(refused, Err(expected.into()));
        assert_eq!(
            pair.tell(Side::Payer, Event::Pay(Amount::ZERO)),
            Err(CommandError::BelowMinimum {
                minimum: sat(1),
                asked: Amount::ZERO
            }
            .into())
        );
        assert_eq!(pair.payer.paid(), Amount::ZERO);
        pair.apply(Side::Payer, Event::Pay(sat(spendable))).unwrap();
        assert_eq!(pair.payee.paid(), sat(spendable));
        let refused = pair.tell(Side::Payer, Event::Pay(sat(1)));
        let expected = CommandError::InsufficientBalance {
            left: sat(0),
            asked: sat(1),
        };
        assert_eq!(refused, Err(expected.into()));
    }
}

#[test]
fn the_smallest_capacity_leaves_one_output_above_dust() {
    for (case, fee) in constructions() {
        let needed = fee + 2 * DUST;
        let on = case.terms.construction;
        let case = |capacity| {
            let mut case = Case::new(Example7).capacity(capacity).on(on);
            case.limits.capacity = sat(1)..=sat(10_000);
            case
        };
        let refused = case(needed - 1)
            .considered(case(needed - 1).propose().1)
            .unwrap_err();
        let expected = ParamsError::CapacityTooSmall {
            needed: sat(needed),
            capacity: sat(needed - 1),
        };
        assert_eq!(refused, Refusal::Params(expected));
        for paid in [0, 1, DUST - 1, DUST, DUST + 1, 2 * DUST - 1, 2 * DUST] {
            let mut pair = case(needed).open();
            if paid > 0 {
                pair.apply(Side::Payer, Event::Pay(sat(paid))).unwrap();
            }
            assert_spends(pair.payee.params(), pair.redeemable().unwrap().tx());
        }
    }
}

/// Without dust limits a capacity of just the fee would leave a payment transaction without any output,
/// which no block can hold.
#[test]
fn without_dust_limits_the_capacity_is_more_than_the_fee() {
    for (case, fee) in constructions() {
        let on = case.terms.construction;
        let case = |capacity| {
            let mut case = case.clone().capacity(capacity).on(on).free();
            case.terms.feerate = Terms::FEERATE;
            case
        };
        let refused = case(fee).considered(case(fee).propose().1).unwrap_err();
        let expected = ParamsError::CapacityTooSmall {
            needed: sat(fee + 1),
            capacity: sat(fee),
        };
        assert_eq!(refused, Refusal::Params(expected));
        for payments in [&[][..], &[1]] {
            let pair = case(fee + 1).paying(payments).open();
            let redeemable = pair.redeemable().unwrap();
            assert_eq!(amounts(redeemable.tx()), [1]);
            assert_spends(pair.payee.params(), redeemable.tx());
        }
    }
}

#[test]
fn the_window_for_the_lock_has_two_ends() {
    let limits = Limits::default();
    let now = tip(HEIGHT, MTP);
    let height = |distance| Expiry::blocks_after(now, distance).unwrap();
    let time = |distance| Expiry::seconds_after(now, distance).unwrap();
    let blocks = RefundLock::after_blocks;
    let units = |units: u32| RefundLock::after_seconds(units * 512).unwrap();
    for (expiry, inside) in [
        (height(71).into(), false),
        (height(72).into(), true),
        (height(4_032).into(), true),
        (height(4_033).into(), false),
        (time(72 * 600 - 1).into(), false),
        (time(72 * 600).into(), true),
        (time(4_032 * 600).into(), true),
        (time(4_032 * 600 + 1).into(), false),
        (blocks(71), false),
        (blocks(72), true),
        (blocks(4_032), true),
        (blocks(4_033), false),
        (units(84), false),
        (units(85), true),
        (units(4_725), true),
        (units(4_726), false),
    ] {
        let distance = expiry.distance(now);
        match limits.check_lock(expiry, now) {
            Ok(()) => assert!(inside, "{expiry} was accepted"),
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
    for case in channels() {
        let at = case.name();
        let (last, over) = match case.terms.protocol {
            // The article's payments have a separate lock, and are worth something from there on.
            Example7 | SteppedLocktime => (tip(HEIGHT + 107, MTP), tip(HEIGHT + 108, MTP)),
            Bond => (tip(900, MTP + 86_400 - 21_601), tip(901, MTP + 86_400 - 21_600)),
        };
        let mut pair = case.open();
        pair.at(last).poll_both(100, None).unwrap();
        pair.apply(Side::Payer, Event::Pay(sat(1_000))).unwrap();
        assert_eq!(pair.payee.paid(), sat(1_000), "{at}");
        pair.at(over).poll(Side::Payer, 100, None).unwrap();
        let refused = pair
            .tell(Side::Payer, Event::Pay(sat(1_000)))
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("too late for a payment: the channel is"),
            "{at}: {refused}"
        );
        assert_eq!(pair.payer.paid(), sat(1_000), "{at}");
    }
}

/// The refund is final at its lock and not a block, or a second, before.
#[test]
fn the_refund_is_broadcast_at_its_lock() {
    let by_height = |case: &Case| case.clone();
    let by_time = |case: &Case| {
        let construction = case.terms.construction;
        Case::new(Example7)
            .expiry(Expiry::seconds_after(case.now, 86_400).unwrap())
            .on(construction)
    };
    for (case, _) in constructions() {
        // 169 units of 512 seconds are the first that make a day; a relative lock of time is over at its end, an
        // absolute one a second after it.
        let over = if case.terms.construction.has_relative_lock() {
            169 * 512
        } else {
            86_401
        };
        for (case, before, at) in [
            (by_height(&case), tip(HEIGHT + 143, MTP), tip(HEIGHT + 144, MTP)),
            (by_time(&case), tip(900, MTP + over - 1), tip(901, MTP + over)),
        ] {
            let name = format!("{} {}", case.name(), case.terms.refund_lock);
            let mut pair = case.open();
            pair.at(before).poll(Side::Payer, 100, None).unwrap();
            assert_eq!(pair.network.broadcast.len(), 1, "{name}: the funding transaction");
            pair.at(at).poll(Side::Payer, 100, None).unwrap();
            let (role, refund) = &pair.network.broadcast[1];
            assert_eq!(role.name(), "refund", "{name}");
            assert_spends(pair.payer.params(), refund);
        }
    }
}

/// Scripts hold a lock as a signed number, so that BIP 379 stops in 2038; `nLockTime` goes on to 2106.
#[test]
fn a_script_holds_no_lock_past_2038_and_a_signed_refund_does() {
    const FIRST_PAST: u32 = 0x8000_0000;
    for (case, _) in constructions() {
        let construction = case.terms.construction;
        if construction.has_relative_lock() {
            continue;
        }
        let with = |time: u32| {
            let now = tip(HEIGHT, time - 86_400);
            let case = Case {
                now,
                when_signing: now,
                ..case.clone()
            };
            case.expiry(Expiry::from_time(tip(0, time).mtp))
        };
        let refused = |time| {
            let case = with(time);
            case.limits.check(&case.terms, case.now).unwrap_err()
        };
        if construction.has_script_refund() {
            let expected = TermsError::LockPast2038 {
                lock: with(FIRST_PAST).terms.refund_lock,
                max: FIRST_PAST - 1,
                construction,
            };
            assert_eq!(refused(FIRST_PAST), expected);
        }
        let last = if construction.has_script_refund() {
            FIRST_PAST - 1
        } else {
            u32::MAX - 1
        };
        for time in [FIRST_PAST - 1, FIRST_PAST, last] {
            if time > last {
                continue;
            }
            let mut pair = with(time).open();
            let refund = pair.payer.refund().tx().clone();
            assert_eq!(refund.lock_time.to_consensus_u32(), time, "{construction}");
            assert_spends(pair.payer.params(), &refund);
            for (mtp, count) in [(time, 1), (time + 1, 2)] {
                pair.at(tip(HEIGHT + 200, mtp))
                    .poll(Side::Payer, 100, None)
                    .unwrap();
                assert_eq!(
                    pair.network.broadcast.len(),
                    count,
                    "{construction} {time} at {mtp}"
                );
            }
        }
    }
}

#[test]
fn a_time_lock_waits_until_the_median_time_past_is_above_it() {
    let mut case = Case::new(SteppedLocktime).paying(&[1_000]);
    case.terms.refund_lock = Expiry::seconds_after(case.now, 86_400).unwrap().into();
    case.terms.payment_expiry = Expiry::seconds_after(case.now, 43_200);
    let mut pair = case.open();
    for (mtp, role) in [(43_200, None), (43_201, Some("payment"))] {
        pair.at(tip(HEIGHT + 900, MTP + mtp))
            .poll(Side::Payee, 900, None)
            .unwrap();
        let last = pair
            .network
            .broadcast
            .last()
            .map(|(role, _)| role.name())
            .filter(|role| *role != "funding");
        assert_eq!(last, role, "{mtp}");
    }
    for (mtp, role) in [(86_400, "payment"), (86_401, "refund")] {
        pair.at(tip(HEIGHT + 900, MTP + mtp))
            .poll(Side::Payer, 900, None)
            .unwrap();
        assert_eq!(pair.network.broadcast.last().unwrap().0.name(), role, "{mtp}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// `capacity = paid + change + fee`, and nothing is lost between outputs and miner.
    #[test]
    fn every_division_adds_up(
        construction in prop::sample::select(&Construction::ALL[..]),
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
        let case = case.on(construction);
        let Ok((payee, _)) = case.considered(case.propose().1) else { return Ok(()) };
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
