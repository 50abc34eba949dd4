use std::ops::RangeInclusive;
use std::time::Duration;

/// How long to wait before a retry: `first` after one failure, twice as long after each
/// further failure in a row, and never longer than `most`.
///
/// `jitter` keeps many parties from asking a server that has just restarted at the same moment: each pause is
/// shortened by a random part of up to that many percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure, before jitter.
    pub first: Duration,
    /// The longest pause.
    pub most: Duration,
    /// By how much a pause may be shortened, in percent; more than 100 counts as 100.
    pub jitter: u8,
}

impl Default for Backoff {
    /// From 2 s to 30 s, shortened by up to a quarter.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(2),
            most: Duration::from_secs(30),
            jitter: 25,
        }
    }
}

impl Backoff {
    /// Returns the bounds of the pause after `failures` failures in a row.
    pub fn bounds(&self, failures: u32) -> RangeInclusive<Duration> {
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.first.saturating_mul(1 << doublings).min(self.most);
        let kept = 100 - u32::from(self.jitter.min(100));
        longest.saturating_mul(kept) / 100..=longest
    }

    /// Draws the pause after `failures` failures in a row. If the system has no random numbers, it is the longest.
    pub fn pause(&self, failures: u32) -> Duration {
        let mut random = [0; 4];
        let drawn = getrandom::fill(&mut random).map(|()| u32::from_le_bytes(random));
        self.within(failures, drawn.unwrap_or(u32::MAX))
    }

    /// The pause within its bounds: the shortest for 0, the longest for `u32::MAX`.
    fn within(&self, failures: u32, random: u32) -> Duration {
        let (shortest, longest) = self.bounds(failures).into_inner();
        let share = f64::from(random) / f64::from(u32::MAX);
        let span = longest.saturating_sub(shortest);
        // A span of centuries has no exact `f64`, and may come out too long.
        let part = Duration::try_from_secs_f64(span.as_secs_f64() * share);
        shortest.saturating_add(part.unwrap_or(span)).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_pause_doubles_up_to_the_longest() {
        let backoff = Backoff {
            jitter: 0,
            ..Backoff::default()
        };
        for (failures, pause) in [
            (0, 2),
            (1, 2),
            (2, 4),
            (3, 8),
            (4, 16),
            (5, 30),
            (6, 30),
            (u32::MAX, 30),
        ] {
            assert_eq!(
                backoff.bounds(failures),
                secs(pause)..=secs(pause),
                "after {failures}"
            );
            assert_eq!(backoff.pause(failures), secs(pause), "after {failures}");
        }
    }

    #[test]
    fn jitter_shortens_a_pause_within_its_bounds() {
        for (jitter, shortest) in [(0, 8_000), (25, 6_000), (100, 0), (255, 0)] {
            let backoff = Backoff {
                jitter,
                ..Backoff::default()
            };
            let shortest = Duration::from_millis(shortest);
            assert_eq!(backoff.bounds(3), shortest..=secs(8), "{jitter} %");
            assert_eq!(backoff.within(3, 0), shortest, "{jitter} %");
            assert_eq!(backoff.within(3, u32::MAX), secs(8), "{jitter} %");
            assert!(
                (0..100).all(|_| backoff.bounds(3).contains(&backoff.pause(3))),
                "{jitter} %"
            );
        }
    }

    #[test]
    fn absurd_bounds_do_not_overflow() {
        for jitter in [0, 50, 100] {
            let backoff = Backoff {
                first: Duration::MAX,
                most: Duration::MAX,
                jitter,
            };
            assert!(backoff.bounds(u32::MAX).contains(&backoff.pause(u32::MAX)));
            assert!(backoff
                .bounds(u32::MAX)
                .contains(&backoff.within(u32::MAX, u32::MAX)));
        }
    }
}
