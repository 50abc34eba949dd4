//! The blocks that a chain begins with, as a file that `bitcoind` imports while it starts.
//!
//! That is faster than any way over RPC: by the time the node answers, it has them.

use std::ffi::OsString;
use std::iter;

use bitcoin::consensus::Encodable;
use bitcoin::{constants, Block, BlockHash, Network};

use super::clock::BLOCK_INTERVAL;
use super::error::{Error, InvalidRequest};
use super::miner::{Miner, Parent};
use super::node::rpc::call;
use super::node::{Node, NodeBuilder};
use super::process::{folder_failed, shared_file};
use super::wait::{wait_until, Poll};

/// Starts a node with this many empty blocks. The first are in the past and the last is current: the clock need not be
/// moved, and the tip is so recent that the node leaves initial block download.
pub(super) fn start_at_height(node: NodeBuilder, miner: &Miner, height: u32) -> Result<Node, Error> {
    let now = node.time_at_start();
    let genesis = constants::genesis_block(Network::Regtest);
    let parent = Parent {
        height: 0,
        hash: genesis.block_hash(),
    };
    let earliest = genesis
        .header
        .time
        .saturating_add(height.saturating_mul(BLOCK_INTERVAL));
    if height > 0 && now < earliest {
        return Err(InvalidRequest::StartTooEarly {
            now,
            height,
            earliest,
        }
        .into());
    }
    let times = (0..height).rev();
    let times = times.map(|left| now.saturating_sub(left.saturating_mul(BLOCK_INTERVAL)));
    let blocks = miner.build_empty(node.segwit_height(), parent, times)?;
    let Some(tip) = blocks.last().map(Block::block_hash) else {
        return node.start();
    };
    // The node knows the first one, but a new chain begins with the import, and has to begin there.
    let all = || as_file(iter::once(&genesis).chain(&blocks));
    let file = shared_file(&format!("{tip}.dat"), all).map_err(folder_failed)?;
    let mut argument = OsString::from("-loadblock=");
    argument.push(file);
    let node = node.first_argument(argument).start()?;
    wait_for_import(&node, height, tip)?;
    Ok(node)
}

/// As `bitcoind` keeps blocks itself: each after the network's magic bytes and its own length.
fn as_file<'a>(blocks: impl Iterator<Item = &'a Block>) -> Vec<u8> {
    let mut file = Vec::new();
    for block in blocks {
        let mut bytes = Vec::new();
        block
            .consensus_encode(&mut bytes)
            .expect("a vector takes every byte");
        let length = u32::try_from(bytes.len()).expect("a block without transactions is small");
        file.extend(Network::Regtest.magic().to_bytes());
        file.extend(length.to_le_bytes());
        file.extend(bytes);
    }
    file
}

/// Waits until the node has the blocks and is done with importing: until then it does not listen to its peers.
fn wait_for_import(node: &Node, height: u32, tip: BlockHash) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    struct Info {
        blocks: u32,
        bestblockhash: BlockHash,
        initialblockdownload: bool,
    }
    let awaited = format!("the import of {height} blocks up to {tip}");
    wait_until(&awaited, node.timeout, || {
        let info: Info = call(node.client(), "getblockchaininfo", &[])?;
        Ok(if info.bestblockhash == tip && !info.initialblockdownload {
            Poll::Ready(())
        } else {
            let busy = if info.initialblockdownload {
                ", still importing"
            } else {
                ""
            };
            Poll::Pending(format!("{} at height {}{busy}", info.bestblockhash, info.blocks))
        })
    })
}
