use bitcoin::hex::DisplayHex;
use bitcoin::secp256k1::PublicKey;
use bitcoin::XOnlyPublicKey;
use thiserror::Error;

use super::PartialSignature;

/// Why a `MuSig2` signature failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MusigError {
    /// The 66 bytes are not two points of the curve. The point at infinity is not allowed: it is
    /// no nonce.
    #[error("the nonce is not two compressed points of the curve: {}", .nonce[..].as_hex())]
    InvalidNonce {
        /// The 66 bytes.
        nonce: [u8; 66],
    },
    /// The partial signature is not below the curve's order.
    #[error("the partial signature is not below the order of the curve: {}", .partial.as_hex())]
    OutOfRange {
        /// The 32 bytes.
        partial: [u8; 32],
    },
    /// The secret key belongs to another party.
    #[error("wrong signing key: expected {expected}, got {used}")]
    WrongKey {
        /// The party's public key.
        expected: PublicKey,
        /// The public half of the key that was given.
        used: PublicKey,
    },
    /// The secret nonce was made for another key.
    #[error("the nonce belongs to the key {bound}, but the signing key is {used}")]
    WrongNonce {
        /// The public key for which the nonce was made.
        bound: PublicKey,
        /// The public half of the key that was given.
        used: PublicKey,
    },
    /// The other party's partial signature does not verify for its key, the two nonces and the digest.
    #[error("the partial signature {partial} was not made by key {signer} for these nonces and this digest")]
    WrongPartial {
        /// The expected signer.
        signer: PublicKey,
        /// The received part.
        partial: PartialSignature,
    },
    /// The parts do not add up to a signature of the output key.
    #[error("the partial signatures do not add up to a signature of key {key}")]
    WrongSum {
        /// The output key.
        key: XOnlyPublicKey,
    },
}
