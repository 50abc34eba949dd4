use std::fmt;

use bitcoin::hashes::{sha256, Hash, HashEngine};

use super::nonce::NonceSeed;

/// Hands out seeds for secret nonces, each once.
///
/// Each seed is a hash of 32 bytes, drawn for it, and of a counter. It is drawn when it is needed and not when the program
/// starts, because a snapshot of a running machine carries what was drawn before: both copies would sign with the same
/// nonce, and a nonce that signs twice reveals the secret key. For the same reason a source can be neither cloned nor
/// stored.
pub struct NonceSource {
    draw: Draw,
    next: u64,
}

enum Draw {
    Fresh(fn() -> Option<[u8; 32]>),
    Fixed([u8; 32]),
}

impl NonceSource {
    /// Takes what draws 32 random bytes from the operating system. It is asked once for each seed; if it returns `None`,
    /// the close takes two signatures.
    #[must_use]
    pub const fn new(draw: fn() -> Option<[u8; 32]>) -> Self {
        Self {
            draw: Draw::Fresh(draw),
            next: 0,
        }
    }

    /// Takes bytes for all seeds: for tests and published examples, whose nonces are the same in every run.
    #[must_use]
    pub const fn fixed(bytes: [u8; 32]) -> Self {
        Self {
            draw: Draw::Fixed(bytes),
            next: 0,
        }
    }

    /// The next seed.
    pub(crate) fn seed(&mut self) -> Option<NonceSeed> {
        let fresh = match &self.draw {
            Draw::Fresh(draw) => draw()?,
            Draw::Fixed(bytes) => *bytes,
        };
        let mut engine = sha256::Hash::engine();
        engine.input(b"spilman/nonce");
        engine.input(&fresh);
        engine.input(&self.next.to_be_bytes());
        self.next += 1;
        Some(NonceSeed::new(sha256::Hash::from_engine(engine).to_byte_array()))
    }
}

impl fmt::Debug for NonceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NonceSource({} given out)", self.next)
    }
}
