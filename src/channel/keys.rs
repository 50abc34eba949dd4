use std::fmt;
use std::sync::LazyLock;

use bitcoin::hex::DisplayHex;
use bitcoin::secp256k1::{
    ecdsa, schnorr, All, Keypair, Message, PublicKey, Secp256k1, SecretKey, XOnlyPublicKey,
};
use thiserror::Error;

/// One context for the whole process: making one costs more than a signature.
pub(crate) static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

macro_rules! role_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(PublicKey);

        impl $name {
            /// Marks a public key with its owner's role.
            #[must_use]
            pub const fn new(key: PublicKey) -> Self {
                Self(key)
            }

            /// Returns the key without its role.
            #[must_use]
            pub const fn to_public_key(self) -> PublicKey {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

role_key! {
    /// K1, the payer's public key in the funding output.
    PayerKey
}
role_key! {
    /// K2, the payee's public key in the funding output.
    PayeeKey
}

/// One party's secret for one channel.
///
/// A channel takes it by value, and it cannot be cloned: a key that serves one channel cannot sign anything that
/// matters elsewhere.
pub struct ChannelKey {
    pair: Keypair,
    secret: SecretKey,
    public: PublicKey,
}

/// Which kind of signature a construction takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// With RFC 6979 nonces and a low S.
    Ecdsa,
    /// BIP 340, with 32 zero bytes as auxiliary randomness.
    Schnorr,
}

/// A signer's public key, in the form that its scheme checks signatures with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signer {
    key: PublicKey,
    /// For Schnorr signatures.
    xonly: Option<XOnlyPublicKey>,
}

impl Signer {
    pub fn new(scheme: Scheme, key: PublicKey) -> Self {
        let xonly = match scheme {
            Scheme::Ecdsa => None,
            Scheme::Schnorr => Some(key.x_only_public_key().0),
        };
        Self { key, xonly }
    }

    pub const fn public_key(&self) -> PublicKey {
        self.key
    }
}

impl ChannelKey {
    /// Takes a fresh secret key from the caller: this module makes no random numbers.
    #[must_use]
    pub fn new(secret: SecretKey) -> Self {
        let pair = Keypair::from_secret_key(&SECP, &secret);
        Self {
            public: pair.public_key(),
            secret,
            pair,
        }
    }

    /// Returns the public half.
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }

    /// For a library with its own types.
    pub(crate) fn secret_bytes(&self) -> [u8; 32] {
        self.secret.secret_bytes()
    }

    /// The same signature for the same digest, always.
    pub(crate) fn sign(&self, scheme: Scheme, digest: &Message) -> VerifiedSignature {
        VerifiedSignature(match scheme {
            Scheme::Ecdsa => Checked::Ecdsa(SECP.sign_ecdsa(digest, &self.secret)),
            Scheme::Schnorr => Checked::Schnorr(SECP.sign_schnorr_no_aux_rand(digest, &self.pair)),
        })
    }
}

/// The memory of a key that has served is overwritten, as far as a program can: copies that the compiler made stay.
impl Drop for ChannelKey {
    fn drop(&mut self) {
        self.pair.non_secure_erase();
        self.secret.non_secure_erase();
    }
}

impl fmt::Debug for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelKey({})", self.public)
    }
}

/// An unverified signature of the peer: 64 bytes. ECDSA: `r` then `s`; Schnorr: as in
/// BIP 340.
///
/// Every signature of a channel commits to all inputs and outputs, so the hash type is not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnverifiedSignature([u8; 64]);

impl UnverifiedSignature {
    /// Any 64 bytes.
    #[must_use]
    pub const fn from_compact(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Returns the 64 bytes.
    #[must_use]
    pub const fn to_compact(self) -> [u8; 64] {
        self.0
    }

    /// Checks range, low S, and the signature itself.
    pub(crate) fn verify(
        self,
        digest: &Message,
        signer: &Signer,
    ) -> Result<VerifiedSignature, SignatureError> {
        let checked = match &signer.xonly {
            None => Checked::Ecdsa(self.verify_ecdsa(digest, &signer.key)?),
            Some(xonly) => Checked::Schnorr(self.verify_schnorr(digest, xonly, signer)?),
        };
        Ok(VerifiedSignature(checked))
    }

    fn verify_ecdsa(self, digest: &Message, signer: &PublicKey) -> Result<ecdsa::Signature, SignatureError> {
        let signature = ecdsa::Signature::from_compact(&self.0)
            .map_err(|_| SignatureError::OutOfRange { signature: self })?;
        let mut low = signature;
        low.normalize_s();
        // Consensus takes either S, but no node relays the high one: a payee that kept it would hold a
        // payment that it cannot settle. bitcoinj and two1 lost money to just that.
        if low != signature {
            return Err(SignatureError::HighS { signature: self });
        }
        SECP.verify_ecdsa(digest, &signature, signer)
            .map_err(|_| self.wrong(signer))?;
        Ok(signature)
    }

    /// BIP 340 leaves one way to write a signature, and what is out of range is just wrong.
    fn verify_schnorr(
        self,
        digest: &Message,
        key: &XOnlyPublicKey,
        signer: &Signer,
    ) -> Result<schnorr::Signature, SignatureError> {
        let signature = self.to_schnorr()?;
        SECP.verify_schnorr(&signature, digest, key)
            .map_err(|_| self.wrong(&signer.key))?;
        Ok(signature)
    }

    pub(super) fn to_schnorr(self) -> Result<schnorr::Signature, SignatureError> {
        schnorr::Signature::from_slice(&self.0).map_err(|_| SignatureError::OutOfRange { signature: self })
    }

    const fn wrong(self, signer: &PublicKey) -> SignatureError {
        SignatureError::Wrong {
            signer: *signer,
            signature: self,
        }
    }
}

impl fmt::Debug for UnverifiedSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for UnverifiedSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hex())
    }
}

/// A signature that is known to sign its transaction: made or checked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedSignature(Checked);

/// The same for a library that tells the two kinds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// With a low S.
    Ecdsa(ecdsa::Signature),
    Schnorr(schnorr::Signature),
}

impl VerifiedSignature {
    /// Returns its bytes on the wire.
    #[must_use]
    pub fn to_unverified(self) -> UnverifiedSignature {
        UnverifiedSignature(match self.0 {
            Checked::Ecdsa(signature) => signature.serialize_compact(),
            Checked::Schnorr(signature) => signature.serialize(),
        })
    }

    pub(crate) const fn checked(self) -> Checked {
        self.0
    }

    /// The form in a script: strict DER with `SIGHASH_ALL`, or the 64 bytes of BIP 340 for the default.
    pub(crate) fn to_script_bytes(self) -> Vec<u8> {
        match self.0 {
            Checked::Ecdsa(signature) => bitcoin::ecdsa::Signature::sighash_all(signature).to_vec(),
            Checked::Schnorr(signature) => signature.serialize().to_vec(),
        }
    }
}

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// `r` or `s` is not below the curve's order.
    #[error("r or s of the signature {signature} is not below the order of the curve")]
    OutOfRange {
        /// The 64 bytes.
        signature: UnverifiedSignature,
    },
    /// `s` is above half the curve's order (BIP 146), so that no node would relay the settlement.
    #[error("the signature {signature} has a high s")]
    HighS {
        /// The 64 bytes.
        signature: UnverifiedSignature,
    },
    /// It signs another transaction, or another key made it.
    #[error("the signature {signature} was not made by key {signer} over the agreed transaction")]
    Wrong {
        /// The expected signer.
        signer: PublicKey,
        /// The 64 bytes.
        signature: UnverifiedSignature,
    },
}
