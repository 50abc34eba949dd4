//! The Bitcoin wiki's Example 7: 10 BTC on a link that may fail at any point, one day.

use bitcoin::Amount;

use crate::channel::{ChannelId, Protocol, Stage};
use crate::regtest::CoinKind;
use crate::scenario::channel::Channel;
use crate::scenario::error::ScenarioError;
use crate::scenario::plan::Plan;
use crate::scenario::steps::{self, refund_waits};
use crate::scenario::world::World;
use crate::transcript::Side;

pub fn plan(world: &World) -> Result<Plan, ScenarioError> {
    steps::plan(
        Protocol::Example7,
        Amount::ONE_BTC * 10,
        world,
        (CoinKind::Segwit, ChannelId(1)),
    )
}

pub const STEP: Amount = Amount::from_sat(50_000_000);

/// Steps 1 to 7.
pub async fn open(world: &World) -> Result<Channel, ScenarioError> {
    open_with(world, plan(world)?).await
}

pub async fn open_with(world: &World, plan: Plan) -> Result<Channel, ScenarioError> {
    world.say(if world.construction().has_script_refund() {
        "Steps 1 to 6, shorter: K1 and K2, and T1, whose output lets the payer take everything back with T2. \
         T2 is not signed in advance: T1 is handed over, and the payee broadcasts it"
    } else {
        "Steps 1 to 6: K1 and K2, T1 held back, T2 signed, T1 handed over, and the payee broadcasts it"
    });
    let channel = world.open(plan).await?;
    channel.payer()?;
    channel.payee()?;
    world.was_accepted("funding")?;
    refund_waits(world)?;
    world.say("Step 7: T1 confirms, and T3 starts with everything on K1's output");
    world.mine(3, &[&channel]).await?;
    channel.stage_is(Side::Payer, Stage::Open)?;
    Ok(channel)
}

pub async fn pay_three(world: &World, channel: &Channel) -> Result<(), ScenarioError> {
    world.say("Step 8: three payments of 0.5 BTC");
    for _ in 0..3 {
        channel.pay(STEP).await?;
    }
    world.would_accept("payment-3")
}
