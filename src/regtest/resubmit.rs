//! Giving a node transactions that it had before, or that another node has.

use bitcoin::{SignedAmount, Transaction, Txid};

use super::branch;
use super::error::Error;
use super::node::Node;
use super::verdict::{MempoolVerdict, RejectReason, Rejection};

/// So much more than it pays a transaction counts for while it is given to a node that would otherwise find it too cheap.
const PRIORITY: SignedAmount = SignedAmount::ONE_BTC;

/// What becomes of a transaction below the feerate that the node relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    /// It is taken nevertheless, as by a node that takes a block back.
    Taken,
    /// It is rejected, unless a child pays for it.
    Rejected,
}

/// All transactions of the mempool, in the order of their ids.
pub(super) fn mempool(node: &Node) -> Result<Vec<Transaction>, Error> {
    let found = node.mempool()?.into_iter();
    let found = found.map(|txid| node.transaction_in_mempool(txid));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    // One may have gone meanwhile.
    Ok(found.into_iter().flatten().collect())
}

/// Gives a node these transactions, parents first. Nothing in its mempool is replaced. The answer is what it does not take
/// and does not have, with the reason.
pub(super) fn resubmit(
    node: &Node,
    transactions: Vec<Transaction>,
    below: Below,
) -> Result<Vec<(Transaction, Rejection)>, Error> {
    let mut rejected: Vec<(Transaction, Rejection)> = Vec::new();
    let has = node.mempool()?;
    let mut missing = transactions;
    missing.retain(|transaction| has.binary_search(&transaction.compute_txid()).is_err());
    for transaction in branch::parents_first(missing) {
        let Some(rejection) = give(node, &transaction, below)? else {
            continue;
        };
        // A child can pay for parents that are too cheap; whatever else they are rejected for, they stay rejected.
        let (parents, others): (Vec<_>, _) = rejected.into_iter().partition(|(parent, why)| {
            let txid = parent.compute_txid();
            let mut inputs = transaction.input.iter();
            why.reason == RejectReason::MinRelayFee && inputs.any(|input| input.previous_output.txid == txid)
        });
        rejected = others;
        if !parents.is_empty() {
            let package = parents.iter().map(|(parent, _)| parent).chain([&transaction]);
            let package: Vec<Transaction> = package.cloned().collect();
            if node.submit_package(&package)?.is_accepted() {
                continue;
            }
        }
        rejected.extend(parents);
        rejected.push((transaction, rejection));
    }
    Ok(rejected)
}

/// Why the node neither takes nor has the transaction, if so.
fn give(node: &Node, transaction: &Transaction, below: Below) -> Result<Option<Rejection>, Error> {
    let txid = transaction.compute_txid();
    if let Some(other) = conflict(node, transaction)? {
        return Ok(Some(Rejection::of(format!("txn-mempool-conflict with {other}"))));
    }
    let mut verdict = node.submit(transaction)?;
    if below == Below::Taken && verdict.rejected_for(RejectReason::MinRelayFee) {
        node.prioritise(txid, PRIORITY)?;
        verdict = node.submit(transaction)?;
        node.prioritise(txid, -PRIORITY)?;
    }
    Ok(match verdict {
        MempoolVerdict::Rejected(rejection) if rejection.reason != RejectReason::AlreadyKnown => {
            Some(rejection)
        }
        _ => None,
    })
}

/// Another transaction of the mempool that spends one of the coins.
fn conflict(node: &Node, transaction: &Transaction) -> Result<Option<Txid>, Error> {
    for input in &transaction.input {
        match node.mempool_spender(input.previous_output)? {
            Some(other) if other != transaction.compute_txid() => return Ok(Some(other)),
            _ => {}
        }
    }
    Ok(None)
}
