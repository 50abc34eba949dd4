use std::sync::Arc;
use std::time::Duration;

use bitcoin::absolute::{Height, Time};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, BlockHash, OutPoint, Transaction, Txid};
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};
use tokio::sync::watch;

use super::assignment::Server;
use crate::channel::{ChainView, SeenSpend, Tip};
use crate::regtest::bitcoincore_rpc::{self, Auth, Client, RpcApi};
use crate::regtest::RejectReason;
use crate::service::{Chain, ChainError};

/// How often the node is asked for its tip: a node that has just mined for a test is on the same machine.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A party's view of the chain through the RPC of another's node.
#[derive(Clone)]
pub(super) struct RpcChain {
    client: Arc<Client>,
    changes: watch::Sender<u64>,
    /// No block below this can have anything to do with the channel.
    from_height: u32,
}

#[derive(Deserialize)]
struct BlockchainInfo {
    blocks: u32,
    bestblockhash: BlockHash,
    mediantime: u32,
}

#[derive(Deserialize)]
struct TxOutInfo {
    confirmations: u32,
}

impl RpcChain {
    /// Watches the chain from its present tip on. Has to be called on a runtime.
    pub fn new(server: &Server) -> Result<Self, bitcoincore_rpc::Error> {
        let auth = Auth::UserPass(server.user.clone(), server.password.clone());
        let client = Arc::new(Client::new(&server.url, auth)?);
        let info: BlockchainInfo = client.call("getblockchaininfo", &[])?;
        let chain = Self {
            client,
            changes: watch::Sender::new(0),
            from_height: info.blocks,
        };
        tokio::spawn(chain.clone().watch(info.bestblockhash));
        Ok(chain)
    }

    async fn watch(self, mut seen: BlockHash) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let best = self.ask("read the tip", |chain| Ok(chain.call("getbestblockhash", &[])?));
            // A node that does not answer has no news; callers ask for themselves.
            if let Ok(best) = best.await {
                if best != seen {
                    seen = best;
                    self.changes.send_modify(|serial| *serial += 1);
                }
            }
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        task: &'static str,
        call: impl FnOnce(&Self) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, ChainError> {
        let chain = self.clone();
        let answer = tokio::task::spawn_blocking(move || call(&chain)).await;
        match answer {
            Ok(answer) => answer.map_err(|error| ChainError::new(task, error)),
            Err(panicked) => Err(ChainError::new(task, panicked)),
        }
    }

    fn call<T: DeserializeOwned>(
        &self,
        name: &str,
        arguments: &[Value],
    ) -> Result<T, bitcoincore_rpc::Error> {
        self.client.call(name, arguments)
    }

    fn info(&self) -> Result<BlockchainInfo, bitcoincore_rpc::Error> {
        self.call("getblockchaininfo", &[])
    }

    /// The chain's end when it ended at this height.
    fn tip_at(&self, height: u32) -> Result<Tip, Failed> {
        #[derive(Deserialize)]
        struct Header {
            mediantime: u32,
        }
        let hash: BlockHash = self.call("getblockhash", &[json!(height)])?;
        let header: Header = self.call("getblockheader", &[json!(hash)])?;
        Ok(tip(height, header.mediantime)?)
    }

    fn look(&self, funding: OutPoint, info: &BlockchainInfo) -> Result<ChainView, Failed> {
        let unspent: Option<TxOutInfo> = self.call(
            "gettxout",
            &[json!(funding.txid), json!(funding.vout), json!(false)],
        )?;
        let in_mempool = self.spend_in_mempool(funding)?;
        let (depth, spend) = match (unspent, in_mempool) {
            (Some(unspent), spend) => (unspent.confirmations, spend),
            (None, Some(spend)) => (0, Some(spend)),
            (None, None) => {
                let spend = self.spend_in_block(funding, info.blocks)?;
                (spend.as_ref().map_or(0, |spend| spend.confirmations), spend)
            }
        };
        // What is spent in a block waits for no lock.
        let below = (info.blocks + 1)
            .checked_sub(depth)
            .and_then(|height| height.checked_sub(1));
        let base = below.filter(|_| depth > 0).map(|height| self.tip_at(height));
        Ok(ChainView {
            tip: tip(info.blocks, info.mediantime)?,
            confirmations: depth,
            funding_parent: base.transpose()?,
            spend,
        })
    }

    fn spend_in_mempool(&self, funding: OutPoint) -> Result<Option<SeenSpend>, Failed> {
        #[derive(Deserialize)]
        struct Spender {
            spendingtxid: Option<Txid>,
        }
        let outpoint = json!([{ "txid": funding.txid, "vout": funding.vout }]);
        let [spender]: [Spender; 1] = self.call("gettxspendingprevout", &[outpoint])?;
        let Some(txid) = spender.spendingtxid else {
            return Ok(None);
        };
        // A block may have taken it away meanwhile; then the next look sees it there.
        let Ok(hex) = self.call::<String>("getrawtransaction", &[json!(txid)]) else {
            return Ok(None);
        };
        let tx = deserialize_hex(&hex)?;
        Ok(Some(SeenSpend { tx, confirmations: 0 }))
    }

    fn spend_in_block(&self, funding: OutPoint, tip: u32) -> Result<Option<SeenSpend>, Failed> {
        let spends = |tx: &Transaction| tx.input.iter().any(|input| input.previous_output == funding);
        for height in (self.from_height..=tip).rev() {
            let hash: BlockHash = self.call("getblockhash", &[json!(height)])?;
            let hex: String = self.call("getblock", &[json!(hash), json!(0)])?;
            let block: Block = deserialize_hex(&hex)?;
            if let Some(tx) = block.txdata.into_iter().find(spends) {
                let confirmations = tip - height + 1;
                return Ok(Some(SeenSpend { tx, confirmations }));
            }
        }
        Ok(None)
    }
}

fn tip(height: u32, mtp: u32) -> Result<Tip, bitcoin::absolute::ConversionError> {
    Ok(Tip {
        height: Height::from_consensus(height)?,
        mtp: Time::from_consensus(mtp)?,
    })
}

impl Chain for RpcChain {
    async fn tip(&self) -> Result<Tip, ChainError> {
        self.ask("read the tip", |chain| {
            let info = chain.info()?;
            Ok(tip(info.blocks, info.mediantime)?)
        })
        .await
    }

    async fn view(&self, funding: OutPoint) -> Result<ChainView, ChainError> {
        self.ask("poll the chain", move |chain| {
            // The pieces fit together only if no block came between them.
            let mut info = chain.info()?;
            loop {
                let view = chain.look(funding, &info)?;
                let now = chain.info()?;
                if now.bestblockhash == info.bestblockhash {
                    return Ok(view);
                }
                info = now;
            }
        })
        .await
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Option<String>, ChainError> {
        let hex = serialize_hex(tx);
        self.ask("broadcast a transaction", move |chain| {
            // No limit for the fee: what is signed is signed.
            match chain.call::<Txid>("sendrawtransaction", &[json!(hex), json!(0)]) {
                Ok(_) => Ok(None),
                Err(bitcoincore_rpc::Error::JsonRpc(bitcoincore_rpc::jsonrpc::Error::Rpc(error))) => {
                    let known = [RejectReason::AlreadyInMempool, RejectReason::AlreadyKnown];
                    let is_known = known.contains(&RejectReason::of(&error.message));
                    Ok((!is_known).then_some(error.message))
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
