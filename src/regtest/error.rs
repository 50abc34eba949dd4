//! What can go wrong, split by who has to act.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::{Amount, BlockHash, OutPoint, Txid};

use super::best_block::BestBlock;
use super::binary::BinaryError;
use super::lock::Lock;

/// Why a call of the harness failed.
///
/// A transaction that the node rejects is not an error but a [`MempoolVerdict`](super::MempoolVerdict).
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is missing or does not start.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// The node, or the connection to it, failed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The caller requested something impossible.
    #[error(transparent)]
    InvalidRequest(#[from] InvalidRequest),
}

/// The message, since `unwrap` and a test that returns an error show only this, and it says what to do.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The node, its electrs, or the connection to one of them failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The node or electrs did not come up.
    #[error(
        "{} did not start: {reason}\nfolder: {}\narguments: {}",
        path.display(), folder.display(), arguments.join(" ")
    )]
    Start {
        /// The program.
        path: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
        /// Where its files were.
        folder: PathBuf,
        /// What the program or the operating system said.
        reason: String,
    },
    /// The temporary folder cannot be used.
    #[error(
        "cannot use the temporary folder {} ({chosen_by}): {source}; set TEMPDIR_ROOT to a writable folder",
        place.display()
    )]
    Folder {
        /// The temporary folder.
        place: PathBuf,
        /// The environment variable that names it, or `the system's default`.
        chosen_by: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// No port on 127.0.0.1 is free.
    #[error("no free port on 127.0.0.1 for a node: {0}")]
    Port(std::io::Error),
    /// A call was not answered, because of the connection or because the node does not run.
    #[error("{call} failed: {reason}")]
    NoAnswer {
        /// The RPC's name.
        call: &'static str,
        /// Why not.
        reason: String,
    },
    /// The node had already exited on its own.
    #[error("the node had already exited on its own, {0}")]
    Ended(String),
    /// The evidence of a failure could not be written.
    #[error(
        "could not keep evidence in {} ({chosen_by}): {source}; set SPILMAN_EVIDENCE to a writable folder",
        place.display()
    )]
    Evidence {
        /// The folder for all evidence.
        place: PathBuf,
        /// The environment variable that names it, or `the system's default`.
        chosen_by: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A condition did not become true in time.
    #[error("timed out after {within:?} waiting for {awaited}; last seen: {seen}")]
    Timeout {
        /// What was waited for.
        awaited: String,
        /// For how long.
        within: Duration,
        /// The last state seen.
        seen: String,
    },
    /// The node did not stop cleanly.
    #[error("the node did not stop cleanly: {0}")]
    Stop(String),
    /// A call failed, or the node answered it with an error.
    #[error("{call} failed: {source}")]
    Rpc {
        /// The RPC's name.
        call: &'static str,
        /// What the client or the node said.
        source: Box<bitcoincore_rpc::Error>,
    },
    /// The node or electrs gave an answer that this crate does not understand, or a call of electrs failed in another
    /// way.
    #[error("unexpected answer from {call}: {answer}")]
    Answer {
        /// The name of the RPC, or of the electrum call.
        call: &'static str,
        /// The answer, or the unexpected part of it.
        answer: String,
    },
    /// The node rejected a block.
    #[error("the node rejected block {hash}: {words}")]
    BlockRejected {
        /// The block.
        hash: BlockHash,
        /// The node's own words.
        words: String,
    },
}

/// The caller requested something impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The lock is already final, so the clock cannot stop before it.
    #[error("{lock} is already final at {tip}")]
    LockPassed {
        /// The lock asked for.
        lock: Lock,
        /// Where the chain is.
        tip: BestBlock,
    },
    /// The lock is too far away: a mistake, or unreachable.
    #[error("{lock} is too far from {tip}")]
    LockTooFar {
        /// The lock asked for.
        lock: Lock,
        /// Where the chain is.
        tip: BestBlock,
    },
    /// The transaction has no lock to stop before.
    #[error("transaction {txid} has no lock")]
    NotLocked {
        /// The transaction.
        txid: Txid,
    },
    /// A relative lock counts from the block of its coin, but this coin is in the mempool.
    #[error("coin {coin} is not confirmed: mine a block first")]
    CoinUnconfirmed {
        /// The coin.
        coin: OutPoint,
    },
    /// The coin does not exist, or a block spends it.
    #[error("coin {coin} does not exist or is spent")]
    CoinMissing {
        /// The coin.
        coin: OutPoint,
    },
    /// A reorganisation cannot replace the genesis block.
    #[error("cannot replace the last {depth} blocks of a chain of height {height}: replace at least one, but never the genesis block")]
    ReorgDepth {
        /// The number of blocks to replace.
        depth: u32,
        /// The chain's height.
        height: u32,
    },
    /// The branch is too short to replace another.
    #[error("the new branch must have at least {least} blocks, got {length}")]
    BranchLength {
        /// The number of blocks asked for.
        length: u32,
        /// The least number possible.
        least: u32,
    },
    /// The transaction is in none of the replaced blocks, or was already changed.
    #[error("transaction {txid} is not in the replaced blocks {first} to {last}, or was already dropped, moved or replaced")]
    NotInBranch {
        /// The transaction.
        txid: Txid,
        /// The height of the first block to be replaced.
        first: u32,
        /// The height of the last.
        last: u32,
    },
    /// A transaction cannot be moved out of the branch.
    #[error("height {height} is outside the new branch, which has heights {first} to {last}")]
    HeightOutside {
        /// The height asked for.
        height: u32,
        /// The height of the new branch's first block.
        first: u32,
        /// The height of its last.
        last: u32,
    },
    /// The replacement spends none of the transaction's coins, so that both could be mined.
    #[error("transaction {other} cannot replace {txid}: they share no input")]
    NotConflicting {
        /// The transaction to be replaced.
        txid: Txid,
        /// The other one.
        other: Txid,
    },
    /// A transaction of a new branch spends an output of one that is not before it in the branch.
    #[error("transaction {txid} spends an output of {parent}, which does not precede it in the new branch")]
    ParentMissing {
        /// The transaction.
        txid: Txid,
        /// The one it spends from.
        parent: Txid,
    },
    /// A second node cannot bring a branch that it does not follow itself.
    #[error(
        "the second node does not follow the new branch to height {branch}: its own branch ends at {tip}"
    )]
    RivalAhead {
        /// The height of the new branch.
        branch: u32,
        /// Where the second node's chain is.
        tip: BestBlock,
    },
    /// No node listens for peers: a connection and electrs each need one that does.
    #[error("no node listens for peers: start one with NodeBuilder::p2p(true)")]
    NoPort,
    /// The node is already stopped or started, or about to be.
    #[error("the node is already {state}")]
    NodeState {
        /// `running`, `stopped`, `killed`, or `being stopped` or the like.
        state: &'static str,
    },
    /// An argument would take the node away from the harness.
    #[error("the harness does not allow the argument {argument:?}: {reason}")]
    Argument {
        /// The argument.
        argument: String,
        /// What it would do, and what to use instead.
        reason: &'static str,
    },
    /// A cluster has one to eight nodes.
    #[error("a cluster must have 1 to {max} nodes, got {asked}")]
    ClusterSize {
        /// The number asked for.
        asked: usize,
        /// The largest possible.
        max: usize,
    },
    /// Nodes of a cluster are counted from 0.
    #[error("no node {index} in a cluster of {nodes}")]
    NoSuchNode {
        /// The number asked for.
        index: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// A cut separates some nodes from others.
    #[error("cannot cut off all {nodes} nodes of a cluster: leave at least one on the other side")]
    NothingToCut {
        /// How many nodes there are.
        nodes: usize,
    },
    /// electrs waits until the node has a block of the last 24 hours by its own clock.
    #[error("the tip is too old for electrs, {tip}: mine a block first")]
    OldTip {
        /// The newest block.
        tip: BestBlock,
    },
    /// Mock time only moves forwards.
    #[error("mock time cannot go back from {now} to {asked}: choose a later time")]
    TimeBackwards {
        /// The node's mock time, in seconds since 1970.
        now: u32,
        /// The time asked for, in seconds since 1970.
        asked: u32,
    },
    /// A chain must begin after the genesis block, whose time is fixed.
    #[error(
        "{height} blocks ending at time {now} would begin before the genesis block: start at {earliest} or later"
    )]
    StartTooEarly {
        /// The time of the node at its start, in seconds since 1970.
        now: u32,
        /// The number of blocks.
        height: u32,
        /// The earliest possible time for this many, in seconds since 1970.
        earliest: u32,
    },
    /// The times of blocks end in 2106.
    #[error("no block time {seconds} s after {now}: it would not fit into 32 bits")]
    TimeOver {
        /// The chain's time so far, in seconds since 1970.
        now: u32,
        /// How much later the requested time is, in seconds.
        seconds: u32,
    },
    /// The faucet's mature funds are too small; mine more blocks.
    #[error(
        "the faucet has only {available} in mature coins, but {needed} is needed: mine more blocks first"
    )]
    FundsShort {
        /// The sum of the outputs asked for.
        needed: Amount,
        /// What the faucet could spend in the next block.
        available: Amount,
    },
    /// The faucet's coins are segwit outputs, which cannot be spent before segwit is active.
    #[error(
        "the faucet cannot pay at height {height}: its coins can be spent from height {segwit} on, by \
         -testactivationheight=segwit@{segwit}; mine up to height {} first", segwit.saturating_sub(1)
    )]
    NoSegwitYet {
        /// The height of the next block.
        height: u32,
        /// The height at which segwit is active.
        segwit: u32,
    },
    /// A transaction cannot pay out more than it takes in.
    #[error("outputs of {outputs} exceed the inputs of {inputs}")]
    OutputsExceedInputs {
        /// The sum of the coins.
        inputs: Amount,
        /// The sum of the outputs, with the fee if one was requested.
        outputs: Amount,
    },
    /// The transaction is not in the mempool, so it cannot be left there.
    #[error("transaction {txid} is not in the mempool")]
    NotInMempool {
        /// The transaction.
        txid: Txid,
    },
    /// A coin cannot sign a transaction that does not spend it.
    #[error("transaction {txid} does not spend {outpoint}")]
    NotSpent {
        /// The transaction.
        txid: Txid,
        /// The coin.
        outpoint: OutPoint,
    },
    /// The tag does not fit into the coinbase.
    #[error("a coinbase tag holds at most {max} bytes, got {length}")]
    TagTooLong {
        /// The tag's length in bytes.
        length: usize,
        /// The longest tag possible.
        max: usize,
    },
}
