//! Transactions that neither party makes, signed with the keys of both.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::key::Keypair;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache};
use bitcoin::taproot::TapLeafHash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, TapSighashType, Transaction, TxIn, TxOut, Witness, XOnlyPublicKey,
};
use miniscript::{DefiniteDescriptorKey, Descriptor, ToPublicKey};
use spilman::regtest::{Coin, CoinKind};

use super::channel::Channel;

/// A transaction with one input, which is not signed.
pub fn unsigned(version: Version, from: OutPoint, output: Vec<TxOut>) -> Transaction {
    let input = TxIn {
        previous_output: from,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    Transaction {
        version,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output,
    }
}

/// A spend of the funding output as the payments have it, but with this version and these outputs, signed by both.
pub fn both_sign(channel: &Channel, version: Version, output: Vec<TxOut>) -> Transaction {
    let mut tx = unsigned(version, channel.outpoint(), output);
    let prevout = channel.params().funding_output();
    let descriptor = channel.params().descriptor();
    let secrets = [channel.case.setup.payer.secret, channel.case.setup.payee.secret];
    let mut input = tx.input[0].clone();
    match descriptor {
        Descriptor::Tr(tree) => {
            let leaf = tree.leaves().next().expect("the payment leaf comes first");
            let signatures = schnorr(&tx, &prevout, leaf.compute_tap_leaf_hash(), descriptor, secrets);
            descriptor.satisfy(&mut input, signatures)
        }
        _ => descriptor.satisfy(&mut input, ecdsa(&tx, &prevout, descriptor, secrets)),
    }
    .expect("both signatures satisfy it");
    tx.input[0] = input;
    tx
}

type Key = DefiniteDescriptorKey;

fn ecdsa(
    tx: &Transaction,
    prevout: &TxOut,
    descriptor: &Descriptor<Key>,
    secrets: [SecretKey; 2],
) -> BTreeMap<Key, bitcoin::ecdsa::Signature> {
    let secp = Secp256k1::new();
    let script = descriptor.script_code().expect("it has one");
    let all = EcdsaSighashType::All;
    let mut cache = SighashCache::new(tx);
    let digest = if descriptor.desc_type().segwit_version().is_some() {
        let hash = cache.p2wsh_signature_hash(0, &script, prevout.value, all);
        Message::from(hash.expect("input 0"))
    } else {
        let hash = cache.legacy_signature_hash(0, &script, all.to_u32());
        Message::from(hash.expect("input 0"))
    };
    let sign = |key: Key| {
        let mut secrets = secrets.iter();
        let secret = secrets.find(|secret| secret.public_key(&secp) == key.to_public_key().inner);
        let signature = secp.sign_ecdsa(&digest, secret.expect("the keys are the two parties'"));
        (key, bitcoin::ecdsa::Signature::sighash_all(signature))
    };
    descriptor.iter_pk().map(sign).collect()
}

fn schnorr(
    tx: &Transaction,
    prevout: &TxOut,
    leaf: TapLeafHash,
    descriptor: &Descriptor<Key>,
    secrets: [SecretKey; 2],
) -> BTreeMap<(Key, TapLeafHash), bitcoin::taproot::Signature> {
    let secp = Secp256k1::new();
    let prevouts = [prevout];
    let hash = SighashCache::new(tx)
        .taproot_script_spend_signature_hash(0, &Prevouts::All(&prevouts), leaf, TapSighashType::Default)
        .expect("input 0");
    let pairs = secrets.map(|secret| Keypair::from_secret_key(&secp, &secret));
    // The internal key is among them, and nobody's alone.
    let sign = |key: Key| {
        let xonly: XOnlyPublicKey = key.to_x_only_pubkey();
        let pair = pairs.iter().find(|pair| pair.x_only_public_key().0 == xonly)?;
        let signature = bitcoin::taproot::Signature {
            signature: secp.sign_schnorr_no_aux_rand(&Message::from(hash), pair),
            sighash_type: TapSighashType::Default,
        };
        Some(((key, leaf), signature))
    };
    descriptor.iter_pk().filter_map(sign).collect()
}

/// A spend of one coin back to the coin's own script, with so many more outputs of 294 satoshi to make it large, and the
/// coin that it makes.
pub fn child(coin: &Coin, version: Version, fee: Amount, more: usize) -> (Transaction, Coin) {
    let small = TxOut {
        value: Amount::from_sat(294),
        script_pubkey: CoinKind::Segwit.script(&coin.key),
    };
    let left = coin.value() - fee - small.value * more as u64;
    let mut output = vec![TxOut {
        value: left,
        script_pubkey: coin.output.script_pubkey.clone(),
    }];
    output.extend(vec![small; more]);
    let mut tx = unsigned(version, coin.outpoint, output);
    coin.sign(&mut tx).expect("it spends the coin");
    let made = Coin {
        outpoint: OutPoint::new(tx.compute_txid(), 0),
        output: tx.output[0].clone(),
        funding: tx.clone(),
        ..coin.clone()
    };
    (tx, made)
}
