//! Steps that several stories share.

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, FeeRate};

use super::channel::Channel;
use super::error::ScenarioError;
use super::plan::Plan;
use super::world::World;
use crate::channel::{Capacity, ChannelId, Protocol, SpendRole, Terms};
use crate::regtest::{CoinKind, Lock, RejectReason};
use crate::transcript::Side;

pub(super) fn range(error: &dyn std::fmt::Display) -> ScenarioError {
    ScenarioError::Range(error.to_string())
}

/// Default terms, seen from the tip.
pub(crate) fn terms(protocol: Protocol, capacity: Amount, world: &World) -> Result<Terms, ScenarioError> {
    let capacity = Capacity::new(capacity).map_err(|error| range(&error))?;
    let terms = Terms::with(protocol, world.construction(), capacity, world.tip()?);
    terms.map_err(|error| range(&error))
}

/// A channel with default terms and limits, and a coin that leaves some change.
pub(super) fn plan(
    protocol: Protocol,
    capacity: Amount,
    world: &World,
    (kind, id): (CoinKind, ChannelId),
) -> Result<Plan, ScenarioError> {
    let coin = world.payer_coin(capacity + Amount::from_sat(50_000), kind, id)?;
    Ok(Plan::new(terms(protocol, capacity, world)?, coin))
}

/// The refund's lock, whatever its form.
pub(super) fn refund_lock(world: &World, channel: &Channel) -> Result<Lock, ScenarioError> {
    Ok(Lock::from(&world.recorded(&format!("{}refund", channel.label))?))
}

/// The node rejects the refund until its lock has passed: an absolute one by the lock time, a relative one by the
/// sequence.
pub(super) fn refund_waits(world: &World) -> Result<(), ScenarioError> {
    let reason = if world.construction().has_relative_lock() {
        RejectReason::NonBip68Final
    } else {
        RejectReason::NonFinal
    };
    world.would_reject("refund", reason)
}

/// The payee waits for more payments until this lock has passed; then it settles.
pub(super) fn settle_lock(world: &World, channel: &Channel) -> Result<LockTime, ScenarioError> {
    let base = world.funding_parent(channel.funding()?)?;
    let from = channel.params()?.terms().settle_from(base);
    let from = from.ok_or_else(|| range(&"a relative lock that has not begun"))?;
    Ok(from.to_lock_time())
}

/// One block before its time to settle the payee still waits; one block later it settles with this payment, alone.
pub(super) async fn payee_settles(
    world: &World,
    channel: &Channel,
    payment: &str,
) -> Result<(), ScenarioError> {
    let lock = settle_lock(world, channel)?;
    world.say("The last block before the payee settles: nothing happens");
    world.stop_before(lock, &[channel]).await?;
    world.mempool_is(&[])?;
    if channel.params()?.terms().payment_expiry.is_some() {
        world.would_reject(payment, RejectReason::NonFinal)?;
    }
    world.say("With the next block the payee broadcasts the last payment");
    world.make_final(lock, &[channel]).await?;
    world.was_accepted(payment)?;
    refund_waits(world)
}

/// One block before its lock the refund is rejected; at the lock the payer takes it.
pub(super) async fn payer_refunds(world: &World, channel: &Channel) -> Result<(), ScenarioError> {
    let lock = refund_lock(world, channel)?;
    world.say("The last block before the refund's lock: it is not final");
    world.stop_before(lock.clone(), &[channel]).await?;
    refund_waits(world)?;
    world.was_not_broadcast("refund")?;
    world.say("With the next block it is final, and the payer takes everything back");
    world.make_final(lock, &[channel]).await?;
    world.was_accepted("refund")?;
    confirm(world, channel, "refund").await?;
    channel.ended_with(channel.params()?.refund_amount(), Amount::ZERO)
}

/// The payer's machine is lost, but not the refund: a third party broadcasts it.
pub(super) async fn refund_from_backup(world: &World, channel: &Channel) -> Result<(), ScenarioError> {
    let lock = refund_lock(world, channel)?;
    world.say("The last block before the refund's lock: it is not final");
    world.stop_before(lock.clone(), &[channel]).await?;
    refund_waits(world)?;
    world.say("With the next block it is final: the payer needs only the refund that it kept");
    world.make_final(lock, &[channel]).await?;
    world.submit(Side::Payer, SpendRole::Refund, "refund")?;
    confirm(world, channel, "refund").await
}

/// When its lock has passed, the refund of a settled channel spends an output that no longer exists.
pub(super) async fn refund_is_void(world: &World, channel: &Channel) -> Result<(), ScenarioError> {
    world.say("When the refund's lock has passed, its output is already spent");
    // The node no longer knows when the spent coin was confirmed.
    let base = world.funding_parent(channel.funding()?)?;
    let expiry = channel.params()?.terms().refund_lock.expiry(base);
    let expiry = expiry.ok_or_else(|| range(&"a relative lock that has not begun"))?;
    world.make_final(expiry.to_lock_time(), &[channel]).await?;
    world.would_reject("refund", RejectReason::MissingInputs)
}

/// Mines six blocks on a transaction: confirmed for both sides.
pub(super) async fn confirm(world: &World, channel: &Channel, name: &str) -> Result<(), ScenarioError> {
    world.mine(6, &[channel]).await?;
    world.is_mined(name)
}

/// The channel ended with this amount for the payee, and the rest, less the fee, for the payer.
pub(super) fn ended_with_paid(channel: &Channel, paid: Amount) -> Result<(), ScenarioError> {
    channel.ended_with(channel.params()?.spendable() - paid, paid)
}

/// The same for a settlement that both agreed on, at this feerate.
pub(super) fn ended_together(channel: &Channel, paid: Amount, feerate: FeeRate) -> Result<(), ScenarioError> {
    let params = channel.params()?;
    let balance = if params.terms().construction.closes_with_one_key() {
        params.cooperative_balance(paid, feerate)
    } else {
        params.balance_at(paid, feerate)
    };
    let balance = balance.ok_or_else(|| range(&"a fee above the change"))?;
    channel.ended_with(balance.change, paid)
}

/// Neither side has a channel, nothing is on chain, and the payer's coin is where it was.
pub(super) fn refused_to_open(world: &World, channel: &Channel) -> Result<(), ScenarioError> {
    let opened = [
        ("payer", channel.payer().is_ok()),
        ("payee", channel.payee().is_ok()),
    ];
    if let Some((who, _)) = opened.iter().find(|(_, opened)| *opened) {
        return Err(ScenarioError::Unexpected {
            what: format!("the {who}'s opening"),
            expected: "none".to_owned(),
            found: "an open channel".to_owned(),
        });
    }
    nothing_on_chain(world, channel)
}

/// Nothing is on chain, and the payer's coin is where it was.
pub(super) fn nothing_on_chain(world: &World, channel: &Channel) -> Result<(), ScenarioError> {
    world.was_not_broadcast("funding")?;
    world.mempool_is(&[])?;
    let coin = channel.coin();
    world.unspent_is("the payer's coin", coin.outpoint, Some(coin.value()))
}
