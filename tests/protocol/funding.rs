//! The payer's funding transaction: which ones it refuses, what it does when the payee withholds one, and how it refunds
//! one that was mined under another id.

use bitcoin::{Transaction, Witness};
use spilman::channel::{
    Action, CommandError, Construction, Event, FundError, Limits, Notice, Payer, Protocol, SpendRole, Stage,
};

use crate::pair::{assert_spends, channels, sees_nothing, tip, Case, Inspect, Side, HEIGHT, MTP};
use Protocol::{Bond, Example7, SteppedLocktime};

/// With a signature to come, a legacy input would change the id that the refund spends.
#[test]
fn a_funding_transaction_with_an_unsigned_input_is_not_held() {
    for case in channels() {
        for legacy in [false, true] {
            let case = if legacy {
                case.clone().legacy()
            } else {
                case.clone()
            };
            let (payer, _) = case.agreed();
            let mut tx = case.funding(payer.funding_output());
            tx.input.push(tx.input[0].clone());
            (tx.input[1].witness, tx.input[1].script_sig) = (Witness::new(), bitcoin::ScriptBuf::new());
            let held = payer.fund(tx).map(|_| ());
            assert_eq!(
                held,
                Err(FundError::UnsignedInput { input: 1 }),
                "{}",
                case.name()
            );
        }
    }
}

/// Where the refund is signed in advance it depends on the id, and the payer has to want that. Where the script has the
/// refund, it does not.
#[test]
fn a_malleable_funding_transaction_needs_the_payers_leave() {
    for case in channels() {
        let at = case.name();
        let mut case = case.legacy();
        for allowed in [true, false] {
            case.limits.malleable_funding = allowed;
            let (payer, _) = case.agreed();
            let tx = case.funding(payer.funding_output());
            let (txid, construction) = (tx.compute_txid(), case.terms.construction);
            let expected = if allowed || construction.has_script_refund() {
                Ok(())
            } else {
                Err(FundError::Malleable { txid, construction })
            };
            assert_eq!(payer.fund(tx).map(|_| ()), expected, "{at}");
        }
    }
}

/// A view this many blocks after the opening, without the funding transaction.
fn poll(payer: &mut Payer, blocks: u32) -> Vec<Action> {
    let tip = tip(HEIGHT + blocks, MTP + 600 * blocks);
    payer.apply(sees_nothing(tip)).unwrap()
}

/// The payee accepts the funding transaction and is silent. After some blocks the payer says so and broadcasts it, or leaves
/// that to its user. In the stepped protocol it did so anyway.
#[test]
fn a_funding_transaction_that_the_payee_sits_on_is_broadcast() {
    for case in channels().filter(|case| case.terms.protocol != SteppedLocktime) {
        for after in [Some(3), None] {
            let (at, mut case) = (case.name(), case.clone());
            case.limits.broadcast_funding_after = after;
            let mut payer = case.funded().payer;
            let blocks = after.unwrap_or(Limits::BROADCAST_FUNDING_AFTER);
            assert_eq!(poll(&mut payer, blocks - 1), [], "{at}");
            let broadcast = |payer: &Payer| Action::Broadcast {
                role: SpendRole::Funding,
                tx: payer.funding().tx().clone(),
            };
            let mut expected = vec![Action::Notify(Notice::FundingOverdue { blocks })];
            expected.extend(after.map(|_| broadcast(&payer)));
            assert_eq!(poll(&mut payer, blocks), expected, "{at}: {after:?}");
            // It is told once, and offered with every block.
            let again: Vec<_> = after.map(|_| broadcast(&payer)).into_iter().collect();
            assert_eq!(poll(&mut payer, blocks), [], "{at}");
            assert_eq!(poll(&mut payer, blocks + 1), again, "{at}");
            // In the margin it would lock the money for a channel without a payment; a relative lock has not begun.
            let late = case.terms.refund_lock.absolute().is_some();
            assert_eq!(poll(&mut payer, 110).is_empty(), late || after.is_none(), "{at}");
        }
    }
}

/// The same funding transaction under another id.
fn malleated(tx: &Transaction) -> Transaction {
    let mut malleated = tx.clone();
    let mut script = malleated.input[0].script_sig.to_bytes();
    script[5] ^= 1;
    malleated.input[0].script_sig = script.into();
    malleated
}

/// The payer's key alone refunds whatever pays to the script; where both signed the refund, it says why it cannot.
#[test]
fn a_refund_is_made_anew_for_a_malleated_funding_transaction() {
    for case in channels().filter(|case| case.terms.protocol != Bond) {
        let (at, construction) = (case.name(), case.terms.construction);
        let mut pair = case.legacy().funded();
        let (signed, malleated) = (pair.outpoint().txid, malleated(pair.payer.funding().tx()));
        let told = pair.tell(Side::Payer, Event::FundingMalleated(malleated.clone()));
        if !construction.has_script_refund() {
            let error = CommandError::RefundCoSigned { signed, construction };
            assert_eq!(told, Err(error.into()), "{at}");
            continue;
        }
        assert_eq!(told, Ok(Vec::new()), "{at}");
        assert_eq!(
            pair.payer.funding().outpoint().txid,
            malleated.compute_txid(),
            "{at}"
        );
        // One block before the lock nothing happens; at the lock the refund spends what was mined.
        for (blocks, roles) in [(143, &[][..]), (144, &[SpendRole::Refund])] {
            pair.tip = tip(HEIGHT + blocks, MTP);
            let before = pair.network.broadcast.len();
            pair.poll(Side::Payer, blocks, None).unwrap();
            let out: Vec<_> = pair.network.broadcast[before..]
                .iter()
                .map(|(role, _)| *role)
                .collect();
            assert_eq!(out, roles, "{at}");
        }
        let (_, refund) = pair.network.broadcast.last().unwrap();
        assert_eq!(
            refund.input[0].previous_output.txid,
            malleated.compute_txid(),
            "{at}"
        );
        assert_spends(pair.payer.params(), refund);
    }
}

/// A transaction that does not fund the channel is refused, and changes nothing.
#[test]
fn another_transaction_is_not_followed() {
    let mut pair = Case::new(Example7).on(Construction::Cltv).open();
    let mut other = pair.payer.funding().tx().clone();
    other.output.remove(0);
    let before = pair.state();
    let error = pair
        .tell(Side::Payer, Event::FundingMalleated(other))
        .unwrap_err();
    assert!(
        error.to_string().contains("has no output of 0.01000000 BTC"),
        "{error}"
    );
    assert_eq!(pair.state(), before);
    assert_eq!(pair.payer.stage(), Stage::Open);
}
