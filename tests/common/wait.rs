//! Waiting for what comes of itself.

use std::fmt::Debug;
use std::time::Duration;

use spilman::regtest::{wait_until, Poll};

/// Waits until this is so; a timeout says what was there instead.
#[track_caller]
pub fn until<T: Debug>(what: &str, timeout: Duration, mut look: impl FnMut() -> (bool, T)) {
    let waited = wait_until(what, timeout, || {
        let (is_so, seen) = look();
        Ok(if is_so {
            Poll::Ready(())
        } else {
            Poll::Pending(format!("{seen:?}"))
        })
    });
    waited.unwrap_or_else(|error| panic!("{error}"));
}
