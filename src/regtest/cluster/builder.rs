//! How a cluster is started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;

use super::shared_clock::SharedClock;
use super::{Cluster, Topology, MOST_NODES};
use crate::regtest::error::{Error, InvalidRequest};
use crate::regtest::node::NodeBuilder;
use crate::regtest::{Regtest, RegtestBuilder};

/// How a [`Cluster`] is started.
#[derive(Debug, Clone)]
pub struct ClusterBuilder {
    nodes: usize,
    topology: Topology,
    chain: RegtestBuilder,
    others: Vec<(usize, NodeBuilder)>,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            nodes: 2,
            topology: Topology::default(),
            chain: Regtest::builder(),
            others: Vec::new(),
        }
    }
}

impl ClusterBuilder {
    /// Sets the number of nodes, 1 to 8.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Sets which nodes are connected; by default, each with every other.
    #[must_use]
    pub fn topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// Sets the chain and the node that each member starts with.
    #[must_use]
    pub fn each(mut self, chain: RegtestBuilder) -> Self {
        self.chain = chain;
        self
    }

    /// Sets a different node at this place, counted from 0, such as one of another version or with another policy.
    #[must_use]
    pub fn node(mut self, index: usize, node: NodeBuilder) -> Self {
        self.others.push((index, node));
        self
    }

    /// Starts all nodes at once, connects them, and waits until they are connected.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::ClusterSize`], [`InvalidRequest::NoSuchNode`], or if a node does not start.
    pub fn start(self) -> Result<Cluster, Error> {
        let (nodes, max) = (self.nodes, MOST_NODES);
        if nodes == 0 || nodes > max {
            return Err(InvalidRequest::ClusterSize { asked: nodes, max }.into());
        }
        let mut builders = vec![self.chain; nodes];
        for (index, node) in self.others {
            let builder = builders.get_mut(index);
            let builder = builder.ok_or(InvalidRequest::NoSuchNode { index, nodes })?;
            *builder = builder.clone().node(node);
        }
        let chains = thread::scope(|scope| {
            let starts: Vec<_> = builders
                .into_iter()
                .map(|builder| scope.spawn(|| builder.p2p(true).start()))
                .collect();
            let starts = starts.into_iter().map(|start| match start.join() {
                Ok(started) => started,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            starts.collect::<Result<Vec<_>, _>>()
        })?;
        let all: Vec<_> = chains.iter().map(|chain| Arc::clone(chain.node())).collect();
        let clock = Arc::new(SharedClock::new(&all));
        for node in &all {
            node.join(clock.clone());
        }
        let mut cluster = Cluster {
            chains,
            clock,
            topology: self.topology,
            aside: BTreeSet::new(),
            connected: BTreeMap::new(),
            held_back: Vec::new(),
        };
        cluster.connect()?;
        Ok(cluster)
    }
}
