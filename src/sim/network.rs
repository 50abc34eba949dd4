use std::convert::Infallible;

use bitcoin::{Transaction, Txid};

use crate::channel::{BroadcastResult, Change, CpfpPackage, Envelope, Event, Notice, SpendRole};
use crate::transcript::Side;

/// What lies between two parties in memory: the connection, the node that both broadcast through, and their users' eyes.
///
/// Every method has an honest default: what is said is heard, and what is broadcast is accepted.
pub trait Network {
    /// Why the network gives up, which ends the step. [`Infallible`] for one that never does.
    type Error;

    /// What the other side hears of a message; `None` if it is lost. A network that delays a message keeps it, and its
    /// owner applies it later.
    ///
    /// # Errors
    /// If the network gives up.
    fn deliver(&mut self, from: Side, envelope: Envelope) -> Result<Option<Envelope>, Self::Error> {
        let _ = from;
        Ok(Some(envelope))
    }

    /// A node's answer to a transaction.
    fn broadcast(&mut self, by: Side, role: SpendRole, tx: &Transaction) -> BroadcastAnswer {
        let _ = (by, role, tx);
        BroadcastAnswer::Accepted
    }

    /// A node's answer to a transaction with a child that pays for it.
    fn broadcast_package(&mut self, by: Side, role: SpendRole, package: &CpfpPackage) -> BroadcastAnswer {
        self.broadcast(by, role, package.parent())
    }

    /// One side tells its user something.
    fn notify(&mut self, to: Side, notice: &Notice) {
        let _ = (to, notice);
    }

    /// One side's store has this from now on, whatever becomes of the process.
    fn persist(&mut self, of: Side, change: &Change) {
        let _ = (of, change);
    }
}

/// A borrowed network, which its owner can still examine after a step that failed.
impl<N: Network> Network for &mut N {
    type Error = N::Error;

    fn deliver(&mut self, from: Side, envelope: Envelope) -> Result<Option<Envelope>, Self::Error> {
        (**self).deliver(from, envelope)
    }

    fn broadcast(&mut self, by: Side, role: SpendRole, tx: &Transaction) -> BroadcastAnswer {
        (**self).broadcast(by, role, tx)
    }

    fn broadcast_package(&mut self, by: Side, role: SpendRole, package: &CpfpPackage) -> BroadcastAnswer {
        (**self).broadcast_package(by, role, package)
    }

    fn notify(&mut self, to: Side, notice: &Notice) {
        (**self).notify(to, notice);
    }

    fn persist(&mut self, of: Side, change: &Change) {
        (**self).persist(of, change);
    }
}

/// Delivers everything at once, and accepts every broadcast.
#[derive(Debug, Clone, Copy, Default)]
pub struct Instant;

impl Network for Instant {
    type Error = Infallible;
}

/// What became of a broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BroadcastAnswer {
    /// It is in the mempool.
    Accepted,
    /// The node rejected it, in these words.
    Rejected(String),
    /// No node answered: the transaction may be in the mempool, or not.
    Unknown,
}

impl BroadcastAnswer {
    pub(super) fn into_event(self, role: SpendRole, txid: Txid) -> Event {
        let rejected = match self {
            Self::Accepted => None,
            Self::Rejected(reason) => Some(reason),
            Self::Unknown => return Event::BroadcastUnknown { role, txid },
        };
        Event::Broadcast(BroadcastResult { role, txid, rejected })
    }
}
