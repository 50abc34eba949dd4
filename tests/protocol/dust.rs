//! The dust limit is that of a node, at any feerate.

use bitcoin::FeeRate;
use spilman::channel::{Capacity, ParamsError, Refusal};

use crate::boundaries::constructions;
use crate::pair::{amounts, assert_spends, sat, Inspect};

/// A limit that is no whole number of satoshi is rounded up, as by a node: at 751 sat/kwu, 98 vbytes cost 294.392.
#[test]
fn a_dust_limit_is_rounded_up() {
    for (mut case, fee) in constructions() {
        case.terms.dust_feerate = FeeRate::from_sat_per_kwu(751);
        let left = 1_000_000 - fee - 295;
        for (paid, outputs) in [
            (294, vec![1_000_000 - fee - 294]),
            (295, vec![left, 295]),
            (left, vec![295, left]),
            (left + 1, vec![left + 1]),
        ] {
            let pair = case.clone().paying(&[paid]).open();
            let redeemable = pair.redeemable().unwrap();
            assert_eq!(amounts(redeemable.tx()), outputs, "{}: {paid}", case.name());
            let enforceable = pair.payee.latest_payment().unwrap().balance().is_enforceable();
            assert_eq!(enforceable, paid >= 295, "{}: {paid}", case.name());
            assert_spends(pair.payee.params(), redeemable.tx());
        }
    }
}

/// The highest dust feerate that a message can name makes a limit of 16.8 BTC, and nothing overflows.
#[test]
fn the_highest_dust_feerate_does_not_overflow() {
    for (mut case, fee) in constructions() {
        let most = FeeRate::from_sat_per_kwu(u64::from(u32::MAX));
        let limit = 1_683_627_180;
        case.limits.capacity = sat(1)..=Capacity::MAX.to_amount();
        case.limits.dust_feerate = FeeRate::ZERO..=most;
        case.terms.dust_feerate = most;
        let of = |capacity| {
            let case = case.clone().capacity(capacity);
            case.considered(case.propose().1)
        };
        let needed = fee + 2 * limit;
        let (payee, _) = of(needed).expect("it suffices");
        assert_eq!(payee.params().payee_dust(), sat(limit), "{}", case.name());
        let expected = ParamsError::CapacityTooSmall {
            needed: sat(needed),
            capacity: sat(needed - 1),
        };
        let refused = of(needed - 1).map(drop);
        assert_eq!(refused, Err(Refusal::Params(expected)), "{}", case.name());
    }
}
