use std::fmt;

use bitcoin::consensus::encode;
use bitcoin::hashes::{sha256, Hash, HashEngine};
use bitcoin::hex::DisplayHex;
use bitcoin::secp256k1::{Message, PublicKey};
use bitcoin::OutPoint;
use musig2::secp::{MaybeScalar, Point, Scalar};
use musig2::{PubNonce, SecNonce};
use zeroize::Zeroizing;

use super::{to_point, to_scalar, AggregateOutputKey, ChannelKey, MusigError};

/// 32 random bytes for one [`SecretNonce`], used only once.
///
/// This crate makes no random numbers, so they come from the caller, fresh from the operating system each time:
/// not from a file, a counter, or a test's constant. The same seed for the same channel makes the same nonce,
/// and three partial signatures with one nonce are three equations with three unknowns, one of which is the
/// secret key. Nothing in a signature shows that this has happened.
///
/// It can be neither copied nor printed, so one value makes one nonce:
///
/// ```compile_fail,E0382
/// # use bitcoin::secp256k1::SecretKey;
/// # use bitcoin::OutPoint;
/// # use spilman::channel::*;
/// # let key = |byte| ChannelKey::new(SecretKey::from_slice(&[byte; 32]).unwrap());
/// # let (k1, k2, outpoint) = (key(1), key(2), OutPoint::null());
/// # let output = AggregateKey::new(PayerKey::new(k1.public_key()), PayeeKey::new(k2.public_key())).tweaked(None);
/// let seed = NonceSeed::new([5; 32]);
/// let first = SecretNonce::generate(seed, &k2, &output, outpoint);
/// let second = SecretNonce::generate(seed, &k2, &output, outpoint); // use of moved value
/// ```
pub struct NonceSeed(Zeroizing<[u8; 32]>);

impl NonceSeed {
    /// Marks the bytes as fresh, which the caller must guarantee.
    #[must_use]
    pub fn new(fresh: [u8; 32]) -> Self {
        Self(Zeroizing::new(fresh))
    }
}

/// The payee's secret nonce, good for one signature.
///
/// Signing takes it by value, and it can be neither copied nor stored. After a restart the payee asks the payer again
/// with a new one; a nonce on disk could come back from a backup and sign twice. Signing twice does not compile:
///
/// ```compile_fail,E0382
/// # use bitcoin::secp256k1::{Message, SecretKey};
/// # use bitcoin::OutPoint;
/// # use spilman::channel::*;
/// # let key = |byte| ChannelKey::new(SecretKey::from_slice(&[byte; 32]).unwrap());
/// # let (k1, k2, outpoint) = (key(1), key(2), OutPoint::null());
/// # let output = AggregateKey::new(PayerKey::new(k1.public_key()), PayeeKey::new(k2.public_key())).tweaked(None);
/// # let digest = Message::from_digest([4; 32]);
/// let asked = SecretNonce::generate(NonceSeed::new([5; 32]), &k2, &output, outpoint);
/// let (nonce, partial) = output.sign_with(&k1, &asked.public(), &digest)?;
/// output.complete(asked, &k2, &nonce, &partial, &digest)?;
/// output.complete(asked, &k2, &nonce, &partial, &digest)?; // use of moved value
/// # Ok::<(), MusigError>(())
/// ```
///
/// Nor does a copy:
///
/// ```compile_fail,E0277
/// fn copied<T: Clone>() {}
/// copied::<spilman::channel::SecretNonce>();
/// ```
pub struct SecretNonce {
    nonce: SecNonce,
    bound: PublicKey,
}

impl SecretNonce {
    /// `NonceGen` of BIP 327 with the secret key, the output key, and the funding outpoint as extra input. A
    /// seed that does repeat, against its promise, then does harm in the same channel only.
    ///
    /// The digest is not mixed in: the payee asks before the settlement is agreed.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a seed that is still there can be used again"
    )]
    pub fn generate(
        seed: NonceSeed,
        key: &ChannelKey,
        output: &AggregateOutputKey,
        funding: OutPoint,
    ) -> Self {
        let nonce = SecNonce::build_with_seckey(*seed.0, to_scalar(key))
            .with_aggregated_pubkey(output.context.aggregated_pubkey::<Point>())
            .with_extra_input(&encode::serialize(&funding))
            .build();
        Self {
            nonce,
            bound: key.public_key(),
        }
    }

    /// The nonce of `DeterministicSign` in BIP 327, without its optional randomness.
    pub(super) fn derive(
        key: &ChannelKey,
        output: &AggregateOutputKey,
        theirs: &PublicNonce,
        digest: &Message,
    ) -> Self {
        let scalar = |index| derived_scalar(&key.secret_bytes(), output, theirs, digest, index);
        let bound = key.public_key();
        Self {
            nonce: SecNonce::new(scalar(0), scalar(1), to_point(&bound.serialize())),
            bound,
        }
    }

    /// Returns the half that the other party gets.
    pub fn public(&self) -> PublicNonce {
        let PubNonce { R1, R2 } = self.nonce.public_nonce();
        PublicNonce(R1, R2)
    }

    /// What signs, if the key is the one for which it was made.
    pub(super) fn open(self, key: &ChannelKey) -> Result<SecNonce, MusigError> {
        let used = key.public_key();
        if used == self.bound {
            Ok(self.nonce)
        } else {
            Err(MusigError::WrongNonce {
                bound: self.bound,
                used,
            })
        }
    }
}

impl fmt::Debug for SecretNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretNonce({})", self.public())
    }
}

fn derived_scalar(
    secret: &[u8; 32],
    output: &AggregateOutputKey,
    theirs: &PublicNonce,
    digest: &Message,
    index: u8,
) -> Scalar {
    let tag = sha256::Hash::hash(b"MuSig/deterministic/nonce");
    let mut engine = sha256::Hash::engine();
    engine.input(tag.as_ref());
    engine.input(tag.as_ref());
    engine.input(secret);
    engine.input(&theirs.to_bytes());
    engine.input(&output.key.serialize());
    engine.input(&32_u64.to_be_bytes());
    engine.input(digest.as_ref());
    engine.input(&[index]);
    MaybeScalar::reduce_from(&sha256::Hash::from_engine(engine).to_byte_array())
        .not_zero()
        .expect("a SHA-256 of zero, or of the curve's order, would be a chosen one")
}

/// The public half of a nonce, two points of the curve: 66 bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicNonce(Point, Point);

impl PublicNonce {
    /// Reads two compressed points from the wire.
    ///
    /// # Errors
    ///
    /// [`MusigError::InvalidNonce`] if either half is not a point of the curve, or is the point at infinity.
    pub fn from_bytes(bytes: [u8; 66]) -> Result<Self, MusigError> {
        PubNonce::try_from(bytes)
            .map(|PubNonce { R1, R2 }| Self(R1, R2))
            .map_err(|_| MusigError::InvalidNonce { nonce: bytes })
    }

    /// Returns its bytes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 66] {
        self.to_pub_nonce().serialize()
    }

    pub(super) fn to_pub_nonce(self) -> PubNonce {
        PubNonce::new(self.0, self.1)
    }
}

impl fmt::Display for PublicNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_bytes()[..].as_hex())
    }
}

impl fmt::Debug for PublicNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicNonce({self})")
    }
}
