//! Whether a node's daemon runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::regtest::error::{Error, InvalidRequest, NodeError};
use crate::regtest::process::Daemon;
use crate::regtest::transport::Absence;

/// A daemon whose connection broke has ended within this time, if it is about to.
const ENDING: Duration = Duration::from_millis(500);
/// The poll interval.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// The daemon, or why it does not run. The lock is not held while a daemon is started or stopped.
pub(super) struct DaemonState(Mutex<Phase>);

enum Phase {
    Running(Daemon),
    /// It is being started, stopped or killed.
    Changing(&'static str),
    /// It was stopped or killed.
    Over(&'static str),
    /// It exited on its own, in this way.
    Ended(String),
}

impl DaemonState {
    pub fn new(daemon: Daemon) -> Self {
        Self(Mutex::new(Phase::Running(daemon)))
    }

    fn state(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, with an end that has just been noticed.
    fn now(&self) -> MutexGuard<'_, Phase> {
        let mut state = self.state();
        if let Phase::Running(daemon) = &*state {
            if let Some(how) = daemon.ended() {
                *state = Phase::Ended(how);
            }
        }
        state
    }

    pub fn is_running(&self) -> bool {
        matches!(*self.now(), Phase::Running(_))
    }

    /// Ends the daemon.
    pub fn end(
        &self,
        doing: &'static str,
        done: &'static str,
        end: impl FnOnce(Daemon) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut state = self.now();
        match std::mem::replace(&mut *state, Phase::Changing(doing)) {
            Phase::Running(daemon) => {
                drop(state);
                let ended = end(daemon);
                *self.state() = Phase::Over(done);
                ended
            }
            Phase::Ended(how) => {
                *state = Phase::Over("stopped");
                Err(NodeError::Ended(how).into())
            }
            other @ (Phase::Changing(known) | Phase::Over(known)) => {
                *state = other;
                Err(InvalidRequest::NodeState { state: known }.into())
            }
        }
    }

    /// Starts a daemon. `start` receives how the previous one ended, if it exited on its own and this was not reported.
    pub fn start(&self, start: impl FnOnce(Option<String>) -> Result<Daemon, Error>) -> Result<(), Error> {
        let mut state = self.now();
        let ended = match &mut *state {
            Phase::Running(_) => return Err(InvalidRequest::NodeState { state: "running" }.into()),
            Phase::Changing(known) => return Err(InvalidRequest::NodeState { state: known }.into()),
            Phase::Over(_) => None,
            Phase::Ended(how) => Some(std::mem::take(how)),
        };
        *state = Phase::Changing("being started");
        drop(state);
        let started = start(ended);
        let (state, result) = match started {
            Ok(daemon) => (Phase::Running(daemon), Ok(())),
            Err(error) => (Phase::Over("stopped"), Err(error)),
        };
        *self.state() = state;
        result
    }

    /// Returns how the daemon ended, if it exited on its own and was not restarted.
    pub fn ended(&self) -> Option<String> {
        match &*self.now() {
            Phase::Ended(how) => Some(how.clone()),
            _ => None,
        }
    }

    /// Ends the daemon at once, for good.
    pub fn over(&self) {
        *self.state() = Phase::Over("dropped");
    }
}

/// Why a call to the daemon cannot have been answered.
pub(super) fn absence(life: &Arc<DaemonState>) -> Absence {
    // A client may outlive its node, and must not keep it.
    let life = Arc::downgrade(life);
    Arc::new(move || {
        let Some(life) = life.upgrade() else {
            return Some("the node was dropped".to_owned());
        };
        // It may be about to end. No other thread must wait for that.
        let start = Instant::now();
        while life.is_running() {
            if start.elapsed() >= ENDING {
                return None;
            }
            thread::sleep(POLL_INTERVAL);
        }
        let state = life.state();
        Some(match &*state {
            Phase::Ended(how) => format!("the node exited on its own, {how}"),
            Phase::Changing(known) => format!("the node is {known}"),
            Phase::Running(_) => return None,
            Phase::Over(known) => format!("the node was {known}; Node::restart starts it again"),
        })
    })
}
