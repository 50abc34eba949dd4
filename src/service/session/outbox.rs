use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bitcoin::OutPoint;
use tokio::time::{timeout, Timeout};

use crate::channel::{Action, Change, KeyId};
use crate::service::guard::catch;
use crate::service::timing::STORE_TIMEOUT;
use crate::store::{Store, StoreError, StoredChannel, Ticket};

/// With more than this to be done, a session reads nothing and signs nothing: its store does not keep up.
const FULL: usize = 256;

/// Where one channel is stored.
#[derive(Clone)]
pub(in crate::service) struct Shelf {
    pub store: Arc<dyn Store>,
    pub key_id: KeyId,
}

impl Shelf {
    fn inserted(&self, change: &Change) -> Option<Box<StoredChannel>> {
        match change {
            Change::Insert(state) => Some(Box::new(StoredChannel {
                key_id: self.key_id,
                state: (**state).clone(),
            })),
            Change::Update(_) => None,
        }
    }

    fn keep(&self, funding: OutPoint, change: Change) -> Ticket {
        let ticket = catch(|| match change {
            Change::Insert(state) => self.store.insert(StoredChannel {
                key_id: self.key_id,
                state: *state,
            }),
            Change::Update(progress) => self.store.update(funding, progress),
        });
        // A store that panics is the user's code, and has not kept the change.
        ticket.unwrap_or_else(|panicked| {
            let error = std::io::Error::other(panicked);
            Ticket::resolved(Err(StoreError::Other(Arc::new(error))))
        })
    }
}

/// What a party has to do, in order, held back until its store has what it follows from.
///
/// Without a store nothing is held back: what lives in this process alone dies with it.
pub(super) struct Outbox {
    shelf: Option<Shelf>,
    queue: VecDeque<Held>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "most are actions, and the queue is short"
)]
enum Held {
    /// Nothing behind it is done before this is durable.
    Until(Pin<Box<Timeout<Ticket>>>),
    Do(Due),
}

/// What may be done now.
#[expect(clippy::large_enum_variant, reason = "most are actions")]
pub(super) enum Due {
    Act(Action),
    /// The new channel is stored: tell the user, before anything else.
    Tell(Box<StoredChannel>),
}

impl Outbox {
    pub const fn new(shelf: Option<Shelf>) -> Self {
        Self {
            shelf,
            queue: VecDeque::new(),
        }
    }

    /// Hands what must be stored to the store, and queues the rest behind it.
    pub fn put(&mut self, funding: OutPoint, actions: Vec<Action>) {
        for action in actions {
            match (action, &self.shelf) {
                (Action::Persist(change), Some(shelf)) => {
                    let inserted = shelf.inserted(&change);
                    let ticket = timeout(STORE_TIMEOUT, shelf.keep(funding, change));
                    self.queue.push_back(Held::Until(Box::pin(ticket)));
                    let told = inserted.map(Due::Tell).map(Held::Do);
                    self.queue.extend(told);
                }
                (Action::Persist(_), None) => {}
                (action, _) => self.queue.push_back(Held::Do(Due::Act(action))),
            }
        }
    }

    /// Drops the messages that wait for the store: the connection they were for is gone, and the next one begins with what
    /// both sides hold.
    pub fn drop_messages(&mut self) {
        let is_message = |held: &Held| matches!(held, Held::Do(Due::Act(Action::Send(_))));
        self.queue.retain(|held| !is_message(held));
    }

    pub const fn is_stored(&self) -> bool {
        self.shelf.is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.queue.len() > FULL
    }

    /// Returns what may be done next; `None` if nothing is left. Cancel safe.
    ///
    /// # Errors
    /// If the store failed. What is queued will never be done, and is gone.
    pub async fn next(&mut self) -> Option<Result<Due, StoreError>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Due, StoreError>>> {
        while let Some(Held::Until(ticket)) = self.queue.front_mut() {
            let stored = ready!(ticket.as_mut().poll(context));
            if let Err(error) = stored.unwrap_or(Err(StoreError::Timeout(STORE_TIMEOUT))) {
                self.queue.clear();
                return Poll::Ready(Some(Err(error)));
            }
            self.queue.pop_front();
        }
        Poll::Ready(match self.queue.pop_front() {
            Some(Held::Do(due)) => Some(Ok(due)),
            Some(Held::Until(_)) | None => None,
        })
    }
}
