use std::sync::Arc;

use crate::channel::{ChannelKeys, KeyRole, Limits};
use crate::conform::failure::CaseFailure;
use crate::conform::run::Run;
use crate::conform::runner::Launcher;
use crate::scenario::payout;
use crate::service::{BitcoindChain, ChannelManager, ChannelManagerBuilder, ManagerObserver};
use crate::store::{MemoryStore, Store, StoredChannel};
use crate::transcript::Side;

/// Our side as a process: what it holds is in a store, and the parties run until they are stopped.
pub(super) struct OurParties {
    pub manager: ChannelManager<BitcoindChain>,
    store: MemoryStore,
}

/// The seed of our side's keys, in every case the same.
pub(super) fn keys(launcher: &Launcher<'_>) -> ChannelKeys {
    let side = launcher.case.program.peer();
    ChannelKeys::new(launcher.parties.key(side).secret_bytes())
}

pub(super) const fn role(side: Side) -> KeyRole {
    match side {
        Side::Payer => KeyRole::Payer,
        Side::Payee => KeyRole::Payee,
    }
}

impl OurParties {
    pub async fn start(
        launcher: &Launcher<'_>,
        run: &Run<'_>,
        stored: Vec<StoredChannel>,
    ) -> Result<Self, CaseFailure> {
        let store = MemoryStore::default();
        for channel in stored {
            store.insert(channel).await.map_err(CaseFailure::runner)?;
        }
        let observer = run.link.observer.clone();
        let observer: ManagerObserver = Arc::new(move |_, report| observer(report));
        let payout = payout(&launcher.parties.key(run.ours()));
        let manager = ChannelManagerBuilder::new(Arc::new(store.clone()), keys(launcher), payout)
            .limits(Limits::default())
            .opening_timeout(run.deadline)
            .observer(observer)
            .start(run.view.clone())
            .await
            .map_err(CaseFailure::runner)?;
        Ok(Self { manager, store })
    }

    /// Ends the parties like a power cut, and returns what the store holds.
    pub async fn stop(self) -> Result<Vec<StoredChannel>, CaseFailure> {
        for payer in self.manager.payers() {
            payer.abort();
        }
        for payee in self.manager.payees() {
            payee.abort();
        }
        // An aborted task ends when the runtime turns to it, and then it is taken off the list.
        while !self.manager.payers().is_empty() || !self.manager.payees().is_empty() {
            tokio::task::yield_now().await;
        }
        self.store.load().await.map_err(CaseFailure::runner)
    }
}
