//! Published keys.

use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::SecretKey;

/// Returns the secret key that is the SHA-256 of a label.
///
/// A reader of a test can check every signature with nothing but the label. Never use it for real money.
///
/// ```
/// use spilman::bitcoin::hashes::{sha256, Hash};
///
/// let key = spilman::regtest::labelled_key("spilman/faucet/0");
/// assert_eq!(key.secret_bytes(), sha256::Hash::hash(b"spilman/faucet/0").to_byte_array());
/// ```
#[must_use]
#[allow(clippy::missing_panics_doc)] // no label is known that could
pub fn labelled_key(label: &str) -> SecretKey {
    SecretKey::from_slice(&sha256::Hash::hash(label.as_bytes()).to_byte_array())
        .expect("a hash is outside the group order with probability 2^-128")
}
