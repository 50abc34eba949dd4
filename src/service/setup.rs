use std::sync::Arc;
use std::time::Duration;

use bitcoin::ScriptBuf;

use super::backoff::Backoff;
use super::keys::KeyReuse;
use super::report::{no_observer, Observer};
use super::session::Shelf;
use super::timing::{OPENING_TIMEOUT, STALE, WALLET_TIMEOUT};
use crate::channel::{ChannelId, ChannelKey, KeyId, Limits, NonceSource, Terms};
use crate::store::Store;

/// What a party brings to one channel, and the way to [open](Setup::open) or to [accept](Setup::accept) it.
///
/// ```
/// # use bitcoin::ScriptBuf;
/// # use spilman::channel::{ChannelKeys, KeyRole, Limits};
/// # use spilman::service::{fresh_key, Chain, OpenError, PayeeHandle, Setup};
/// # async fn serve(
/// #     stream: tokio::net::TcpStream,
/// #     chain: impl Chain,
/// #     keys: ChannelKeys,
/// #     payout: ScriptBuf,
/// # ) -> Result<PayeeHandle, Box<dyn std::error::Error>> {
/// let (_id, key) = fresh_key(&keys, KeyRole::Payee)?;
/// let payee = Setup::new(key, payout)
///     .limits(Limits { confirmations: 6..=144, ..Limits::default() })
///     .accept(stream, chain)
///     .await?;
/// # Ok(payee)
/// # }
/// ```
pub struct Setup {
    pub(super) key: ChannelKey,
    pub(super) key_reuse: KeyReuse,
    pub(super) payout: ScriptBuf,
    pub(super) limits: Limits,
    pub(super) observer: Observer,
    pub(super) opening_timeout: Duration,
    pub(super) wallet_timeout: Duration,
    pub(super) backoff: Backoff,
    pub(super) stale_after: Duration,
    pub(super) nonces: Option<NonceSource>,
    pub(super) shelf: Option<Shelf>,
}

impl Setup {
    /// Describes a party with a fresh key ([`fresh_key`](super::fresh_key) draws one) that is paid to the script `payout` in
    /// the end. Everything else has a default.
    #[must_use]
    pub fn new(key: ChannelKey, payout: ScriptBuf) -> Self {
        Self {
            key,
            key_reuse: KeyReuse::default(),
            payout,
            limits: Limits::default(),
            observer: no_observer(),
            opening_timeout: OPENING_TIMEOUT,
            wallet_timeout: WALLET_TIMEOUT,
            backoff: Backoff::default(),
            stale_after: STALE,
            nonces: Some(random_nonces()),
            shelf: None,
        }
    }

    /// Sets what happens if the key is not fresh. By default it is refused.
    #[must_use]
    pub fn key_reuse(self, key_reuse: KeyReuse) -> Self {
        Self { key_reuse, ..self }
    }

    /// Sets what this side agrees to. The default is [`Limits::default`].
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets what receives the reports. The default is nothing.
    #[must_use]
    pub fn observer(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// Sets how long to wait for each message of the opening. The default is [`OPENING_TIMEOUT`].
    #[must_use]
    pub fn opening_timeout(self, opening_timeout: Duration) -> Self {
        Self {
            opening_timeout,
            ..self
        }
    }

    /// Sets how long the payer's wallet, or the signer of a child, may take. The default is [`WALLET_TIMEOUT`].
    #[must_use]
    pub fn wallet_timeout(self, wallet_timeout: Duration) -> Self {
        Self {
            wallet_timeout,
            ..self
        }
    }

    /// Sets how long to wait after a poll of the chain, or a broadcast, that failed. The default is [`Backoff::default`].
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Sets the time without a new block after which the party reports it. The default is three hours.
    #[must_use]
    pub fn stale_after(self, stale_after: Duration) -> Self {
        Self { stale_after, ..self }
    }

    /// Sets where the channel outlives the process, and the id of its key ([`fresh_key`](super::fresh_key)). By default it
    /// dies with the process: what it held then is lost, a payee's payments and a payer's refund.
    #[must_use]
    pub fn store(self, store: Arc<dyn Store>, key_id: KeyId) -> Self {
        let shelf = Some(Shelf { store, key_id });
        Self { shelf, ..self }
    }

    /// Sets the payee's source of nonces, for a cooperative close. With `None`, a close takes two signatures. The default is
    /// the operating system's random numbers, drawn for each close.
    #[must_use]
    pub fn nonces(self, nonces: Option<NonceSource>) -> Self {
        Self { nonces, ..self }
    }
}

pub(super) const fn random_nonces() -> NonceSource {
    NonceSource::new(|| {
        let mut fresh = [0; 32];
        getrandom::fill(&mut fresh).ok()?;
        Some(fresh)
    })
}

/// What a payer proposes.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The channel's number on this connection.
    pub id: ChannelId,
    /// Its terms.
    pub terms: Terms,
}
