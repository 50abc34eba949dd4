//! What nodes have in their mempools goes to those that they meet again.

use std::collections::BTreeMap;

use bitcoin::{Transaction, Txid};
use serde::Deserialize;

use super::Cluster;
use crate::regtest::error::Error;
use crate::regtest::node::rpc::call;
use crate::regtest::node::ClusterClock as _;
use crate::regtest::node::Node;
use crate::regtest::resubmit::{mempool, resubmit, Below};
use crate::regtest::verdict::Rejection;
use crate::regtest::wait::{wait_until, Poll};

/// A transaction that a node did not accept from one that it is connected with again: see [`Cluster::held_back`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBack {
    /// The node that did not accept it.
    pub node: usize,
    /// The transaction, which stays in the mempools where it was.
    pub transaction: Transaction,
    /// Why the node did not accept it.
    pub rejection: Rejection,
}

impl Cluster {
    /// Returns what could not be passed on when nodes were last connected: each transaction, the node that did not accept
    /// it, and its reason. A transaction that conflicts with one in that node's mempool is never given to it, whatever it pays
    /// ([`RejectReason::MempoolConflict`](crate::regtest::RejectReason::MempoolConflict)); one that is too cheap needs a
    /// child that pays for it. The journal of that node has it, too.
    pub fn held_back(&self) -> &[HeldBack] {
        &self.held_back
    }

    /// Gives each node what those that it is connected with, directly or through others, have in their mempools: nodes by
    /// themselves tell each other only of what is new.
    pub(super) fn pass_on(&mut self) -> Result<(), Error> {
        self.held_back.clear();
        // What is in a block of the longer branch by then need not be passed on.
        self.clock.settle()?;
        for part in self.parts() {
            let nodes = part
                .into_iter()
                .filter(|&index| self.chains[index].node().is_running());
            let nodes: Vec<usize> = nodes.collect();
            if nodes.len() > 1 {
                let held_back = self.level(&nodes)?;
                self.held_back.extend(held_back);
            }
        }
        Ok(())
    }

    fn level(&self, nodes: &[usize]) -> Result<Vec<HeldBack>, Error> {
        let mut mempools = Vec::with_capacity(nodes.len());
        for &index in nodes {
            let node = self.chains[index].node();
            wait_until_loaded(node)?;
            mempools.push(node.mempool()?);
        }
        let mut held_back = Vec::new();
        if mempools.iter().all(|mempool| *mempool == mempools[0]) {
            return Ok(held_back);
        }
        let mut all = BTreeMap::<Txid, Transaction>::new();
        for &index in nodes {
            let transactions = mempool(self.chains[index].node())?.into_iter();
            all.extend(transactions.map(|transaction| (transaction.compute_txid(), transaction)));
        }
        for &index in nodes {
            let node = self.chains[index].node();
            let rejected = resubmit(node, all.values().cloned().collect(), Below::Rejected)?;
            held_back.extend(rejected.into_iter().map(|(transaction, rejection)| {
                let txid = transaction.compute_txid();
                node.note(format!(
                    "transaction {txid} of another node is not accepted: {rejection}"
                ));
                HeldBack {
                    node: index,
                    transaction,
                    rejection,
                }
            }));
        }
        Ok(held_back)
    }
}

/// A node that was started again takes a moment to have its mempool from before.
fn wait_until_loaded(node: &Node) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Info {
        loaded: bool,
    }
    wait_until("the mempool to be loaded", node.timeout, || {
        let Info { loaded } = call(node.client(), "getmempoolinfo", &[])?;
        Ok(if loaded {
            Poll::Ready(())
        } else {
            Poll::Pending("only part of it".to_owned())
        })
    })
}
