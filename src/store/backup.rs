use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{sha256d, Hash};
use bitcoin::OutPoint;
use minicbor::bytes::{ByteArray, ByteVec};
use thiserror::Error;

use super::StoredChannel;
use crate::channel::{
    ChannelKey, ChannelParams, ChannelState, KeyId, RefundTx, RestoreError, UnverifiedSignature,
};
use crate::wire;

/// What a payer needs, besides its seed, to get its money back without anyone's help. About 300 bytes, written once: it
/// stays good until the channel ends, whatever is paid.
///
/// Write it when the channel is stored, before the funding transaction leaves: see
/// [`Report::Stored`](crate::service::Report::Stored). It needs no secrecy, but shows who pays whom. On a new machine:
///
/// ```
/// use bitcoin::Transaction;
/// use spilman::channel::{ChannelKeys, KeyRole};
/// use spilman::store::RefundBackup;
///
/// /// Can be broadcast once the refund's lock has passed.
/// fn refund(keys: &ChannelKeys, file: &[u8]) -> Result<Transaction, Box<dyn std::error::Error>> {
///     let backup = RefundBackup::from_bytes(file)?;
///     let key = keys.derive(KeyRole::Payer, backup.key_id());
///     Ok(backup.refund(&key)?.tx().clone())
/// }
/// ```
///
/// The refund takes everything. If the payee has settled by then, the network rejects it, and the payer's change is in the
/// settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundBackup {
    key_id: KeyId,
    params: ChannelParams,
    funding: OutPoint,
    refund_signature: Option<UnverifiedSignature>,
}

/// Before everything else, so that a person and `file` can tell what this is.
const MAGIC: &[u8] = b"spilman refund 1\n";

/// The length of the checksum behind everything else.
const CHECKSUM: usize = 4;

/// Key id, `open`, `accept`, funding outpoint, refund signature.
type Raw = (
    ByteArray<16>,
    ByteVec,
    ByteVec,
    ByteArray<36>,
    Option<ByteArray<64>>,
);

impl RefundBackup {
    /// Returns the backup of a payer's channel; `None` for a payee's, whose money is in its latest payment.
    #[must_use]
    pub fn of(channel: &StoredChannel) -> Option<Self> {
        match &channel.state {
            ChannelState::Payer(state) => Some(Self {
                key_id: channel.key_id,
                params: state.params.clone(),
                funding: state.funding.outpoint(),
                refund_signature: state.refund_signature,
            }),
            ChannelState::Payee(_) => None,
        }
    }

    /// Returns the id of the channel's key.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Returns what both sides agreed on, and with it the refund's lock.
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// Returns the output that locks the capacity.
    pub const fn funding(&self) -> OutPoint {
        self.funding
    }

    /// Signs the refund.
    ///
    /// # Errors
    /// If the key is not the channel's, or the payee's signature is wrong.
    pub fn refund(&self, key: &ChannelKey) -> Result<RefundTx, RestoreError> {
        RefundTx::restore(&self.params, self.funding, self.refund_signature, key)
    }

    /// Returns the file.
    #[expect(
        clippy::missing_panics_doc,
        reason = "an outpoint has 36 bytes, and a Vec takes every byte"
    )]
    pub fn to_bytes(&self) -> Vec<u8> {
        let [open, accept] = self.params.to_messages().map(|said| wire::encode(&said).into());
        let funding: [u8; 36] = serialize(&self.funding).try_into().expect("32 bytes and four");
        let raw: Raw = (
            self.key_id.to_bytes().into(),
            open,
            accept,
            funding.into(),
            self.refund_signature
                .map(|signature| signature.to_compact().into()),
        );
        let raw = minicbor::to_vec(raw).expect("a Vec takes every byte, and every element has an encoding");
        let mut bytes = [MAGIC, &raw].concat();
        bytes.extend(checksum(&bytes));
        bytes
    }

    /// Reads the file.
    ///
    /// # Errors
    /// If it is another file, or damaged in any byte.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BackupError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(BackupError::AnotherFile)?;
        let damaged = |error: String| BackupError::Damaged {
            length: bytes.len(),
            error,
        };
        let (raw, sum) = rest
            .split_last_chunk::<CHECKSUM>()
            .ok_or_else(|| damaged("it ends early".to_owned()))?;
        if checksum(&bytes[..bytes.len() - CHECKSUM]) != *sum {
            return Err(damaged("its checksum is wrong".to_owned()));
        }
        Self::decode(raw).map_err(damaged)
    }

    fn decode(raw: &[u8]) -> Result<Self, String> {
        let raw: Raw = minicbor::decode(raw).map_err(|error| error.to_string())?;
        let (key_id, open, accept, funding, refund_signature) = raw;
        let message = |bytes: &[u8]| wire::decode(bytes).map_err(|error| error.to_string());
        let params = ChannelParams::from_messages(message(&open)?, message(&accept)?);
        Ok(Self {
            key_id: KeyId::from_bytes(key_id.into()),
            params: params.map_err(|error| error.to_string())?,
            funding: deserialize(&funding[..]).map_err(|error| error.to_string())?,
            refund_signature: refund_signature.map(|bytes| UnverifiedSignature::from_compact(bytes.into())),
        })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let [a, b, c, d, ..] = sha256d::Hash::hash(bytes).to_byte_array();
    [a, b, c, d]
}

/// Why a file is not the backup of a refund.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// It is something else.
    #[error("this is not the backup of a refund: such a file begins with \"spilman refund 1\"")]
    AnotherFile,
    /// It was changed or cut off.
    #[error("the backup of {length} bytes is damaged: {error}; use another copy")]
    Damaged {
        /// Its length in bytes.
        length: usize,
        /// What is wrong.
        error: String,
    },
}
