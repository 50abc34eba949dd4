//! Stories of the article's seven steps.

use bitcoin::Amount;

use crate::channel::{ChannelId, Protocol};
use crate::regtest::{CoinKind, RejectReason};
use crate::scenario::error::ScenarioError;
use crate::scenario::openings::stepped::{open, pay_three, STEP};
use crate::scenario::steps::{
    self, confirm, ended_with_paid, payee_settles, payer_refunds, refund_is_void, refund_lock,
};
use crate::scenario::world::World;
use crate::transcript::Side;

pub async fn settled(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 7: the payer signs the final division without a lock; the payee adds its signature");
    channel.close(Side::Payer).await?;
    world.was_accepted("settlement")?;
    confirm(world, &channel, "settlement").await?;
    refund_is_void(world, &channel).await?;
    channel.ended_with(Amount::from_sat(700), Amount::from_sat(300))
}

pub async fn payer_gone(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 6: the payer vanishes; the payee redeems alone, long before the payer could refund");
    channel.vanish(Side::Payer).await?;
    world.would_reject("payment-3", RejectReason::NonFinal)?;
    payee_settles(world, &channel, "payment-3").await?;
    confirm(world, &channel, "payment-3").await?;
    ended_with_paid(&channel, STEP * 3)
}

pub async fn payee_gone(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("The payee vanishes with the last payment");
    channel.vanish(Side::Payee).await?;
    payer_refunds(world, &channel).await
}

pub async fn late_payee(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("The payee is offline while its own lock and the refund's pass");
    channel.offline(Side::Payee);
    let refund_lock = refund_lock(world, &channel)?;
    world.stop_before(refund_lock.clone(), &[&channel]).await?;
    world.would_accept("payment-3")?;
    world.would_reject("refund", RejectReason::NonFinal)?;
    world.make_final(refund_lock, &[&channel]).await?;
    world.was_accepted("refund")?;
    world.say("The payee is back, too late: the refund is in the mempool, and the payment pays no more to replace it");
    channel.online(Side::Payee).await?;
    world.was_rejected("payment-3", RejectReason::InsufficientFee)?;
    confirm(world, &channel, "refund").await?;
    world.would_reject("payment-3", RejectReason::MissingInputs)?;
    channel.ended_with(Amount::from_sat(1_000), Amount::ZERO)
}

pub async fn race_won_by_payee(world: &mut World) -> Result<(), ScenarioError> {
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
    world.was_accepted("payment-3")?;
    world.would_reject("refund", RejectReason::InsufficientFee)?;
    channel.online(Side::Payer).await?;
    world.was_not_broadcast("refund")?;
    confirm(world, &channel, "payment-3").await?;
    channel.ended_with(Amount::from_sat(700), Amount::from_sat(300))
}

pub async fn ordinary_fees(world: &mut World) -> Result<(), ScenarioError> {
    world.say("Steps 1 to 4 with 1,000,000 satoshi at 2 sat/vB");
    let capacity = Amount::from_sat(1_000_000);
    let plan = steps::plan(
        Protocol::SteppedLocktime,
        capacity,
        world,
        (CoinKind::Segwit, ChannelId(1)),
    )?;
    let channel = world.open(plan).await?;
    world.was_accepted("funding")?;
    world.mine(3, &[&channel]).await?;
    world.say("Step 5: a payment below dust exists off chain only; the next one raises the total above it");
    channel.pay(STEP).await?;
    channel.pay(Amount::from_sat(99_900)).await?;
    world.would_reject("payment-2", RejectReason::NonFinal)?;
    world.say("Step 7: this time the payee requests the settlement");
    channel.close(Side::Payee).await?;
    world.was_accepted("settlement")?;
    confirm(world, &channel, "settlement").await?;
    ended_with_paid(&channel, Amount::from_sat(100_000))
}
