//! When a lock has passed, as this node sees it.

use bitcoin::{absolute, relative, OutPoint};

use super::Node;
use crate::regtest::error::{Error, InvalidRequest};
use crate::regtest::lock::{Lock, LockRequirement, UNIT};

impl Lock {
    /// Returns the least height and median time past of a tip that make it final.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::CoinMissing`] or [`InvalidRequest::CoinUnconfirmed`] if the coin of a relative lock is not in a block, or
    /// the node fails.
    pub fn requirement(&self, node: &Node) -> Result<LockRequirement, Error> {
        match self {
            Self::Absolute(absolute::LockTime::Blocks(height)) => {
                Ok(LockRequirement::height(height.to_consensus_u32()))
            }
            // No lock time is the largest possible number: only then would this saturate.
            Self::Absolute(absolute::LockTime::Seconds(time)) => {
                Ok(LockRequirement::mtp(time.to_consensus_u32().saturating_add(1)))
            }
            Self::Relative { coin, lock } => {
                let height = confirmation_height(node, *coin)?;
                match lock {
                    relative::LockTime::Blocks(blocks) => Ok(LockRequirement::height(
                        height.saturating_add(u32::from(blocks.value())).saturating_sub(1),
                    )),
                    relative::LockTime::Time(units) => {
                        let base = node.median_time_at(height.saturating_sub(1))?;
                        Ok(LockRequirement::mtp(
                            base.saturating_add(UNIT * u32::from(units.value())),
                        ))
                    }
                }
            }
            Self::Spend { locks, .. } => locks.iter().try_fold(LockRequirement::default(), |all, lock| {
                Ok(all.and(lock.requirement(node)?))
            }),
        }
    }
}

fn confirmation_height(node: &Node, coin: OutPoint) -> Result<u32, Error> {
    if let Some(utxo) = node.confirmed_utxo(coin)? {
        return Ok(node.tip()?.height + 1 - utxo.confirmations);
    }
    Err(if node.transaction_in_mempool(coin.txid)?.is_some() {
        InvalidRequest::CoinUnconfirmed { coin }
    } else {
        InvalidRequest::CoinMissing { coin }
    }
    .into())
}
