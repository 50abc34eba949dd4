//! Stories that only a refund in the funding output's own script allows.

use bitcoin::TxOut;

use super::malleate::malleate;
use crate::channel::{ChannelId, MessageKind, Protocol, SpendRole, Stage};
use crate::regtest::{CoinKind, Lock, RejectReason};
use crate::scenario::error::{expect, ScenarioError};
use crate::scenario::interceptor::{Effect, Rule};
use crate::scenario::openings::example7::plan;
use crate::scenario::steps::{self, nothing_on_chain, range};
use crate::scenario::world::World;
use crate::transcript::{Actor, MessagePosition, Side};

pub async fn payee_gone_with_t1(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    // Its user has another use for the coin.
    plan.limits.broadcast_funding_after = None;
    plan.rules.push(Rule {
        message: MessagePosition::new(Side::Payer, MessageKind::Funding, 0),
        effect: Effect::VanishReceiver,
    });
    world.say("Steps 1 to 6, but the payee is gone with T1, and does not broadcast it");
    let channel = world.open(plan).await?;
    nothing_on_chain(world, &channel)?;
    world.say(
        "The payer cannot know whether T1 will be mined. It need not wait: it spends the coin that T1 spends",
    );
    let coin = channel.coin();
    // Its fee is that of T1.
    let back = TxOut {
        value: world
            .recorded("funding")?
            .output
            .iter()
            .map(|output| output.value)
            .sum(),
        script_pubkey: CoinKind::Segwit.script(&world.key("payer")),
    };
    world
        .recorder
        .built(Side::Payer, "coin-refund", &coin.spend(vec![back])?);
    world.submit(Side::Payer, SpendRole::Refund, "coin-refund")?;
    world.mine(6, &[&channel]).await?;
    world.is_mined("coin-refund")?;
    world.say("From now on T1 spends a coin that is already spent");
    world.would_reject("funding", RejectReason::MissingInputs)
}

pub async fn malleated(world: &mut World) -> Result<(), ScenarioError> {
    world.say("The payer's coin is a legacy one, so its signature is part of T1's id");
    let coin = (CoinKind::Legacy, ChannelId(1));
    let plan = steps::plan(Protocol::Example7, bitcoin::Amount::ONE_BTC * 10, world, coin)?;
    let channel = world.open(plan).await?;
    world.was_accepted("funding")?;
    world.say("A third party takes T1 from the network, negates its signature's S, and gets it mined");
    let twin = malleate(&world.recorded("funding")?)?;
    world.recorder.built(Actor::Outsider, "funding-twin", &twin);
    world
        .mine_exactly(std::slice::from_ref(&twin), &[&channel])
        .await?;
    world.is_mined("funding-twin")?;
    world.mine(3, &[&channel]).await?;
    world.say("The T1 that both know will never be mined: no payment counts, and no work is done");
    channel.stage_is(Side::Payee, Stage::AwaitingFunding)?;
    world.would_reject("funding", RejectReason::MissingInputs)?;
    world.say(
        "The payer signs T2 again, for the output that was mined: the script requires no signature by the payee",
    );
    let rebuilt = channel.payer()?.refund_malleated(twin).await;
    let rebuilt = rebuilt.map_err(|error| range(&error))?;
    world.recorder.built(Side::Payer, "twin-refund", rebuilt.tx());
    let lock = Lock::from(rebuilt.tx());
    world.say("The last block before its lock: it is not final");
    world.stop_before(lock.clone(), &[&channel]).await?;
    let early = if world.construction().has_relative_lock() {
        RejectReason::NonBip68Final
    } else {
        RejectReason::NonFinal
    };
    world.would_reject("twin-refund", early)?;
    world.say("With the next block it is final, and the payer takes everything back");
    world.make_final(lock, &[&channel]).await?;
    world.was_accepted("twin-refund")?;
    world.would_reject("refund", RejectReason::MissingInputs)?;
    world.mine(6, &[&channel]).await?;
    world.is_mined("twin-refund")?;
    let params = channel.payer()?.params();
    let outcome = channel.payer()?.outcome().await.map_err(|error| range(&error))?;
    expect(
        "what the payer gets back",
        &params.refund_amount(),
        &outcome.to_payer,
    )
}
