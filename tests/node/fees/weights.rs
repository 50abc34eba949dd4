//! What each transaction weighs, term by term, and what it pays for that.

use bitcoin::{FeeRate, Script, Transaction};
use spilman::channel::{Construction, Event};
use spilman::regtest::Regtest;

use super::{cast, per_vb, sat, start, start_at_least, Channel, Side};
use crate::common::judge::Judge as _;

/// Version, lock time, and the numbers of inputs and outputs.
const FRAME: usize = 4 * (4 + 4 + 1 + 1);
/// Outpoint, sequence, and the length of the input script.
const INPUT: usize = 4 * (36 + 4 + 1);
/// Marker and flag, and the number of items (BIP 144).
const WITNESS: usize = 2 + 1;
/// Amount, length and script of a P2WPKH output.
const OUTPUT: usize = 4 * (8 + 1 + 22);
/// Length, DER with a low S and both numbers of full length, hash type.
const ECDSA: usize = 1 + 71 + 1;
/// Length and signature for the default hash type.
const SCHNORR: usize = 1 + 64;
/// Push and compressed key; and of an x-only one.
const KEY: usize = 1 + 33;
const XONLY: usize = 1 + 32;
/// Push of a lock of two bytes: heights from 128 to 32,767.
const LOCK: usize = 1 + 2;
/// `2 K1 K2 2 CHECKMULTISIG`, with its length or push.
const MULTISIG: usize = 1 + (1 + 2 * KEY + 1 + 1);
/// `IF K2 CHECKSIGVERIFY ELSE N CLTV VERIFY ENDIF K1 CHECKSIG`, or with CSV, with its length.
const BRANCHES: usize = 1 + (1 + KEY + 1 + 1 + LOCK + 1 + 1 + 1 + KEY + 1);
/// `K1 CHECKSIGVERIFY K2 CHECKSIG` and `K1 CHECKSIGVERIFY N CLTV`, with their lengths.
const PAYMENT_LEAF: usize = 1 + (XONLY + 1 + XONLY + 1);
const REFUND_LEAF: usize = 1 + (XONLY + 1 + LOCK + 1);
/// Length, leaf version with parity, internal key, and the other leaf's hash.
const CONTROL: usize = 1 + (1 + 32 + 32);
/// What `CHECKMULTISIG` pops too much: an empty item.
const DUMMY: usize = 1;
/// Length and number: which branch of `IF`. Zero is the empty item.
const YES: usize = 1 + 1;
const NO: usize = 1;

/// Input script and witness of a spend with both signatures.
const fn both(construction: Construction) -> usize {
    match construction {
        Construction::P2sh => 4 * (DUMMY + 2 * ECDSA + MULTISIG),
        Construction::P2shP2wsh => 4 * (1 + 34) + WITNESS + DUMMY + 2 * ECDSA + MULTISIG,
        Construction::P2wsh => WITNESS + DUMMY + 2 * ECDSA + MULTISIG,
        Construction::Cltv | Construction::Csv => WITNESS + 2 * ECDSA + YES + BRANCHES,
        Construction::Taproot => WITNESS + 2 * SCHNORR + PAYMENT_LEAF + CONTROL,
        _ => panic!("a new construction"),
    }
}

/// The same of the refund.
const fn refund(construction: Construction) -> usize {
    match construction {
        Construction::Cltv | Construction::Csv => WITNESS + ECDSA + NO + BRANCHES,
        Construction::Taproot => WITNESS + SCHNORR + REFUND_LEAF + CONTROL,
        _ => both(construction),
    }
}

/// One signature of both, where they can.
const COOPERATIVE: usize = WITNESS + SCHNORR;

/// What the signatures are short of the largest, in weight units: DER leaves out leading zeros.
fn shortness(tx: &Transaction) -> usize {
    let short = |item: &[u8]| match item {
        // The sequence's tag, and `SIGHASH_ALL` at the end.
        [0x30, .., 1] if item.len() <= 72 => 72 - item.len(),
        _ => 0,
    };
    let input = &tx.input[0];
    let script_sig: &Script = &input.script_sig;
    let pushes = script_sig.instructions().filter_map(|push| {
        let push = push.expect("a push");
        push.push_bytes().map(|bytes| 4 * short(bytes.as_bytes()))
    });
    pushes.sum::<usize>() + input.witness.iter().map(short).sum::<usize>()
}

#[track_caller]
fn check(channel: &Channel, name: &str, tx: &Transaction, spend: usize, feerate: FeeRate) {
    let at = format!("{} {name} at {feerate} sat/kwu", channel.construction());
    let predicted = FRAME + INPUT + spend + OUTPUT * tx.output.len();
    let short = shortness(tx);
    let signed = tx.base_size() * 3 + tx.total_size();
    assert_eq!(signed + short, predicted, "{at}: signed, and derived");
    if channel.construction() == Construction::Taproot {
        assert_eq!(short, 0, "{at}: all Schnorr signatures are as long");
    }
    let fee = feerate.fee_vb(predicted.div_ceil(4) as u64).expect("a fee");
    assert_eq!(channel.fee(tx), fee, "{at}: the fee, and the one that was agreed");
}

fn accepted(chain: &Regtest, channel: &Channel, name: &str, tx: &Transaction) {
    chain
        .node()
        .accepts_at(tx, format_args!("{} {name}", channel.construction()));
}

/// For every construction, at four feerates:
///
/// 1. the redeemed payment, the settlement that the payer signs, and where there is one the settlement with one
///    signature weigh what was derived, less what short signatures save, and pay the feerate for it, in whole vbytes;
/// 2. so does the refund;
/// 3. the node accepts all of them.
#[test]
fn weights_are_the_derived_ones() {
    let chain = start();
    let mut refunds = Vec::new();
    for construction in Construction::ALL {
        for feerate in [1, 2, 10, 500].map(per_vb) {
            let mut channel = cast(&chain, construction).feerate(feerate).open(&chain);
            channel.pay(sat(300_000));
            let payment = channel.redeemable();
            check(&channel, "payment", payment.tx(), both(construction), feerate);
            accepted(&chain, &channel, "payment", payment.tx());

            channel
                .tell(Side::Payer, Event::Close)
                .expect("the payer can close");
            let settlement = channel.pair.payee.settlement().expect("closed").clone();
            let (name, spend) = if construction.closes_with_one_key() {
                ("cooperative settlement", COOPERATIVE)
            } else {
                ("settlement", both(construction))
            };
            check(&channel, name, settlement.tx(), spend, feerate);
            channel.assert_answer(settlement.role(), None);

            let channel = cast(&chain, construction).feerate(feerate).open(&chain);
            refunds.push((channel, feerate));
        }
    }
    let last = |(channel, _): &(Channel, _)| channel.params().terms().refund_lock.absolute();
    let last = refunds
        .iter()
        .filter_map(last)
        .map(|lock| lock.to_lock_time().to_consensus_u32())
        .max()
        .expect("absolute locks");
    chain
        .make_final(bitcoin::absolute::LockTime::from_consensus(last))
        .expect("blocks");
    for (channel, feerate) in &refunds {
        let tx = channel.pair.payer.refund().tx();
        check(channel, "refund", tx, refund(channel.construction()), *feerate);
        accepted(&chain, channel, "refund", tx);
    }
}

/// A node that asks for just the agreed feerate accepts every transaction of a channel.
#[test]
fn the_agreed_feerate_is_one_that_a_node_can_ask_for() {
    let feerate = per_vb(7);
    let chain = start_at_least(feerate);
    let mut refunds = Vec::new();
    for construction in Construction::ALL {
        let mut channel = cast(&chain, construction).feerate(feerate).open(&chain);
        // Signatures have two lengths; of eight payments some have the largest.
        for _ in 0..8 {
            channel.pay(sat(30_000));
            accepted(&chain, &channel, "payment", channel.redeemable().tx());
        }
        channel
            .tell(Side::Payer, Event::Close)
            .expect("the payer can close");
        let settlement = channel.pair.payee.settlement().expect("closed");
        channel.assert_answer(settlement.role(), None);
        refunds.push(cast(&chain, construction).feerate(feerate).open(&chain));
    }
    chain.mine(150).expect("blocks");
    for channel in &refunds {
        accepted(&chain, channel, "refund", channel.pair.payer.refund().tx());
    }
}
