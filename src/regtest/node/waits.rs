//! What a node can be waited for.

use std::collections::BTreeSet;
use std::time::Duration;

use bitcoin::{BlockHash, Txid};
use bitcoincore_rpc::{Client, RpcApi};
use serde_json::{json, Value};

use super::{rpc, Node};
use crate::regtest::best_block::BestBlock;
use crate::regtest::error::Error;
use crate::regtest::wait::{wait, wait_until, Poll, SLICE};

/// While a call waits for transactions, the clocks step one second with each of the first looks, and then one second with
/// every [`LOOKS_A_STEP`]th.
const QUICK_STEPS: u32 = 60;
const LOOKS_A_STEP: u32 = 8;
/// Steps end here. A node to whose clock ten minutes pass while it waits for a block gives its peer up.
const MOST_STEPS: u32 = 300;

/// As [`wait_until`], for what peers relay. A node asks for some transactions only seconds after it has heard of them by
/// its own clock, which stands still: a parent that pays no fee, say, after its child has come. So the clocks of this node
/// and its cluster run ahead while this waits, five minutes at most, and are back at the mock time when it is over. Times
/// of blocks and locks follow the mock time, and know nothing of it.
pub(in crate::regtest) fn wait_for_relay<T>(
    awaited: &str,
    node: &Node,
    mut look: impl FnMut() -> Result<Poll<T>, Error>,
) -> Result<T, Error> {
    let mut looks: u32 = 0;
    let end = wait_until(awaited, node.timeout, || {
        let seen = look()?;
        if let Poll::Pending(_) = seen {
            looks += 1;
            let steps = looks.min(QUICK_STEPS) + looks.saturating_sub(QUICK_STEPS) / LOOKS_A_STEP;
            node.run_ahead(steps.min(MOST_STEPS))?;
        }
        Ok(seen)
    });
    if looks > 0 {
        let back = node.run_ahead(0);
        if end.is_ok() {
            back?;
        }
    }
    end
}

impl Node {
    /// Waits until this block is the tip.
    ///
    /// # Errors
    ///
    /// [`NodeError::Timeout`](crate::regtest::NodeError::Timeout), or if the node fails.
    pub fn wait_for_tip(&self, hash: BlockHash) -> Result<BestBlock, Error> {
        self.wait_for_block(
            || format!("block {hash} to be the tip"),
            |client, left| announced(client, "waitforblock", Some(json!(hash)), left.min(SLICE)),
            |tip| tip.hash == hash,
        )
    }

    /// Waits until the tip has at least this height.
    ///
    /// # Errors
    ///
    /// [`NodeError::Timeout`](crate::regtest::NodeError::Timeout), or if the node fails.
    pub fn wait_for_height(&self, height: u32) -> Result<BestBlock, Error> {
        self.wait_for_block(
            || format!("height {height}"),
            |client, left| announced(client, "waitforblockheight", Some(json!(height)), left.min(SLICE)),
            |tip| tip.height >= height,
        )
    }

    fn wait_for_block(
        &self,
        awaited: impl Fn() -> String,
        sleep: impl Fn(&Client, Duration) -> Result<(), Error>,
        is_it: impl Fn(&BestBlock) -> bool,
    ) -> Result<BestBlock, Error> {
        // A separate client, since others want to use that of the node meanwhile.
        let client = self.client_for_waits();
        wait(awaited, self.timeout, |left| {
            let tip = self.tip()?;
            if is_it(&tip) {
                return Ok(Poll::Ready(tip));
            }
            if !left.is_zero() {
                sleep(&client, left)?;
            }
            Ok(Poll::Pending(format!("{} at {tip}", tip.hash)))
        })
    }

    /// Waits until a transaction is in the mempool. If the node has peers, the clocks of it and its cluster run ahead
    /// meanwhile, by five minutes at most, as some of what nodes tell each other takes seconds by their clocks;
    /// [`Node::mock_time`] does not change, nor does anything become final.
    ///
    /// # Errors
    ///
    /// [`NodeError::Timeout`](crate::regtest::NodeError::Timeout), or if the node fails.
    pub fn wait_for_unconfirmed(&self, txid: Txid) -> Result<(), Error> {
        wait_for_relay(&format!("{txid} in the mempool"), self, || {
            let mempool = self.mempool()?;
            Ok(if mempool.binary_search(&txid).is_ok() {
                Poll::Ready(())
            } else {
                Poll::Pending(list(&mempool))
            })
        })
    }

    /// Waits until exactly these transactions are in the mempool; the clock as in [`Node::wait_for_unconfirmed`].
    ///
    /// # Errors
    ///
    /// [`NodeError::Timeout`](crate::regtest::NodeError::Timeout), or if the node fails.
    pub fn wait_for_mempool(&self, txids: &[Txid]) -> Result<(), Error> {
        let wanted: BTreeSet<_> = txids.iter().copied().collect();
        let wanted: Vec<_> = wanted.into_iter().collect();
        let awaited = format!("a mempool of {}", list(&wanted));
        wait_for_relay(&awaited, self, || {
            let mempool = self.mempool()?;
            Ok(if mempool == wanted {
                Poll::Ready(())
            } else {
                Poll::Pending(list(&mempool))
            })
        })
    }

    /// Waits until the node has exactly this many peers, each past its handshake.
    ///
    /// # Errors
    ///
    /// [`NodeError::Timeout`](crate::regtest::NodeError::Timeout), or if the node fails.
    pub fn wait_for_peers(&self, count: usize) -> Result<(), Error> {
        wait_until(&format!("{count} peers"), self.timeout, || {
            let peers = self.peers()?;
            let ready = peers.iter().filter(|peer| peer.is_ready()).count();
            Ok(if ready == count && peers.len() == count {
                Poll::Ready(())
            } else {
                let addresses: Vec<_> = peers.iter().map(|peer| peer.addr.as_str()).collect();
                Poll::Pending(match peers.len() {
                    0 => "none".to_owned(),
                    all => format!("{all}, {ready} of them ready: {}", addresses.join(", ")),
                })
            })
        })
    }
}

/// Sleeps inside the node until what is asked for is there, or the time is over.
pub(in crate::regtest) fn announced(
    client: &Client,
    call: &'static str,
    what: Option<Value>,
    time: Duration,
) -> Result<(), Error> {
    // Zero would mean for ever.
    let time = json!(time.as_millis().max(1));
    let arguments: Vec<_> = what.into_iter().chain([time]).collect();
    let _: Value = client
        .call(call, &arguments)
        .map_err(|error| rpc::failed(call, error))?;
    Ok(())
}

pub(in crate::regtest) fn list(txids: &[Txid]) -> String {
    if txids.is_empty() {
        return "nothing".to_owned();
    }
    let txids: Vec<_> = txids.iter().map(ToString::to_string).collect();
    txids.join(", ")
}
