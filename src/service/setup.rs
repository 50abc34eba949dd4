use std::time::Duration;

use bitcoin::ScriptBuf;

use super::backoff::Backoff;
use super::keys::KeyReuse;
use super::report::{no_observer, Observer};
use super::timing::{OPENING_TIMEOUT, STALE};
use crate::channel::{ChannelId, ChannelKey, Limits, NonceSource, Terms};

/// What a party brings to a channel.
pub struct Setup {
    /// A fresh key, for this channel alone: [`fresh_key`](super::fresh_key) draws one.
    pub key: ChannelKey,
    /// What happens if the key is not fresh. Default: it is refused.
    pub key_reuse: KeyReuse,
    /// Where this side's money goes in the end.
    pub payout: ScriptBuf,
    /// What this side agrees to.
    pub limits: Limits,
    /// Receives the reports.
    pub observer: Observer,
    /// How long to wait for each message of the opening. Default: [`OPENING_TIMEOUT`].
    pub opening_timeout: Duration,
    /// How long to wait after a look at the chain, or a broadcast, that failed.
    pub backoff: Backoff,
    /// The time without a new block after which the observer is told. Default: three hours.
    pub stale_after: Duration,
    /// The payee: where nonces come from, to close with one signature where the construction can. Without it, a close
    /// takes two signatures. Default: the operating system's random numbers.
    pub nonces: Option<NonceSource>,
}

impl Setup {
    /// Default limits, no observer, [`OPENING_TIMEOUT`], nonces from the operating system, and no key reuse.
    #[must_use]
    pub fn new(key: ChannelKey, payout: ScriptBuf) -> Self {
        Self {
            key,
            key_reuse: KeyReuse::default(),
            payout,
            limits: Limits::default(),
            observer: no_observer(),
            opening_timeout: OPENING_TIMEOUT,
            backoff: Backoff::default(),
            stale_after: STALE,
            nonces: random_nonces(),
        }
    }
}

/// None if the system has no random numbers to give: two signatures need none.
fn random_nonces() -> Option<NonceSource> {
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).ok()?;
    Some(NonceSource::new(fresh))
}

/// What a payer proposes.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The channel's number on this connection.
    pub id: ChannelId,
    /// Its terms.
    pub terms: Terms,
}
