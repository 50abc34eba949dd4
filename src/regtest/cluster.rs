//! Several nodes, connected as a test requests.

mod agree;
mod builder;
mod pass_on;
mod shared_clock;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bitcoin::Txid;
use bitcoincore_rpc::jsonrpc;
use serde_json::json;

pub use agree::{wait_for_same_mempool, wait_for_same_tip};
pub use builder::ClusterBuilder;
pub use pass_on::HeldBack;

use super::best_block::BestBlock;
use super::error::{Error, InvalidRequest};
use super::node::peers::Peer;
use super::node::rpc;
use super::node::Node;
use super::regtest::Regtest;
use super::wait::{wait_until, Poll};
use shared_clock::SharedClock;

/// More nodes make nothing clearer.
const MOST_NODES: usize = 8;

/// What `disconnectnode` says of a peer that has just disconnected.
const NOT_CONNECTED: i32 = -29;

/// Which nodes are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Topology {
    /// Each node with the next.
    Line,
    /// A line whose last node is connected with the first.
    Ring,
    /// Each node with every other.
    #[default]
    Clique,
}

impl Topology {
    fn edges(self, nodes: usize) -> BTreeSet<Edge> {
        let all = (0..nodes).flat_map(|low| (low + 1..nodes).map(move |high| Edge { low, high }));
        all.filter(|edge| {
            let is_next = edge.high == edge.low + 1;
            match self {
                Self::Line => is_next,
                Self::Ring => is_next || (edge.low == 0 && edge.high == nodes - 1),
                Self::Clique => true,
            }
        })
        .collect()
    }
}

/// A connection, always opened by the lower number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    low: usize,
    high: usize,
}

/// One to eight nodes with the same first blocks and a shared clock.
///
/// Each is a whole [`Regtest`]: it mines, pays and reorganises independently. Its blocks and transactions reach
/// the others over the peer-to-peer network as far as they are connected.
///
/// ```
/// use spilman::regtest::Cluster;
///
/// let mut cluster = Cluster::builder().nodes(3).start()?;
/// cluster.split(&[0])?;
/// cluster.chain(0)?.mine(1)?;
/// cluster.chain(1)?.mine(2)?;
/// cluster.wait_for_same_tip_among(&[1, 2])?;
/// assert_ne!(cluster.chain(0)?.tip()?.hash, cluster.chain(1)?.tip()?.hash);
///
/// // The longer branch wins.
/// let longer = cluster.chain(1)?.tip()?;
/// cluster.heal()?;
/// assert_eq!(cluster.wait_for_same_tip()?, longer);
/// # Ok::<(), spilman::regtest::Error>(())
/// ```
pub struct Cluster {
    chains: Vec<Regtest>,
    clock: Arc<SharedClock>,
    topology: Topology,
    /// The nodes on one side of a cut.
    aside: BTreeSet<usize>,
    /// Each with the address from which the lower number called.
    connected: BTreeMap<Edge, String>,
    held_back: Vec<HeldBack>,
}

impl Cluster {
    /// Returns a builder; by default, two connected nodes.
    #[must_use]
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// Returns the number of nodes, stopped ones included.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // there is always one
    pub fn len(&self) -> usize {
        self.chains.len()
    }

    /// Returns a node with its clock and faucet, counted from 0.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoSuchNode`].
    pub fn chain(&self, index: usize) -> Result<&Regtest, Error> {
        self.check(index)?;
        Ok(&self.chains[index])
    }

    /// As [`Cluster::chain`], for the calls that change it.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoSuchNode`].
    pub fn chain_mut(&mut self, index: usize) -> Result<&mut Regtest, Error> {
        self.check(index)?;
        Ok(&mut self.chains[index])
    }

    /// Returns a node, counted from 0.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoSuchNode`].
    pub fn node(&self, index: usize) -> Result<&Arc<Node>, Error> {
        Ok(self.chain(index)?.node())
    }

    /// Cuts all connections between these nodes and the others, and waits until they are gone. An earlier cut is
    /// healed, as by [`Cluster::heal`].
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoSuchNode`], [`InvalidRequest::NothingToCut`] if all nodes are named, or if a node fails.
    pub fn split(&mut self, aside: &[usize]) -> Result<(), Error> {
        aside.iter().try_for_each(|&index| self.check(index))?;
        let aside: BTreeSet<_> = aside.iter().copied().collect();
        let nodes = self.chains.len();
        if aside.len() == nodes {
            return Err(InvalidRequest::NothingToCut { nodes }.into());
        }
        self.aside = aside;
        self.reconnect()
    }

    /// Connects what a cut had separated, waits until it is and blocks have arrived, and gives each node the
    /// transactions that are in the mempools of the others: Bitcoin Core announces only new transactions, so they
    /// would never arrive otherwise. They are submitted, parents first, and a parent that is too cheap with the child
    /// that pays for it. What conflicts stays where it is; [`Cluster::held_back`] says what was not accepted, and why.
    pub fn heal(&mut self) -> Result<(), Error> {
        self.split(&[])
    }

    /// As [`Node::stop`]; the others notice.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoSuchNode`], or as the linked method.
    pub fn stop(&mut self, index: usize) -> Result<(), Error> {
        self.node(index)?.stop()?;
        self.reconnect()
    }

    /// As [`Node::kill`]; the others notice.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoSuchNode`], or as the linked method.
    pub fn kill(&mut self, index: usize) -> Result<(), Error> {
        self.node(index)?.kill()?;
        self.reconnect()
    }

    /// As [`Node::restart`], and connects the node again. It then has the time of the others, and, as after
    /// [`Cluster::heal`], their transactions.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoSuchNode`], or as the linked method.
    pub fn restart(&mut self, index: usize) -> Result<(), Error> {
        self.node(index)?.restart()?;
        self.reconnect()
    }

    /// Waits until all running nodes have the same tip.
    ///
    /// # Errors
    ///
    /// [`NodeError::Ended`](super::NodeError::Ended) if one has exited on its own, or as [`wait_for_same_tip`].
    pub fn wait_for_same_tip(&self) -> Result<BestBlock, Error> {
        wait_for_same_tip(&self.running()?)
    }

    /// Waits until these nodes have the same tip.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoSuchNode`], or as [`wait_for_same_tip`].
    pub fn wait_for_same_tip_among(&self, indices: &[usize]) -> Result<BestBlock, Error> {
        wait_for_same_tip(&self.these(indices)?)
    }

    /// Waits until all running nodes have the same transactions in their mempools; the clock as in
    /// [`Node::wait_for_unconfirmed`].
    ///
    /// # Errors
    ///
    /// As [`wait_for_same_mempool`].
    pub fn wait_for_same_mempool(&self) -> Result<Vec<Txid>, Error> {
        wait_for_same_mempool(&self.running()?)
    }

    /// Waits until these nodes have the same transactions in their mempools; the clock as in
    /// [`Node::wait_for_unconfirmed`].
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoSuchNode`], or as [`wait_for_same_mempool`].
    pub fn wait_for_same_mempool_among(&self, indices: &[usize]) -> Result<Vec<Txid>, Error> {
        wait_for_same_mempool(&self.these(indices)?)
    }

    fn check(&self, index: usize) -> Result<(), Error> {
        let nodes = self.chains.len();
        if index < nodes {
            return Ok(());
        }
        Err(InvalidRequest::NoSuchNode { index, nodes }.into())
    }

    /// The running nodes. The test has stopped or killed the others; one that exited on its own is an
    /// error.
    fn running(&self) -> Result<Vec<&Node>, Error> {
        let nodes = self.chains.iter().map(|chain| &**chain.node());
        nodes.clone().try_for_each(Node::check_not_ended)?;
        Ok(nodes.filter(|node| node.is_running()).collect())
    }

    fn these(&self, indices: &[usize]) -> Result<Vec<&Node>, Error> {
        indices.iter().map(|&index| Ok(&**self.node(index)?)).collect()
    }

    fn reconnect(&mut self) -> Result<(), Error> {
        self.running()?;
        let before = self.connected.clone();
        self.connect()?;
        // A node that was started again calls from another port.
        let is_new = |(edge, caller)| before.get(edge) != Some(caller);
        if self.connected.iter().any(is_new) {
            self.pass_on()?;
        }
        Ok(())
    }

    /// Makes the connections be what they should be now, whatever they were, and waits until both ends know. Nodes may
    /// have other peers, such as the program under test; those are not touched.
    fn connect(&mut self) -> Result<(), Error> {
        let runs: Vec<_> = self
            .chains
            .iter()
            .map(|chain| chain.node().is_running())
            .collect();
        let edges = Topology::Clique.edges(self.chains.len());
        let mut wanted = self.topology.edges(self.chains.len());
        wanted.retain(|&Edge { low, high }| {
            runs[low] && runs[high] && self.aside.contains(&low) == self.aside.contains(&high)
        });
        let timeout = self.chains[0].node().timeout;
        wait_until("the nodes to be connected as requested", timeout, || {
            let mut odd = Vec::new();
            let mut peers = Vec::new();
            for (chain, runs) in self.chains.iter().zip(&runs) {
                peers.push(if *runs { chain.node().peers()? } else { Vec::new() });
            }
            for &edge in &edges {
                let Edge { low, high } = edge;
                let callee = self.address(high);
                let out = peers[low].iter().find(|peer| peer.addr == callee);
                let from = out.and_then(|peer| peer.addrbind.clone());
                let caller = from.as_ref().or_else(|| self.connected.get(&edge));
                let into = caller.and_then(|caller| peers[high].iter().find(|peer| peer.addr == *caller));
                let ready = |peer: Option<&Peer>| peer.is_some_and(Peer::is_ready);
                match (wanted.contains(&edge), from) {
                    (true, Some(from)) if ready(out) && ready(into) => {
                        self.connected.insert(edge, from);
                        continue;
                    }
                    (false, _) if out.is_none() && into.is_none() => {
                        self.connected.remove(&edge);
                        continue;
                    }
                    (true, None) => self.chains[low].node().call_peer(&callee)?,
                    (false, Some(from)) if runs[low] => {
                        self.connected.insert(edge, from);
                        self.disconnect(low, &callee)?;
                    }
                    // The other end notices without a call.
                    _ => {}
                }
                odd.push(format!("{low} and {high}"));
            }
            Ok(if odd.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending(format!("otherwise between nodes {}", odd.join(", ")))
            })
        })?;
        self.clock.set_parts(self.parts());
        Ok(())
    }

    /// Who is connected, directly or through others.
    fn parts(&self) -> Vec<Vec<usize>> {
        let mut part_of: Vec<usize> = (0..self.chains.len()).collect();
        for Edge { low, high } in self.connected.keys() {
            let (kept, joined) = (part_of[*low], part_of[*high]);
            for part in &mut part_of {
                if *part == joined {
                    *part = kept;
                }
            }
        }
        let mut parts = BTreeMap::<usize, Vec<usize>>::new();
        for (index, part) in part_of.into_iter().enumerate() {
            parts.entry(part).or_default().push(index);
        }
        parts.into_values().collect()
    }

    fn address(&self, index: usize) -> String {
        let address = self.chains[index].node().p2p_address();
        let address = address.expect("the builder lets every node of a cluster listen");
        address.to_string()
    }

    fn disconnect(&self, caller: usize, callee: &str) -> Result<(), Error> {
        const CALL: &str = "disconnectnode";
        match rpc::raw(self.chains[caller].node().client(), CALL, &[json!(callee)]) {
            Err(bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(error)))
                if error.code == NOT_CONNECTED =>
            {
                Ok(())
            }
            answer => answer.map(drop).map_err(|error| rpc::failed(CALL, error)),
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("chains", &self.chains)
            .field("topology", &self.topology)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topologies_have_their_edges() {
        let edges = |topology: Topology, nodes| -> Vec<(usize, usize)> {
            topology
                .edges(nodes)
                .into_iter()
                .map(|edge| (edge.low, edge.high))
                .collect()
        };
        assert_eq!(edges(Topology::Line, 4), [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(edges(Topology::Ring, 4), [(0, 1), (0, 3), (1, 2), (2, 3)]);
        assert_eq!(edges(Topology::Clique, 3), [(0, 1), (0, 2), (1, 2)]);
        assert_eq!(edges(Topology::Ring, 2), [(0, 1)], "not twice");
        for topology in [Topology::Line, Topology::Ring, Topology::Clique] {
            assert_eq!(edges(topology, 1), []);
        }
    }
}
