//! What only a refund in the funding output's own script can do.

use std::collections::HashMap;
use std::str::FromStr;

use bitcoin::secp256k1::Message;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{ecdsa, secp256k1, OutPoint, Transaction, TxOut, Witness};
use miniscript::DefiniteDescriptorKey;

use super::error::ScenarioError;
use super::example7::plan;
use super::live::Channel;
use super::tap::{Effect, Rule};
use super::turns::{self, range, refund_lock};
use super::twin::twin;
use super::world::World;
use crate::channel::{ChannelId, Construction, Kind, Protocol, SpendRole, Stage};
use crate::regtest::{CoinKind, RejectReason};
use crate::transcript::{Actor, Side};

/// Where the refund's lock does not wait for a funding transaction that never comes, and the script is one.
pub(super) const fn has_script_to_rebuild(construction: Construction) -> bool {
    construction.has_script_refund()
        && !construction.has_relative_lock()
        && !construction.closes_with_one_key()
}

pub(super) async fn payee_gone_with_t1(world: &mut World) -> Result<(), ScenarioError> {
    let mut plan = plan(world)?;
    // Its user has another use for the coin.
    plan.limits.broadcast_funding_after = None;
    plan.rules.push(Rule {
        from: Side::Payer,
        kind: Kind::Funding,
        skip: 0,
        effect: Effect::VanishReceiver,
    });
    world.say("Steps 1 to 6, but the payee is gone with T1 in its hands, and does not broadcast it");
    let channel = world.open(plan).await?;
    turns::nothing_on_chain(world, &channel)?;
    world.say(
        "The payer cannot know whether T1 comes one day. It need not wait: it spends the coin that T1 spends",
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
    world.say("From now on T1 spends a coin that is gone");
    world.would_refuse("funding", RejectReason::MissingInputs)
}

pub(super) async fn malleated(world: &mut World) -> Result<(), ScenarioError> {
    world.say("The payer's coin is a legacy one, so its signature is part of T1's id");
    let coin = (CoinKind::Legacy, ChannelId(1));
    let plan = turns::plan(Protocol::Example7, bitcoin::Amount::ONE_BTC * 10, world, coin)?;
    let channel = world.open(plan).await?;
    world.was_taken("funding")?;
    world.say("Somebody takes T1 from the network, turns its signature's S round, and gets it mined");
    let twin = twin(&world.recorded("funding")?)?;
    world.recorder.built(Actor::Outsider, "funding-twin", &twin);
    world
        .mine_exactly(std::slice::from_ref(&twin), &[&channel])
        .await?;
    world.is_mined("funding-twin")?;
    world.mine(3, &[&channel]).await?;
    world.say("The T1 that both know will never be mined: no payment counts, and no work is done for it");
    channel.stage_is(Side::Payee, Stage::AwaitingFunding)?;
    world.would_refuse("funding", RejectReason::MissingInputs)?;
    world.say(
        "The last block before the refund's lock: the same T2, made anew for the twin's output, is not final",
    );
    let vout = channel.payer()?.funding().outpoint().vout;
    let rebuilt = rebuild_refund(world, &channel, OutPoint::new(twin.compute_txid(), vout))?;
    world.recorder.built(Side::Payer, "twin-refund", &rebuilt);
    let lock = refund_lock(world, &channel)?;
    world.stop_before(lock.clone(), &[&channel]).await?;
    world.would_refuse("twin-refund", RejectReason::NonFinal)?;
    world.say("With the next block it is. The T2 that the payer kept spends an output that does not exist");
    world.make_final(lock, &[&channel]).await?;
    world.was_refused("refund", RejectReason::MissingInputs)?;
    world.say(
        "The other needs no word of the payee: the descriptor and the payer's key are enough to sign it",
    );
    world.submit(Side::Payer, SpendRole::Refund, "twin-refund")?;
    world.mine(6, &[&channel]).await?;
    world.is_mined("twin-refund")
}

/// The refund of another output with the same script. The descriptor library does it alone, as any wallet could.
fn rebuild_refund(world: &World, channel: &Channel, output: OutPoint) -> Result<Transaction, ScenarioError> {
    let params = channel.payer()?.params();
    let mut tx = world.recorded("refund")?;
    let input = &mut tx.input[0];
    (input.previous_output, input.witness) = (output, Witness::new());
    let descriptor = params.descriptor();
    let script = descriptor.explicit_script().map_err(|error| range(&error))?;
    let sighash = SighashCache::new(&tx)
        .p2wsh_signature_hash(0, &script, params.funding_output().value, EcdsaSighashType::All)
        .map_err(|error| range(&error))?;
    let signature = secp256k1::Secp256k1::new().sign_ecdsa(&Message::from(sighash), &world.key("payer"));
    let key =
        DefiniteDescriptorKey::from_str(&params.payer_key().to_string()).map_err(|error| range(&error))?;
    let signatures = HashMap::from([(key, ecdsa::Signature::sighash_all(signature))]);
    let lock = tx.lock_time;
    descriptor
        .satisfy(&mut tx.input[0], (signatures, lock))
        .map_err(|error| range(&error))?;
    Ok(tx)
}
