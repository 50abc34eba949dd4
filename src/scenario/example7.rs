//! The Bitcoin wiki's Example 7: 10 BTC on a link that may fail at any point, one day.

use bitcoin::Amount;

use super::channel::Channel;
use super::error::{expect, ScenarioError};
use super::interceptor::{Effect, Rule};
use super::plan::Plan;
use super::story::{always, closes_with_two_keys, is_co_signed, told, ScenarioTemplate};
use super::turns::{
    self, confirm, ended_with_paid, payee_settles, payer_refunds, refund_is_void, refund_waits,
    refused_to_open,
};
use super::world::World;
use super::{closing, locks, play, script_refund, Scenario};
use crate::channel::{
    ChannelId, Construction, Message, MessageKind, Protocol, Refusal, RefusalReason, SignatureError, Stage,
    UnverifiedSignature,
};
use crate::regtest::CoinKind;
use crate::service::OpenError;
use crate::transcript::{Side, Unit};

pub(super) fn scenarios(construction: Construction) -> Vec<Scenario> {
    let scenario = |story: &ScenarioTemplate| {
        story
            .scenario(Protocol::Example7, construction)
            .unit(Unit::Bitcoin)
    };
    told(STORIES, construction).map(scenario).collect()
}

const STORIES: &[ScenarioTemplate] = &[
    ScenarioTemplate {
        name: "session-end",
        summary: "10 BTC, three payments, and the payee closes when the session ends",
        on: closes_with_two_keys,
        play: play!(session_end),
    },
    ScenarioTemplate {
        name: "closed-together",
        summary: "10 BTC, three payments, and a cooperative close with one signature, like an ordinary payment",
        on: Construction::closes_with_one_key,
        play: play!(closing::closed_together),
    },
    ScenarioTemplate {
        name: "payer-closes-together",
        summary: "The payer asks first; the close is the same single signature",
        on: Construction::closes_with_one_key,
        play: play!(closing::payer_closes_together),
    },
    ScenarioTemplate {
        name: "higher-feerate",
        summary: "The agreed feerate is now too low: both settle at a higher one, out of the payer's change",
        on: always,
        play: play!(closing::higher_feerate),
    },
    ScenarioTemplate {
        name: "near-expiry",
        summary: "The session lasts until the closing margin: the payee closes there, and not one block before",
        on: always,
        play: play!(near_expiry),
    },
    ScenarioTemplate {
        name: "refund-by-time",
        summary: "The refund's lock is a time: it is final once the median time is past it, and not one block before",
        on: always,
        play: play!(locks::example7_refund_by_time),
    },
    ScenarioTemplate {
        name: "lifetime-from-confirmation",
        summary: "T1 waits for ten blocks in the mempool, and the refund's lock moves by just as many",
        on: Construction::has_relative_lock,
        play: play!(locks::lifetime_from_confirmation),
    },
    ScenarioTemplate {
        name: "bad-refund-signature",
        summary: "The signature over T2 is wrong: the payer aborts; nothing is on chain, nothing is lost",
        on: is_co_signed,
        play: play!(bad_refund_signature),
    },
    ScenarioTemplate {
        name: "payee-gone-before-t1",
        summary: "The payee vanishes instead of signing T2; T1 is never broadcast",
        on: is_co_signed,
        play: play!(payee_gone_before_t1),
    },
    ScenarioTemplate {
        name: "payee-gone-with-t1",
        summary: "The payee vanishes with T1 and never broadcasts it; the payer spends its coin, and T1 is void",
        on: Construction::has_script_refund,
        play: play!(script_refund::payee_gone_with_t1),
    },
    ScenarioTemplate {
        name: "payee-sits-on-t1",
        summary: "The payee accepts T1 and never broadcasts it: the payer does after six blocks, and gets everything back with T2",
        on: always,
        play: play!(payee_sits_on_t1),
    },
    ScenarioTemplate {
        name: "payee-gone-after-t1",
        summary: "The payee broadcasts T1 and vanishes; the payer waits for T2's lock",
        on: always,
        play: play!(payee_gone_after_t1),
    },
    ScenarioTemplate {
        name: "payee-gone-mid-session",
        summary: "The payee vanishes with payments; the payer waits for T2's lock and gets everything",
        on: always,
        play: play!(payee_gone_mid_session),
    },
    ScenarioTemplate {
        name: "payer-gone-mid-session",
        summary: "The payer vanishes; the payee closes at the closing margin with the last T3",
        on: always,
        play: play!(payer_gone_mid_session),
    },
    ScenarioTemplate {
        name: "unused",
        summary: "Nothing was paid: the payee gives everything back at once, with the first T3",
        on: closes_with_two_keys,
        play: play!(unused),
    },
    ScenarioTemplate {
        name: "unused-closed-together",
        summary: "Nothing was paid: both give everything back at once, with one signature",
        on: Construction::closes_with_one_key,
        play: play!(closing::unused_closed_together),
    },
    ScenarioTemplate {
        name: "malleated",
        summary: "A legacy T1 is mined malleated: T3 is void, and the payer signs T2 again",
        on: Construction::has_script_refund,
        play: play!(script_refund::malleated),
    },
];

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
pub(super) async fn open(world: &World) -> Result<Channel, ScenarioError> {
    open_with(world, plan(world)?).await
}

pub(super) async fn open_with(world: &World, plan: Plan) -> Result<Channel, ScenarioError> {
    world.say(if world.construction().has_script_refund() {
        "Steps 1 to 6, shorter: K1 and K2, and T1, whose output lets the payer take everything back with T2. \
         T2 is not signed in advance: T1 is handed over, and the payee broadcasts it"
    } else {
        "Steps 1 to 6: K1 and K2, T1 held back, T2 signed, T1 handed over, and the payee broadcasts it"
    });
    let channel = world.open(plan).await?;
    channel.payer()?;
    channel.payee()?;
    world.was_taken("funding")?;
    refund_waits(world)?;
    world.say("Step 7: T1 confirms, and T3 starts with everything on K1's output");
    world.mine(3, &[&channel]).await?;
    channel.stage_is(Side::Payer, Stage::Open)?;
    Ok(channel)
}

pub(super) async fn pay_three(world: &World, channel: &Channel) -> Result<(), ScenarioError> {
    world.say("Step 8: three payments of 0.5 BTC");
    for _ in 0..3 {
        channel.pay(STEP).await?;
    }
    world.would_accept("payment-3")
}

async fn session_end(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 9: the session ends; the payee signs and broadcasts the last T3");
    channel.close(Side::Payee).await?;
    world.was_taken("payment-3")?;
    confirm(world, &channel, "payment-3").await?;
    refund_is_void(world, &channel).await?;
    ended_with_paid(&channel, STEP * 3)
}

async fn near_expiry(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 9: neither side closes, and the closing margin comes near");
    payee_settles(world, &channel, "payment-3").await?;
    world.say("From here on the payer makes no more payments");
    channel.pay_in_vain(STEP).await?;
    confirm(world, &channel, "payment-3").await?;
    ended_with_paid(&channel, STEP * 3)
}

async fn bad_refund_signature(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    plan.rules.push(Rule {
        from: Side::Payee,
        kind: MessageKind::RefundSignature,
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
    world.say("Steps 1 to 4, but the signature that arrives does not sign T2");
    let channel = world.open(plan).await?;
    world.say("Step 5: the payer aborts. T1 was never broadcast, and its coin is unspent");
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
            reason: RefusalReason::SignatureWrong,
            ..
        })
    );
    expect("the payee was told so", &true, &payee_was_told)?;
    refused_to_open(world, &channel)
}

async fn payee_gone_before_t1(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    let (from, kind) = (Side::Payee, MessageKind::RefundSignature);
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

async fn payee_sits_on_t1(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    plan.rules.push(Rule {
        from: Side::Payer,
        kind: MessageKind::Funding,
        skip: 0,
        effect: Effect::VanishReceiver,
    });
    world.say("Steps 1 to 6, but the payee keeps T1 to itself");
    let channel = world.open(plan).await?;
    turns::nothing_on_chain(world, &channel)?;
    world.say("Five blocks come without T1: the payer waits");
    world.mine(5, &[&channel]).await?;
    world.was_not_broadcast("funding")?;
    world.say("At the sixth the payer broadcasts T1 itself, so that its coin is not tied up for ever");
    world.mine(1, &[&channel]).await?;
    world.was_taken("funding")?;
    world.mine(1, &[&channel]).await?;
    payer_refunds(world, &channel).await
}

async fn payee_gone_after_t1(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    plan.rules.push(Rule {
        from: Side::Payee,
        kind: MessageKind::Ready,
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
    world.say("The payer vanishes. The payee waits for more payments until the closing margin");
    channel.vanish(Side::Payer).await?;
    payee_settles(world, &channel, "payment-3").await?;
    confirm(world, &channel, "payment-3").await?;
    ended_with_paid(&channel, STEP * 3)
}

async fn unused(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    world.say("The session ends before a payment: the payee closes with the T3 that pays it nothing");
    channel.close(Side::Payee).await?;
    world.was_taken("settlement")?;
    confirm(world, &channel, "settlement").await?;
    ended_with_paid(&channel, Amount::ZERO)
}
