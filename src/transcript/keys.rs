//! Keys as scripts have them.

use std::fmt;
use std::sync::LazyLock;

use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::{PublicKey, XOnlyPublicKey};

pub(super) static SECP: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// A key in its form in a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptKey {
    /// 33 or 65 bytes, for ECDSA.
    Full(PublicKey),
    /// 32 bytes, for Schnorr signatures (BIP 340).
    XOnly(XOnlyPublicKey),
}

impl ScriptKey {
    /// Reads a key, whose form follows from its length.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() == 32 {
            return XOnlyPublicKey::from_slice(bytes).ok().map(Self::XOnly);
        }
        PublicKey::from_slice(bytes).ok().map(Self::Full)
    }
}

impl fmt::Display for ScriptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(key) => key.fmt(f),
            Self::XOnly(key) => key.fmt(f),
        }
    }
}

impl From<PublicKey> for ScriptKey {
    fn from(key: PublicKey) -> Self {
        Self::Full(key)
    }
}

impl From<XOnlyPublicKey> for ScriptKey {
    fn from(key: XOnlyPublicKey) -> Self {
        Self::XOnly(key)
    }
}
