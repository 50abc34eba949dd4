//! The article's seven steps: 1,000 satoshi, payments of 100 satoshi, no fee.

use bitcoin::{Amount, FeeRate};

use super::channel::Channel;
use super::error::ScenarioError;
use super::locks;
use super::plan::Plan;
use super::story::{always, told, ScenarioTemplate};
use super::turns::{
    self, confirm, ended_with_paid, payee_settles, payer_refunds, refund_is_void, refund_lock, terms,
};
use super::world::World;
use super::{play, Scenario};
use crate::channel::{ChannelId, Construction, Limits, Protocol, Stage};
use crate::regtest::{CoinKind, Policy, RejectReason};
use crate::transcript::Side;

pub(super) fn scenarios(construction: Construction) -> Vec<Scenario> {
    let scenario = |story: &ScenarioTemplate| {
        let scenario = story.scenario(Protocol::SteppedLocktime, construction);
        match story.name {
            "ordinary-fees" => scenario,
            _ => scenario.policy(Policy::free()),
        }
    };
    told(STORIES, construction).map(scenario).collect()
}

const STORIES: &[ScenarioTemplate] = &[
    ScenarioTemplate {
        name: "settled",
        summary: "The article's seven steps: 1,000 satoshi, payments of 100 satoshi, settled together",
        on: always,
        play: play!(settled),
    },
    ScenarioTemplate {
        name: "payer-gone",
        summary: "The payer vanishes; the payee redeems the last payment at its own lock, and not one block before",
        on: always,
        play: play!(payer_gone),
    },
    ScenarioTemplate {
        name: "payee-gone",
        summary: "The payee vanishes; the payer gets its refund at the refund's lock, and not one block before",
        on: always,
        play: play!(payee_gone),
    },
    ScenarioTemplate {
        name: "late-payee",
        summary: "The payee sleeps past the refund's lock: the refund wins the race",
        on: always,
        play: play!(late_payee),
    },
    ScenarioTemplate {
        name: "race-won-by-payee",
        summary: "Both locks have passed: the payee's payment is first in the mempool",
        on: always,
        play: play!(race_won_by_payee),
    },
    ScenarioTemplate {
        name: "ordinary-fees",
        summary: "The same seven steps with ordinary amounts and fees under a node's default policy",
        on: always,
        play: play!(ordinary_fees),
    },
    ScenarioTemplate {
        name: "payment-by-time",
        summary: "Both locks are times: the payee redeems when its own has passed, and not one second before",
        on: always,
        play: play!(locks::stepped_payment_by_time),
    },
    ScenarioTemplate {
        name: "refund-by-time",
        summary: "Both locks are times: the payer gets its refund when its own has passed, and not one second before",
        on: always,
        play: play!(locks::stepped_refund_by_time),
    },
];

pub(super) const STEP: Amount = Amount::from_sat(100);

/// The article's terms: 1,000 satoshi, and neither fees nor dust.
pub(super) fn plan(world: &World) -> Result<Plan, ScenarioError> {
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
async fn open(world: &World) -> Result<Channel, ScenarioError> {
    open_with(world, plan(world)?).await
}

pub(super) async fn open_with(world: &World, plan: Plan) -> Result<Channel, ScenarioError> {
    world.say("Steps 1 to 4: keys, the funding transaction held back, the refund signed, then the broadcast");
    let channel = world.open(plan).await?;
    channel.payer()?;
    channel.payee()?;
    world.was_taken("funding")?;
    world.would_refuse("refund", RejectReason::NonFinal)?;
    world.mine(3, &[&channel]).await?;
    channel.stage_is(Side::Payer, Stage::Open)?;
    Ok(channel)
}

/// Step 5: 900 back and 100 to the payee, then 800 and 200, then 700 and 300.
pub(super) async fn pay_three(world: &World, channel: &Channel) -> Result<(), ScenarioError> {
    world.say("Step 5: three payments of 100 satoshi: 900/100, 800/200, 700/300");
    for _ in 0..3 {
        channel.pay(STEP).await?;
    }
    world.would_refuse("payment-3", RejectReason::NonFinal)
}

async fn settled(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 7: the payer signs the final division without a lock; the payee adds its signature");
    channel.close(Side::Payer).await?;
    world.was_taken("settlement")?;
    confirm(world, &channel, "settlement").await?;
    refund_is_void(world, &channel).await?;
    channel.ended_with(Amount::from_sat(700), Amount::from_sat(300))
}

async fn payer_gone(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 6: the payer vanishes; the payee redeems alone, long before the payer could refund");
    channel.vanish(Side::Payer).await?;
    world.would_refuse("payment-3", RejectReason::NonFinal)?;
    payee_settles(world, &channel, "payment-3").await?;
    confirm(world, &channel, "payment-3").await?;
    ended_with_paid(&channel, STEP * 3)
}

async fn payee_gone(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("The payee vanishes with the last payment");
    channel.vanish(Side::Payee).await?;
    payer_refunds(world, &channel).await
}

async fn late_payee(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("The payee is offline while its own lock and the refund's pass");
    channel.offline(Side::Payee);
    let refund_lock = refund_lock(world, &channel)?;
    world.stop_before(refund_lock.clone(), &[&channel]).await?;
    world.would_accept("payment-3")?;
    world.would_refuse("refund", RejectReason::NonFinal)?;
    world.make_final(refund_lock, &[&channel]).await?;
    world.was_taken("refund")?;
    world.say("The payee is back, too late: the refund is in the mempool, and the payment pays no more to replace it");
    channel.online(Side::Payee).await?;
    world.was_refused("payment-3", RejectReason::InsufficientFee)?;
    confirm(world, &channel, "refund").await?;
    world.would_refuse("payment-3", RejectReason::MissingInputs)?;
    channel.ended_with(Amount::from_sat(1_000), Amount::ZERO)
}

async fn race_won_by_payee(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Both sides are offline while both locks pass: from now on the first in the mempool wins");
    channel.offline(Side::Payer);
    channel.offline(Side::Payee);
    let refund_lock = refund_lock(world, &channel)?;
    world.make_final(refund_lock, &[&channel]).await?;
    world.would_accept("refund")?;
    world.would_accept("payment-3")?;
    world.say("The payee is back first");
    channel.online(Side::Payee).await?;
    world.was_taken("payment-3")?;
    world.would_refuse("refund", RejectReason::InsufficientFee)?;
    channel.online(Side::Payer).await?;
    world.was_not_broadcast("refund")?;
    confirm(world, &channel, "payment-3").await?;
    channel.ended_with(Amount::from_sat(700), Amount::from_sat(300))
}

async fn ordinary_fees(world: &mut World) -> Result<(), ScenarioError> {
    world.say("Steps 1 to 4 with 1,000,000 satoshi at 2 sat/vB");
    let capacity = Amount::from_sat(1_000_000);
    let plan = turns::plan(
        Protocol::SteppedLocktime,
        capacity,
        world,
        (CoinKind::Segwit, ChannelId(1)),
    )?;
    let channel = world.open(plan).await?;
    world.was_taken("funding")?;
    world.mine(3, &[&channel]).await?;
    world.say("Step 5: a payment below dust exists off chain only; the next one raises the total above it");
    channel.pay(STEP).await?;
    channel.pay(Amount::from_sat(99_900)).await?;
    world.would_refuse("payment-2", RejectReason::NonFinal)?;
    world.say("Step 7: this time the payee requests the settlement");
    channel.close(Side::Payee).await?;
    world.was_taken("settlement")?;
    confirm(world, &channel, "settlement").await?;
    ended_with_paid(&channel, Amount::from_sat(100_000))
}
