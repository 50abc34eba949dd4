//! One place for a channel, and how far the channel in it has come.

use std::time::{Duration, Instant};

use bitcoin::OutPoint;
use spilman::channel::Construction;

/// What one payment adds, in satoshi: alone it is more than dust.
pub const PAYMENT: u64 = 1_000;
/// Payments of one channel.
pub const SHARE: u32 = 100;
/// What a channel locks, in satoshi: twice what it pays, so that every settlement has change.
pub const CAPACITY: u64 = 2 * PAYMENT * SHARE as u64;
/// Blocks until a refund. A channel needs a few dozen.
pub const EXPIRY: u32 = 600;
/// The pause after an order that failed: the other side is being started again.
const PAUSE: Duration = Duration::from_millis(50);

/// Where channels follow one another.
pub struct Slot {
    pub step: Step,
    /// The order that is not answered.
    pub awaits: Option<u64>,
    retry_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The number of payments to be made in the next channel.
    Opening {
        share: u32,
    },
    /// Payments acknowledged, and payments to be made.
    Paying {
        channel: OutPoint,
        done: u32,
        share: u32,
    },
    Closing {
        channel: OutPoint,
    },
    /// No payments are left.
    Idle,
}

impl Slot {
    pub fn new() -> Self {
        Self {
            step: Step::Idle,
            awaits: None,
            retry_at: Instant::now(),
        }
    }

    pub fn is_idle(&self) -> bool {
        self.step == Step::Idle
    }

    /// What it waits for, if it does.
    pub const fn waits_for(&self) -> Option<&'static str> {
        match (self.awaits, self.step) {
            (None, _) | (_, Step::Idle) => None,
            (_, Step::Opening { .. }) => Some("opening"),
            (_, Step::Paying { .. }) => Some("payment"),
            (_, Step::Closing { .. }) => Some("close"),
        }
    }

    pub fn fail(&mut self) {
        self.awaits = None;
        self.retry_at = Instant::now() + PAUSE;
    }

    /// The next order, if it is time for one.
    pub fn order(&self, payee: &str, construction: Construction) -> Option<String> {
        if self.awaits.is_some() || Instant::now() < self.retry_at {
            return None;
        }
        match self.step {
            Step::Idle => None,
            Step::Opening { .. } => Some(format!(
                "open {payee} --capacity {CAPACITY} --expiry {EXPIRY} --construction {construction}"
            )),
            Step::Paying { channel, done, .. } => {
                Some(format!("pay {channel} --total {}", u64::from(done + 1) * PAYMENT))
            }
            Step::Closing { channel } => Some(format!("close {channel}")),
        }
    }
}
