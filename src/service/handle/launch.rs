use std::time::Duration;

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

/// Called when the task of a party has ended, however it did.
pub(in crate::service) struct OnEnd(Option<Box<dyn FnOnce() + Send>>);

impl OnEnd {
    pub fn new(call: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(call)))
    }

    pub const fn nothing() -> Self {
        Self(None)
    }
}

impl Drop for OnEnd {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}

/// What a handle has besides its session.
pub(in crate::service) struct HandleParts<S> {
    pub side: S,
    pub wallet_timeout: Duration,
    pub on_end: OnEnd,
}

/// Starts the task of a party, without waiting for anything.
pub(in crate::service) fn spawn<P, C, S>(
    session: Session<P, C>,
    actions: Vec<Action>,
    HandleParts {
        side,
        wallet_timeout,
        on_end,
    }: HandleParts<S>,
) -> (Handle<S>, Launch)
where
    P: Party,
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
        let _on_end = on_end;
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
