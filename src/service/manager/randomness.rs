#[cfg(feature = "scenario")]
use std::sync::Arc;

use crate::channel::{ChannelKey, ChannelKeys, KeyId, KeyRole, NonceSource};
use crate::service::hello;
use crate::service::keys::{fresh_key, RandomnessError};
use crate::service::setup::random_nonces;

/// Where the random bytes of a manager come from.
#[derive(Clone, Default)]
pub(super) enum Randomness {
    #[default]
    System,
    /// 32 bytes for the named use, published and the same in every run.
    #[cfg(feature = "scenario")]
    Published(Arc<dyn Fn(&'static str) -> [u8; 32] + Send + Sync>),
}

impl Randomness {
    pub fn key(&self, keys: &ChannelKeys, role: KeyRole) -> Result<(KeyId, ChannelKey), RandomnessError> {
        match self {
            Self::System => fresh_key(keys, role),
            #[cfg(feature = "scenario")]
            Self::Published(draw) => {
                let mut id = [0; 16];
                id.copy_from_slice(&draw("key")[..16]);
                let id = KeyId::from_bytes(id);
                Ok((id, keys.derive(role, id)))
            }
        }
    }

    pub fn nonces(&self) -> NonceSource {
        match self {
            Self::System => random_nonces(),
            #[cfg(feature = "scenario")]
            Self::Published(draw) => NonceSource::fixed(draw("nonces")),
        }
    }

    pub fn hello(&self) -> Result<[u8; 32], RandomnessError> {
        match self {
            Self::System => hello::random(),
            #[cfg(feature = "scenario")]
            Self::Published(draw) => Ok(draw("hello")),
        }
    }
}
