use std::time::Duration;

use tokio::time::Instant;

use super::super::backoff::Backoff;

/// Attempts in a row that came to nothing, and how long the next one must wait.
pub(super) struct Pause {
    attempts: u32,
    began: Instant,
    wait: Duration,
    why: String,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            attempts: 0,
            began: Instant::now(),
            wait: Duration::ZERO,
            why: String::new(),
        }
    }
}

impl Pause {
    /// Returns how long the next attempt must wait, and what became of the last one; `None` if nothing keeps it back.
    pub fn left(&self) -> Option<(Duration, String)> {
        let left = self.wait.saturating_sub(self.began.elapsed());
        (!left.is_zero()).then(|| (left, self.why.clone()))
    }

    /// An attempt begins. The pause counts from here: after one that took long, the next one need not wait.
    pub fn begin(&mut self, backoff: &Backoff) {
        self.attempts = self.attempts.saturating_add(1);
        self.began = Instant::now();
        self.wait = backoff.pause(self.attempts);
        self.failed(&"it did not answer in time");
    }

    pub fn failed(&mut self, why: &impl ToString) {
        self.why = why.to_string();
    }

    pub fn over(&mut self) {
        *self = Self::default();
    }
}
