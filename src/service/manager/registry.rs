use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::OutPoint;

use crate::service::handle::{Launch, OnEnd, PayeeHandle, PayerHandle};

/// The parties that run.
#[derive(Default)]
pub(super) struct Registry(Mutex<Parties>);

#[derive(Default)]
struct Parties {
    payers: HashMap<OutPoint, Arc<PayerHandle>>,
    payees: HashMap<OutPoint, Arc<PayeeHandle>>,
}

macro_rules! side {
    ($handle:ty, $parties:ident, $add:ident, $get:ident) => {
        /// Keeps what `start` returns until its task ends.
        pub fn $add(
            self: &Arc<Self>,
            funding: OutPoint,
            start: impl FnOnce(OnEnd) -> ($handle, Launch),
        ) -> (Arc<$handle>, Launch) {
            let (registry, ended) = (Arc::downgrade(self), Arc::new(AtomicBool::new(false)));
            let on_end = OnEnd::new({
                let ended = Arc::clone(&ended);
                move || {
                    ended.store(true, SeqCst);
                    if let Some(registry) = registry.upgrade() {
                        registry.parties().$parties.remove(&funding);
                    }
                }
            });
            let (handle, launch) = start(on_end);
            let handle = Arc::new(handle);
            let mut parties = self.parties();
            // Its task may have ended by now. If it ends from here on, it waits for the lock, and takes the handle out.
            if !ended.load(SeqCst) {
                parties.$parties.insert(funding, Arc::clone(&handle));
            }
            (handle, launch)
        }

        pub fn $get(&self, funding: OutPoint) -> Option<Arc<$handle>> {
            self.parties().$parties.get(&funding).cloned()
        }

        pub fn $parties(&self) -> Vec<Arc<$handle>> {
            self.parties().$parties.values().cloned().collect()
        }
    };
}

impl Registry {
    side!(PayerHandle, payers, add_payer, payer);
    side!(PayeeHandle, payees, add_payee, payee);

    fn parties(&self) -> MutexGuard<'_, Parties> {
        // A map is whole whatever became of the thread that changed it last.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
