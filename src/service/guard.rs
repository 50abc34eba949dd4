//! Catches panics of the user's code, so that they do not end a party that guards money.

use std::any::Any;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::pin;
use std::task::Poll;

use thiserror::Error;

use super::report::{Observer, ObserverPanic, Report};

/// The user's code panicked.
#[derive(Debug, Clone, Error)]
#[error("panicked: {message}")]
pub(super) struct Panicked {
    pub message: String,
}

impl Panicked {
    fn of(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("(the panic message is not text)").to_owned();
        Self { message }
    }
}

/// What `call` returns, or its panic.
pub(super) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    // What a panic leaves half done is the user's own, and only the user's code sees it.
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| Panicked::of(&*payload))
}

/// The same for what takes time.
pub(super) async fn catch_async<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match catch(|| future.as_mut().poll(context)) {
        Ok(poll) => poll.map(Ok),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

/// Tells the observer, and keeps count of its panics.
pub(super) struct Teller {
    observer: Observer,
    pub fault: Option<ObserverPanic>,
}

impl Teller {
    pub fn new(observer: Observer) -> Self {
        Self {
            observer,
            fault: None,
        }
    }

    pub fn tell(&mut self, report: Report<'_>) {
        if let Err(Panicked { message }) = catch(|| (self.observer)(report)) {
            let panics = self.fault.take().map_or(0, |fault| fault.panics) + 1;
            self.fault = Some(ObserverPanic { panics, message });
        }
    }
}
