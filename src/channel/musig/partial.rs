use std::fmt;

use bitcoin::hex::DisplayHex;
use musig2::secp::MaybeScalar;

use super::MusigError;

/// One party's part of a signature (BIP 327), 32 bytes on the wire.
///
/// It is worthless alone: the payee checks it before it adds its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PartialSignature(pub(super) MaybeScalar);

impl PartialSignature {
    /// Reads it from the wire.
    ///
    /// # Errors
    ///
    /// [`MusigError::OutOfRange`] if the number is not below the curve's order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, MusigError> {
        MaybeScalar::from_slice(&bytes)
            .map(Self)
            .map_err(|_| MusigError::OutOfRange { partial: bytes })
    }

    /// Returns its bytes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.serialize()
    }
}

impl fmt::Display for PartialSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_bytes().as_hex())
    }
}

impl fmt::Debug for PartialSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartialSignature({self})")
    }
}
