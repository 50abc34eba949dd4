//! Everything that most tests want, in one.

use std::sync::Arc;

use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, FeeRate, Transaction, TxOut, Txid};

use super::best_block::BestBlock;
use super::clock::{ChainClock, ClockAdvance};
use super::coin::{Coin, CoinKind};
#[cfg(feature = "electrs")]
use super::electrs::Electrs;
use super::error::Error;
use super::faucet::Faucet;
use super::initial_blocks::start_at_height;
use super::lock::Lock;
use super::miner::{BlockContent, MinedBlock, Miner};
use super::node::{Node, NodeBuilder};
use super::reorg::Reorg;

/// The height at which a [`Regtest`] starts: two coinbases of 50 bitcoin can be spent.
pub const START_HEIGHT: u32 = 101;

/// A node, a clock with a miner, and a faucet with funds.
///
/// After the start the tip is at [`START_HEIGHT`], and its time is the node's mock time,
/// [`START_TIME`](super::START_TIME).
#[derive(Debug)]
pub struct Regtest {
    #[cfg(feature = "electrs")]
    electrs: Option<Arc<Electrs>>,
    node: Arc<Node>,
    clock: ChainClock,
    faucet: Faucet,
}

impl Regtest {
    /// Starts a node and mines the first coins.
    ///
    /// # Errors
    ///
    /// If there is no `bitcoind`, or it does not start.
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Starts with other than the defaults.
    #[must_use]
    pub fn builder() -> RegtestBuilder {
        RegtestBuilder::default()
    }

    /// Returns the node, which threads can share.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// electrs, if it was [asked for](RegtestBuilder::electrs).
    #[cfg(feature = "electrs")]
    pub fn electrs(&self) -> Option<&Arc<Electrs>> {
        self.electrs.as_ref()
    }

    /// Returns the clock.
    pub fn clock(&self) -> &ChainClock {
        &self.clock
    }

    /// Returns the faucet.
    pub fn faucet(&self) -> &Faucet {
        &self.faucet
    }

    /// Returns the best block.
    pub fn tip(&self) -> Result<BestBlock, Error> {
        self.node.tip()
    }

    /// Mines blocks with what is in the mempool, ten minutes apart.
    pub fn mine(&self, count: u32) -> Result<Vec<MinedBlock>, Error> {
        self.clock.advance(&self.node, count)
    }

    /// Mines blocks without transactions, ten minutes apart.
    pub fn mine_empty(&self, count: u32) -> Result<Vec<MinedBlock>, Error> {
        self.clock.advance_empty(&self.node, count)
    }

    /// Mines one block with just these transactions, ten minutes later, whether or not the node would relay them.
    ///
    /// # Errors
    ///
    /// [`NodeError::BlockRejected`](super::NodeError::BlockRejected) if they are against the consensus rules, or the
    /// node fails.
    pub fn mine_exactly(&self, transactions: &[Transaction]) -> Result<MinedBlock, Error> {
        self.clock
            .step(&self.node, BlockContent::Exactly(transactions.to_vec()))
    }

    /// Returns whether the consensus rules allow a block with just these transactions on the tip, now; in the node's
    /// words if not. Nothing is mined.
    pub fn check_block(&self, transactions: &[Transaction]) -> Result<Option<String>, Error> {
        self.clock.miner().propose(&self.node, transactions)
    }

    /// Mines one block with what is in the mempool, ten minutes later, except these transactions and what spends from
    /// them.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NotInMempool`](super::InvalidRequest::NotInMempool), or if the node fails.
    pub fn mine_all_but(&self, txids: &[Txid]) -> Result<MinedBlock, Error> {
        self.clock.step(&self.node, BlockContent::AllBut(txids.to_vec()))
    }

    /// As [`ChainClock::make_final`].
    ///
    /// # Errors
    ///
    /// As the linked method.
    pub fn make_final(&self, lock: impl Into<Lock>) -> Result<ClockAdvance, Error> {
        self.clock.make_final(&self.node, lock)
    }

    /// As [`ChainClock::stop_before`].
    ///
    /// # Errors
    ///
    /// As the linked method.
    pub fn stop_before(&self, lock: impl Into<Lock>) -> Result<ClockAdvance, Error> {
        self.clock.stop_before(&self.node, lock)
    }

    /// Replaces the last `depth` blocks: see [`Reorg`].
    pub fn reorg(&self, depth: u32) -> Reorg<'_> {
        Reorg::new(&self.node, &self.clock, depth)
    }

    /// As [`Faucet::with_feerate`], for the payments from now on.
    pub fn set_faucet_feerate(&mut self, feerate: FeeRate) {
        self.faucet = self.faucet.clone().with_feerate(feerate);
    }

    /// As [`Faucet::fund`]: a coin of exactly this amount with a new key, in a block.
    ///
    /// # Errors
    ///
    /// As the linked method.
    pub fn fund(&mut self, amount: Amount, kind: CoinKind) -> Result<Coin, Error> {
        self.faucet.fund(&self.node, &self.clock, amount, kind)
    }

    /// As [`Faucet::fund_key`]: a coin for a key of the caller.
    ///
    /// # Errors
    ///
    /// As the linked method.
    pub fn fund_key(&self, amount: Amount, kind: CoinKind, key: SecretKey) -> Result<Coin, Error> {
        self.faucet.fund_key(&self.node, &self.clock, amount, kind, key)
    }

    /// As [`Faucet::pay`]: any outputs, in a block.
    ///
    /// # Errors
    ///
    /// As the linked method.
    pub fn pay(&self, outputs: Vec<TxOut>) -> Result<(Transaction, MinedBlock), Error> {
        self.faucet.pay(&self.node, &self.clock, outputs)
    }
}

/// How a [`Regtest`] is started.
#[derive(Debug, Clone)]
pub struct RegtestBuilder {
    node: NodeBuilder,
    height: u32,
    faucet: Faucet,
    #[cfg(feature = "electrs")]
    electrs: bool,
}

impl Default for RegtestBuilder {
    fn default() -> Self {
        Self {
            node: Node::builder(),
            height: START_HEIGHT,
            faucet: Faucet::new(),
            #[cfg(feature = "electrs")]
            electrs: false,
        }
    }
}

impl RegtestBuilder {
    /// The node to start. It replaces one that was named before, and what was said of that.
    #[must_use]
    pub fn node(mut self, node: NodeBuilder) -> Self {
        self.node = node;
        self
    }

    /// As [`NodeBuilder::p2p`].
    #[must_use]
    pub fn p2p(mut self, listens: bool) -> Self {
        self.node = self.node.p2p(listens);
        self
    }

    /// The height to mine to. At 100 the first coinbase can be spent, and with every further block another. They are
    /// worth 50 bitcoin each, from height 150 on half as much.
    #[must_use]
    pub fn height(mut self, height: u32) -> Self {
        self.height = height;
        self
    }

    /// As [`Faucet::with_feerate`]: what the payments of the faucet pay, by default 1 sat/vB.
    #[must_use]
    pub fn faucet_feerate(mut self, feerate: FeeRate) -> Self {
        self.faucet = self.faucet.with_feerate(feerate);
        self
    }

    /// Starts [`Electrs`] beside the node, which then listens for peers. It has all blocks when it is handed out.
    #[cfg(feature = "electrs")]
    #[must_use]
    pub fn electrs(mut self, wanted: bool) -> Self {
        self.electrs = wanted;
        self
    }

    /// Starts.
    ///
    /// # Errors
    ///
    /// If there is no `bitcoind`, or it does not start.
    pub fn start(self) -> Result<Regtest, Error> {
        let faucet = self.faucet;
        let miner = Miner::new(faucet.script());
        let node = self.node;
        // Only now, since a node that is named after `electrs` has not heard of it.
        #[cfg(feature = "electrs")]
        let node = if self.electrs { node.p2p(true) } else { node };
        let node = Arc::new(start_at_height(node, &miner, self.height)?);
        Ok(Regtest {
            #[cfg(feature = "electrs")]
            electrs: if self.electrs {
                Some(Arc::new(Electrs::start(&node)?))
            } else {
                None
            },
            node,
            clock: ChainClock::new(miner),
            faucet,
        })
    }
}
