//! The user's code may panic, and may never answer: neither ends a party that guards money.

use std::any::Any;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use thiserror::Error;

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
    // What a panic leaves half done belongs to the user, and only the user's code sees it.
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

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum Interrupted {
    #[error(transparent)]
    Panicked(#[from] Panicked),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// What the future returns, unless it panics or takes longer than that. It is dropped then, and never polled again.
pub(super) async fn limited<T>(after: Duration, future: impl Future<Output = T>) -> Result<T, Interrupted> {
    match tokio::time::timeout(after, catch_async(future)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Interrupted::Late(after)),
    }
}
