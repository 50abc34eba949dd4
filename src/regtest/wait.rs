//! Waits for conditions, never for durations.

use std::thread;
use std::time::{Duration, Instant};

use super::error::{Error, NodeError};

/// How long calls wait unless a node was told otherwise. What is waited for takes milliseconds; this is for a machine
/// that is busy with something else.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// A call that waits inside the node comes back after so long, well before the client gives up on it.
pub(super) const SLICE: Duration = Duration::from_secs(5);
/// The same, where a change just before the call would be missed.
pub(super) const SHORT_SLICE: Duration = Duration::from_millis(200);

/// The result of one poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Poll<T> {
    /// The condition is true.
    Ready(T),
    /// The condition is not true yet; what was seen instead, for the error message.
    Pending(String),
}

/// Polls until a condition is true: at first every millisecond, then less often, at least 20 times a second. Where the
/// node announces a condition, use the methods of [`Node`](super::Node).
///
/// ```
/// use std::time::Duration;
/// use spilman::regtest::{wait_until, Poll};
///
/// let mut looks = 0;
/// let seen = wait_until("the third look", Duration::from_secs(1), || {
///     looks += 1;
///     Ok(if looks == 3 { Poll::Ready(looks) } else { Poll::Pending(format!("look {looks}")) })
/// })?;
/// assert_eq!(seen, 3);
///
/// let error = wait_until("a pig that flies", Duration::from_millis(3), || Ok(Poll::<()>::Pending("a pig".into())));
/// assert_eq!(error.unwrap_err().to_string(), "timed out after 3ms waiting for a pig that flies; last seen: a pig");
/// # Ok::<(), spilman::regtest::Error>(())
/// ```
///
/// # Errors
///
/// [`NodeError::Timeout`] with what was seen last, or as soon as `look` fails.
pub fn wait_until<T>(
    awaited: &str,
    timeout: Duration,
    mut look: impl FnMut() -> Result<Poll<T>, Error>,
) -> Result<T, Error> {
    let mut pause = Duration::from_millis(1);
    wait(
        || awaited.to_owned(),
        timeout,
        |left| {
            let seen = look()?;
            if let Poll::Pending(_) = seen {
                thread::sleep(pause.min(left));
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Ok(seen)
        },
    )
}

/// The loop under all waits. `look` gets the time that is left and may wait up to it.
pub(super) fn wait<T>(
    awaited: impl Fn() -> String,
    timeout: Duration,
    mut look: impl FnMut(Duration) -> Result<Poll<T>, Error>,
) -> Result<T, Error> {
    let start = Instant::now();
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        match look(left)? {
            Poll::Ready(done) => return Ok(done),
            Poll::Pending(seen) if left.is_zero() => {
                return Err(NodeError::Timeout {
                    awaited: awaited(),
                    within: timeout,
                    seen,
                }
                .into())
            }
            Poll::Pending(_) => {}
        }
    }
}
