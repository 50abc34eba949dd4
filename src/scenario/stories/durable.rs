//! What happens to the file of a side, and what happens while no process of it runs.

use crate::channel::Stage;
use crate::regtest::RejectReason;
use crate::scenario::channel::Channel;
use crate::scenario::error::{expect, ScenarioError};
use crate::scenario::openings::example7::{plan, STEP};
use crate::scenario::restarts::Armed;
use crate::scenario::steps::{
    confirm, ended_together, ended_with_paid, payee_settles, payer_refunds, refund_lock, refund_waits,
    settle_lock,
};
use crate::scenario::world::World;
use crate::store::SqliteError;
use crate::transcript::{Entry, Side};

/// A channel that both sides store, confirmed, with this number of payments.
async fn open(world: &World, payments: u64) -> Result<Channel, ScenarioError> {
    let mut plan = plan(world)?;
    plan.stored = true;
    world.say("Both sides open the channel, and each stores it in its file");
    let channel = world.open(plan).await?;
    world.mine(3, &[&channel]).await?;
    channel.stage_is(Side::Payer, Stage::Open)?;
    pay(world, &channel, 1..=payments).await?;
    Ok(channel)
}

async fn pay(
    world: &World,
    channel: &Channel,
    payments: impl IntoIterator<Item = u64>,
) -> Result<(), ScenarioError> {
    for payment in payments {
        world.say(format!("Payment {payment}"));
        channel.pay_up_to(STEP * payment).await?;
    }
    Ok(())
}

async fn restart(world: &World, channel: &mut Channel, side: Side) -> Result<(), ScenarioError> {
    channel.restart(side).await?;
    channel.resume(world, Armed::default()).await
}

async fn close(world: &World, channel: &Channel, payments: u64) -> Result<(), ScenarioError> {
    world.say("The payer closes the channel");
    channel.close(Side::Payer).await?;
    confirm(world, channel, "settlement").await?;
    ended_together(channel, STEP * payments, channel.params()?.terms().feerate)
}

pub async fn older_copy_of_the_payee(world: &mut World) -> Result<(), ScenarioError> {
    older_copy(world, Side::Payee).await
}

pub async fn older_copy_of_the_payer(world: &mut World) -> Result<(), ScenarioError> {
    older_copy(world, Side::Payer).await
}

async fn older_copy(world: &World, side: Side) -> Result<(), ScenarioError> {
    let mut channel = open(world, 1).await?;
    world.say(format!(
        "The {side}'s owner stops it, and makes a copy of its file"
    ));
    channel.lose_power(side).await?;
    channel.back_up(side)?;
    restart(world, &mut channel, side).await?;
    pay(world, &channel, 2..=3).await?;
    world.say(format!("The {side}'s disk is lost. Its owner restores the copy"));
    channel.lose_power(side).await?;
    channel.restore_backup(side)?;
    channel.restart(side).await?;
    channel.holds(side, STEP)?;
    world.say("Both sides compare what they hold when they resume, and the later of the two wins");
    channel.resume(world, Armed::default()).await?;
    channel.holds(Side::Payer, STEP * 3)?;
    channel.holds(Side::Payee, STEP * 3)?;
    pay(world, &channel, [4]).await?;
    close(world, &channel, 4).await
}

pub async fn two_processes(world: &mut World) -> Result<(), ScenarioError> {
    let mut channel = open(world, 1).await?;
    world.say("A second payee process starts with the same file");
    let refused = channel.machine(Side::Payee)?.disk.open().map(drop);
    let is_in_use = matches!(refused, Err(SqliteError::InUse { .. }));
    expect("the file is in use", &true, &is_in_use)?;
    world.recorder.add(Entry::Notice {
        by: Side::Payee.into(),
        text: "cannot start a second time: its file is in use by another process".to_owned(),
    });
    world.say("The first process keeps the channel");
    pay(world, &channel, [2]).await?;
    world.say("The first process ends, and the second one may start");
    channel.lose_power(Side::Payee).await?;
    restart(world, &mut channel, Side::Payee).await?;
    pay(world, &channel, [3]).await?;
    close(world, &channel, 3).await
}

pub async fn full_disk_of_the_payee(world: &mut World) -> Result<(), ScenarioError> {
    let mut channel = open(world, 2).await?;
    world.say("The payee's disk is full when the third payment comes");
    channel.machine(Side::Payee)?.disk.fill();
    channel.try_to_pay(STEP * 3).await?;
    channel.holds(Side::Payee, STEP * 2)?;
    world.say("It has not acknowledged the third payment, but it has the signature, and settles with it");
    payee_settles(world, &channel, "settlement").await?;
    confirm(world, &channel, "settlement").await?;
    ended_with_paid(&channel, STEP * 3)
}

pub async fn full_disk_of_the_payer(world: &mut World) -> Result<(), ScenarioError> {
    let mut channel = open(world, 1).await?;
    world.say("The payer's disk is full when it wants to pay again");
    channel.machine(Side::Payer)?.disk.fill();
    channel.try_to_pay(STEP * 2).await?;
    channel.holds(Side::Payee, STEP)?;
    world.say("The payee is gone, and does not settle: the refund needs no store");
    channel.lose_power(Side::Payee).await?;
    payer_refunds(world, &channel).await
}

pub async fn reorganisation(world: &mut World) -> Result<(), ScenarioError> {
    let mut channel = open(world, 1).await?;
    world.say("The payee is down while the blocks since T1 are replaced by others without it");
    channel.lose_power(Side::Payee).await?;
    world.reorganise(3, "funding", &[&channel]).await?;
    restart(world, &mut channel, Side::Payee).await?;
    channel.stage_is(Side::Payee, Stage::AwaitingFunding)?;
    world.say(if world.construction().has_relative_lock() {
        "T1 is mined again. Payments count again, and the refund's lock begins anew"
    } else {
        "T1 is mined again, and payments count again"
    });
    world.mine(3, &[&channel]).await?;
    channel.stage_is(Side::Payee, Stage::Open)?;
    pay(world, &channel, [2]).await?;
    payee_settles(world, &channel, "payment-2").await?;
    world.mine(2, &[&channel]).await?;
    world.is_mined("payment-2")?;
    world.say("The payee is down while the settlement falls out of the chain");
    channel.lose_power(Side::Payee).await?;
    world.reorganise(2, "payment-2", &[&channel]).await?;
    channel.restart(Side::Payee).await?;
    world.mempool_is(&["payment-2"])?;
    confirm(world, &channel, "payment-2").await?;
    ended_with_paid(&channel, STEP * 2)
}

pub async fn past_the_margin(world: &mut World) -> Result<(), ScenarioError> {
    let mut channel = open(world, 2).await?;
    world.say("The payee is down when the closing margin begins");
    channel.lose_power(Side::Payee).await?;
    world
        .make_final(settle_lock(world, &channel)?, &[&channel])
        .await?;
    world.mine(20, &[&channel]).await?;
    world.mempool_is(&[])?;
    world.say("It is back before the refund's lock, and settles at once");
    refund_waits(world)?;
    channel.restart(Side::Payee).await?;
    world.was_accepted("payment-2")?;
    confirm(world, &channel, "payment-2").await?;
    ended_with_paid(&channel, STEP * 2)
}

pub async fn past_the_lock(world: &mut World) -> Result<(), ScenarioError> {
    let mut channel = open(world, 2).await?;
    world.say("The payee is down until the refund's lock has passed, and the payer refunds");
    channel.lose_power(Side::Payee).await?;
    world
        .make_final(refund_lock(world, &channel)?, &[&channel])
        .await?;
    world.was_accepted("refund")?;
    world
        .say("It is back too late: the refund is in the mempool, and the payment pays no more to replace it");
    channel.restart(Side::Payee).await?;
    world.was_rejected("payment-2", RejectReason::InsufficientFee)?;
    confirm(world, &channel, "refund").await?;
    world.say("The payee has lost what it accepted");
    channel.ended_with(channel.params()?.refund_amount(), bitcoin::Amount::ZERO)
}
