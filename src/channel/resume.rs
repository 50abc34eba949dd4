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
use super::durable::SignedPayment;
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
    /// The latest payment that the payee holds. A payer that lost its state finds its own signature in it.
    pub latest_payment: Option<SignedPayment>,
    /// What has become of the channel.
    pub state: ResumedState,
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
mod tests;
