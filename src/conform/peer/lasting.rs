use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, TxOut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::{opened, tell, PeerError, Task};
use crate::channel::{ChannelKeys, Notice, Protocol, Stage};
use crate::conform::assignment::Assignment;
use crate::scenario::fund;
use crate::service::{
    wallet_fn, BitcoindChain, ChannelManager, ChannelManagerBuilder, ManagerObserver, PayeeConnection,
    PayeeHandle, PayerHandle, Report, Status,
};
use crate::store::SqliteStore;

/// The interval for looking whether the other side has opened its channel.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What a party wants to know of the reports.
enum News {
    Resumed,
    Notice(Notice),
}

type AllNews = mpsc::UnboundedReceiver<News>;

type Manager = ChannelManager<BitcoindChain>;

/// Runs a side that keeps its channel in this folder, and goes on with what it finds there.
pub(super) async fn live<IO>(
    assignment: &Assignment,
    state: &Path,
    (chain, io): (BitcoindChain, IO),
    task: Task,
) -> Result<(), PeerError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let store = SqliteStore::open(state.join("channels.sqlite"))
        .map_err(|error| PeerError::State(Box::new(error)))?;
    let (news, mut all_news) = mpsc::unbounded_channel();
    let observer: ManagerObserver = Arc::new(move |_, report| {
        eprintln!("{report:?}");
        let of_interest = match report {
            Report::Resumed => Some(News::Resumed),
            Report::Notice(notice) => Some(News::Notice(notice.clone())),
            _ => None,
        };
        // The receiver is gone once the channel closes.
        let _ = of_interest.map(|one| news.send(one));
    });
    let keys = ChannelKeys::new(assignment.secret_key.secret_bytes());
    let manager = ChannelManagerBuilder::new(Arc::new(store), keys, assignment.payout.clone())
        .limits(assignment.limits())
        .observer(observer)
        .start(chain)
        .await
        .map_err(|error| PeerError::State(Box::new(error)))?;
    let outcome = match task {
        Task::Payee { requests } => {
            let Some(payee) = be_met(&manager, io).await else {
                return Ok(());
            };
            be_paid(&payee, &requests, assignment.close_after, &mut all_news).await;
            payee.outcome().await
        }
        task @ Task::Payer { .. } => {
            let Some(payer) = meet(&manager, assignment, task, io).await? else {
                return Ok(());
            };
            // Without its payee it pays nothing, and waits for the end.
            if payer.status().borrow().connected {
                pay(&payer, assignment, &mut all_news).await;
            }
            payer.outcome().await
        }
    };
    match outcome {
        Ok(outcome) => eprintln!("the channel is closed: {outcome:?}"),
        Err(error) => eprintln!("{error}"),
    }
    Ok(())
}

/// Serves the connection, and returns the channel: an earlier one, or one that the payer opens.
async fn be_met<IO>(manager: &Manager, io: IO) -> Option<Arc<PayeeHandle>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = tokio::spawn({
        let manager = manager.clone();
        async move { manager.accept(io, None).await }
    });
    loop {
        let is_over = served.is_finished();
        if let Some(payee) = manager.payees().pop() {
            return Some(payee);
        }
        if is_over {
            return None;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Says hello, and resumes the channel or opens it.
async fn meet<IO>(
    manager: &Manager,
    assignment: &Assignment,
    task: Task,
    io: IO,
) -> Result<Option<Arc<PayerHandle>>, PeerError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = PayeeConnection::new(io).await;
    if let Some(payer) = manager.payers().pop() {
        match connection {
            Ok(connection) => {
                if let Err(error) = payer.resume(&connection).await {
                    eprintln!("{error}");
                }
            }
            Err(error) => eprintln!("{error}"),
        }
        return Ok(Some(payer));
    }
    let Task::Payer {
        proposal, coin: own, ..
    } = task
    else {
        return Ok(None);
    };
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => {
            eprintln!("there is no channel: {error}");
            return Ok(None);
        }
    };
    let feerate = proposal.terms.feerate;
    let wallet = wallet_fn(|output: &TxOut| fund(&own, output, feerate, &assignment.payout));
    match connection.channel(proposal.id).await {
        Ok(stream) => opened(manager.open(stream, proposal, wallet).await),
        Err(error) => {
            eprintln!("there is no channel: {error}");
            Ok(None)
        }
    }
}

/// Requests the next payment, where the protocol requires it, and closes after the last.
async fn be_paid(payee: &PayeeHandle, requests: &[u64], close_after: Option<usize>, news: &mut AllNews) {
    let mut accepted = 0;
    while let Some(one) = news.recv().await {
        match one {
            News::Notice(Notice::PaymentAccepted(_)) => {
                accepted += 1;
                if close_after == Some(accepted) {
                    return tell(payee.close().await);
                }
            }
            News::Notice(Notice::Ready) | News::Resumed => {}
            News::Notice(Notice::Closed(_) | Notice::Abandoned) => return,
            News::Notice(_) => continue,
        }
        let (paid, stage) = {
            let status = payee.status();
            let status = status.borrow();
            (status.paid, status.stage)
        };
        let mut unpaid = requests
            .iter()
            .map(|sat| Amount::from_sat(*sat))
            .filter(|sum| *sum > paid);
        if let Some(sum) = unpaid.next().filter(|_| stage == Stage::Open) {
            tell(payee.request_payment(sum - paid).await);
        }
    }
}

/// Makes each payment when it is requested, or when the previous one is acknowledged, and closes after the last.
async fn pay(payer: &PayerHandle, assignment: &Assignment, news: &mut AllNews) {
    let payments = assignment.payments.iter().flatten().filter(|sat| **sat > 0);
    let (mut requested, mut is_answered) = (Amount::ZERO, assignment.protocol != Protocol::Example7);
    for sum in payments.map(|sat| Amount::from_sat(*sat)) {
        let is_due = |status: &Status, requested: Amount| {
            assignment.protocol != Protocol::Bond || requested >= sum || status.paid >= sum
        };
        loop {
            let status = payer.status().borrow().clone();
            match status.stage {
                // It began to close in an earlier process.
                Stage::Closing | Stage::Closed => return,
                Stage::Open if is_answered && is_due(&status, requested) => break,
                _ => {}
            }
            match news.recv().await {
                Some(News::Notice(Notice::PaymentRequested { paid })) => requested = paid,
                // The payer makes the empty first payment on its own.
                Some(News::Resumed | News::Notice(Notice::PaymentAccepted(_))) => is_answered = true,
                Some(News::Notice(_)) => {}
                None => return,
            }
        }
        tell(payer.pay_up_to(sum).await.map(drop));
    }
    if assignment.close_after.is_some() {
        tell(payer.close().await);
    }
}
