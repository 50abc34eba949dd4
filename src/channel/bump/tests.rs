use bitcoin::hashes::Hash;
use bitcoin::secp256k1::Message;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};

use super::*;
use crate::channel::keys::Scheme;
use crate::channel::test_support::{example, key, payout, Example};
use crate::channel::transaction::{PaymentTx, SpendTemplate};

const FIVE: FeeRate = FeeRate::from_sat_per_kwu(1_250);

fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

/// At the agreed 2 sat/vB.
fn settlement(example: &Example, paid: Amount) -> SettlementTx {
    let funding = OutPoint::new(Txid::from_byte_array([7; 32]), 0);
    let balance = example.params.balance(paid).unwrap();
    let signature = SpendTemplate::payment(&example.params, funding, &balance).sign(&example.payer);
    let payment = PaymentTx::new(balance, signature);
    payment.redeem(&example.params, funding, &example.payee).unwrap()
}

fn to() -> ScriptBuf {
    payout(&key("spilman/test/wallet"))
}

fn child(cpfp: &Cpfp, paid: u64) -> Result<ChildTx, CpfpError> {
    let example = example();
    cpfp.settlement(&example.params, &settlement(&example, sat(paid)))
}

/// With the payee's key, as its P2WPKH output wants it.
fn sign(child: &ChildTx) -> Transaction {
    let (key, mut tx) = (example().payee, child.unsigned().clone());
    let (script, value) = (&child.prevout().script_pubkey, child.prevout().value);
    let hash = SighashCache::new(&tx)
        .p2wpkh_signature_hash(0, script, value, EcdsaSighashType::All)
        .unwrap();
    let signature = key.sign(Scheme::Ecdsa, &Message::from(hash)).to_script_bytes();
    tx.input[0].witness = Witness::from_slice(&[signature, key.public_key().serialize().to_vec()]);
    tx
}

#[test]
fn a_child_pays_for_itself_and_for_what_its_parent_is_short_of() {
    let example = example();
    let parent = settlement(&example, sat(300_000));
    let child = Cpfp::new(FIVE, to())
        .settlement(&example.params, &parent)
        .unwrap();
    // One P2WPKH input and output: 109.25 vbytes with the largest signature.
    let both = parent.tx().vsize() as u64 + 110;
    assert_eq!(child.fee() + parent.balance().fee, sat(5 * both));
    let [output] = &child.unsigned().output[..] else {
        panic!("one output")
    };
    assert_eq!(output.value, sat(300_000) - child.fee());
    assert_eq!(output.script_pubkey, to());
    assert_eq!(child.unsigned().version, SPEND_VERSION);
    let spent = child.unsigned().input[0].previous_output;
    assert_eq!(
        spent,
        OutPoint::new(parent.tx().compute_txid(), 1),
        "change comes first"
    );

    let signed = sign(&child);
    let package = child.complete(signed.clone()).unwrap();
    assert_eq!(package.transactions(), [parent.tx().clone(), signed]);
    assert!(package.feerate() >= FIVE, "{} sat/kwu", package.feerate());
}

#[test]
fn a_parent_that_pays_enough_needs_no_child() {
    let example = example();
    let parent = settlement(&example, sat(300_000));
    let (paid, vsize) = (parent.balance().fee, parent.tx().vsize() as u64);
    let just = FeeRate::from_sat_per_kwu(paid.to_sat() * 250 / vsize);
    let needed = just.fee_vb(vsize).unwrap();
    assert_eq!(
        child(&Cpfp::new(just, to()), 300_000),
        Err(CpfpError::Sufficient { paid, needed })
    );
    let more = FeeRate::from_sat_per_kwu(just.to_sat_per_kwu() + 5);
    assert!(
        child(&Cpfp::new(more, to()), 300_000).is_ok(),
        "from {paid} to {more}"
    );
}

/// 293 satoshi are left out of the settlement, so that there is nothing to pay with; and of more there must be
/// something left.
#[test]
fn an_output_has_to_be_worth_fee_and_dust() {
    let cpfp = Cpfp::new(FIVE, to());
    let none = child(&cpfp, 293);
    assert!(matches!(none, Err(CpfpError::NoOutput { .. })), "{none:?}");

    let fee = child(&cpfp, 300_000).unwrap().fee();
    let dust = sat(294);
    // A byte less of a signature is two satoshi less.
    let near = fee.to_sat() + 294;
    let fits = |paid: &u64| child(&cpfp, *paid).is_ok();
    let least = (near - 20..near + 20).find(fits).expect("one of them fits");
    let fits = child(&cpfp, least).unwrap();
    assert!(fits.unsigned().output[0].value >= dust);
    let error = child(&cpfp, least - 1).unwrap_err();
    let CpfpError::OutputTooSmall {
        value,
        fee,
        dust: wanted,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((value, wanted), (sat(least - 1), dust));
    assert!(value < fee + dust, "{value} and {fee}");
}

#[test]
fn a_child_of_version_3_has_at_most_1000_vbytes() {
    // The rest has 41 + 10 + 31 vbytes, and 2 + 1 + 3 weight units.
    let input = |len| InputWeightPrediction::from_slice(0, &[len]);
    let cpfp = |len| Cpfp::new(FIVE, to()).input(input(len));
    assert!(child(&cpfp(4_000 - 4 * 82 - 6), 300_000).is_ok());
    let large = child(&cpfp(4_000 - 4 * 82 - 5), 300_000);
    let (vsize, limit) = (1_001, MAX_CHILD_VSIZE);
    assert_eq!(large, Err(CpfpError::ChildTooLarge { vsize, limit }));
}

#[test]
fn what_the_wallet_signed_is_checked() {
    let cpfp = Cpfp::new(FIVE, to());
    let child = || child(&cpfp, 300_000).unwrap();
    let signed = sign(&child());

    let mut other = signed.clone();
    other.output[0].value += Amount::ONE_SAT;
    let (expected, received) = (signed.compute_txid(), other.compute_txid());
    assert_eq!(
        child().complete(other),
        Err(CpfpError::AnotherChild { expected, received })
    );

    let unsigned = child().unsigned().clone();
    let error = child().complete(unsigned).unwrap_err();
    assert!(matches!(error, CpfpError::Spend(_)), "{error}");
    assert!(child().complete(signed).is_ok());
}

/// The wallet said that its input is small, and it is not.
#[test]
fn a_package_below_the_feerate_is_no_package() {
    let cpfp = Cpfp::new(FIVE, to()).input(InputWeightPrediction::from_slice(0, &[65]));
    let child = child(&cpfp, 300_000).unwrap();
    let signed = sign(&child);
    let error = child.complete(signed).unwrap_err();
    let CpfpError::BelowFeerate {
        paid,
        needed,
        feerate,
    } = error
    else {
        panic!("{error}");
    };
    assert!(paid < needed, "{paid} and {needed}");
    assert_eq!(feerate, FIVE);
}

#[test]
fn a_feerate_or_a_script_without_sense_is_refused() {
    let huge = FeeRate::from_sat_per_kwu(u64::MAX);
    let overflow = child(&Cpfp::new(huge, to()), 300_000);
    assert!(
        matches!(overflow, Err(CpfpError::FeeOverflow { .. })),
        "{overflow:?}"
    );
    let burnt = child(&Cpfp::new(FIVE, ScriptBuf::new_op_return([1; 3])), 300_000);
    assert!(
        matches!(burnt, Err(CpfpError::Payout(TermsError::Payout { .. }))),
        "{burnt:?}"
    );
}
