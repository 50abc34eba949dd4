mod lasting;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, Transaction, TxOut};
use thiserror::Error;
use tokio::sync::mpsc;

use super::assignment::{wanted, Assignment, AssignmentError, Server, CASE_ENV};
use crate::channel::{ChannelKey, Notice, Protocol};
use crate::regtest::bitcoincore_rpc::{self, Auth, Client, RpcApi};
use crate::regtest::{Coin, CoinKind};
use crate::scenario::fund;
use crate::service::{
    wallet_fn, BitcoindChain, KeyReuse, Observer, OpenError, PayeeHandle, PayerHandle, Proposal, Report,
    RequestError, Setup,
};
use crate::transcript::Side;

/// The interval for polling the node, which mines for a test on the same machine.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs this crate's own payer or payee as a program under test: reads its [`CASE_ENV`], speaks on standard input
/// and output, and returns when nothing is left to do. It logs to standard error.
///
/// # Errors
/// If the assignment is invalid, or the chain cannot be seen. It is not an error if the other side breaks off the
/// opening.
pub fn peer() -> Result<(), PeerError> {
    let json = std::env::var(CASE_ENV).map_err(|_| AssignmentError::Missing)?;
    let assignment = Assignment::parse(&json)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let lived = runtime.block_on(live(&assignment));
    // A thread may still be waiting for standard input.
    runtime.shutdown_background();
    lived
}

/// Why the program could not run its side.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The assignment is invalid.
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// The runtime cannot start.
    #[error("cannot start the runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// The node does not answer.
    #[error("cannot see the chain at {url}: {source}")]
    Node {
        /// Its URL.
        url: String,
        /// What went wrong.
        source: Box<bitcoincore_rpc::Error>,
    },
    /// What outlives the process cannot be kept, or be read.
    #[error("cannot use the folder `state`: {0}")]
    State(Box<dyn std::error::Error + Send + Sync>),
    /// The opening failed on this side.
    #[error("cannot open a channel: {0}")]
    Open(Box<OpenError>),
}

/// What a role has to do, from an assignment that makes sense.
#[expect(clippy::large_enum_variant, reason = "there is one of it in a process")]
enum Task {
    Payee {
        requests: Vec<u64>,
    },
    Payer {
        proposal: Proposal,
        coin: Coin,
        payments: Vec<u64>,
    },
}

impl Task {
    fn of(assignment: &Assignment) -> Result<Self, AssignmentError> {
        Ok(match assignment.role {
            Side::Payee if assignment.protocol == Protocol::Bond => Self::Payee {
                requests: wanted("requests", assignment.requests.as_deref())?.to_vec(),
            },
            Side::Payee => Self::Payee { requests: Vec::new() },
            Side::Payer => Self::Payer {
                proposal: assignment.proposal()?,
                coin: coin(assignment)?,
                payments: wanted("payments", assignment.payments.as_deref())?.to_vec(),
            },
        })
    }
}

async fn live(assignment: &Assignment) -> Result<(), PeerError> {
    // An invalid assignment must be reported before the first request.
    let task = Task::of(assignment)?;
    let chain = chain(&assignment.node).map_err(|source| PeerError::Node {
        url: assignment.node.url.clone(),
        source: Box::new(source),
    })?;
    let io = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
    if let Some(state) = &assignment.state {
        return Box::pin(lasting::live(assignment, state, (chain, io), task)).await;
    }
    let (news, mut notices) = mpsc::unbounded_channel();
    let setup = setup(assignment, news);
    let outcome = match task {
        Task::Payee { requests } => {
            let Some(payee) = opened(setup.accept(io, chain).await)? else {
                return Ok(());
            };
            be_paid(&payee, &requests, assignment.close_after, &mut notices).await;
            payee.outcome().await
        }
        Task::Payer {
            proposal,
            coin,
            payments,
        } => {
            let feerate = proposal.terms.feerate;
            let wallet = wallet_fn(|output: &TxOut| fund(&coin, output, feerate, &assignment.payout));
            let Some(payer) = opened(setup.open(io, chain, proposal, wallet).await)? else {
                return Ok(());
            };
            pay(&payer, &payments, assignment, &mut notices).await;
            payer.outcome().await
        }
    };
    match outcome {
        Ok(outcome) => eprintln!("the channel is closed: {outcome:?}"),
        Err(error) => eprintln!("{error}"),
    }
    Ok(())
}

/// Connects to the node, so that an error shows before the first message.
fn chain(server: &Server) -> Result<BitcoindChain, bitcoincore_rpc::Error> {
    let auth = Auth::UserPass(server.user.clone(), server.password.clone());
    let client = Client::new(&server.url, auth)?;
    client.get_best_block_hash()?;
    Ok(BitcoindChain::new(client).poll_every(POLL_INTERVAL))
}

fn setup(assignment: &Assignment, news: mpsc::UnboundedSender<Notice>) -> Setup {
    let observer: Observer = Arc::new(move |report: Report<'_>| {
        eprintln!("{report:?}");
        if let Report::Notice(notice) = report {
            // The receiver is gone once the channel closes.
            let _ = news.send(notice.clone());
        }
    });
    let setup = Setup::new(ChannelKey::new(assignment.secret_key), assignment.payout.clone())
        // The assignment gives the key.
        .key_reuse(KeyReuse::Allow)
        .limits(assignment.limits())
        .observer(observer);
    if assignment.joint == Some(false) {
        setup.nonces(None)
    } else {
        setup
    }
}

/// Returns `None` if the other side broke off the opening: nothing is at stake yet.
fn opened<H>(opened: Result<H, OpenError>) -> Result<Option<H>, PeerError> {
    match opened {
        Ok(handle) => Ok(Some(handle)),
        Err(
            error @ (OpenError::Refused(_)
            | OpenError::PeerRefused { .. }
            | OpenError::Connection(_)
            | OpenError::Disconnected { .. }
            | OpenError::Timeout { .. }),
        ) => {
            eprintln!("there is no channel: {error}");
            Ok(None)
        }
        Err(error) => Err(PeerError::Open(Box::new(error))),
    }
}

type Notices = mpsc::UnboundedReceiver<Notice>;

/// Requests one payment after the other, where the protocol requires it, and closes after the last.
async fn be_paid(payee: &PayeeHandle, requests: &[u64], close_after: Option<usize>, notices: &mut Notices) {
    let mut requests = requests.iter().map(|sat| Amount::from_sat(*sat));
    let (mut accepted, mut paid) = (0, Amount::ZERO);
    while let Some(notice) = notices.recv().await {
        match notice {
            Notice::Ready if accepted == 0 => {}
            Notice::PaymentAccepted(balance) => {
                (accepted, paid) = (accepted + 1, balance.paid);
                if close_after == Some(accepted) {
                    return tell(payee.close().await);
                }
            }
            Notice::Closed(_) | Notice::Abandoned => return,
            _ => continue,
        }
        if let Some(sum) = requests.next() {
            tell(payee.request_payment(sum - paid).await);
        }
    }
}

/// Makes each payment when it is requested, or when the previous one is acknowledged, and closes after the last.
async fn pay(payer: &PayerHandle, payments: &[u64], assignment: &Assignment, notices: &mut Notices) {
    let mut acknowledged = 0;
    let mut payments = payments.iter().map(|sat| Amount::from_sat(*sat)).peekable();
    let mut paid = Amount::ZERO;
    while let Some(notice) = notices.recv().await {
        let asked = match notice {
            Notice::Ready | Notice::PaymentAccepted(_) => assignment.protocol != Protocol::Bond,
            Notice::PaymentRequested { .. } => true,
            Notice::Closed(_) | Notice::Abandoned => return,
            _ => continue,
        };
        if matches!(notice, Notice::PaymentAccepted(_)) {
            acknowledged += 1;
            if assignment.close_after == Some(acknowledged) {
                return tell(payer.close().await);
            }
        }
        // The payer makes the empty first payment on its own.
        if asked && payments.peek().is_some_and(|sum| *sum == paid) {
            payments.next();
            continue;
        }
        if let Some(sum) = payments.next_if(|_| asked) {
            tell(payer.pay_up_to(sum).await.map(drop));
            paid = sum;
        }
    }
}

/// Logs a failed request; the channel must still be closed.
fn tell(done: Result<(), RequestError>) {
    if let Err(error) = done {
        eprintln!("{error}");
    }
}

fn coin(assignment: &Assignment) -> Result<Coin, AssignmentError> {
    let (outpoint, output, key) = assignment.funds()?;
    let coin = Coin {
        outpoint,
        kind: CoinKind::Segwit,
        key,
        funding: Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: Vec::new(),
            output: Vec::new(),
        },
        output,
    };
    Ok(coin)
}
