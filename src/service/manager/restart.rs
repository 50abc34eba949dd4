use std::sync::Arc;

use thiserror::Error;

use super::{observer, Inner};
use crate::channel::{ChannelState, Payee, Payer, RestoreError, Stage, Tip};
use crate::service::chain::Chain;
use crate::service::connection::Connection;
use crate::service::handle::{spawn, Handle, HandleParts, Launch, OnEnd, PayeeSide, PayerSide};
use crate::service::keys::record;
use crate::service::party::Party;
use crate::service::session::{Session, Shelf};
use crate::service::teller::Teller;
use crate::store::{ChannelName, StoreError, StoredChannel};

/// A party as it was stored.
pub(super) struct Restored {
    party: Either,
    name: ChannelName,
    shelf: Shelf,
}

enum Either {
    Payer(Payer),
    Payee(Payee),
}

impl<C: Chain + Clone> Inner<C> {
    pub(super) fn restore(&self, channel: StoredChannel) -> Result<Restored, RestartError> {
        let (name, key_id) = (channel.name(), channel.key_id);
        let key = self.parts.keys.derive(name.role, key_id);
        let public = key.public_key();
        let party = match channel.state {
            ChannelState::Payer(state) => Payer::restore(state, key).map(Either::Payer),
            ChannelState::Payee(state) => Payee::restore(state, key).map(Either::Payee),
        };
        let party = party.map_err(|error| RestartError::Damaged {
            channel: name,
            error: Box::new(error),
        })?;
        // No new channel of this process may have it.
        record(public);
        let store = Arc::clone(&self.parts.store);
        let shelf = Shelf { store, key_id };
        Ok(Restored { party, name, shelf })
    }

    pub(super) fn restart(&self, Restored { party, name, shelf }: Restored) {
        let funding = name.funding;
        match party {
            Either::Payer(payer) => {
                let (tip, side) = (payer.tip(), PayerSide::new(payer.refund().clone()));
                let start = |on_end| self.start((payer, tip), (name, shelf), (side, on_end));
                let (_, launch) = self.registry.add_payer(funding, start);
                launch.keep();
            }
            Either::Payee(mut payee) => {
                payee.provide_nonces(self.parts.random.nonces());
                let (tip, side) = (payee.tip(), PayeeSide::new());
                let is_unfunded = payee.stage() == Stage::AwaitingFunding;
                let start = |on_end| self.start((payee, tip), (name, shelf), (side, on_end));
                let (payee, launch) = self.registry.add_payee(funding, start);
                launch.keep();
                if is_unfunded {
                    super::serve::hold_until_funded(&payee, self.unfunded.take_anyway());
                }
            }
        }
    }

    /// Starts a party without its peer, which may come back.
    fn start<P: Party, S>(
        &self,
        (party, tip): (P, Tip),
        (name, shelf): (ChannelName, Shelf),
        (side, on_end): (S, OnEnd),
    ) -> (Handle<S>, Launch) {
        let parts = &self.parts;
        let (chain, teller) = (
            self.chain.clone(),
            Teller::new(observer(&parts.observer, Some(name))),
        );
        let (alone, shelf, pace) = (Connection::none(), Some(shelf), (parts.pace, tip));
        let session = Session::new(party, alone, chain, teller, shelf, pace).alone();
        let parts = HandleParts {
            side,
            wallet_timeout: parts.wallet_timeout,
            on_end,
        };
        spawn(session, Vec::new(), parts)
    }
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
