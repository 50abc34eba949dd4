use std::fmt;
use std::sync::LazyLock;

use bitcoin::hex::DisplayHex;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey};
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

            /// The key without its role.
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
/// A channel takes it by value and it cannot be cloned: a key that is used in one channel only cannot be
/// made to sign anything that matters elsewhere.
pub struct ChannelKey {
    secret: SecretKey,
    public: PublicKey,
}

impl ChannelKey {
    /// Takes a fresh secret key. Where it comes from is the caller's matter: this crate makes no random
    /// numbers.
    #[must_use]
    pub fn new(secret: SecretKey) -> Self {
        Self {
            public: secret.public_key(&SECP),
            secret,
        }
    }

    /// The public half.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }

    /// An RFC 6979 signature, which `secp256k1` makes with a low S.
    pub(crate) fn sign(&self, digest: &Message) -> VerifiedSignature {
        VerifiedSignature(SECP.sign_ecdsa(digest, &self.secret))
    }
}

impl fmt::Debug for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelKey({})", self.public)
    }
}

/// A signature as it came from the peer: 64 bytes, `r` then `s`, about which nothing is known yet.
///
/// Every signature of a channel has the hash type `SIGHASH_ALL`, so the type is not sent and cannot lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnverifiedSignature([u8; 64]);

impl UnverifiedSignature {
    /// Any 64 bytes.
    #[must_use]
    pub const fn from_compact(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    #[must_use]
    pub const fn to_compact(self) -> [u8; 64] {
        self.0
    }

    /// Checks range, low S, and the signature itself.
    pub(crate) fn verify(
        self,
        digest: &Message,
        signer: &PublicKey,
    ) -> Result<VerifiedSignature, SignatureError> {
        let signature =
            Signature::from_compact(&self.0).map_err(|_| SignatureError::OutOfRange { signature: self })?;
        let mut low = signature;
        low.normalize_s();
        // Consensus takes either S, but no node relays the high one: a payee that kept it would hold a
        // payment that it cannot settle. bitcoinj and two1 lost money to just that.
        if low != signature {
            return Err(SignatureError::HighS { signature: self });
        }
        SECP.verify_ecdsa(digest, &signature, signer)
            .map_err(|_| SignatureError::Wrong {
                signer: *signer,
                signature: self,
            })?;
        Ok(VerifiedSignature(signature))
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

/// A low-S signature that is known to sign the transaction it stands with: made here, or checked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedSignature(Signature);

impl VerifiedSignature {
    /// As it goes over the wire.
    #[must_use]
    pub fn to_unverified(self) -> UnverifiedSignature {
        UnverifiedSignature(self.0.serialize_compact())
    }

    /// With `SIGHASH_ALL`, as it goes into a script.
    pub(crate) const fn to_ecdsa(self) -> bitcoin::ecdsa::Signature {
        bitcoin::ecdsa::Signature {
            signature: self.0,
            sighash_type: bitcoin::EcdsaSighashType::All,
        }
    }
}

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// `r` or `s` is not below the curve's order.
    #[error("the signature's r or s is not below the order of the curve: {signature}")]
    OutOfRange {
        /// The 64 bytes.
        signature: UnverifiedSignature,
    },
    /// `s` is above half the curve's order (BIP 146), so that no node would relay the settlement.
    #[error("the signature has a high s: {signature}")]
    HighS {
        /// The 64 bytes.
        signature: UnverifiedSignature,
    },
    /// It signs another transaction, or another key made it.
    #[error("the signature {signature} is not by key {signer} over the agreed transaction")]
    Wrong {
        /// Whose signature was wanted.
        signer: PublicKey,
        /// The 64 bytes.
        signature: UnverifiedSignature,
    },
}
