//! Stories with the kind of lock that the protocol's document does not use: a time instead of a height, or the reverse.

use bitcoin::absolute::LockTime;

use crate::channel::{ChannelId, Expiry, LockKind, RefundLock, Terms};
use crate::regtest::CoinKind;
use crate::scenario::error::{expect, ScenarioError};
use crate::scenario::openings::{bond, example7, stepped};
use crate::scenario::plan::Plan;
use crate::scenario::steps::{confirm, ended_with_paid, payee_settles, payer_refunds, range, refund_waits};
use crate::scenario::world::World;
use crate::transcript::Side;

/// The refund's lock a day ahead, as a time.
fn by_time(world: &World) -> Result<RefundLock, ScenarioError> {
    let lock = if world.construction().has_relative_lock() {
        RefundLock::after_seconds(Terms::DAY)
    } else {
        Expiry::seconds_after(world.tip()?, Terms::DAY).map(RefundLock::from)
    };
    lock.ok_or_else(|| range(&"a lock after the last time"))
}

/// The article's terms, with a refund after 24 hours and payments that count one closing margin before.
fn stepped_plan(world: &World) -> Result<Plan, ScenarioError> {
    let mut plan = stepped::plan(world)?;
    let before = Terms::DAY - plan.terms.closing_margin.of_kind(LockKind::Time);
    plan.terms.refund_lock = by_time(world)?;
    plan.terms.payment_expiry = Expiry::seconds_after(world.tip()?, before);
    Ok(plan)
}

pub async fn stepped_payment_by_time(world: &mut World) -> Result<(), ScenarioError> {
    let channel = stepped::open_with(world, stepped_plan(world)?).await?;
    stepped::pay_three(world, &channel).await?;
    world.say("The payer vanishes; the payee redeems alone, once the payments' time has passed");
    channel.vanish(Side::Payer).await?;
    payee_settles(world, &channel, "payment-3").await?;
    confirm(world, &channel, "payment-3").await?;
    ended_with_paid(&channel, stepped::STEP * 3)
}

pub async fn stepped_refund_by_time(world: &mut World) -> Result<(), ScenarioError> {
    let channel = stepped::open_with(world, stepped_plan(world)?).await?;
    stepped::pay_three(world, &channel).await?;
    world.say("The payee vanishes with the last payment");
    channel.vanish(Side::Payee).await?;
    payer_refunds(world, &channel).await
}

pub async fn example7_refund_by_time(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = example7::plan(world)?;
    plan.terms.refund_lock = by_time(world)?;
    let channel = example7::open_with(world, plan).await?;
    example7::pay_three(world, &channel).await?;
    world.say("The payee vanishes, and with it the last T3");
    channel.vanish(Side::Payee).await?;
    payer_refunds(world, &channel).await
}

pub async fn bond_refund_by_height(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = bond::plan(world, CoinKind::Segwit, ChannelId(1))?;
    let lock = Expiry::blocks_after(world.tip()?, u32::from(Terms::DAY_OF_BLOCKS));
    plan.terms.refund_lock = lock.ok_or_else(|| range(&"a lock after the last height"))?.into();
    let channel = bond::open_with(world, plan).await?;
    bond::post(&channel).await?;
    bond::post(&channel).await?;
    world.say("Alice vanishes, and with her the last version");
    channel.vanish(Side::Payee).await?;
    payer_refunds(world, &channel).await
}

pub async fn lifetime_from_confirmation(world: &mut World) -> Result<(), ScenarioError> {
    const WAITED: u32 = 10;
    world.say("Steps 1 to 6, shorter: T1 itself holds the refund's lock, 144 blocks from its confirmation");
    let mut plan = example7::plan(world)?;
    // By default both would broadcast T1 at the same moment, in either order.
    plan.limits.broadcast_funding_after = Some(WAITED + 1);
    let channel = world.open(plan).await?;
    world.was_accepted("funding")?;
    world.say("Ten blocks are mined without T1");
    let broadcast = world.tip()?.height.to_consensus_u32();
    world.mine_empty(WAITED, &[&channel]).await?;
    refund_waits(world)?;
    world.say("The eleventh has it, and the lock begins there");
    world.mine(3, &[&channel]).await?;
    example7::pay_three(world, &channel).await?;
    world.say("The payee vanishes. Counted from the broadcast, the lock would be over now");
    channel.vanish(Side::Payee).await?;
    let early =
        LockTime::from_height(broadcast + u32::from(Terms::DAY_OF_BLOCKS)).map_err(|error| range(&error))?;
    world.make_final(early, &[&channel]).await?;
    refund_waits(world)?;
    world.was_not_broadcast("refund")?;
    payer_refunds(world, &channel).await?;
    // A lock of n blocks on a coin in block h lets it be spent in block h + n (BIP 68).
    let expected = broadcast + WAITED + 1 + u32::from(Terms::DAY_OF_BLOCKS);
    let found = world.height_of(world.recorded("refund")?.compute_txid())?;
    expect("the refund's block", &Some(expected), &found)
}
