//! Waiting until nodes agree.

use bitcoin::Txid;
use serde_json::json;

use crate::regtest::best_block::BestBlock;
use crate::regtest::error::{Error, InvalidRequest};
use crate::regtest::node::waits::{announced, list, wait_for_relay};
use crate::regtest::node::Node;
use crate::regtest::wait::{wait, Poll, SHORT_SLICE, SLICE};

/// Waits until these nodes have the same tip.
///
/// # Errors
///
/// [`NodeError::Timeout`](crate::regtest::NodeError::Timeout) with the tip of each, or if a node fails.
pub fn wait_for_same_tip(nodes: &[&Node]) -> Result<BestBlock, Error> {
    let Some(first) = nodes.first() else {
        return Err(InvalidRequest::NoSuchNode { index: 0, nodes: 0 }.into());
    };
    let clients: Vec<_> = nodes.iter().map(|node| node.client_for_waits()).collect();
    let awaited = || format!("{} nodes to have the same tip", nodes.len());
    wait(awaited, first.timeout, |left| {
        let tips = nodes
            .iter()
            .map(|node| node.tip())
            .collect::<Result<Vec<_>, _>>()?;
        if tips.iter().all(|tip| tip.hash == tips[0].hash) {
            return Ok(Poll::Ready(tips[0]));
        }
        let highest = tips.iter().map(|tip| tip.height).max().unwrap_or_default();
        let behind = tips.iter().position(|tip| tip.height < highest);
        let time = if behind.is_some() { SLICE } else { SHORT_SLICE };
        match behind {
            Some(index) => announced(
                &clients[index],
                "waitforblockheight",
                Some(json!(highest)),
                time.min(left),
            ),
            None => announced(&clients[0], "waitfornewblock", None, time.min(left)),
        }?;
        let tips: Vec<_> = tips
            .iter()
            .map(|tip| format!("{} ({})", tip.hash, tip.height))
            .collect();
        Ok(Poll::Pending(tips.join(", ")))
    })
}

/// Waits until these nodes have the same transactions in their mempools; the answer is their sorted ids.
///
/// The clock as in [`Node::wait_for_unconfirmed`].
///
/// # Errors
///
/// [`NodeError::Timeout`](crate::regtest::NodeError::Timeout) with the mempool of each, or if a node fails.
pub fn wait_for_same_mempool(nodes: &[&Node]) -> Result<Vec<Txid>, Error> {
    let Some(first) = nodes.first() else {
        return Err(InvalidRequest::NoSuchNode { index: 0, nodes: 0 }.into());
    };
    let awaited = format!("{} nodes to have the same mempool", nodes.len());
    wait_for_relay(&awaited, first, || {
        let mempools = nodes
            .iter()
            .map(|node| node.mempool())
            .collect::<Result<Vec<_>, _>>()?;
        if mempools.iter().all(|mempool| mempool == &mempools[0]) {
            return Ok(Poll::Ready(mempools[0].clone()));
        }
        let mempools: Vec<_> = mempools.iter().map(|mempool| list(mempool)).collect();
        Ok(Poll::Pending(mempools.join("; ")))
    })
}
