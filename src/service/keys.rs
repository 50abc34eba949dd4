//! Keys that serve one channel each.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use bitcoin::secp256k1::PublicKey;
use thiserror::Error;

use super::open_error::OpenError;
use crate::channel::{ChannelKey, ChannelKeys, KeyId, KeyRole};

/// What to do with a key that this process has used in a channel before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KeyReuse {
    /// Refuse it. With the same two keys and the same capacity, the refund of one channel can take the money of another,
    /// and the payee of the other would have signed that.
    #[default]
    Refuse,
    /// Accept it: for tests and published examples, whose keys are the same in every run.
    Allow,
}

/// The keys that were sent to a peer, 33 bytes each, for as long as the process lives.
static USED: Mutex<BTreeSet<[u8; 33]>> = Mutex::new(BTreeSet::new());

impl KeyReuse {
    /// Records a key before it is sent to the peer, or refuses it.
    pub(super) fn claim(self, key: PublicKey) -> Result<(), OpenError> {
        if record(key) || self == Self::Allow {
            Ok(())
        } else {
            Err(OpenError::KeyReused { key })
        }
    }
}

/// Records a key, and returns whether it is new.
pub(super) fn record(key: PublicKey) -> bool {
    // A set of keys is whole whatever became of the thread that changed it last.
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    used.insert(key.serialize())
}

/// Draws a fresh key for one channel: a random [`KeyId`], and the key that [`ChannelKeys::derive`] makes of it.
///
/// Store the id with the channel: with the seed, it gives the same key again. The id is random and not a counter, because
/// a counter repeats after a backup is restored or a machine is cloned.
///
/// # Errors
/// If the system provides no random numbers.
pub fn fresh_key(keys: &ChannelKeys, role: KeyRole) -> Result<(KeyId, ChannelKey), RandomnessError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(RandomnessError::new)?;
    let id = KeyId::from_bytes(id);
    Ok((id, keys.derive(role, id)))
}

/// The operating system provides no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the operating system provides no random numbers: {0}")]
pub struct RandomnessError(getrandom::Error);

impl RandomnessError {
    pub(super) const fn new(error: getrandom::Error) -> Self {
        Self(error)
    }
}
