use std::fmt;

use bitcoin::hashes::{sha256, Hash, HashEngine};

use super::nonce::NonceSeed;

/// Hands out seeds for secret nonces, each once, from 32 bytes that were made fresh when the program started.
///
/// It can be neither cloned nor written to disk. After a restart the bytes must be drawn again: a source that
/// began with the old ones would repeat its seeds, and a nonce that signs twice reveals the secret key.
pub struct NonceSource {
    fresh: [u8; 32],
    next: u64,
}

impl NonceSource {
    /// Takes `fresh`, which must be random numbers of the operating system, except in a test.
    #[must_use]
    pub const fn new(fresh: [u8; 32]) -> Self {
        Self { fresh, next: 0 }
    }

    /// The next seed.
    pub(crate) fn seed(&mut self) -> NonceSeed {
        let mut engine = sha256::Hash::engine();
        engine.input(b"spilman/nonce");
        engine.input(&self.fresh);
        engine.input(&self.next.to_be_bytes());
        self.next += 1;
        NonceSeed::new(sha256::Hash::from_engine(engine).to_byte_array())
    }
}

impl fmt::Debug for NonceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NonceSource({} given out)", self.next)
    }
}
