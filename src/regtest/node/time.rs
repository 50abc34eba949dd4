//! Mock time, and whose turn it is to mine.

use std::sync::{Arc, MutexGuard, PoisonError};

use super::{rpc, Node, Time};
use crate::regtest::error::{Error, InvalidRequest};

/// The nodes whose clocks move together, as one of them sees them.
pub(in crate::regtest) trait ClusterClock: Send + Sync {
    /// Held by the node that mines.
    fn turn(&self) -> MutexGuard<'_, ()>;

    /// Waits until no block is on its way.
    fn settle(&self) -> Result<(), Error>;

    /// All that there still are.
    fn nodes(&self) -> Vec<Arc<Node>>;
}

impl Node {
    /// Sets the node's clock, in seconds since 1970, without mining: time locks depend on the median time of
    /// blocks, so nothing becomes final by this.
    ///
    /// # Errors
    ///
    /// If `time` is before the present mock time, or the node fails.
    pub fn set_mock_time(&self, time: u32) -> Result<(), Error> {
        if let Some(cluster) = self.cluster.get() {
            cluster.settle()?;
        }
        let mut known = self.time();
        if time < known.now {
            return Err(InvalidRequest::TimeBackwards {
                now: known.now,
                asked: time,
            }
            .into());
        }
        rpc::set_mock_time(&self.client, time)?;
        self.note(format!("mock time {time}"));
        known.now = time;
        drop(known);
        let Some(cluster) = self.cluster.get() else {
            return Ok(());
        };
        let others = cluster.nodes().into_iter();
        let mut others = others.filter(|node| !std::ptr::eq(&raw const **node, self));
        others.try_for_each(|other| other.follow(time))
    }

    /// From now on, [`Node::set_mock_time`] sets the clocks of all these nodes.
    pub(in crate::regtest) fn join(&self, cluster: Arc<dyn ClusterClock>) {
        // A node joins the cluster that started it, and no other.
        let _ = self.cluster.set(cluster);
    }

    /// Comes up to the time of another node. One that is stopped does so when it is started again.
    fn follow(&self, time: u32) -> Result<(), Error> {
        let mut known = self.time();
        if time > known.now {
            if self.is_running() {
                rpc::set_mock_time(&self.client, time)?;
            }
            known.now = time;
        }
        Ok(())
    }

    /// Held while a caller looks at the tip in order to mine on it: of two blocks at a time only one becomes the tip. All
    /// nodes of a cluster have one turn between them, and it begins when they have the last block of the one before.
    pub(in crate::regtest) fn turn(&self) -> Result<MutexGuard<'_, ()>, Error> {
        let Some(cluster) = self.cluster.get() else {
            return Ok(self.turn.lock().unwrap_or_else(PoisonError::into_inner));
        };
        let turn = cluster.turn();
        cluster.settle()?;
        Ok(turn)
    }

    pub(in crate::regtest) fn time(&self) -> MutexGuard<'_, Time> {
        // Numbers cannot be left half-changed by a panic elsewhere.
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the clocks of this node and its cluster this far ahead of the mock time, in seconds. [`Node::mock_time`] does
    /// not change. A node without peers is left alone.
    pub(in crate::regtest) fn run_ahead(&self, seconds: u32) -> Result<(), Error> {
        match self.cluster.get() {
            Some(cluster) => cluster
                .nodes()
                .iter()
                .try_for_each(|node| node.clock_ahead(seconds)),
            None if self.p2p_address().is_some() => self.clock_ahead(seconds),
            None => Ok(()),
        }
    }

    fn clock_ahead(&self, seconds: u32) -> Result<(), Error> {
        if !self.is_running() {
            return Ok(());
        }
        let time = self.time();
        let set = rpc::set_mock_time(self.client(), time.now.saturating_add(seconds));
        drop(time);
        match set {
            // Another thread has stopped it just now; it starts again with the mock time.
            Err(_) if !self.is_running() => Ok(()),
            set => set,
        }
    }
}
