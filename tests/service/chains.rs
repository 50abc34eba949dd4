//! Chains that a test writes.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::Transaction;
use spilman::channel::{ChainView, SeenSpend, Tip};
use spilman::service::{Chain, ChainError, Watched};
use tokio::sync::watch;

use crate::pair::{tip, HEIGHT, MTP};

/// A chain on which everything is as the test says. What is broadcast is in the mempool at once.
#[derive(Clone)]
pub struct FakeChain {
    pub state: Arc<Mutex<State>>,
    pub changes: watch::Sender<u64>,
}

pub struct State {
    pub tip: Tip,
    pub confirmations: u32,
    pub spend: Option<SeenSpend>,
    pub broadcast: Vec<Transaction>,
}

impl FakeChain {
    pub fn new() -> Self {
        let state = State {
            tip: tip(HEIGHT, MTP),
            confirmations: 0,
            spend: None,
            broadcast: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changes: watch::Sender::new(1),
        }
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changes.send_modify(|serial| *serial += 1);
    }

    pub fn broadcast_so_far(&self) -> Vec<Transaction> {
        self.state.lock().unwrap().broadcast.clone()
    }

    pub fn confirm(&self, confirmations: u32) {
        self.change(|state| state.confirmations = confirmations);
    }

    pub fn confirm_the_spend(&self) {
        self.change(|state| state.spend.as_mut().expect("something spends").confirmations = 6);
    }

    pub fn reach(&self, height: u32, mtp: u32) {
        self.change(|state| state.tip = tip(height, mtp));
    }
}

impl Chain for FakeChain {
    async fn tip(&self) -> Result<Tip, ChainError> {
        Ok(self.state.lock().unwrap().tip)
    }

    async fn view(&self, _: Watched) -> Result<ChainView, ChainError> {
        let state = self.state.lock().unwrap();
        Ok(ChainView {
            tip: state.tip,
            confirmations: state.confirmations,
            funding_parent: None,
            spend: state.spend.clone(),
        })
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ChainError> {
        self.change(|state| {
            let spends = state
                .broadcast
                .iter()
                .any(|b| b.compute_txid() == tx.input[0].previous_output.txid);
            if spends {
                state.spend = Some(SeenSpend {
                    tx: tx.clone(),
                    confirmations: 0,
                });
            }
            state.broadcast.push(tx.clone());
        });
        Ok(None)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// A chain that can be asked, and announces nothing.
pub struct Blind(pub FakeChain);

impl Chain for Blind {
    fn tip(&self) -> impl Future<Output = Result<Tip, ChainError>> + Send {
        self.0.tip()
    }

    fn view(&self, watched: Watched) -> impl Future<Output = Result<ChainView, ChainError>> + Send {
        self.0.view(watched)
    }

    fn broadcast(&self, tx: &Transaction) -> impl Future<Output = Result<Option<String>, ChainError>> + Send {
        self.0.broadcast(tx)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(1).1
    }
}

/// A node that can be down.
#[derive(Clone)]
pub struct Shaky {
    pub chain: FakeChain,
    pub down: Arc<AtomicBool>,
    pub failed_looks: watch::Sender<u32>,
}

impl Shaky {
    pub fn new() -> Self {
        Self {
            chain: FakeChain::new(),
            down: Arc::new(AtomicBool::new(false)),
            failed_looks: watch::Sender::new(0),
        }
    }
}

impl Chain for Shaky {
    fn tip(&self) -> impl Future<Output = Result<Tip, ChainError>> + Send {
        self.chain.tip()
    }

    async fn view(&self, watched: Watched) -> Result<ChainView, ChainError> {
        if self.down.load(Ordering::Relaxed) {
            self.failed_looks.send_modify(|looks| *looks += 1);
            return Err(ChainError::new("look at the chain", "the node is down"));
        }
        self.chain.view(watched).await
    }

    fn broadcast(&self, tx: &Transaction) -> impl Future<Output = Result<Option<String>, ChainError>> + Send {
        self.chain.broadcast(tx)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.chain.changes()
    }
}

/// A node whose failures a test can switch on and off.
#[derive(Clone)]
pub struct Odd {
    pub chain: FakeChain,
    pub mood: Arc<Mutex<Mood>>,
    /// How often it was asked for the funding output.
    pub looks: watch::Sender<u32>,
}

#[derive(Clone, Copy, Default)]
pub struct Mood {
    pub view_takes: Duration,
    pub view: Answer,
    pub tip: Answer,
    pub broadcast_takes: Duration,
    pub broadcast: Answer,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer {
    #[default]
    True,
    Error,
    Panic,
    /// The transaction is kept from the network.
    Refused,
    /// The network gets the transaction all the same.
    RefusedFalsely,
}

impl Odd {
    pub fn new() -> Self {
        Self::on(FakeChain::new())
    }

    pub fn on(chain: FakeChain) -> Self {
        Self {
            chain,
            mood: Arc::default(),
            looks: watch::Sender::new(0),
        }
    }

    pub fn change(&self, change: impl FnOnce(&mut Mood)) {
        change(&mut self.mood.lock().unwrap());
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }
}

impl Answer {
    fn fail(self, task: &'static str) -> Result<(), ChainError> {
        match self {
            Self::Error => Err(ChainError::new(task, "the node has other things to do")),
            Self::Panic => panic!("a defect in the user's chain"),
            _ => Ok(()),
        }
    }
}

impl Chain for Odd {
    async fn tip(&self) -> Result<Tip, ChainError> {
        self.mood().tip.fail("read the tip")?;
        self.chain.tip().await
    }

    async fn view(&self, watched: Watched) -> Result<ChainView, ChainError> {
        self.looks.send_modify(|looks| *looks += 1);
        tokio::time::sleep(self.mood().view_takes).await;
        self.mood().view.fail("look at the chain")?;
        self.chain.view(watched).await
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ChainError> {
        let mood = self.mood();
        mood.broadcast.fail("broadcast")?;
        let answer = match mood.broadcast {
            Answer::Refused => Some("min relay fee not met".to_owned()),
            // The network has it before the node answers.
            falsely => {
                self.chain.broadcast(tx).await?;
                (falsely == Answer::RefusedFalsely).then(|| "mempool full".to_owned())
            }
        };
        tokio::time::sleep(mood.broadcast_takes).await;
        Ok(answer)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.chain.changes()
    }
}
