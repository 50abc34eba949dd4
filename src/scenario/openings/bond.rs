//! The guide's forum: Bob pays Alice 1 millidash a post out of a bond of 100 millidash, for 24 hours.

use bitcoin::Amount;

use crate::channel::{ChannelId, Protocol, Stage};
use crate::regtest::CoinKind;
use crate::scenario::channel::Channel;
use crate::scenario::error::ScenarioError;
use crate::scenario::plan::Plan;
use crate::scenario::steps;
use crate::scenario::world::World;
use crate::transcript::Side;

pub const MILLIDASH: Amount = Amount::from_sat(100_000);

pub fn plan(world: &World, kind: CoinKind, id: ChannelId) -> Result<Plan, ScenarioError> {
    steps::plan(Protocol::Bond, MILLIDASH * 100, world, (kind, id))
}

/// The guide's opening, up to a bond that is confirmed.
pub async fn open(world: &World, id: ChannelId) -> Result<Channel, ScenarioError> {
    open_with(world, plan(world, CoinKind::Segwit, id)?).await
}

pub async fn open_with(world: &World, plan: Plan) -> Result<Channel, ScenarioError> {
    world.say("Bob makes the bond and keeps it, Alice signs his refund, asks for the bond and broadcasts it");
    let channel = world.open(plan).await?;
    channel.payer()?;
    channel.payee()?;
    world.mine(3, &[&channel]).await?;
    channel.stage_is(Side::Payer, Stage::Open)?;
    Ok(channel)
}

/// One post: Alice asks, Bob signs the next version.
pub async fn post(channel: &Channel) -> Result<(), ScenarioError> {
    channel.request(MILLIDASH).await?;
    channel.pay(MILLIDASH).await
}
