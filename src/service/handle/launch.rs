use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use super::Handle;
use crate::channel::Action;
use crate::service::chain::Chain;
use crate::service::guard::{catch_async, Panicked};
use crate::service::party::Party;
use crate::service::session::{Inbox, Launched, Session, Start};
use crate::service::trace::in_channel;

/// A party whose task has begun, and whose opener still waits for the first things that it does.
pub(in crate::service) struct Launch {
    carried_out: oneshot::Receiver<Launched>,
    kept: oneshot::Sender<()>,
}

impl Launch {
    /// Waits until the first actions are carried out.
    pub async fn is_under_way(&mut self) -> Launched {
        // A task that has ended by now says so in its outcome.
        (&mut self.carried_out).await.unwrap_or(Launched::UnderWay)
    }

    /// Says that the opener takes the handle. A party that is never told so asks to close.
    pub fn keep(self) {
        // The party may have ended.
        let _ = self.kept.send(());
    }
}

/// Starts the task of a party, without waiting for anything.
pub(in crate::service) fn spawn<P, IO, C, S>(
    session: Session<P, IO, C>,
    actions: Vec<Action>,
    (side, wallet_timeout): (S, Duration),
) -> (Handle<S>, Launch)
where
    P: Party,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Chain,
{
    let (carried_out, is_carried_out) = oneshot::channel();
    let (kept, is_kept) = oneshot::channel();
    let (requests, requested) = mpsc::channel(64);
    let (payments, to_pay) = mpsc::channel(64);
    let (params, funding) = (
        session.party().params().clone(),
        session.party().funding().clone(),
    );
    let status = session.status().clone();
    let receiver = status.subscribe();
    let start = Start { actions, carried_out };
    let inbox = Inbox {
        requests: requested,
        payments: to_pay,
        kept: is_kept,
    };
    let (channel, outpoint) = (params.id(), funding.outpoint());
    let task = async move {
        if let Err(Panicked { message }) = catch_async(session.run(start, inbox)).await {
            status.send_modify(|status| status.panicked = Some(message));
        }
    };
    let task = tokio::spawn(in_channel(P::IS_PAID, channel, outpoint, task));
    let handle = Handle {
        params,
        funding,
        requests,
        payments,
        status: receiver,
        task,
        wallet_timeout,
        side,
    };
    let carried_out = is_carried_out;
    (handle, Launch { carried_out, kept })
}
