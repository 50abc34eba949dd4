use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::Amount;
use tokio::sync::watch;

use super::error::ScenarioError;
use super::interceptor::TapStatus;
use super::party_chain::PartyChain;
use crate::channel::Stage;
use crate::service::{Handle, OpenError, Status};
use crate::transcript::Side;

/// How long the parties may take to become idle. They need milliseconds; this is for a machine that is busy with
/// something else.
pub(super) const REST: Duration = Duration::from_secs(20);

/// One of a channel's two parties, as a story holds it.
pub(super) struct Participant<S> {
    actor: Side,
    pub handle: Option<Arc<Handle<S>>>,
    /// Why it has no channel.
    pub error: Option<OpenError>,
    pub chain: PartyChain,
    /// Whether it hears of blocks.
    pub online: Cell<bool>,
    gone: Cell<bool>,
}

impl<S> Participant<S> {
    pub fn new(actor: Side, opened: Result<Option<Arc<Handle<S>>>, OpenError>, chain: PartyChain) -> Self {
        let (online, gone) = (Cell::new(true), Cell::new(false));
        let (handle, error) = match opened {
            Ok(handle) => (handle, None),
            Err(error) => (None, Some(error)),
        };
        Self {
            actor,
            handle,
            error,
            chain,
            online,
            gone,
        }
    }

    /// Returns the side's status, if it is running.
    pub fn running(&self) -> Option<watch::Receiver<Status>> {
        let handle = self.handle.as_ref().filter(|_| !self.gone.get())?;
        Some(handle.status())
    }

    pub fn abort(&self) {
        self.gone.set(true);
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }

    /// Takes the party of a new process, and returns how much it holds.
    ///
    /// # Errors
    /// If the process has found no such channel.
    pub fn restarted(&mut self, handle: Option<Arc<Handle<S>>>) -> Result<Amount, ScenarioError> {
        let handle = handle.ok_or_else(|| ScenarioError::Unexpected {
            what: format!("the {}'s file", self.actor),
            expected: "the channel".to_owned(),
            found: "no open channel".to_owned(),
        })?;
        let paid = handle.status().borrow().paid;
        self.gone.set(false);
        self.handle = Some(handle);
        Ok(paid)
    }

    /// Waits until the side has handled every message that was passed on to it and every change of the chain that it
    /// was told of.
    pub async fn rest(&self, tap: &watch::Receiver<TapStatus>) -> Result<(), ScenarioError> {
        let Some(mut status) = self.running() else {
            return Ok(());
        };
        let at_rest = |status: &Status| {
            let tap = tap.borrow();
            if tap.vanished == Some(self.actor) {
                return true;
            }
            let (inbound, outbound) = match self.actor {
                Side::Payer => (tap.from_payee, tap.from_payer),
                // It received the first message of a resumed channel together with the connection.
                Side::Payee => (tap.from_payer - u64::from(tap.resumed), tap.from_payee),
            };
            let quiet = if tap.ended {
                // It may have ended the connection itself, and then it does not read what was on its way.
                !status.connected
            } else {
                status.received >= inbound && status.sent == outbound
            };
            quiet && status.seen == self.chain.announced()
        };
        let mut tap_moves = tap.clone();
        let wait = async {
            loop {
                if status.borrow_and_update().stage == Stage::Closed {
                    // Its half of a connection that may carry several channels ends with a message. An error is the end.
                    let _ = tap_moves.wait_for(TapStatus::is_left).await;
                    return;
                }
                if at_rest(&status.borrow()) {
                    return;
                }
                tokio::select! {
                    changed = status.changed() => if changed.is_err() { return },
                    moved = tap_moves.changed() => if moved.is_err() {
                        // The wire is gone for good; only the party itself can still move.
                        if status.changed().await.is_err() { return }
                    },
                }
            }
        };
        let waited = tokio::time::timeout(REST, wait).await;
        waited.map_err(|_| ScenarioError::Stuck {
            awaited: format!("the {} idle", self.actor),
            within: REST,
            seen: format!("{:?}, {:?}", *status.borrow(), *tap.borrow()),
        })
    }
}
