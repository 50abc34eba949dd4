//! `MuSig2` (BIP 327) of the two parties: the taproot key path, by which a channel closes with one signature.

mod error;
mod nonce;
mod partial;
#[cfg(test)]
mod reuse;
mod source;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use error::MusigError;
pub use nonce::{NonceSeed, PublicNonce, SecretNonce};
pub use partial::PartialSignature;
pub use source::NonceSource;

use bitcoin::secp256k1::{schnorr, Message, Parity, PublicKey};
use bitcoin::{TapNodeHash, XOnlyPublicKey};
use musig2::secp::{Point, Scalar};
use musig2::{AggNonce, CompactSignature, KeyAggContext};

use super::keys::{ChannelKey, PayeeKey, PayerKey, SECP};

/// The aggregate of the two parties' keys: the internal key of the funding output (BIP 341).
///
/// The keys are sorted before they are aggregated (`KeySort` and `KeyAgg` of BIP 327), as BIP 390 wants it, so
/// that `musig(K1,K2)` and `musig(K2,K1)` in a descriptor mean this key.
///
/// A cooperative settlement has one question and one answer. The payee asks with a public nonce; the payer
/// answers with its own and with its partial signature; the payee completes the signature:
///
/// ```
/// # use bitcoin::hashes::Hash;
/// # use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
/// # use bitcoin::{OutPoint, TapNodeHash};
/// # use spilman::channel::*;
/// # let key = |byte| ChannelKey::new(SecretKey::from_slice(&[byte; 32]).unwrap());
/// # let (k1, k2, outpoint) = (key(1), key(2), OutPoint::null());
/// # let merkle_root = TapNodeHash::from_byte_array([3; 32]);
/// # let digest = Message::from_digest([4; 32]); // the key-path sighash of the settlement
/// # let seed = NonceSeed::new([5; 32]); // 32 fresh random bytes
/// let aggregate = AggregateKey::new(PayerKey::new(k1.public_key()), PayeeKey::new(k2.public_key()));
/// let output = aggregate.tweaked(Some(merkle_root));
///
/// let asked = SecretNonce::generate(seed, &k2, &output, outpoint);
/// let (nonce, partial) = output.sign_with(&k1, &asked.public(), &digest)?;
/// let signature = output.complete(asked, &k2, &nonce, &partial, &digest)?;
///
/// Secp256k1::new().verify_schnorr(&signature, &digest, &output.output_key()).expect("a BIP 340 signature");
/// # Ok::<(), MusigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct AggregateKey {
    payer: PayerKey,
    payee: PayeeKey,
    context: KeyAggContext,
}

impl AggregateKey {
    /// Aggregates the two keys. Neither party can choose its key so that the other's falls out of the sum.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "no two keys are known whose aggregate is infinity"
    )]
    pub fn new(payer: PayerKey, payee: PayeeKey) -> Self {
        let keys = participants(payer, payee).map(|key| key.serialize());
        let context = KeyAggContext::new(keys.map(|key| to_point(&key)))
            .expect("a key that cancels the other in the sum would be a preimage of SHA-256");
        Self {
            payer,
            payee,
            context,
        }
    }

    /// Returns the two keys in the order in which they are aggregated.
    pub fn participants(&self) -> [PublicKey; 2] {
        participants(self.payer, self.payee)
    }

    /// Returns the aggregate as BIP 327 has it: a plain public key, of either parity.
    pub fn aggregate(&self) -> PublicKey {
        to_public_key(self.context.aggregated_pubkey())
    }

    /// Returns the internal key, before the script tree is mixed in.
    pub fn internal_key(&self) -> XOnlyPublicKey {
        self.aggregate().x_only_public_key().0
    }

    /// Returns the output key for a script tree (BIP 341), or for none.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "no script tree is known that has no output key"
    )]
    pub fn tweaked(&self, merkle_root: Option<TapNodeHash>) -> AggregateOutputKey {
        let context = self.context.clone();
        let context = match merkle_root {
            Some(root) => context.with_taproot_tweak(root.as_ref()),
            None => context.with_unspendable_taproot_tweak(),
        }
        .expect("a tweak out of range, or one that cancels the key, would be a chosen SHA-256");
        AggregateOutputKey::new(self.payer, self.payee, context)
    }
}

/// The key of the funding output, with what is needed to sign for it together.
///
/// Its signatures are plain BIP 340 signatures: on chain they look like those of any single key.
#[derive(Debug, Clone)]
pub struct AggregateOutputKey {
    payer: PayerKey,
    payee: PayeeKey,
    context: KeyAggContext,
    key: XOnlyPublicKey,
    parity: Parity,
}

impl AggregateOutputKey {
    fn new(payer: PayerKey, payee: PayeeKey, context: KeyAggContext) -> Self {
        let (key, parity) = to_public_key(context.aggregated_pubkey()).x_only_public_key();
        Self {
            payer,
            payee,
            context,
            key,
            parity,
        }
    }

    /// Returns the key in the output's script.
    pub const fn output_key(&self) -> XOnlyPublicKey {
        self.key
    }

    /// Returns the parity of the output key, which the control block of a script spend carries (BIP 341).
    pub const fn parity(&self) -> Parity {
        self.parity
    }

    /// Returns the payer's answer to the payee's nonce: its own public nonce, and its partial signature over the
    /// digest of the agreed settlement.
    ///
    /// The payer keeps nothing for it. Its nonce is derived from its key, the payee's nonce, the output key and
    /// the digest (BIP 327, "Deterministic and Stateless Signing for a Single Signer"), so the same request has
    /// the same answer, also after a restart, and another request has another nonce. Only one of two parties
    /// may sign like this, and only the one who sees the other's nonce first.
    ///
    /// # Errors
    ///
    /// [`MusigError::WrongKey`] if the key is not the payer's.
    pub fn sign_with(
        &self,
        key: &ChannelKey,
        theirs: &PublicNonce,
        digest: &Message,
    ) -> Result<(PublicNonce, PartialSignature), MusigError> {
        require(self.payer.to_public_key(), key)?;
        let nonce = SecretNonce::derive(key, self, theirs, digest);
        let ours = nonce.public();
        let sum = add([&ours, theirs]);
        Ok((ours, self.sign(nonce, key, &sum, digest)?))
    }

    /// Completes the signature as the payee: checks the payer's partial signature and adds its own.
    ///
    /// The nonce is gone afterwards, on an error as well. To ask again the payee makes a new one.
    ///
    /// # Errors
    ///
    /// [`MusigError::WrongKey`] if the key is not the payee's, [`MusigError::WrongNonce`] if the secret nonce
    /// was made for another key, and [`MusigError::WrongPartial`] if the payer's part does not fit the two
    /// nonces and the digest.
    pub fn complete(
        &self,
        nonce: SecretNonce,
        key: &ChannelKey,
        theirs: &PublicNonce,
        partial: &PartialSignature,
        digest: &Message,
    ) -> Result<schnorr::Signature, MusigError> {
        Ok(self
            .complete_in_steps(nonce, key, theirs, partial, digest)?
            .signature)
    }

    /// The same with the intermediate values, none of which is secret.
    pub(crate) fn complete_in_steps(
        &self,
        nonce: SecretNonce,
        key: &ChannelKey,
        theirs: &PublicNonce,
        partial: &PartialSignature,
        digest: &Message,
    ) -> Result<Completed, MusigError> {
        require(self.payee.to_public_key(), key)?;
        let sum = add([&nonce.public(), theirs]);
        self.verify(self.payer.to_public_key(), theirs, &sum, partial, digest)?;
        let ours = self.sign(nonce, key, &sum, digest)?;
        Ok(Completed {
            signature: self.aggregate(&sum, [*partial, ours], digest)?,
            #[cfg(feature = "fixtures")]
            aggregate_nonce: sum.serialize(),
            #[cfg(feature = "fixtures")]
            partial: ours,
        })
    }

    fn sign(
        &self,
        nonce: SecretNonce,
        key: &ChannelKey,
        sum: &AggNonce,
        digest: &Message,
    ) -> Result<PartialSignature, MusigError> {
        let nonce = nonce.open(key)?;
        let partial = musig2::sign_partial(&self.context, to_scalar(key), nonce, sum, digest.as_ref())
            .expect("the key is a party's and the nonce is the key's, so only broken arithmetic is left");
        Ok(PartialSignature(partial))
    }

    fn verify(
        &self,
        signer: PublicKey,
        nonce: &PublicNonce,
        sum: &AggNonce,
        partial: &PartialSignature,
        digest: &Message,
    ) -> Result<(), MusigError> {
        let point = to_point(&signer.serialize());
        musig2::verify_partial(
            &self.context,
            partial.0,
            sum,
            point,
            &nonce.to_pub_nonce(),
            digest.as_ref(),
        )
        .map_err(|_| MusigError::WrongPartial {
            signer,
            partial: *partial,
        })
    }

    /// The sum of both parts, checked by the library that checks the signatures of blocks.
    fn aggregate(
        &self,
        sum: &AggNonce,
        partials: [PartialSignature; 2],
        digest: &Message,
    ) -> Result<schnorr::Signature, MusigError> {
        let wrong = MusigError::WrongSum { key: self.key };
        let parts = partials.map(|partial| partial.0);
        let whole: CompactSignature =
            musig2::aggregate_partial_signatures(&self.context, sum, parts, digest.as_ref())
                .map_err(|_| wrong)?;
        let signature = schnorr::Signature::from_slice(&whole.serialize()).map_err(|_| wrong)?;
        SECP.verify_schnorr(&signature, digest, &self.key)
            .map_err(|_| wrong)?;
        Ok(signature)
    }
}

/// The payee's end of a signature of both.
pub(crate) struct Completed {
    pub signature: schnorr::Signature,
    /// The sum of both public nonces.
    #[cfg(feature = "fixtures")]
    pub aggregate_nonce: [u8; 66],
    /// The payee's part.
    #[cfg(feature = "fixtures")]
    pub partial: PartialSignature,
}

/// Sorted as bytes (`KeySort`).
fn participants(payer: PayerKey, payee: PayeeKey) -> [PublicKey; 2] {
    let mut keys = [payer.to_public_key(), payee.to_public_key()];
    keys.sort_unstable_by_key(PublicKey::serialize);
    keys
}

fn require(expected: PublicKey, key: &ChannelKey) -> Result<(), MusigError> {
    let used = key.public_key();
    if used == expected {
        Ok(())
    } else {
        Err(MusigError::WrongKey { expected, used })
    }
}

fn add(nonces: [&PublicNonce; 2]) -> AggNonce {
    AggNonce::sum(nonces.map(|nonce| nonce.to_pub_nonce()))
}

// `musig2` stands on another version of `secp256k1`, so keys cross over as bytes.

fn to_point(key: &[u8; 33]) -> Point {
    Point::from_slice(key).expect("both libraries take the same points")
}

fn to_public_key(point: Point) -> PublicKey {
    PublicKey::from_slice(&point.serialize()).expect("both libraries take the same points")
}

fn to_scalar(key: &ChannelKey) -> Scalar {
    Scalar::from_slice(&key.secret_bytes()).expect("both libraries take the same secret keys")
}
