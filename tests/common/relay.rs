//! A node between two parties in memory: what they say is heard at once, and what they broadcast the node judges.

use std::convert::Infallible;

use bitcoin::{Amount, OutPoint, Transaction};
use spilman::channel::{ChainView, CpfpPackage, Envelope, Message, Notice, SpendRole, Terms};
use spilman::regtest::{Regtest, RejectReason};
use spilman::service::{BitcoindChain, Chain};
use spilman::sim::{BroadcastAnswer, Network};
use spilman::transcript::Side;
use tokio::runtime::{Builder, Runtime};

pub struct Relay {
    pub notices: Vec<(Side, Notice)>,
    /// What was given to the node, and why it rejected it.
    pub broadcasts: Vec<(SpendRole, Transaction, Option<RejectReason>)>,
    told: Option<Terms>,
    promised: Option<Amount>,
    chain: BitcoindChain,
    runtime: Runtime,
}

impl Relay {
    /// The proposal and its answer are changed to what is told and promised.
    pub fn new(chain: &Regtest, told: Option<Terms>, promised: Option<Amount>) -> Self {
        Self {
            notices: Vec::new(),
            broadcasts: Vec::new(),
            told,
            promised,
            chain: BitcoindChain::when_announced(chain.node().new_client()),
            runtime: Builder::new_current_thread().build().expect("a runtime"),
        }
    }

    pub fn view(&self, outpoint: OutPoint) -> ChainView {
        let view = self.runtime.block_on(self.chain.view(outpoint.into()));
        view.expect("the node answers")
    }

    fn answered(&mut self, role: SpendRole, tx: &Transaction, rejected: Option<String>) -> BroadcastAnswer {
        let reason = rejected.as_deref().map(RejectReason::of);
        self.broadcasts.push((role, tx.clone(), reason));
        rejected.map_or(BroadcastAnswer::Accepted, BroadcastAnswer::Rejected)
    }
}

impl Network for Relay {
    type Error = Infallible;

    fn deliver(&mut self, _from: Side, mut said: Envelope) -> Result<Option<Envelope>, Infallible> {
        match &mut said.message {
            Message::Open { terms, .. } => {
                if let Some(told) = &self.told {
                    *terms = told.clone();
                }
            }
            Message::Accept { confirmation, .. } => {
                confirmation.zero_conf_limit = self.promised.unwrap_or(confirmation.zero_conf_limit);
            }
            _ => {}
        }
        Ok(Some(said))
    }

    fn broadcast(&mut self, _by: Side, role: SpendRole, tx: &Transaction) -> BroadcastAnswer {
        let answer = self.runtime.block_on(self.chain.broadcast(tx));
        self.answered(role, tx, answer.expect("the node answers"))
    }

    fn broadcast_package(&mut self, _by: Side, role: SpendRole, package: &CpfpPackage) -> BroadcastAnswer {
        let answer = self.runtime.block_on(self.chain.broadcast_package(package));
        self.answered(role, package.parent(), answer.expect("the node answers"))
    }

    fn notify(&mut self, to: Side, notice: &Notice) {
        self.notices.push((to, notice.clone()));
    }
}
