use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::backoff::Backoff;
use super::chain::Chain;
use super::connection::Connection;
use super::handle::{spawn, PayeeHandle, PayeeSide, PayerHandle, PayerSide};
use super::keys::record;
use super::report::{no_observer, Observer};
use super::session::{Pace, Session, Shelf};
use super::setup::random_nonces;
use super::teller::Teller;
use super::timing::{STALE, WALLET_TIMEOUT};
use crate::channel::{ChannelKeys, ChannelState, Payee, Payer, RestoreError};
use crate::store::{ChannelName, Store, StoreError, StoredChannel};

/// Starts the parties of stored channels again, after their process has ended.
///
/// Each runs in its own task, without its peer: a payer refunds when the lock has passed, and a payee settles when the
/// closing margin begins, or when it is told to [close](super::Handle::close). Call it once, when the process starts: a
/// party that runs twice would contradict itself, and the store ends the slower one.
///
/// ```
/// use std::sync::Arc;
///
/// use spilman::channel::ChannelKeys;
/// use spilman::service::{Chain, Restart, Restarted};
/// use spilman::store::Store;
///
/// /// Takes what every payee of the store has been paid.
/// async fn settle_all<C: Chain + Clone>(
///     store: Arc<dyn Store>,
///     keys: ChannelKeys,
///     chain: &C,
/// ) -> Result<(), Box<dyn std::error::Error>> {
///     for party in Restart::new(store, keys).all(chain).await? {
///         if let Restarted::Payee(payee) = party {
///             payee.close().await?;
///             println!("{} are ours", payee.outcome().await?.to_payee);
///         }
///     }
///     Ok(())
/// }
/// ```
pub struct Restart {
    store: Arc<dyn Store>,
    keys: ChannelKeys,
    observer: Observer,
    pace: Pace,
    wallet_timeout: Duration,
}

/// A party that runs again.
pub enum Restarted {
    /// A payer.
    Payer(PayerHandle),
    /// A payee.
    Payee(PayeeHandle),
}

impl Restart {
    /// Takes the store, and the seed of its keys.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, keys: ChannelKeys) -> Self {
        Self {
            store,
            keys,
            observer: no_observer(),
            pace: Pace::new(Backoff::default(), STALE),
            wallet_timeout: WALLET_TIMEOUT,
        }
    }

    /// Sets what receives the reports of all parties. The default is nothing.
    #[must_use]
    pub fn observer(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// Sets how long to wait after a poll of the chain, or a broadcast, that failed. The default is [`Backoff::default`].
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        let pace = Pace { backoff, ..self.pace };
        Self { pace, ..self }
    }

    /// Sets how long the signer of a child may take. The default is [`WALLET_TIMEOUT`].
    #[must_use]
    pub fn wallet_timeout(self, wallet_timeout: Duration) -> Self {
        Self {
            wallet_timeout,
            ..self
        }
    }

    /// Starts the party of every channel that is not over.
    ///
    /// # Errors
    /// If the store cannot be read, or a channel in it is damaged. No party is started then.
    pub async fn all<C: Chain + Clone>(&self, chain: &C) -> Result<Vec<Restarted>, RestartError> {
        let channels = self.store.load().await?;
        let open = channels.into_iter().filter(|channel| !channel.state.is_over());
        let parties: Vec<_> = open
            .map(|channel| self.restore(channel))
            .collect::<Result<_, _>>()?;
        Ok(parties
            .into_iter()
            .map(|(party, shelf)| self.start(party, shelf, chain.clone()))
            .collect())
    }

    fn restore(&self, channel: StoredChannel) -> Result<(Restored, Shelf), RestartError> {
        let (name, key_id) = (channel.name(), channel.key_id);
        let key = self.keys.derive(name.role, key_id);
        let public = key.public_key();
        let party = match channel.state {
            ChannelState::Payer(state) => Payer::restore(state, key).map(Restored::Payer),
            ChannelState::Payee(state) => Payee::restore(state, key).map(Restored::Payee),
        };
        let party = party.map_err(|error| RestartError::Damaged {
            channel: name,
            error: Box::new(error),
        })?;
        // No new channel of this process may have it.
        record(public);
        let store = Arc::clone(&self.store);
        Ok((party, Shelf { store, key_id }))
    }

    fn start<C: Chain>(&self, party: Restored, shelf: Shelf, chain: C) -> Restarted {
        let teller = Teller::new(self.observer.clone());
        match party {
            Restored::Payer(payer) => {
                let (tip, side) = (payer.tip(), PayerSide::new(payer.refund().clone()));
                let session = Session::new(payer, alone(), chain, teller, Some(shelf), (self.pace, tip));
                let (handle, launch) = spawn(session.alone(), Vec::new(), (side, self.wallet_timeout));
                launch.keep();
                Restarted::Payer(handle)
            }
            Restored::Payee(mut payee) => {
                payee.provide_nonces(random_nonces());
                let (tip, side) = (payee.tip(), PayeeSide::new());
                let session = Session::new(payee, alone(), chain, teller, Some(shelf), (self.pace, tip));
                let (handle, launch) = spawn(session.alone(), Vec::new(), (side, self.wallet_timeout));
                launch.keep();
                Restarted::Payee(handle)
            }
        }
    }
}

enum Restored {
    Payer(Payer),
    Payee(Payee),
}

fn alone() -> Connection<tokio::io::Empty> {
    Connection::none()
}

/// Why the parties of a store were not started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestartError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored channel is damaged, or belongs to another seed.
    #[error("{channel} cannot be restored: {error}")]
    Damaged {
        /// The channel.
        channel: ChannelName,
        /// What is wrong.
        error: Box<RestoreError>,
    },
}
