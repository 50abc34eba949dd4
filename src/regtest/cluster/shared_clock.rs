//! Nodes that share one time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bitcoin::BlockHash;
use serde::Deserialize;
use serde_json::json;

use crate::regtest::error::Error;
use crate::regtest::node::peers::Peer;
use crate::regtest::node::rpc::{call, raw};
use crate::regtest::node::{ClusterClock, Node};
use crate::regtest::wait::{wait_until, Poll};

/// The nodes of a cluster, as far as the time concerns them.
pub(super) struct SharedClock {
    nodes: Vec<Weak<Node>>,
    /// Which of them are connected, directly or through others.
    parts: Mutex<Vec<Vec<usize>>>,
    /// Whose turn it is to mine.
    turn: Mutex<()>,
}

impl SharedClock {
    pub fn new(nodes: &[Arc<Node>]) -> Self {
        Self {
            nodes: nodes.iter().map(Arc::downgrade).collect(),
            parts: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    pub fn set_parts(&self, parts: Vec<Vec<usize>>) {
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = parts;
    }
}

impl ClusterClock for SharedClock {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.iter().filter_map(Weak::upgrade).collect()
    }

    /// Waits until no block is on its way. A node to whose clock ten minutes pass while it waits for a block
    /// gives its peer up.
    fn settle(&self) -> Result<(), Error> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for part in parts {
            let nodes = part.iter().filter_map(|&index| self.nodes[index].upgrade());
            let nodes: Vec<_> = nodes.filter(|node| node.is_running()).collect();
            let Some(first) = nodes.first() else { continue };
            wait_until("the last block to arrive at all nodes", first.timeout, || {
                let states = nodes
                    .iter()
                    .map(|node| state(node))
                    .collect::<Result<Vec<_>, _>>()?;
                let agree = agree(&nodes);
                let most = states.iter().map(|state| &state.chainwork).max();
                let settled =
                    |state: &SyncState| !state.fetches && (!agree || Some(&state.chainwork) == most);
                if states.iter().all(settled) {
                    return Ok(Poll::Ready(()));
                }
                Ok(Poll::Pending(format!("{states:?}")))
            })?;
        }
        Ok(())
    }
}

/// Whether no node is on a branch that another was told to treat as invalid; otherwise they may never agree.
fn agree(nodes: &[Arc<Node>]) -> bool {
    let invalidated: HashSet<_> = nodes.iter().flat_map(|node| node.invalidated().clone()).collect();
    let follows = |node: &Node, block: BlockHash| {
        // A node that has never heard of it does not follow it.
        raw(node.client(), "getblockheader", &[json!(block)])
            .is_ok_and(|header| header["confirmations"].as_i64() > Some(0))
    };
    !invalidated
        .iter()
        .any(|&block| nodes.iter().any(|node| follows(node, block)))
}

#[derive(Debug)]
struct SyncState {
    /// In hexadecimal digits, always as many.
    chainwork: String,
    fetches: bool,
}

fn state(node: &Node) -> Result<SyncState, Error> {
    #[derive(Deserialize)]
    struct Chain {
        chainwork: String,
    }
    // In this order: a block that arrives in between is in the chain by then.
    let fetches = node.peers()?.iter().any(Peer::sends_block);
    let Chain { chainwork } = call(node.client(), "getblockchaininfo", &[])?;
    Ok(SyncState { chainwork, fetches })
}
