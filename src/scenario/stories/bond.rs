//! Stories of the guide's forum.

use bitcoin::{Amount, OutPoint, TxOut};

use super::malleate::malleate;
use crate::channel::{ChannelId, Stage, Terms};
use crate::regtest::{CoinKind, RejectReason};
use crate::scenario::error::{expect, ScenarioError};
use crate::scenario::openings::bond::{open, plan, post, MILLIDASH};
use crate::scenario::plan::fund;
use crate::scenario::steps::{
    confirm, ended_with_paid, payee_settles, payer_refunds, refund_is_void, refund_lock,
};
use crate::scenario::world::World;
use crate::transcript::{Actor, Side};

pub async fn two_days(world: &mut World) -> Result<(), ScenarioError> {
    let first = open(world, ChannelId(1)).await?;
    world.was_accepted("funding")?;
    world.would_reject("refund", RejectReason::NonFinal)?;
    world.say("Three posts: 1 millidash to Alice and 99 back to Bob, then 2 and 98, then 3 and 97");
    for _ in 0..3 {
        post(&first).await?;
    }
    world.say("Alice has finished for the day: she signs the final version and broadcasts it");
    first.close(Side::Payee).await?;
    world.was_accepted("payment-3")?;
    confirm(world, &first, "payment-3").await?;
    ended_with_paid(&first, MILLIDASH * 3)?;

    refund_is_void(world, &first).await?;

    world.say("The next day a new channel is opened, with new keys");
    let second = open(world, ChannelId(2)).await?;
    world.was_accepted("day-2-funding")?;
    world.say("Two posts, and this time Bob closes");
    for _ in 0..2 {
        post(&second).await?;
    }
    second.close(Side::Payer).await?;
    world.was_accepted("day-2-payment-2")?;
    confirm(world, &second, "day-2-payment-2").await?;
    ended_with_paid(&second, MILLIDASH * 2)?;
    separate_payment(world)
}

/// The cost of one post as a separate transaction: a real payment, judged by the node.
fn separate_payment(world: &World) -> Result<(), ScenarioError> {
    world
        .say("To compare the costs at the end: one post paid by a separate transaction, at the same feerate");
    let key = world.key("payer/separate");
    let coin = world.chain.fund_key(MILLIDASH * 2, CoinKind::Segwit, key)?;
    world.recorder.output(coin.outpoint, coin.output.clone());
    world.recorder.edit(|transcript| {
        let names = &mut transcript.names;
        names.key(coin.public_key(), "payer's separate coin key");
        names.script(&coin.output.script_pubkey, "payer's separate coin");
        names.txid(coin.outpoint.txid, "payer's separate coin");
    });
    let payee = CoinKind::Segwit.script(&world.key("payee"));
    let payment = TxOut {
        value: MILLIDASH,
        script_pubkey: payee,
    };
    let tx = fund(
        &coin,
        &payment,
        Terms::FEERATE,
        &CoinKind::Segwit.script(&world.key("payer")),
    )?;
    world.recorder.built(Side::Payer, "separate-payment", &tx);
    world.would_accept("separate-payment")
}

pub async fn before_the_lock(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world, ChannelId(1)).await?;
    post(&channel).await?;
    post(&channel).await?;
    world.say("Neither side closes, and the lock is close");
    payee_settles(world, &channel, "payment-2").await?;
    confirm(world, &channel, "payment-2").await?;
    ended_with_paid(&channel, MILLIDASH * 2)
}

pub async fn late_payee(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world, ChannelId(1)).await?;
    world.say("Alice works, and Bob pays for it");
    for _ in 0..3 {
        post(&channel).await?;
    }
    world.say("Alice's Internet connection fails for a few hours, near the lock's expiry");
    channel.offline(Side::Payee);
    let refund_lock = refund_lock(world, &channel)?;
    world.stop_before(refund_lock.clone(), &[&channel]).await?;
    world.would_reject("refund", RejectReason::NonFinal)?;
    world.say("The lock has passed: Bob broadcasts his refund of everything");
    world.make_final(refund_lock, &[&channel]).await?;
    world.was_accepted("refund")?;
    world.say("Alice is back. Her version pays no more fee than the refund and cannot replace it");
    channel.online(Side::Payee).await?;
    world.was_rejected("payment-3", RejectReason::InsufficientFee)?;
    confirm(world, &channel, "refund").await?;
    world.would_reject("payment-3", RejectReason::MissingInputs)?;
    channel.ended_with(channel.params()?.refund_amount(), Amount::ZERO)
}

pub async fn median_time(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world, ChannelId(1)).await?;
    let refund_lock = refund_lock(world, &channel)?;
    world.say("24 hours are over by every clock, the node's included, but not by the median time past");
    let past = world.recorded("refund")?.lock_time.to_consensus_u32() + 3_600;
    world.node().set_mock_time(past)?;
    world.would_reject("refund", RejectReason::NonFinal)?;
    world.say("Blocks move the median time past: at the lock itself the refund is still not final");
    world.stop_before(refund_lock.clone(), &[&channel]).await?;
    world.would_reject("refund", RejectReason::NonFinal)?;
    world.was_not_broadcast("refund")?;
    world.say("One second of median time later it is final");
    world.make_final(refund_lock, &[&channel]).await?;
    world.was_accepted("refund")?;
    world.mine(6, &[&channel]).await?;
    channel.ended_with(channel.params()?.refund_amount(), Amount::ZERO)
}

pub async fn malleated(world: &mut World) -> Result<(), ScenarioError> {
    world.say("Bob's coin is a legacy one, so his signature is part of the bond's id");
    let mut plan = plan(world, CoinKind::Legacy, ChannelId(1))?;
    plan.limits.malleable_funding = true;
    let channel = world.open(plan).await?;
    world.was_accepted("funding")?;
    world.say("A third party takes the bond from the network, negates its signature's S, and gets it mined");
    let twin = malleate(&world.recorded("funding")?)?;
    world.recorder.built(Actor::Outsider, "funding-twin", &twin);
    world.would_reject("funding-twin", RejectReason::InsufficientFee)?;
    world
        .mine_exactly(std::slice::from_ref(&twin), &[&channel])
        .await?;
    world.is_mined("funding-twin")?;
    world.mine(3, &[&channel]).await?;
    world.say("The bond that both know will never be mined: no payment counts, and no work is done");
    channel.stage_is(Side::Payee, Stage::AwaitingFunding)?;
    world.would_reject("funding", RejectReason::MissingInputs)?;
    world.say("24 hours later the refund spends an output that does not exist");
    let refund_lock = refund_lock(world, &channel)?;
    world.make_final(refund_lock, &[&channel]).await?;
    world.was_rejected("refund", RejectReason::MissingInputs)?;
    world.say("The 100 millidash are in the malleated bond's 2-of-2 output: hostage until both sign again");
    let vout = channel.payer()?.funding().outpoint().vout;
    let hostage = OutPoint::new(twin.compute_txid(), vout);
    world.unspent_is("the hostage", hostage, Some(MILLIDASH * 100))
}

pub async fn malleated_segwit(world: &mut World) -> Result<(), ScenarioError> {
    world.say("Bob's coin is a segwit one, so his signature is not part of the bond's id");
    let channel = world.open(plan(world, CoinKind::Segwit, ChannelId(1))?).await?;
    world.was_accepted("funding")?;
    world.say("The same attempt: the bond with the negated S is mined, and has the same id");
    let funding = world.recorded("funding")?;
    let twin = malleate(&funding)?;
    expect("the twin's txid", &funding.compute_txid(), &twin.compute_txid())?;
    let differs = funding.compute_wtxid() != twin.compute_wtxid();
    expect("another wtxid", &true, &differs)?;
    world
        .mine_exactly(std::slice::from_ref(&twin), &[&channel])
        .await?;
    world.mine(2, &[&channel]).await?;
    channel.stage_is(Side::Payee, Stage::Open)?;
    world.say("The refund still spends its output");
    payer_refunds(world, &channel).await
}
