use std::time::Duration;

use tokio::time::Instant;

use crate::channel::Tip;
use crate::service::backoff::Backoff;
use crate::service::report::Report;
use crate::service::setup::Setup;
use crate::service::timing::POLL_INTERVAL;

/// How often a party polls the chain, and when it complains.
#[derive(Debug, Clone, Copy)]
pub(in crate::service) struct Pace {
    pub backoff: Backoff,
    pub stale_after: Duration,
}

impl Pace {
    pub const fn new(backoff: Backoff, stale_after: Duration) -> Self {
        Self { backoff, stale_after }
    }

    pub const fn of(setup: &Setup) -> Self {
        Self::new(setup.backoff, setup.stale_after)
    }
}

/// When to poll the chain next, and how fresh the last answer is. The times are tokio's monotonic clock. They decide only
/// when to poll and what to tell.
pub(super) struct PollSchedule {
    pace: Pace,
    /// The last poll of the funding output failed.
    pub blind: bool,
    pub next_poll: Instant,
    /// Polls in a row that failed, or with a broadcast that did.
    failures: u32,
    /// The same before the poll that is under way, and whether that one failed.
    before: u32,
    failed: bool,
    tip: Tip,
    since: Instant,
    told: bool,
}

impl PollSchedule {
    pub fn new(pace: Pace, tip: Tip) -> Self {
        let now = Instant::now();
        Self {
            pace,
            blind: false,
            next_poll: now + POLL_INTERVAL,
            failures: 0,
            before: 0,
            failed: false,
            tip,
            since: now,
            told: false,
        }
    }

    /// News wait for the next poll after one that failed: a server that refuses is not asked at the pace of its news.
    pub const fn heeds_news(&self) -> bool {
        self.failures == 0
    }

    /// Something waits for the next poll. A peer that has many such things does not make this side poll all the time.
    pub fn poll_soon(&mut self) {
        if self.heeds_news() {
            self.next_poll = self.next_poll.min(Instant::now() + Duration::from_secs(1));
        }
    }

    pub const fn begin(&mut self) {
        (self.before, self.failed) = (self.failures, false);
    }

    /// A poll, or a broadcast, failed.
    pub fn fail(&mut self) {
        self.failed = true;
        self.failures = self.failures.max(1);
        let pause = self.pace.backoff.pause(self.failures);
        self.next_poll = self.next_poll.min(Instant::now() + pause);
    }

    /// A poll, and all that followed from it, is over.
    pub fn end(&mut self) {
        let (failures, pause) = if self.failed {
            let failures = self.before.saturating_add(1);
            (failures, self.pace.backoff.pause(failures))
        } else {
            (0, POLL_INTERVAL)
        };
        self.failures = failures;
        self.next_poll = Instant::now() + pause;
    }

    pub fn saw(&mut self, tip: Tip) {
        if tip != self.tip {
            (self.tip, self.since, self.told) = (tip, Instant::now(), false);
        }
    }

    /// Returns what to tell about a tip that is too old, once.
    pub fn stale(&mut self) -> Option<Report<'static>> {
        let unchanged = self.since.elapsed();
        if self.told || unchanged < self.pace.stale_after {
            return None;
        }
        self.told = true;
        Some(Report::StaleTip {
            tip: self.tip,
            unchanged,
        })
    }
}
