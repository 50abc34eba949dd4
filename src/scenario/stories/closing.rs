//! Cooperative closes, and settlements at another feerate than the agreed one.

use bitcoin::key::{Keypair, TapTweak};
use bitcoin::secp256k1::{Message, Secp256k1};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{
    absolute, transaction, Amount, FeeRate, OutPoint, ScriptBuf, Sequence, TapSighashType, Transaction, TxIn,
    TxOut, Weight, Witness,
};

use crate::channel::Terms;
use crate::regtest::{CoinKind, RejectReason};
use crate::scenario::channel::Channel;
use crate::scenario::error::{expect, ScenarioError};
use crate::scenario::openings::example7::{open, pay_three, STEP};
use crate::scenario::steps::{confirm, ended_together, range, refund_is_void};
use crate::scenario::world::World;
use crate::transcript::{Actor, Entry, Side};

pub async fn closed_together(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say(
        "Step 9: the session ends. The payee asks with a nonce, the payer answers with its part of one signature \
         of both, and the payee completes it",
    );
    channel.close(Side::Payee).await?;
    settled_together(world, &channel, STEP * 3).await?;
    looks_like_anybodys(world, &channel)
}

pub async fn payer_closes_together(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 9: the payer asks, the payee answers with a nonce, and the rest is the same");
    channel.close(Side::Payer).await?;
    settled_together(world, &channel, STEP * 3).await
}

pub async fn unused_closed_together(world: &mut World) -> Result<(), ScenarioError> {
    let channel = open(world).await?;
    world.say("The session ends before a payment: both sign that everything goes back");
    channel.close(Side::Payee).await?;
    settled_together(world, &channel, Amount::ZERO).await
}

async fn settled_together(world: &World, channel: &Channel, paid: Amount) -> Result<(), ScenarioError> {
    world.was_accepted("settlement")?;
    confirm(world, channel, "settlement").await?;
    refund_is_void(world, channel).await?;
    ended_together(channel, paid, Terms::FEERATE)
}

pub async fn higher_feerate(world: &mut World) -> Result<(), ScenarioError> {
    // 10 sat/vB.
    const ASKED: FeeRate = FeeRate::from_sat_per_kwu(2_500);
    let channel = open(world).await?;
    pay_three(world, &channel).await?;
    world.say("Step 9: blocks are full. The payee requests a settlement at 10 sat/vB, and the payer agrees");
    channel.close_at(Side::Payee, ASKED).await?;
    world.was_accepted("settlement")?;
    world.say("It pays the payee as much as the last T3; the higher fee comes out of the payer's change");
    world.would_reject("payment-3", RejectReason::InsufficientFee)?;
    confirm(world, &channel, "settlement").await?;
    ended_together(&channel, STEP * 3, ASKED)
}

/// Compares the settlement with an ordinary payment of a single key.
fn looks_like_anybodys(world: &World, channel: &Channel) -> Result<(), ScenarioError> {
    world.say("For comparison: someone with a single key and no channel makes an ordinary payment");
    let settlement = world.recorded("settlement")?;
    let amounts: Vec<_> = settlement.output.iter().map(|output| output.value).collect();
    let payment = single_key_payment(world, channel.params()?.funding_output().value, &amounts)?;
    world
        .recorder
        .built(Actor::Outsider, "single-key-payment", &payment);
    world.would_accept("single-key-payment")?;
    expect(
        "what both have in common",
        &Look::of(&payment),
        &Look::of(&settlement),
    )?;
    world.recorder.add(Entry::Found(
        "settlement and single-key-payment: the same version, lock time, sequence, witness and weight"
            .to_owned(),
    ));
    Ok(())
}

/// What an observer sees of a transaction, apart from keys, amounts and signatures.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    version: transaction::Version,
    lock_time: absolute::LockTime,
    sequences: Vec<Sequence>,
    script_sigs: Vec<usize>,
    witnesses: Vec<Vec<usize>>,
    weight: Weight,
}

impl Look {
    fn of(tx: &Transaction) -> Self {
        Self {
            version: tx.version,
            lock_time: tx.lock_time,
            sequences: tx.input.iter().map(|input| input.sequence).collect(),
            script_sigs: tx.input.iter().map(|input| input.script_sig.len()).collect(),
            witnesses: tx
                .input
                .iter()
                .map(|input| input.witness.iter().map(<[u8]>::len).collect())
                .collect(),
            weight: tx.weight(),
        }
    }
}

/// A payment from a Taproot output of one key (BIP 86), as most wallets make it: version 2, no lock, replaceable.
fn single_key_payment(
    world: &World,
    value: Amount,
    amounts: &[Amount],
) -> Result<Transaction, ScenarioError> {
    let secp = Secp256k1::new();
    let pair = Keypair::from_secret_key(&secp, &world.key("outsider")).tap_tweak(&secp, None);
    let key = pair.public_parts().0;
    let coin = TxOut {
        value,
        script_pubkey: ScriptBuf::new_p2tr_tweaked(key),
    };
    let (funding, _) = world.chain.pay(vec![coin.clone()])?;
    let mut outputs = (0..).zip(&funding.output);
    let vout = outputs.find_map(|(vout, output)| (*output == coin).then_some(vout));
    let vout = vout.ok_or_else(|| range(&"the faucet paid something else"))?;
    let outpoint = OutPoint::new(funding.compute_txid(), vout);
    world.recorder.output(outpoint, coin.clone());
    world.recorder.edit(|transcript| {
        let names = &mut transcript.names;
        names.x_only_key(key.to_x_only_public_key(), "outsider's key");
        names.script(&coin.script_pubkey, "outsider's coin");
        names.txid(outpoint.txid, "outsider's coin");
    });
    world.record_tip()?;
    let to = CoinKind::Segwit.script(&world.key("outsider/payout"));
    let output = |value: &Amount| TxOut {
        value: *value,
        script_pubkey: to.clone(),
    };
    let mut tx = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: outpoint,
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            ..TxIn::default()
        }],
        output: amounts.iter().map(output).collect(),
    };
    let sighash = SighashCache::new(&tx)
        .taproot_key_spend_signature_hash(0, &Prevouts::All(&[coin]), TapSighashType::Default)
        .map_err(|error| range(&error))?;
    let signature = secp.sign_schnorr_no_aux_rand(&Message::from(sighash), &pair.to_keypair());
    tx.input[0].witness = Witness::from_slice(&[signature.serialize()]);
    Ok(tx)
}
