//! What goes into which block of a new branch: pure, without a node.

use std::collections::HashSet;

use bitcoin::{Block, OutPoint, Transaction, Txid};

use super::error::InvalidRequest;

/// What becomes of a transaction in a new branch.
#[derive(Debug, Clone)]
pub(super) enum TxChange {
    Drop,
    MoveTo(u32),
    Replace(Transaction),
}

/// What is to become of the transactions of the replaced blocks.
#[derive(Debug, Clone, Default)]
pub(super) struct TxChanges {
    pub of: Vec<(Txid, TxChange)>,
    /// Whether all others are dropped, too.
    pub drop_others: bool,
}

/// The ids of a block's transactions, with that of the coinbase.
pub(super) fn txids(block: &Block) -> impl Iterator<Item = Txid> + '_ {
    block.txdata.iter().map(Transaction::compute_txid)
}

/// The transactions of each block of a branch of this length, without the coinbases.
pub(super) fn contents(
    old: &[Block],
    first: u32,
    length: u32,
    changes: &TxChanges,
) -> Result<Vec<Vec<Transaction>>, InvalidRequest> {
    let mut contents: Vec<_> = old.iter().map(|block| block.txdata[1..].to_vec()).collect();
    let mut moved = Vec::new();
    let mut replacements = Vec::new();
    for (txid, change) in &changes.of {
        let (block, position) = find(&contents, *txid).ok_or(InvalidRequest::NotInBranch {
            txid: *txid,
            first,
            last: (first..).zip(old).last().map_or(first, |(height, _)| height),
        })?;
        match change {
            TxChange::Drop => drop(contents[block].remove(position)),
            TxChange::MoveTo(height) => moved.push((*height, contents[block].remove(position))),
            TxChange::Replace(other) => {
                check_conflict(&contents[block][position], other)?;
                contents[block][position] = other.clone();
                replacements.push(other);
            }
        }
    }
    let placed = moved.iter().map(|(_, transaction)| transaction);
    let placed = placed.chain(replacements.iter().copied());
    let placed: HashSet<Txid> = placed.map(Transaction::compute_txid).collect();
    if changes.drop_others {
        for block in &mut contents {
            block.retain(|transaction| placed.contains(&transaction.compute_txid()));
        }
    }
    contents.resize_with(length as usize, Vec::new);
    for (height, transaction) in moved {
        let index = height.checked_sub(first).map(|index| index as usize);
        let Some(block) = index.and_then(|index| contents.get_mut(index)) else {
            return Err(InvalidRequest::HeightOutside {
                height,
                first,
                last: first + length - 1,
            });
        };
        block.push(transaction);
    }
    drop_dependents(old, &mut contents, &placed, &replacements);
    let contents: Vec<_> = contents.into_iter().map(parents_first).collect();
    check_parents(old, &contents)?;
    Ok(contents)
}

fn find(contents: &[Vec<Transaction>], txid: Txid) -> Option<(usize, usize)> {
    contents.iter().enumerate().find_map(|(block, transactions)| {
        let position = transactions.iter().position(|tx| tx.compute_txid() == txid)?;
        Some((block, position))
    })
}

fn check_conflict(old: &Transaction, new: &Transaction) -> Result<(), InvalidRequest> {
    let spends = |outpoint| old.input.iter().any(|input| input.previous_output == outpoint);
    if new.input.iter().any(|input| spends(input.previous_output)) {
        return Ok(());
    }
    Err(InvalidRequest::NotConflicting {
        txid: old.compute_txid(),
        other: new.compute_txid(),
    })
}

/// In the order given, except that no transaction comes before one that it spends from.
pub(super) fn parents_first(mut left: Vec<Transaction>) -> Vec<Transaction> {
    let mut sorted = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waiting: HashSet<Txid> = left.iter().map(Transaction::compute_txid).collect();
        let ready = |tx: &Transaction| !parents(tx).any(|parent| waiting.contains(&parent));
        let next = left
            .iter()
            .position(ready)
            .expect("no transaction is its own ancestor");
        sorted.push(left.remove(next));
    }
    sorted
}

fn parents(transaction: &Transaction) -> impl Iterator<Item = Txid> + '_ {
    transaction.input.iter().map(|input| input.previous_output.txid)
}

/// Drops what spends from a transaction that the branch does not have, or spends what a replacement spends. What was
/// placed by name stays, for [`check_parents`] to name the contradiction.
fn drop_dependents(
    old: &[Block],
    contents: &mut [Vec<Transaction>],
    placed: &HashSet<Txid>,
    replacements: &[&Transaction],
) {
    let inputs = replacements.iter().flat_map(|other| &other.input);
    let taken: HashSet<OutPoint> = inputs.map(|input| input.previous_output).collect();
    loop {
        let kept: HashSet<Txid> = contents.iter().flatten().map(Transaction::compute_txid).collect();
        // The coinbases are among them: every branch has its own.
        let absent: HashSet<Txid> = old
            .iter()
            .flat_map(txids)
            .filter(|txid| !kept.contains(txid))
            .collect();
        let mut dropped = false;
        for block in contents.iter_mut() {
            block.retain(|transaction| {
                let mut inputs = transaction.input.iter().map(|input| input.previous_output);
                let stays = placed.contains(&transaction.compute_txid())
                    || !inputs.any(|input| absent.contains(&input.txid) || taken.contains(&input));
                dropped |= !stays;
                stays
            });
        }
        if !dropped {
            return;
        }
    }
}

/// Whatever a transaction spends from the replaced blocks must come before it in the new ones.
fn check_parents(old: &[Block], contents: &[Vec<Transaction>]) -> Result<(), InvalidRequest> {
    let mut missing: HashSet<Txid> = old.iter().flat_map(txids).collect();
    for transaction in contents.iter().flatten() {
        let txid = transaction.compute_txid();
        if let Some(parent) = parents(transaction).find(|parent| missing.contains(parent)) {
            return Err(InvalidRequest::ParentMissing { txid, parent });
        }
        missing.remove(&txid);
    }
    Ok(())
}
