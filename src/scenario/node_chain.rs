use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bitcoin::absolute::{Height, Time};
use bitcoin::{BlockHash, OutPoint, Transaction};
use tokio::sync::watch;

use crate::channel::{ChainView, CpfpPackage, SeenSpend, Tip};
use crate::regtest::{self, MempoolVerdict, Node, RejectReason};
use crate::service::{Chain, ChainError};

/// A regtest node as a party's view of the chain.
///
/// The party looks at the chain when it is told that something changed, with [`NodeChain::announce`]: a test
/// decides who hears of a block, and when.
#[derive(Clone)]
pub struct NodeChain {
    inner: Arc<NodeChainShared>,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

struct NodeChainShared {
    node: Arc<Node>,
    /// No block below this can have anything to do with the channel.
    from_height: u32,
    changes: watch::Sender<u64>,
    /// Blocks that are known not to spend the funding output.
    empty: Mutex<HashSet<(OutPoint, BlockHash)>>,
}

impl NodeChain {
    /// Watches `node` from its present tip on.
    ///
    /// # Errors
    /// If the node fails.
    pub fn new(node: Arc<Node>) -> Result<Self, regtest::Error> {
        let from_height = node.tip()?.height;
        let inner = NodeChainShared {
            node,
            from_height,
            changes: watch::Sender::new(0),
            empty: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Makes the party poll the chain. Without it, a party polls only twice a minute.
    pub fn announce(&self) {
        self.inner.changes.send_modify(|serial| *serial += 1);
    }

    /// Returns the number of announcements: the party's [`Status::seen`](crate::service::Status) reaches it.
    #[must_use]
    pub fn announced(&self) -> u64 {
        *self.inner.changes.borrow()
    }

    /// The node's RPC client waits for an answer, so it is not called from a task that others depend on.
    async fn ask<T: Send + 'static>(
        &self,
        task: &'static str,
        call: impl FnOnce(&NodeChainShared) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, ChainError> {
        let inner = Arc::clone(&self.inner);
        let answer = tokio::task::spawn_blocking(move || call(&inner)).await;
        match answer {
            Ok(answer) => answer.map_err(|error| ChainError::new(task, error)),
            Err(panicked) => Err(ChainError::new(task, panicked)),
        }
    }
}

impl Chain for NodeChain {
    async fn tip(&self) -> Result<Tip, ChainError> {
        self.ask("read the tip", |inner| Ok(channel_tip(&inner.node.tip()?)?))
            .await
    }

    async fn view(&self, funding: OutPoint) -> Result<ChainView, ChainError> {
        self.ask("poll the chain", move |inner| {
            // The pieces fit together only if no block came between them.
            let mut tip = inner.node.tip()?;
            loop {
                let view = inner.view(funding, &tip)?;
                let now = inner.node.tip()?;
                if now.hash == tip.hash {
                    return Ok(view);
                }
                tip = now;
            }
        })
        .await
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ChainError> {
        let tx = tx.clone();
        self.ask("broadcast a transaction", move |inner| {
            Ok(match inner.node.submit(&tx)? {
                MempoolVerdict::Accepted { .. } => None,
                MempoolVerdict::Rejected(rejection) => match rejection.reason {
                    RejectReason::AlreadyInMempool | RejectReason::AlreadyKnown => None,
                    _ => Some(rejection.words),
                },
            })
        })
        .await
    }

    async fn broadcast_package(&self, package: &CpfpPackage) -> Result<Option<String>, ChainError> {
        let package = package.transactions();
        self.ask("submit a package", move |inner| {
            let verdict = inner.node.submit_package(&package)?;
            // Of a package that is refused because of one of its transactions, the node says no more than that.
            let single = verdict.transactions.iter().find_map(MempoolVerdict::rejection);
            let rejection = verdict.rejection.as_ref().map(|whole| single.unwrap_or(whole));
            Ok(rejection.map(|rejection| rejection.words.clone()))
        })
        .await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}

impl NodeChainShared {
    fn view(&self, funding: OutPoint, tip: &regtest::BestBlock) -> Result<ChainView, Failed> {
        let spend = self.spend(funding, tip.height)?;
        let confirmations = match &spend {
            Some(SeenSpend {
                confirmations: confirmations @ 1..,
                ..
            }) => *confirmations,
            _ => self
                .node
                .confirmed_utxo(funding)?
                .map_or(0, |utxo| utxo.confirmations),
        };
        Ok(ChainView {
            tip: channel_tip(tip)?,
            confirmations,
            funding_parent: self.funding_parent(funding, tip.height, confirmations)?,
            spend,
        })
    }

    /// The chain's end below the block with the funding transaction.
    fn funding_parent(&self, funding: OutPoint, tip: u32, confirmations: u32) -> Result<Option<Tip>, Failed> {
        let depth = match self.node.confirmed_utxo(funding)? {
            Some(utxo) => utxo.confirmations,
            // Spent in a block: what was settled has no lock to wait for.
            None => confirmations,
        };
        let below = (tip + 1)
            .checked_sub(depth)
            .and_then(|height| height.checked_sub(1));
        match below.filter(|_| depth > 0) {
            Some(height) => Ok(Some(channel_tip(&self.node.tip_at(height)?)?)),
            None => Ok(None),
        }
    }

    /// What spends the output: in the mempool, or in a block, looked for from the tip backwards.
    fn spend(&self, funding: OutPoint, tip: u32) -> Result<Option<SeenSpend>, regtest::Error> {
        if let Some(txid) = self.node.mempool_spender(funding)? {
            if let Some(tx) = self.node.transaction_in_mempool(txid)? {
                return Ok(Some(SeenSpend { tx, confirmations: 0 }));
            }
        }
        if self.node.utxo(funding)?.is_some() {
            return Ok(None);
        }
        for height in (self.from_height..=tip).rev() {
            let hash = self.node.block_hash_at(height)?;
            if self.is_empty(funding, hash) {
                continue;
            }
            let spends = |tx: &Transaction| tx.input.iter().any(|input| input.previous_output == funding);
            match self.node.block(hash)?.txdata.into_iter().find(spends) {
                Some(tx) => {
                    return Ok(Some(SeenSpend {
                        tx,
                        confirmations: tip - height + 1,
                    }))
                }
                None => self.remember_empty(funding, hash),
            }
        }
        Ok(None)
    }

    fn is_empty(&self, funding: OutPoint, hash: BlockHash) -> bool {
        self.empty
            .lock()
            .is_ok_and(|empty| empty.contains(&(funding, hash)))
    }

    fn remember_empty(&self, funding: OutPoint, hash: BlockHash) {
        // A poisoned cache only makes the next look slower.
        if let Ok(mut empty) = self.empty.lock() {
            empty.insert((funding, hash));
        }
    }
}

/// The harness counts in plain numbers, the channel in the `bitcoin` crate's types.
pub(super) fn channel_tip(tip: &regtest::BestBlock) -> Result<Tip, bitcoin::absolute::ConversionError> {
    Ok(Tip {
        height: Height::from_consensus(tip.height)?,
        mtp: Time::from_consensus(tip.mtp)?,
    })
}
