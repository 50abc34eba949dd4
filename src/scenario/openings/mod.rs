//! How each document's channel is opened: terms, coin, steps, and the amount of one payment.

pub(super) mod bond;
pub(super) mod example7;
pub(super) mod stepped;

use bitcoin::Amount;

use super::error::ScenarioError;
use super::plan::Plan;
use super::world::World;
use crate::channel::{ChannelId, Protocol};
use crate::regtest::CoinKind;

pub(super) fn plan(world: &World, protocol: Protocol) -> Result<Plan, ScenarioError> {
    match protocol {
        Protocol::SteppedLocktime => stepped::plan(world),
        Protocol::Example7 => example7::plan(world),
        Protocol::Bond => bond::plan(world, CoinKind::Segwit, ChannelId(1)),
    }
}

/// The amount of one payment.
pub(super) const fn step(protocol: Protocol) -> Amount {
    match protocol {
        Protocol::SteppedLocktime => stepped::STEP,
        Protocol::Example7 => example7::STEP,
        Protocol::Bond => bond::MILLIDASH,
    }
}
