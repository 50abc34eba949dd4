//! What a test expects a node to say of a transaction.

use std::fmt::Display;

use bitcoin::{Transaction, Txid};
use spilman::regtest::{MempoolVerdict, Node, RejectReason, Rejection};

/// Asks a node, and fails the test unless the answer is the expected one.
pub trait Judge {
    /// The node would accept it.
    fn accepts(&self, tx: &Transaction) -> Txid;

    /// The node would accept it; the message of a failure begins with `at`.
    fn accepts_at(&self, tx: &Transaction, at: impl Display);

    fn rejects(&self, tx: &Transaction, reason: RejectReason) -> Rejection;

    fn rejects_at(&self, tx: &Transaction, reason: RejectReason, at: impl Display) -> Rejection;

    /// Gives it to the node, which accepts it.
    fn broadcasts(&self, tx: &Transaction) -> Txid;

    /// Gives it to the node, which rejects it.
    fn rejects_broadcast(&self, tx: &Transaction, reason: RejectReason) -> Rejection;
}

impl Judge for Node {
    #[track_caller]
    fn accepts(&self, tx: &Transaction) -> Txid {
        tested(self, tx).expect_accepted()
    }

    #[track_caller]
    fn accepts_at(&self, tx: &Transaction, at: impl Display) {
        let verdict = tested(self, tx);
        assert!(verdict.is_accepted(), "{at}: {verdict}");
    }

    #[track_caller]
    fn rejects(&self, tx: &Transaction, reason: RejectReason) -> Rejection {
        tested(self, tx).expect_rejected(reason).clone()
    }

    #[track_caller]
    fn rejects_at(&self, tx: &Transaction, reason: RejectReason, at: impl Display) -> Rejection {
        let verdict = tested(self, tx);
        assert!(
            verdict.rejected_for(reason),
            "{at}: expected {reason}, got {verdict}"
        );
        verdict.expect_rejected(reason).clone()
    }

    #[track_caller]
    fn broadcasts(&self, tx: &Transaction) -> Txid {
        submitted(self, tx).expect_accepted()
    }

    #[track_caller]
    fn rejects_broadcast(&self, tx: &Transaction, reason: RejectReason) -> Rejection {
        submitted(self, tx).expect_rejected(reason).clone()
    }
}

#[track_caller]
fn tested(node: &Node, tx: &Transaction) -> MempoolVerdict {
    node.test_accept(tx).expect("the node answers")
}

#[track_caller]
fn submitted(node: &Node, tx: &Transaction) -> MempoolVerdict {
    node.submit(tx).expect("the node answers")
}
