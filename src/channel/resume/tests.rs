use bitcoin::secp256k1::SecretKey;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::channel::test_support::{example_of, example_on, key, Example};
use crate::channel::{Construction, Protocol, Refusal, RefusalReason};

const ECDSA: Construction = Construction::P2wsh;
const SCHNORR: Construction = Construction::Taproot;

fn example(construction: Construction) -> Example {
    example_on(construction, Protocol::Example7)
}

fn randoms() -> impl Strategy<Value = HelloRandoms> {
    any::<[[u8; 32]; 2]>().prop_map(|[payer, payee]| HelloRandoms { payer, payee })
}

fn amount() -> impl Strategy<Value = Amount> {
    (0..=Amount::MAX_MONEY.to_sat()).prop_map(Amount::from_sat)
}

fn txid() -> impl Strategy<Value = Txid> {
    any::<[u8; 32]>().prop_map(Txid::from_byte_array)
}

fn outpoint() -> impl Strategy<Value = OutPoint> {
    (txid(), any::<u32>()).prop_map(|(txid, vout)| OutPoint { txid, vout })
}

fn resume() -> impl Strategy<Value = Resume> {
    let fields = (outpoint(), amount(), option::of(amount()));
    fields.prop_map(|(funding, signed, acknowledged)| Resume {
        funding,
        signed,
        acknowledged,
    })
}

fn payment() -> impl Strategy<Value = SignedPayment> {
    (amount(), any::<[[u8; 32]; 2]>()).prop_map(|(paid, halves)| SignedPayment {
        paid,
        signature: UnverifiedSignature::from_compact(halves.concat().try_into().unwrap()),
    })
}

fn state() -> impl Strategy<Value = ResumedState> {
    prop_oneof![
        Just(ResumedState::AwaitsFunding),
        Just(ResumedState::Open),
        Just(ResumedState::AwaitsSettlement),
        txid().prop_map(ResumedState::Settled),
        option::of(txid()).prop_map(ResumedState::Closed),
    ]
}

fn resumed() -> impl Strategy<Value = Resumed> {
    (option::of(payment()), state()).prop_map(|(latest_payment, state)| Resumed {
        latest_payment,
        state,
    })
}

/// The same randoms with one of them changed, and both exchanged.
fn changed_randoms(randoms: HelloRandoms, other: HelloRandoms) -> [HelloRandoms; 3] {
    let HelloRandoms { payer, payee } = other;
    [
        HelloRandoms { payer, ..randoms },
        HelloRandoms { payee, ..randoms },
        HelloRandoms {
            payer: randoms.payee,
            payee: randoms.payer,
        },
    ]
}

fn changed_outpoints(outpoint: OutPoint, other: OutPoint) -> [OutPoint; 2] {
    let OutPoint { txid, vout } = other;
    [OutPoint { txid, ..outpoint }, OutPoint { vout, ..outpoint }]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn the_payer_proves_all_that_it_says(
        construction in prop::sample::select(vec![ECDSA, SCHNORR]),
        (claim, other) in (resume(), resume()),
        (randoms, elsewhere) in (randoms(), randoms()),
    ) {
        let Example { params, payer, payee } = example(construction);
        let Unverified { proof, .. } = claim.sign(&randoms, &params, &payer);
        let is_proven = |claim: Resume, proof, randoms| Unverified { claim, proof }.verify(&randoms, &params) == Ok(claim);
        prop_assert!(is_proven(claim, proof, randoms));

        let mut changed = vec![
            Resume { signed: other.signed, ..claim },
            Resume { acknowledged: other.acknowledged, ..claim },
            // Nothing becomes zero, something becomes nothing.
            Resume { acknowledged: claim.acknowledged.xor(Some(Amount::ZERO)), ..claim },
        ];
        changed.extend(changed_outpoints(claim.funding, other.funding).map(|funding| Resume { funding, ..claim }));
        for changed in changed.into_iter().filter(|changed| *changed != claim) {
            prop_assert!(!is_proven(changed, proof, randoms), "{:?}", changed);
        }
        for changed in changed_randoms(randoms, elsewhere) {
            prop_assert!(!is_proven(claim, proof, changed), "{:?}", changed);
        }
        let by_payee = claim.sign(&randoms, &params, &payee).proof;
        prop_assert!(!is_proven(claim, by_payee, randoms));
    }

    #[test]
    fn the_payee_proves_all_that_it_says(
        construction in prop::sample::select(vec![ECDSA, SCHNORR]),
        (claim, other) in (resumed(), resumed()),
        (payment, txid) in (payment(), txid()),
        (funding, other_funding) in (outpoint(), outpoint()),
        (randoms, elsewhere) in (randoms(), randoms()),
    ) {
        let Example { params, payer, payee } = example(construction);
        let Unverified { proof, .. } = claim.sign(&randoms, funding, &params, &payee);
        let is_proven = |claim: Resumed, proof, randoms, funding| {
            Unverified { claim, proof }.verify(&randoms, funding, &params) == Ok(claim)
        };
        prop_assert!(is_proven(claim, proof, randoms, funding));

        let zeros = SignedPayment { paid: Amount::ZERO, signature: UnverifiedSignature::from_compact([0; 64]) };
        let no_txid = Txid::from_byte_array([0; 32]);
        let mut payments = vec![other.latest_payment, claim.latest_payment.xor(Some(zeros))];
        payments.extend(claim.latest_payment.map(|now| Some(SignedPayment { paid: payment.paid, ..now })));
        payments.extend(claim.latest_payment.map(|now| Some(SignedPayment { signature: payment.signature, ..now })));
        let mut states = vec![other.state];
        states.extend(match claim.state {
            ResumedState::AwaitsFunding => [ResumedState::Open, ResumedState::Closed(None)],
            ResumedState::Open => [ResumedState::AwaitsFunding, ResumedState::AwaitsSettlement],
            ResumedState::AwaitsSettlement => [ResumedState::Open, ResumedState::Settled(no_txid)],
            ResumedState::Settled(now) => [ResumedState::Settled(txid), ResumedState::Closed(Some(now))],
            ResumedState::Closed(now) => [ResumedState::Closed(now.xor(Some(no_txid))), ResumedState::Closed(Some(txid))],
        });
        let payments = payments.into_iter().map(|latest_payment| Resumed { latest_payment, ..claim });
        let states = states.into_iter().map(|state| Resumed { state, ..claim });
        for changed in payments.chain(states).filter(|changed| *changed != claim) {
            prop_assert!(!is_proven(changed, proof, randoms, funding), "{:?}", changed);
        }
        for changed in changed_outpoints(funding, other_funding) {
            prop_assert!(!is_proven(claim, proof, randoms, changed), "{:?}", changed);
        }
        for changed in changed_randoms(randoms, elsewhere) {
            prop_assert!(!is_proven(claim, proof, changed, funding), "{:?}", changed);
        }
        let by_payer = claim.sign(&randoms, funding, &params, &payer).proof;
        prop_assert!(!is_proven(claim, by_payer, randoms, funding));
    }
}

const RANDOMS: HelloRandoms = HelloRandoms {
    payer: [0xa1; 32],
    payee: [0xa2; 32],
};

fn any_resume() -> Resume {
    Resume {
        funding: OutPoint::new(Txid::from_byte_array([0xf0; 32]), 0x0102_0304),
        signed: Amount::from_sat(0x0102),
        acknowledged: Some(Amount::from_sat(1)),
    }
}

/// As WIRE.md has them, field by field.
#[test]
fn every_field_has_its_place_in_what_is_signed() {
    let head = [&[0xa1; 32][..], &[0xa2; 32], &[0xf0; 32], &[4, 3, 2, 1]].concat();
    let claim = any_resume();
    let rest = [2, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(claim.preimage(&RANDOMS), [&[0][..], &head, &rest].concat());
    let nothing = Resume {
        acknowledged: None,
        ..claim
    };
    let rest = [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(nothing.preimage(&RANDOMS), [&[0][..], &head, &rest].concat());

    let settled = Resumed {
        latest_payment: Some(SignedPayment {
            paid: Amount::from_sat(0x0102),
            signature: UnverifiedSignature::from_compact([0x5a; 64]),
        }),
        state: ResumedState::Settled(Txid::from_byte_array([0x7d; 32])),
    };
    let rest = [
        &[1, 2, 1, 0, 0, 0, 0, 0, 0, 1][..],
        &[0x5a; 64],
        &[3, 1],
        &[0x7d; 32],
    ]
    .concat();
    assert_eq!(
        settled.preimage(&RANDOMS, claim.funding),
        [&[1][..], &head, &rest].concat()
    );
    let nothing = Resumed {
        latest_payment: None,
        state: ResumedState::AwaitsSettlement,
    };
    let rest = [&[0; 9 + 65][..], &[2], &[0; 33]].concat();
    assert_eq!(
        nothing.preimage(&RANDOMS, claim.funding),
        [&[1][..], &head, &rest].concat()
    );
}

#[test]
fn a_proof_is_refused_by_name() {
    let Example { params, payer, .. } = example(ECDSA);
    let mut resume = any_resume().sign(&RANDOMS, &params, &payer);
    let refused = |resume: Unverified<Resume>, params: &_| resume.verify(&RANDOMS, params).unwrap_err();

    // 1. In the channel of another payer: the error names the key and the proof.
    let other = example_of(ECDSA, Protocol::Example7, key("spilman/test/stranger"));
    let error = refused(resume, &other.params);
    let says = error.to_string();
    let values = [other.payer.public_key().to_string(), resume.proof.to_string()];
    assert!(
        says.contains("resume") && values.iter().all(|value| says.contains(value)),
        "{says}"
    );
    assert_eq!(Refusal::from(error).reason(), RefusalReason::ProofWrong);

    // 2. In the other scheme.
    refused(resume, &example(SCHNORR).params);

    // 3. With the other S, which ECDSA alone would accept.
    let mut compact = resume.proof.to_compact();
    let s = SecretKey::from_slice(&compact[32..]).unwrap().negate();
    compact[32..].copy_from_slice(&s.secret_bytes());
    resume.proof = UnverifiedSignature::from_compact(compact);
    refused(resume, &params);
}

#[test]
fn a_state_has_the_txid_that_it_needs() {
    let txid = Some(Txid::from_byte_array([7; 32]));
    for number in 0..=u8::MAX {
        for txid in [None, txid] {
            let state = ResumedState::from_parts(number, txid);
            let exists = matches!((number, txid), (0..=2 | 4, None) | (3 | 4, Some(_)));
            assert_eq!(
                state.map(ResumedState::to_parts),
                exists.then_some((number, txid))
            );
        }
    }
}
