use std::fmt;

use bitcoin::hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};
use bitcoin::secp256k1::SecretKey;
use zeroize::Zeroizing;

use super::keys::ChannelKey;

/// Identifies a channel key: 16 random bytes, which need not be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 16]);

impl KeyId {
    /// Takes 16 bytes, which no other channel of the same seed may have.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes, to be stored with the channel.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// Whose key it is in the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyRole {
    /// The payer's, K1.
    Payer,
    /// The payee's, K2.
    Payee,
}

/// Derives one key per channel from one seed, so that no key is used twice.
///
/// The secret key is HMAC-SHA256 with the seed as its key, over `spilman/payer` or `spilman/payee` followed by the
/// [`KeyId`]. The seed reveals every key. One key, or all ids, reveals no other key.
///
/// ```
/// use spilman::channel::{ChannelKeys, KeyId, KeyRole};
///
/// let keys = ChannelKeys::new([7; 32]); // a secret of your own
/// let id = KeyId::from_bytes([1; 16]); // random; `service::fresh_key` draws one
/// let key = keys.derive(KeyRole::Payee, id);
/// assert_eq!(key.public_key(), keys.derive(KeyRole::Payee, id).public_key());
/// assert_ne!(key.public_key(), keys.derive(KeyRole::Payer, id).public_key());
/// ```
#[derive(Clone)]
pub struct ChannelKeys {
    seed: Zeroizing<[u8; 32]>,
}

impl ChannelKeys {
    /// Takes a secret seed of 32 random bytes.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self { seed }
    }

    /// Derives the key with this id. The same id always gives the same key.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "one digest in 2^128 is not a valid secret key"
    )]
    pub fn derive(&self, role: KeyRole, id: KeyId) -> ChannelKey {
        let mut engine = HmacEngine::<sha256::Hash>::new(&*self.seed);
        engine.input(match role {
            KeyRole::Payer => b"spilman/payer",
            KeyRole::Payee => b"spilman/payee",
        });
        engine.input(&id.0);
        let digest = Hmac::from_engine(engine).to_byte_array();
        let secret = SecretKey::from_slice(&digest);
        ChannelKey::new(secret.expect("one digest in 2^128 is zero or above the order of the curve"))
    }
}

impl fmt::Debug for ChannelKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelKeys(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hmac`.
    #[test]
    fn the_derivation_is_hmac_sha256() {
        let keys = ChannelKeys::new([7; 32]);
        let id = KeyId::from_bytes([1; 16]);
        for (role, secret) in [
            (
                KeyRole::Payer,
                "4521a13f205cd1dd069affca2af11fc7eb4a39abf0c4f3f8889f62a1e1f28b47",
            ),
            (
                KeyRole::Payee,
                "fb00c35dae64e0c4108ac2a7b94693097f689137ea181dfdaa444ef0257eed93",
            ),
        ] {
            let expected: SecretKey = secret.parse().unwrap();
            assert_eq!(
                keys.derive(role, id).secret_bytes(),
                expected.secret_bytes(),
                "{role:?}"
            );
        }
    }

    #[test]
    fn the_seed_is_not_shown() {
        assert_eq!(format!("{:?}", ChannelKeys::new([7; 32])), "ChannelKeys(…)");
    }
}
