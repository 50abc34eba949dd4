//! Stories of the Bitcoin wiki's Example 7.

use bitcoin::Amount;

use crate::channel::{Message, MessageKind, Refusal, RefusalReason, SignatureError, UnverifiedSignature};
use crate::scenario::error::{expect, ScenarioError};
use crate::scenario::interceptor::{Effect, Rule};
use crate::scenario::openings::example7::{open, pay_three, plan, STEP};
use crate::scenario::steps::{
    confirm, ended_with_paid, nothing_on_chain, payee_settles, payer_refunds, refund_is_void, refused_to_open,
};
use crate::scenario::world::World;
use crate::service::OpenError;
use crate::transcript::{MessagePosition, Side};

pub async fn session_end(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 9: the session ends; the payee signs and broadcasts the last T3");
    channel.close(Side::Payee).await?;
    world.was_accepted("payment-3")?;
    confirm(world, &channel, "payment-3").await?;
    refund_is_void(world, &channel).await?;
    ended_with_paid(&channel, STEP * 3)
}

pub async fn near_expiry(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 9: neither side closes, and the closing margin comes near");
    payee_settles(world, &channel, "payment-3").await?;
    world.say("From here on the payer makes no more payments");
    channel.pay_in_vain(STEP).await?;
    confirm(world, &channel, "payment-3").await?;
    ended_with_paid(&channel, STEP * 3)
}

pub async fn bad_refund_signature(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    plan.rules.push(Rule {
        message: MessagePosition::new(Side::Payee, MessageKind::RefundSignature, 0),
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

pub async fn payee_gone_before_t1(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    let (from, kind) = (Side::Payee, MessageKind::RefundSignature);
    plan.rules.push(Rule {
        message: MessagePosition::new(from, kind, 0),
        effect: Effect::Vanish,
    });
    world.say("Steps 1 to 3; then the payee is gone, and T2 stays unsigned");
    let channel = world.open(plan).await?;
    refused_to_open(world, &channel)
}

pub async fn payee_sits_on_t1(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    plan.rules.push(Rule {
        message: MessagePosition::new(Side::Payer, MessageKind::Funding, 0),
        effect: Effect::VanishReceiver,
    });
    world.say("Steps 1 to 6, but the payee keeps T1 to itself");
    let channel = world.open(plan).await?;
    nothing_on_chain(world, &channel)?;
    world.say("Five blocks come without T1: the payer waits");
    world.mine(5, &[&channel]).await?;
    world.was_not_broadcast("funding")?;
    world.say("At the sixth the payer broadcasts T1 itself, so that its coin is not tied up for ever");
    world.mine(1, &[&channel]).await?;
    world.was_accepted("funding")?;
    world.mine(1, &[&channel]).await?;
    payer_refunds(world, &channel).await
}

pub async fn payee_gone_after_t1(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    plan.rules.push(Rule {
        message: MessagePosition::new(Side::Payee, MessageKind::Ready, 0),
        effect: Effect::Vanish,
    });
    world.say("Steps 1 to 6; the payee broadcasts T1 and is gone");
    let channel = world.open(plan).await?;
    world.was_accepted("funding")?;
    world.mine(3, &[&channel]).await?;
    payer_refunds(world, &channel).await
}

pub async fn payee_gone_mid_session(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("The payee vanishes, and with it the last T3");
    channel.vanish(Side::Payee).await?;
    payer_refunds(world, &channel).await
}

pub async fn payer_gone_mid_session(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("The payer vanishes. The payee waits for more payments until the closing margin");
    channel.vanish(Side::Payer).await?;
    payee_settles(world, &channel, "payment-3").await?;
    confirm(world, &channel, "payment-3").await?;
    ended_with_paid(&channel, STEP * 3)
}

pub async fn unused(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    world.say("The session ends before a payment: the payee closes with the T3 that pays it nothing");
    channel.close(Side::Payee).await?;
    world.was_accepted("settlement")?;
    confirm(world, &channel, "settlement").await?;
    ended_with_paid(&channel, Amount::ZERO)
}
