//! Refund, payment and settlement as PSBTs, analysed and completed by the node.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::{hash160, Hash};
use bitcoin::psbt::Psbt;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, NetworkKind, PrivateKey, Transaction, TxOut};
use serde_json::{json, Value};
use spilman::channel::{Construction, NonceSource};
use spilman::regtest::Regtest;

use super::channel::{close, descriptor_of, locked, open, CAPACITY};
use super::{amount, ask, refused};
use crate::common::cast::{both_kinds, not_final, start};
use crate::common::channel::Channel;
use crate::common::judge::Judge as _;

fn text(psbt: &Psbt) -> Value {
    json!(psbt.to_string())
}

fn analyze(chain: &Regtest, psbt: &Psbt) -> Value {
    ask(chain, "analyzepsbt", &[text(psbt)])
}

/// The transaction, if the node could complete it.
fn finalize(chain: &Regtest, psbt: &Psbt) -> Option<Transaction> {
    let answer = ask(chain, "finalizepsbt", &[text(psbt)]);
    let hex = answer["hex"].as_str();
    assert_eq!(answer["complete"], hex.is_some(), "{answer}");
    hex.map(|hex| deserialize_hex(hex).unwrap())
}

fn fee(tx: &Transaction) -> Amount {
    CAPACITY - tx.output.iter().map(|output| output.value).sum()
}

fn without_signatures(mut psbt: Psbt) -> Psbt {
    psbt.inputs[0].partial_sigs.clear();
    psbt.inputs[0].tap_script_sigs.clear();
    psbt
}

/// What is left when the other side has not signed.
fn only_of(mut psbt: Psbt, key: PublicKey) -> Psbt {
    let input = &mut psbt.inputs[0];
    input.partial_sigs.retain(|signer, _| signer.inner == key);
    input
        .tap_script_sigs
        .retain(|(signer, _), _| *signer == key.x_only_public_key().0);
    psbt
}

/// The node sees a PSBT with every signature, agrees on the fee, and completes it to our bytes.
fn completes(chain: &Regtest, psbt: &Psbt, ours: &Transaction, case: &str) {
    let analysis = analyze(chain, psbt);
    assert_eq!(analysis["next"], "finalizer", "{case}: {analysis}");
    assert_eq!(amount(&analysis["fee"]), fee(ours), "{case}: {analysis}");
    let decoded = ask(chain, "decodepsbt", &[text(psbt)]);
    assert_eq!(amount(&decoded["fee"]), fee(ours), "{case}: {decoded}");
    let theirs = finalize(chain, psbt).unwrap_or_else(|| panic!("{case}: the node does not complete {psbt}"));
    assert_eq!(serialize_hex(&theirs), serialize_hex(ours), "{case}");
}

/// 1. The node completes the refund to our bytes, long before its lock.
/// 2. It accepts the transaction when its lock has passed, and not before.
#[test]
fn the_node_completes_the_refund() {
    let chain = start();
    for (construction, kind) in both_kinds() {
        let case = format!("{construction}, {kind:?}");
        let channel = locked(&chain, construction, kind);
        let (psbt, refund) = (channel.pair.payer.refund_psbt(), channel.pair.payer.refund().tx());
        completes(&chain, &psbt, refund, &case);

        let early = not_final(construction);
        let theirs = finalize(&chain, &psbt).unwrap();
        chain.stop_before(&theirs).unwrap();
        chain.node().rejects_at(&theirs, early, &case);
        chain.make_final(&theirs).unwrap();
        chain.node().accepts_at(&theirs, case);
    }
}

/// 1. Of a payment without signatures, and of one that the payer has, the node says whose signatures are missing
///    and does not complete it. (For Taproot it does not say whose.)
/// 2. From the halves of both, in either order, it makes the whole.
/// 3. It completes that to the bytes of the payee's settlement, and accepts them.
#[test]
fn the_node_makes_a_payment_from_its_halves() {
    let chain = start();
    for construction in Construction::ALL {
        let mut channel = open(&chain, construction);
        let (k1, k2) = (
            channel.params().payer_key().to_public_key(),
            channel.params().payee_key().to_public_key(),
        );
        let of_payer = channel.pair.payee.payment_psbt().expect("a payment");
        for (psbt, missing) in [
            (without_signatures(of_payer.clone()), vec![k1, k2]),
            (of_payer.clone(), vec![k2]),
        ] {
            let analysis = analyze(&chain, &psbt);
            if construction == Construction::Taproot {
                assert_eq!(analysis["next"], "updater", "{construction}: {analysis}");
            } else {
                let hash = |key: &PublicKey| hash160::Hash::hash(&key.serialize()).to_string();
                let mut hashes: Vec<_> = missing.iter().map(hash).collect();
                // In the order of the script.
                if matches!(construction, Construction::Cltv | Construction::Csv) {
                    hashes.reverse();
                }
                let missing = &analysis["inputs"][0]["missing"];
                assert_eq!(analysis["next"], "signer", "{construction}: {analysis}");
                assert_eq!(
                    *missing,
                    json!({ "signatures": hashes }),
                    "{construction}: {analysis}"
                );
            }
            assert_eq!(finalize(&chain, &psbt), None, "{construction}");
        }

        let settlement = close(&mut channel);
        let whole = channel.pair.payee.settlement_psbt().expect("closed");
        let of_payee = only_of(whole.clone(), k2);
        assert_eq!(finalize(&chain, &of_payee), None, "{construction}");
        for halves in [[&of_payer, &of_payee], [&of_payee, &of_payer]] {
            let combined = ask(&chain, "combinepsbt", &[json!(halves.map(Psbt::to_string))]);
            let combined: Psbt = combined.as_str().unwrap().parse().unwrap();
            // (Of the funding transaction the node gives back what its id is made of, without the witness.)
            for (combined, whole) in combined.inputs.iter().zip(&whole.inputs) {
                assert_eq!(combined.partial_sigs, whole.partial_sigs, "{construction}");
                assert_eq!(combined.tap_script_sigs, whole.tap_script_sigs, "{construction}");
            }
            completes(&chain, &combined, &settlement, construction.name());
        }
        chain.node().accepts_at(&settlement, construction);
    }
}

/// The node as the payee's cold signer: it gets the PSBT and a descriptor with K2's secret, and gives back a
/// transaction that it accepts. Its signature may differ from ours, because it searches for one with a low R.
#[test]
fn a_signer_that_knows_nothing_of_channels_completes_a_payment() {
    let chain = start();
    for construction in Construction::ALL {
        let channel = open(&chain, construction);
        let secret = PrivateKey::new(channel.keys()[1], NetworkKind::Test).to_wif();
        let descriptor = descriptor_of(&channel);
        let (bare, _) = descriptor.split_once('#').unwrap();
        let k2 = channel.params().payee_key().to_string();
        let with_secret = bare.replace(&k2, &secret).replace(&k2[2..], &secret);
        assert_ne!(with_secret, bare, "{construction}");
        let payment = channel.pair.payee.payment_psbt().expect("a payment");
        let answer = ask(
            &chain,
            "descriptorprocesspsbt",
            &[text(&payment), json!([with_secret])],
        );
        assert_eq!(answer["complete"], true, "{construction}: {answer}");
        let theirs: Transaction = deserialize_hex(answer["hex"].as_str().unwrap()).unwrap();
        let ours = channel.pair.payee.redeemable().unwrap().unwrap();
        if construction != Construction::P2sh {
            assert_eq!(theirs.compute_txid(), ours.tx().compute_txid(), "{construction}");
        }
        assert_eq!(theirs.output, ours.tx().output, "{construction}");
        chain.node().accepts_at(&theirs, construction);
    }
}

/// 1. The PSBT says whose aggregate the internal key is (BIP 373).
/// 2. The node completes the settlement with one signature to our bytes, which it accepts.
#[test]
fn the_node_completes_a_settlement_with_one_signature() {
    let chain = start();
    let mut channel = open(&chain, Construction::Taproot);
    channel.pair.payee.provide_nonces(NonceSource::fixed([7; 32]));
    let settlement = close(&mut channel);
    assert_eq!(
        settlement.input[0].witness.len(),
        1,
        "one signature and nothing else"
    );
    let psbt = channel.pair.payee.settlement_psbt().expect("closed");
    completes(&chain, &psbt, &settlement, "joint");

    let decoded = ask(&chain, "decodepsbt", &[text(&psbt)]);
    let mut keys = [
        channel.params().payer_key().to_string(),
        channel.params().payee_key().to_string(),
    ];
    keys.sort();
    let named = &decoded["inputs"][0]["musig2_participant_pubkeys"][0];
    assert_eq!(named["participant_pubkeys"], json!(keys), "{decoded}");
    let aggregate = named["aggregate_pubkey"].as_str().unwrap();
    let internal = decoded["inputs"][0]["taproot_internal_key"].as_str().unwrap();
    assert_eq!(&aggregate[2..], internal, "{decoded}");
    chain.node().accepts(&settlement);
}

/// The PSBT of the latest payment with the payer's signature for the one before.
fn stale(channel: &Channel, before: &Psbt, right: &Psbt) -> Psbt {
    let mut stale = only_of(right.clone(), channel.params().payee_key().to_public_key());
    let (input, before) = (&mut stale.inputs[0], &before.inputs[0]);
    input.partial_sigs.extend(&before.partial_sigs);
    input.tap_script_sigs.extend(&before.tap_script_sigs);
    stale
}

/// The right PSBT, with the funding output alone in place of the whole funding transaction.
fn spending(right: &Psbt, output: TxOut) -> Psbt {
    let mut psbt = right.clone();
    psbt.inputs[0].non_witness_utxo = None;
    psbt.inputs[0].witness_utxo = Some(output);
    psbt
}

/// Each signature under the other's key.
fn changed_over(right: &Psbt) -> Psbt {
    let mut psbt = right.clone();
    let input = &mut psbt.inputs[0];
    let signatures: Vec<_> = input.partial_sigs.values().copied().collect();
    for (place, signature) in input.partial_sigs.values_mut().zip(signatures.into_iter().rev()) {
        *place = signature;
    }
    let signatures: Vec<_> = input.tap_script_sigs.values().copied().collect();
    for (place, signature) in input
        .tap_script_sigs
        .values_mut()
        .zip(signatures.into_iter().rev())
    {
        *place = signature;
    }
    psbt
}

/// 1. The node tries each signature where it stands, and counts a wrong one as none: it says that something is to be
///    added, not what, and completes nothing.
/// 2. For P2SH it does not believe an amount without the whole funding transaction. Segwit signatures commit to the
///    amount, so the output is enough, and a wrong amount makes them wrong.
/// 3. It does not combine one payment with another.
#[test]
fn the_node_does_not_complete_what_is_wrong() {
    let chain = start();
    for construction in Construction::ALL {
        let mut channel = open(&chain, construction);
        let before = channel.pair.payee.payment_psbt().expect("a payment");
        channel.pay(Amount::from_sat(1_000));
        let settlement = close(&mut channel);
        let right = channel.pair.payee.settlement_psbt().expect("closed");
        let output = channel.params().funding_output();
        let more = TxOut {
            value: output.value + Amount::ONE_SAT,
            ..output.clone()
        };
        let mut wrong = vec![
            ("a stale signature", stale(&channel, &before, &right)),
            ("signatures changed over", changed_over(&right)),
            ("another amount", spending(&right, more)),
        ];
        let alone = spending(&right, output);
        if construction == Construction::P2sh {
            wrong.push(("the output alone", alone));
        } else {
            completes(&chain, &alone, &settlement, construction.name());
        }
        for (case, psbt) in wrong {
            let analysis = analyze(&chain, &psbt);
            assert_eq!(analysis["next"], "updater", "{construction}, {case}: {analysis}");
            assert_eq!(finalize(&chain, &psbt), None, "{construction}, {case}");
        }
        let two = json!([before.to_string(), right.to_string()]);
        assert_eq!(
            refused(&chain, "combinepsbt", &[two]),
            "PSBTs not compatible (different transactions)",
            "{construction}"
        );
    }
}
