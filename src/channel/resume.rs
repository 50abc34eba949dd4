//! What both sides say to resume a channel on a new connection, and the proofs that they hold the channel's keys.
//!
//! The funding outpoint is public. Without a proof, anyone could ask what was paid, or take the payer's place. So each side
//! signs what it says with its channel key. Such a signature is good for nothing else:
//!
//! - **On another connection**: it commits to the random bytes of both hellos, and the verifier's own are fresh. If a cloned
//!   machine repeats them, a replay reveals what was paid, and no money is lost.
//! - **For another channel**: it commits to the funding outpoint; and no two channels share a key.
//! - **From the other side**: it begins with the role, and each role has a key. Nor are the two keys aliases: BIP 340 knows
//!   a key by its x alone, and [`ChannelParams`] refuses K1 and K2 with the same x.
//! - **In the other scheme**: a channel has one scheme, so a key never signs in two. If it did, RFC 6979 and BIP 340 derive
//!   unrelated nonces.
//! - **As the signature of a transaction**, or the reverse: this digest is a single SHA-256 that begins with the hash of
//!   its own tag, twice. Digests of transactions are double SHA-256, or begin with the tag `TapSighash`: the two are equal
//!   only where SHA-256 collides. The peer's random bytes cannot steer it there.
//! - **As a part of a cooperative signature**: that is over the aggregate key, which the challenge of BIP 340 contains.
//! - **Changed, or under another key**: S is low, so there is no second form; and the key is that of the channel, never one
//!   that arrives.
//!
//! A proof does not protect what follows it: a relay between both sides reads everything, and can drop it. The caller's
//! connection has to be encrypted against that.

use bitcoin::consensus::serialize;
use bitcoin::hashes::{sha256, Hash, HashEngine};
use bitcoin::secp256k1::{Message as Digest, PublicKey};
use bitcoin::{Amount, OutPoint, Txid};
use thiserror::Error;

use super::channel_keys::KeyRole;
use super::keys::{ChannelKey, Signer, UnverifiedSignature};
use super::message::MessageKind;
use super::params::ChannelParams;

const TAG: &[u8] = b"spilman/resume";

/// The random bytes of both hellos of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloRandoms {
    /// The payer's.
    pub payer: [u8; 32],
    /// The payee's.
    pub payee: [u8; 32],
}

/// What a side says to resume a channel, with its proof. Nothing of it counts before the proof is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unverified<C> {
    /// A [`Resume`] or a [`Resumed`].
    pub claim: C,
    /// The signature of the side that says it.
    pub proof: UnverifiedSignature,
}

/// The payer wants to go on with this channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The funding output.
    pub funding: OutPoint,
    /// The highest sum that the payer has signed; zero if it has signed nothing.
    pub signed: Amount,
    /// The highest sum that the payee has acknowledged.
    pub acknowledged: Option<Amount>,
}

/// The payee's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// The latest payment that the payee holds.
    pub latest_payment: Option<LatestPayment>,
    /// What has become of the channel.
    pub state: ResumedState,
}

/// A payment as the payee gives it back: a payer that lost its state finds its own signature in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatestPayment {
    /// Cumulative.
    pub paid: Amount,
    /// K1's signature over the payment transaction.
    pub signature: UnverifiedSignature,
}

/// What has become of a channel, as its payee sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumedState {
    /// The funding transaction is not confirmed.
    AwaitsFunding,
    /// Payments count.
    Open,
    /// The payee has asked for a settlement.
    AwaitsSettlement,
    /// The payee has broadcast this settlement.
    Settled(Txid),
    /// The channel is over. This transaction spent the funding output, if one did.
    Closed(Option<Txid>),
}

impl ResumedState {
    /// Returns the number that stands for it on the wire, and what follows it there.
    pub(crate) const fn to_parts(self) -> (u8, Option<Txid>) {
        match self {
            Self::AwaitsFunding => (0, None),
            Self::Open => (1, None),
            Self::AwaitsSettlement => (2, None),
            Self::Settled(txid) => (3, Some(txid)),
            Self::Closed(txid) => (4, txid),
        }
    }

    /// The reverse, unless the parts do not go together.
    pub(crate) const fn from_parts(number: u8, txid: Option<Txid>) -> Option<Self> {
        match (number, txid) {
            (0, None) => Some(Self::AwaitsFunding),
            (1, None) => Some(Self::Open),
            (2, None) => Some(Self::AwaitsSettlement),
            (3, Some(txid)) => Some(Self::Settled(txid)),
            (4, txid) => Some(Self::Closed(txid)),
            _ => None,
        }
    }
}

/// A proof that is not the signature of its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the proof {proof} of {message} was not made by key {signer} over its fields, the funding outpoint and the \
     random bytes of this connection"
)]
pub struct ProofError {
    message: MessageKind,
    signer: PublicKey,
    proof: UnverifiedSignature,
}

impl Resume {
    /// Adds the proof.
    #[must_use]
    pub fn sign(self, randoms: &HelloRandoms, params: &ChannelParams, k1: &ChannelKey) -> Unverified<Self> {
        let proof = sign(&self.preimage(randoms), params, k1);
        Unverified { claim: self, proof }
    }

    /// What the proof signs: 118 bytes.
    pub(crate) fn preimage(&self, randoms: &HelloRandoms) -> Vec<u8> {
        let fields = [&sat(self.signed)[..], &option(self.acknowledged.map(sat))];
        preimage(KeyRole::Payer, randoms, self.funding, &fields)
    }
}

impl Unverified<Resume> {
    /// Returns what the payer says, if K1 signed it for this connection. The parameters are those of the channel that it
    /// names.
    ///
    /// # Errors
    /// If it did not.
    pub fn verify(self, randoms: &HelloRandoms, params: &ChannelParams) -> Result<Resume, ProofError> {
        let k1 = params.payer_key().to_public_key();
        self.verify_by(randoms, &Signer::new(params.scripts().scheme(), k1))
    }

    pub(crate) fn verify_by(self, randoms: &HelloRandoms, k1: &Signer) -> Result<Resume, ProofError> {
        verify(MessageKind::Resume, self.proof, &self.claim.preimage(randoms), k1)?;
        Ok(self.claim)
    }
}

impl Resumed {
    /// Adds the proof.
    #[must_use]
    pub fn sign(
        self,
        randoms: &HelloRandoms,
        funding: OutPoint,
        params: &ChannelParams,
        k2: &ChannelKey,
    ) -> Unverified<Self> {
        let proof = sign(&self.preimage(randoms, funding), params, k2);
        Unverified { claim: self, proof }
    }

    /// What the proof signs: 209 bytes.
    pub(crate) fn preimage(&self, randoms: &HelloRandoms, funding: OutPoint) -> Vec<u8> {
        let (state, txid) = self.state.to_parts();
        let fields = [
            &option(self.latest_payment.map(|payment| sat(payment.paid)))[..],
            &option(self.latest_payment.map(|payment| payment.signature.to_compact())),
            &[state],
            &option(txid.map(Txid::to_byte_array)),
        ];
        preimage(KeyRole::Payee, randoms, funding, &fields)
    }
}

impl Unverified<Resumed> {
    /// Returns what the payee says, if K2 signed it for this connection and this channel.
    ///
    /// # Errors
    /// If it did not.
    pub fn verify(
        self,
        randoms: &HelloRandoms,
        funding: OutPoint,
        params: &ChannelParams,
    ) -> Result<Resumed, ProofError> {
        let k2 = params.payee_key().to_public_key();
        self.verify_by(randoms, funding, &Signer::new(params.scripts().scheme(), k2))
    }

    pub(crate) fn verify_by(
        self,
        randoms: &HelloRandoms,
        funding: OutPoint,
        k2: &Signer,
    ) -> Result<Resumed, ProofError> {
        let preimage = self.claim.preimage(randoms, funding);
        verify(MessageKind::Resumed, self.proof, &preimage, k2)?;
        Ok(self.claim)
    }
}

fn sign(preimage: &[u8], params: &ChannelParams, key: &ChannelKey) -> UnverifiedSignature {
    key.sign(params.scripts().scheme(), &digest(preimage))
        .to_unverified()
}

fn verify(
    message: MessageKind,
    proof: UnverifiedSignature,
    preimage: &[u8],
    signer: &Signer,
) -> Result<(), ProofError> {
    match proof.verify(&digest(preimage), signer) {
        Ok(_) => Ok(()),
        Err(_) => Err(ProofError {
            message,
            signer: signer.public_key(),
            proof,
        }),
    }
}

/// BIP 340's tagged hash.
pub(crate) fn digest(preimage: &[u8]) -> Digest {
    let tag = sha256::Hash::hash(TAG);
    let mut engine = sha256::Hash::engine();
    for part in [tag.as_byte_array(), tag.as_byte_array(), preimage] {
        engine.input(part);
    }
    Digest::from_digest(sha256::Hash::from_engine(engine).to_byte_array())
}

/// Every field has a fixed width, so that no two claims have the same bytes. Numbers are little endian, as in a transaction.
fn preimage(role: KeyRole, randoms: &HelloRandoms, funding: OutPoint, fields: &[&[u8]]) -> Vec<u8> {
    let role = match role {
        KeyRole::Payer => 0,
        KeyRole::Payee => 1,
    };
    let head = [&[role][..], &randoms.payer, &randoms.payee, &serialize(&funding)].concat();
    [head, fields.concat()].concat()
}

fn sat(amount: Amount) -> [u8; 8] {
    amount.to_sat().to_le_bytes()
}

/// A byte that says whether the field is there, then the field, or zeros.
fn option<const N: usize>(field: Option<[u8; N]>) -> Vec<u8> {
    let is_there = u8::from(field.is_some());
    [&[is_there][..], &field.unwrap_or([0; N])].concat()
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::SecretKey;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::test_support::{example_of, example_on, key, Example};
    use super::super::{Construction, Protocol, Refusal, RefusalReason};
    use super::*;

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

    fn payment() -> impl Strategy<Value = LatestPayment> {
        (amount(), any::<[[u8; 32]; 2]>()).prop_map(|(paid, halves)| LatestPayment {
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

            let zeros = LatestPayment { paid: Amount::ZERO, signature: UnverifiedSignature::from_compact([0; 64]) };
            let no_txid = Txid::from_byte_array([0; 32]);
            let mut payments = vec![other.latest_payment, claim.latest_payment.xor(Some(zeros))];
            payments.extend(claim.latest_payment.map(|now| Some(LatestPayment { paid: payment.paid, ..now })));
            payments.extend(claim.latest_payment.map(|now| Some(LatestPayment { signature: payment.signature, ..now })));
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
            latest_payment: Some(LatestPayment {
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
}
