//! The sums that both sides enforce: dust, the least payment, the reserve, the capacity.

use bitcoin::Amount;
use spilman::channel::{
    ApplyError, Capacity, CommandError, Construction, Event, ParamsError, PaymentError, Refusal,
};
use spilman::regtest::{Regtest, RejectReason};

use super::{cast, per_vb, sat, start, Channel, Side};

/// The least that a node relays in a P2WPKH output at its default policy.
const DUST: Amount = sat(294);

/// The node draws the line where the channel does: parties that know no dust make an output of 293 satoshi, and it is
/// rejected; one of 294 is accepted.
#[test]
fn the_node_draws_the_line_of_dust_at_the_same_sum() {
    let chain = start();
    for construction in Construction::ALL {
        let mut case = cast(&chain, construction);
        case.setup.terms.dust_feerate = bitcoin::FeeRate::ZERO;
        case.limit(|limits| limits.dust_feerate = bitcoin::FeeRate::ZERO..=per_vb(30));
        let mut channel = case.open(&chain);
        let spendable = channel.params().spendable();
        let below = DUST - Amount::ONE_SAT;
        for (paid, dust) in [
            (below, true),
            (DUST, false),
            (spendable - DUST, false),
            (spendable - below, true),
        ] {
            channel.pay(paid - channel.pair.payee.paid());
            let payment = channel.redeemable();
            assert_eq!(payment.tx().output.len(), 2, "{construction}: {paid}");
            let verdict = chain.node().test_accept(payment.tx()).expect("verdict");
            assert_eq!(
                (verdict.is_accepted(), verdict.rejected_for(RejectReason::Dust)),
                (!dust, dust),
                "{construction}: {paid} of {spendable}: {verdict}"
            );
        }
    }
}

/// A channel whose payer may be told other terms than its payee.
fn lenient_payer(chain: &Regtest, construction: Construction, minimum: u64, reserve: u64) -> Channel {
    let mut case = cast(chain, construction);
    let mut told = case.setup.terms.clone();
    told.minimum_payment = sat(minimum);
    told.reserve = sat(reserve);
    case.told = Some(told);
    case.open(chain)
}

/// 1. The payer's user cannot pay less than the least payment, nor touch the reserve.
/// 2. A payer that does not keep to it is refused by the payee.
/// 3. At the limits, both agree.
#[test]
fn least_payment_and_reserve_are_enforced_on_both_sides() {
    let chain = start();
    let (minimum, reserve) = (sat(1_000), sat(20_000));
    for construction in Construction::ALL {
        let mut case = cast(&chain, construction);
        (case.setup.terms.minimum_payment, case.setup.terms.reserve) = (minimum, reserve);
        let mut channel = case.open(&chain);
        let low = minimum - Amount::ONE_SAT;
        let below = channel.tell(Side::Payer, Event::Pay(low));
        let error = CommandError::BelowMinimum { minimum, asked: low };
        assert_eq!(below, Err(error.into()), "{construction}");
        channel.pay(minimum);
        let spendable = channel.params().spendable();
        let left = spendable - minimum;
        let asked = left + Amount::ONE_SAT;
        let above = channel.tell(Side::Payer, Event::Pay(asked));
        let error = CommandError::InsufficientBalance { left, asked };
        assert_eq!(above, Err(error.into()), "{construction}");
        channel.pay(left);
        let settlement = channel.redeemable();
        assert_eq!(
            settlement.tx().output,
            [channel.to_payer(reserve), channel.to_payee(spendable)],
            "{construction}: the reserve is the payer's to the end"
        );

        let mut channel = lenient_payer(&chain, construction, 1_000, 20_000);
        assert_eq!(
            channel.pair.payer.params().spendable(),
            spendable + reserve,
            "{construction}: no reserve for this payer"
        );
        channel
            .tell(Side::Payer, Event::Pay(low))
            .expect("it may, it thinks");
        let error = PaymentError::BelowMinimum {
            minimum,
            received: low,
        };
        refused_by_payee(&mut channel, error);
        channel.pay(spendable - low);
        channel
            .tell(Side::Payer, Event::Pay(minimum))
            .expect("it may, it thinks");
        let received = spendable + minimum;
        refused_by_payee(
            &mut channel,
            PaymentError::ExceedsCapacity { spendable, received },
        );
        assert_eq!(channel.pair.payee.paid(), spendable, "{construction}");
    }
}

#[track_caller]
fn refused_by_payee(channel: &mut Channel, error: PaymentError) {
    let refused = std::mem::take(&mut channel.refused);
    let expected = ApplyError::Refused(Refusal::Payment(error));
    assert_eq!(refused, [(Side::Payee, expected)], "{}", channel.construction());
}

/// 1. Fee, reserve and two outputs above dust are the least that a channel can hold; if the least payment is more than the
///    outputs, it counts instead.
/// 2. One satoshi less is refused by the payee.
/// 3. The payer refuses it too, after a payee that was told of more.
#[test]
fn capacity_has_to_hold_fee_reserve_and_a_payment() {
    let chain = start();
    let reserve = sat(2_000);
    for construction in Construction::ALL {
        for (minimum, payable) in [(sat(1), DUST * 2), (sat(5_000), sat(5_000))] {
            let mut case = cast(&chain, construction);
            case.limit(|limits| limits.capacity = sat(1)..=Capacity::MAX.to_amount());
            (case.setup.terms.reserve, case.setup.terms.minimum_payment) = (reserve, minimum);
            let payee = case.agree(&chain).expect("there is room").state.payee;
            let capacity = payee.params().terms().capacity.to_amount();
            let fee = capacity - reserve - payee.params().spendable();
            let needed = fee + reserve + payable;

            let of = |sum| Capacity::new(sum).expect("a capacity");
            case.setup.terms.capacity = of(needed);
            let told = case.setup.terms.clone();
            assert!(case.agree(&chain).is_ok(), "{construction}: {needed}");
            let capacity = needed - Amount::ONE_SAT;
            let too_small = Refusal::Params(ParamsError::CapacityTooSmall { needed, capacity });
            case.setup.terms.capacity = of(capacity);
            for told in [None, Some(told)] {
                case.told = told;
                let refused = case.agree(&chain).map(drop);
                assert_eq!(refused, Err(too_small.clone()), "{construction}: {:?}", case.told);
            }
        }
    }
}
