//! The article's seven steps: 1,000 satoshi, payments of 100 satoshi, no fee.

use bitcoin::{Amount, FeeRate};

use crate::channel::{ChannelId, Limits, Protocol, Stage};
use crate::regtest::{CoinKind, RejectReason};
use crate::scenario::channel::Channel;
use crate::scenario::error::ScenarioError;
use crate::scenario::plan::Plan;
use crate::scenario::steps::terms;
use crate::scenario::world::World;
use crate::transcript::Side;

pub const STEP: Amount = Amount::from_sat(100);

/// The article's terms: 1,000 satoshi, and neither fees nor dust.
pub fn plan(world: &World) -> Result<Plan, ScenarioError> {
    let capacity = Amount::from_sat(1_000);
    let coin = world.payer_coin(capacity, CoinKind::Segwit, ChannelId(1))?;
    let mut terms = terms(Protocol::SteppedLocktime, capacity, world)?;
    terms.feerate = FeeRate::ZERO;
    terms.dust_feerate = FeeRate::ZERO;
    let mut plan = Plan::new(terms, coin);
    plan.limits = Limits {
        capacity: Amount::ONE_SAT..=Amount::from_sat(1_000),
        feerate: FeeRate::ZERO..=FeeRate::ZERO,
        dust_feerate: FeeRate::ZERO..=FeeRate::ZERO,
        ..Limits::default()
    };
    Ok(plan)
}

/// Steps 1 to 4, and the blocks that make payments count.
pub async fn open(world: &World) -> Result<Channel, ScenarioError> {
    open_with(world, plan(world)?).await
}

pub async fn open_with(world: &World, plan: Plan) -> Result<Channel, ScenarioError> {
    world.say("Steps 1 to 4: keys, the funding transaction held back, the refund signed, then the broadcast");
    let channel = world.open(plan).await?;
    channel.payer()?;
    channel.payee()?;
    world.was_accepted("funding")?;
    world.would_reject("refund", RejectReason::NonFinal)?;
    world.mine(3, &[&channel]).await?;
    channel.stage_is(Side::Payer, Stage::Open)?;
    Ok(channel)
}

/// Step 5: 900 back and 100 to the payee, then 800 and 200, then 700 and 300.
pub async fn pay_three(world: &World, channel: &Channel) -> Result<(), ScenarioError> {
    world.say("Step 5: three payments of 100 satoshi: 900/100, 800/200, 700/300");
    for _ in 0..3 {
        channel.pay(STEP).await?;
    }
    world.would_reject("payment-3", RejectReason::NonFinal)
}
