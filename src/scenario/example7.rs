//! The Bitcoin wiki's Example 7: 10 BTC on a link that may fail at any point, one day.

use bitcoin::Amount;

use super::error::{expect, ScenarioError};
use super::live::Channel;
use super::plan::Plan;
use super::tap::{Effect, Rule};
use super::turns::{
    self, bury, ended_with_paid, payee_settles, payer_refunds, refund_is_void, refused_to_open,
};
use super::world::World;
use super::{play, Scenario};
use crate::channel::{
    ChannelId, Kind, Message, Protocol, Reason, Refusal, SignatureError, Stage, UnverifiedSignature,
};
use crate::regtest::{CoinKind, RejectReason};
use crate::service::OpenError;
use crate::transcript::{Side, Unit};

pub(super) fn scenarios() -> Vec<Scenario> {
    let story =
        |name, summary, play| Scenario::new(Protocol::Example7, name, summary, play).unit(Unit::Bitcoin);
    vec![
        story(
            "session-end",
            "10 BTC, three payments, and the payee closes when the session ends",
            play!(session_end),
        ),
        story(
            "near-expiry",
            "The session outlives the closing margin: the payee closes there, and not one block before",
            play!(near_expiry),
        ),
        story(
            "bad-refund-signature",
            "The signature over T2 arrives wrong; the payer aborts, nothing is on chain, nothing is lost",
            play!(bad_refund_signature),
        ),
        story(
            "payee-gone-before-t1",
            "The payee vanishes instead of signing T2; T1 is never broadcast",
            play!(payee_gone_before_t1),
        ),
        story(
            "payee-gone-after-t1",
            "The payee broadcasts T1 and vanishes; the payer waits for T2's lock",
            play!(payee_gone_after_t1),
        ),
        story(
            "payee-gone-mid-session",
            "The payee vanishes with payments in hand; the payer waits for T2's lock and gets everything",
            play!(payee_gone_mid_session),
        ),
        story(
            "payer-gone-mid-session",
            "The payer vanishes; the payee closes at the closing margin with the last T3",
            play!(payer_gone_mid_session),
        ),
        story(
            "unused",
            "Nothing was ever paid: the payee gives everything back at once, with the first T3",
            play!(unused),
        ),
    ]
}

pub(super) fn plan(world: &World) -> Result<Plan, ScenarioError> {
    turns::plan(
        Protocol::Example7,
        Amount::ONE_BTC * 10,
        world,
        (CoinKind::Segwit, ChannelId(1)),
    )
}

pub(super) const STEP: Amount = Amount::from_sat(50_000_000);

/// Steps 1 to 7.
async fn open(world: &World) -> Result<Channel, ScenarioError> {
    world
        .say("Steps 1 to 6: K1 and K2, T1 held back, T2 signed, T1 handed over, and the payee broadcasts it");
    let channel = world.open(plan(world)?).await?;
    channel.payer()?;
    channel.payee()?;
    world.was_taken("funding")?;
    world.would_refuse("refund", RejectReason::NonFinal)?;
    world.say("Step 7: T1 confirms, and T3 starts with everything on K1's output");
    world.mine(3, &[&channel]).await?;
    channel.stage_is(Side::Payer, Stage::Open)?;
    Ok(channel)
}

async fn pay_three(world: &World, channel: &Channel) -> Result<(), ScenarioError> {
    world.say("Step 8: three payments of 0.5 BTC");
    for _ in 0..3 {
        channel.pay(STEP).await?;
    }
    world.would_take("payment-3")
}

async fn session_end(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 9: the session ends; the payee signs and broadcasts the last T3");
    channel.close(Side::Payee).await?;
    world.was_taken("payment-3")?;
    bury(world, &channel, "payment-3").await?;
    refund_is_void(world, &channel).await?;
    ended_with_paid(&channel, STEP * 3)
}

async fn near_expiry(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 9: nobody closes, and the closing margin comes near");
    payee_settles(world, &channel, "payment-3").await?;
    world.say("From here on the payer does not pay any more");
    channel.pay_in_vain(STEP).await?;
    bury(world, &channel, "payment-3").await?;
    ended_with_paid(&channel, STEP * 3)
}

async fn bad_refund_signature(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    plan.rules.push(Rule {
        from: Side::Payee,
        kind: Kind::RefundSignature,
        skip: 0,
        effect: Effect::Replace(Box::new(|mut envelope| {
            if let Message::RefundSignature { signature } = envelope.message {
                let mut bytes = signature.to_compact();
                bytes[31] ^= 1;
                let signature = UnverifiedSignature::from_compact(bytes);
                envelope.message = Message::RefundSignature { signature };
            }
            envelope
        })),
    });
    world.say("Steps 1 to 4, but the signature over T2 that arrives is not a signature over T2");
    let channel = world.open(plan).await?;
    world.say("Step 5: the payer aborts. T1 was never broadcast, and its coin is free");
    let payer_saw_it = matches!(
        channel.payer_error(),
        Some(OpenError::Refused(Refusal::Signature(
            SignatureError::Wrong { .. }
        )))
    );
    expect("the payer found the signature wrong", &true, &payer_saw_it)?;
    let payee_was_told = matches!(
        channel.payee_error(),
        Some(OpenError::PeerRefused {
            reason: Reason::SignatureWrong,
            ..
        })
    );
    expect("the payee was told so", &true, &payee_was_told)?;
    refused_to_open(world, &channel)
}

async fn payee_gone_before_t1(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    let (from, kind) = (Side::Payee, Kind::RefundSignature);
    plan.rules.push(Rule {
        from,
        kind,
        skip: 0,
        effect: Effect::Vanish,
    });
    world.say("Steps 1 to 3; then the payee is gone, and T2 stays unsigned");
    let channel = world.open(plan).await?;
    refused_to_open(world, &channel)
}

async fn payee_gone_after_t1(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    plan.rules.push(Rule {
        from: Side::Payee,
        kind: Kind::Ready,
        skip: 0,
        effect: Effect::Vanish,
    });
    world.say("Steps 1 to 6; the payee broadcasts T1 and is gone");
    let channel = world.open(plan).await?;
    world.was_taken("funding")?;
    world.mine(3, &[&channel]).await?;
    payer_refunds(world, &channel).await
}

async fn payee_gone_mid_session(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("The payee vanishes, and with it the last T3");
    channel.vanish(Side::Payee).await?;
    payer_refunds(world, &channel).await
}

async fn payer_gone_mid_session(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("The payer vanishes. The payee may wait for more payments until the closing margin");
    channel.vanish(Side::Payer).await?;
    payee_settles(world, &channel, "payment-3").await?;
    bury(world, &channel, "payment-3").await?;
    ended_with_paid(&channel, STEP * 3)
}

async fn unused(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    world.say("The session ends before it began: the payee closes with the T3 that pays it nothing");
    channel.close(Side::Payee).await?;
    world.was_taken("settlement")?;
    bury(world, &channel, "settlement").await?;
    ended_with_paid(&channel, Amount::ZERO)
}
