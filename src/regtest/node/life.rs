//! Whether a node's daemon runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::regtest::error::{Error, Misuse, NodeError};
use crate::regtest::process::Daemon;
use crate::regtest::transport::Absence;

/// A daemon whose connection broke has ended within this time, if it is about to.
const ENDING: Duration = Duration::from_millis(500);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(1);

/// The daemon, or why there is none. Nobody holds the lock while a daemon is started or stopped.
pub(super) struct Life(Mutex<State>);

enum State {
    Running(Daemon),
    /// It is being started, stopped or killed.
    Changing(&'static str),
    /// It was stopped or killed.
    Over(&'static str),
    /// It ended by itself, and in this way.
    Ended(String),
}

impl Life {
    pub fn new(daemon: Daemon) -> Self {
        Self(Mutex::new(State::Running(daemon)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, with an end that has just been noticed.
    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if let State::Running(daemon) = &*state {
            if let Some(how) = daemon.ended() {
                *state = State::Ended(how);
            }
        }
        state
    }

    pub fn is_running(&self) -> bool {
        matches!(*self.now(), State::Running(_))
    }

    /// Ends the daemon.
    pub fn end(
        &self,
        doing: &'static str,
        done: &'static str,
        end: impl FnOnce(Daemon) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut state = self.now();
        match std::mem::replace(&mut *state, State::Changing(doing)) {
            State::Running(daemon) => {
                drop(state);
                let ended = end(daemon);
                *self.state() = State::Over(done);
                ended
            }
            State::Ended(how) => {
                *state = State::Over("stopped");
                Err(NodeError::Ended(how).into())
            }
            other @ (State::Changing(known) | State::Over(known)) => {
                *state = other;
                Err(Misuse::NodeState { state: known }.into())
            }
        }
    }

    /// Starts a daemon. `start` is told how the one before ended, if it did so by itself and nobody has heard of it.
    pub fn start(&self, start: impl FnOnce(Option<String>) -> Result<Daemon, Error>) -> Result<(), Error> {
        let mut state = self.now();
        let ended = match &mut *state {
            State::Running(_) => return Err(Misuse::NodeState { state: "running" }.into()),
            State::Changing(known) => return Err(Misuse::NodeState { state: known }.into()),
            State::Over(_) => None,
            State::Ended(how) => Some(std::mem::take(how)),
        };
        *state = State::Changing("being started");
        drop(state);
        let started = start(ended);
        let (state, result) = match started {
            Ok(daemon) => (State::Running(daemon), Ok(())),
            Err(error) => (State::Over("stopped"), Err(error)),
        };
        *self.state() = state;
        result
    }

    /// How the daemon ended, if it did so by itself and was not started again.
    pub fn ended(&self) -> Option<String> {
        match &*self.now() {
            State::Ended(how) => Some(how.clone()),
            _ => None,
        }
    }

    /// Ends the daemon at once, for good.
    pub fn over(&self) {
        *self.state() = State::Over("dropped");
    }
}

/// Why a call to the daemon cannot have been answered.
pub(super) fn absence(life: &Arc<Life>) -> Absence {
    // A client may outlive its node, and must not keep it.
    let life = Arc::downgrade(life);
    Arc::new(move || {
        let Some(life) = life.upgrade() else {
            return Some("the node was dropped".to_owned());
        };
        // It may be about to end. Nobody else has to wait for that.
        let start = Instant::now();
        while life.is_running() {
            if start.elapsed() >= ENDING {
                return None;
            }
            thread::sleep(LOOK);
        }
        let state = life.state();
        Some(match &*state {
            State::Ended(how) => format!("the node has ended by itself, {how}"),
            State::Changing(known) => format!("the node is {known}"),
            State::Running(_) => return None,
            State::Over(known) => format!("the node was {known}; Node::restart starts it again"),
        })
    })
}
