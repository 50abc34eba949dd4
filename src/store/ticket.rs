use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::StoreError;

/// A change on its way to the disk. Resolves when it is durable, or will never be.
#[derive(Debug)]
#[must_use = "nothing may depend on a change before its ticket has resolved"]
pub struct Ticket(oneshot::Receiver<Result<(), StoreError>>);

/// The store's end of a [`Ticket`]. Dropping it fails the ticket.
#[derive(Debug)]
pub struct TicketHolder(oneshot::Sender<Result<(), StoreError>>);

impl Ticket {
    /// Creates a ticket and the end that completes it.
    pub fn new() -> (TicketHolder, Self) {
        let (holder, ticket) = oneshot::channel();
        (TicketHolder(holder), Self(ticket))
    }

    /// Creates a ticket that has resolved.
    pub fn resolved(result: Result<(), StoreError>) -> Self {
        let (holder, ticket) = Self::new();
        holder.complete(result);
        ticket
    }
}

impl TicketHolder {
    /// Tells the party: the change is durable, or it never will be.
    pub fn complete(self, result: Result<(), StoreError>) {
        // A party that has ended needs no answer.
        let _ = self.0.send(result);
    }
}

impl Future for Ticket {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let resolved = Pin::new(&mut self.0).poll(context);
        resolved.map(|result| result.unwrap_or(Err(StoreError::Ended)))
    }
}
