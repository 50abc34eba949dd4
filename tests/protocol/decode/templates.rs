//! Spends of the output scripts that have a template: single keys and multisig.

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxOut, Witness};
use spilman::transcript::{decode, Algorithm, Fee, ItemRole, Problem, SignatureOwner};

use super::build::{
    all, assert_has, funded, high_s, key, legacy, p2pkh, p2wpkh, page, redeem_script, refund, refund_page,
    refund_signature, refund_with, script_sig, sign, spend, with_type, FUNDED, LOCK,
};

#[test]
fn p2pkh_spend() {
    let mut tx = spend(0, Sequence::MAX);
    tx.output.push(funded(redeem_script().to_p2sh()));
    tx.output[0].value = Amount::from_sat(99_899_000);
    let lock = p2pkh("payer/K1");
    let hash = legacy(&tx, &lock, EcdsaSighashType::All);
    tx.input[0].script_sig = script_sig(&[all(sign("payer/K1", hash)), key("payer/K1").to_bytes()]);
    let text = page(
        "P2PKH spend",
        &tx,
        &[TxOut {
            value: Amount::ONE_BTC,
            script_pubkey: lock,
        }],
    );
    assert_has(&text, "lock      none (lock time 0)");
    assert_has(&text, "signed    by payer key K1 (1 of 1)");
    insta::assert_snapshot!(text);
}

#[test]
fn p2wpkh_spend() {
    let mut tx = spend(1_700_086_400, Sequence::ENABLE_RBF_NO_LOCKTIME);
    let lock = p2wpkh("payer/K1");
    let mut cache = SighashCache::new(&tx);
    let hash = cache
        .p2wpkh_signature_hash(0, &lock, FUNDED, EcdsaSighashType::All)
        .expect("input 0 exists");
    let signature = all(sign("payer/K1", hash.to_byte_array()));
    tx.input[0].witness = Witness::from_slice(&[signature, key("payer/K1").to_bytes()]);
    let text = page("P2WPKH with a time lock", &tx, &[funded(lock)]);
    assert_has(&text, &format!("signs sighash {hash:x}"));
    assert!(text.contains("2023-11-15 22:13:20 UTC"), "{text}");
    insta::assert_snapshot!(text);

    let unknown = page("amount unknown", &tx, &[]);
    assert!(
        unknown.contains("not checked: it signs the amount of the spent output"),
        "{unknown}"
    );
    // The amount is part of what is signed, so a wrong one shows.
    let wrong = TxOut {
        value: FUNDED + Amount::ONE_SAT,
        script_pubkey: p2wpkh("payer/K1"),
    };
    assert!(page("wrong amount", &tx, &[wrong]).contains("INVALID: no key of the script made it"));
}

#[test]
fn p2sh_refund_with_a_height_lock() {
    let signatures = ["payer/K1", "payee/K2"].map(|label| all(refund_signature(label)));
    let text = refund_page("refund of example-7", &signatures);
    assert_has(&text, "signed    by payer key K1, payee key K2 (2 of 2)");
    assert_has(&text, "asm 2 <payer key K1> <payee key K2> 2 OP_CHECKMULTISIG");
    assert!(!text.contains("WARNING"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn witness_multisig_plain_and_nested() {
    for nested in [false, true] {
        let (script, program) = (redeem_script(), redeem_script().to_p2wsh());
        let mut tx = refund();
        let mut cache = SighashCache::new(&tx);
        let hash = cache
            .p2wsh_signature_hash(0, &script, FUNDED, EcdsaSighashType::All)
            .expect("input 0 exists");
        let [first, second] = ["payer/K1", "payee/K2"].map(|label| all(sign(label, hash.to_byte_array())));
        tx.input[0].witness = Witness::from_slice(&[vec![], first, second, script.to_bytes()]);
        let lock = if nested {
            program.to_p2sh()
        } else {
            program.clone()
        };
        if nested {
            tx.input[0].script_sig = script_sig(&[program.to_bytes()]);
        }
        let title = if nested {
            "refund P2SH-P2WSH"
        } else {
            "refund P2WSH"
        };
        let text = page(title, &tx, &[funded(lock)]);
        assert_has(&text, "signed    by payer key K1, payee key K2 (2 of 2)");
        insta::assert_snapshot!(title.replace(' ', "_"), text);
    }
}

#[test]
fn nested_p2wpkh() {
    let mut tx = spend(0, Sequence::from_height(10));
    let program = p2wpkh("payee/K2");
    let mut cache = SighashCache::new(&tx);
    let hash = cache
        .p2wpkh_signature_hash(0, &program, FUNDED, EcdsaSighashType::All)
        .expect("input 0 exists");
    let signature = all(sign("payee/K2", hash.to_byte_array()));
    tx.input[0].witness = Witness::from_slice(&[signature, key("payee/K2").to_bytes()]);
    tx.input[0].script_sig = script_sig(&[program.to_bytes()]);
    let text = page(
        "P2SH-P2WPKH with a relative lock",
        &tx,
        &[funded(program.to_p2sh())],
    );
    assert_has(&text, "kind      P2SH-P2WPKH");
    assert_has(&text, "signed    by payee key K2 (1 of 1)");
    assert!(text.contains("relative lock of 10 blocks"), "{text}");
}

#[test]
fn half_signed_refund() {
    let text = refund_page("half-signed refund", &[all(refund_signature("payee/K2"))]);
    assert_has(&text, "signed    by payee key K2 (1 of 2; not by payer key K1)");
    assert!(
        text.contains("vB · grows with the signatures that it lacks"),
        "{text}"
    );
    insta::assert_snapshot!(text);
    let placeholder = refund_page("placeholder", &[vec![], all(refund_signature("payee/K2"))]);
    assert_has(&placeholder, "1  no signature (empty)");
    assert_has(
        &placeholder,
        "signed    by payee key K2 (1 of 2; not by payer key K1)",
    );
}

#[test]
fn unsigned_refund() {
    let text = page("unsigned refund", &refund(), &[funded(redeem_script().to_p2sh())]);
    assert_has(&text, "unsigned");
    insta::assert_snapshot!(text);
}

#[test]
fn final_sequence_disables_the_lock() {
    let text = page("refund, lock ignored", &spend(LOCK, Sequence::MAX), &[]);
    assert_has(
        &text,
        "WARNING: every input's sequence is final, so this lock has no effect",
    );
    insta::assert_snapshot!(text);
    assert!(!page("no lock, no warning", &spend(0, Sequence::MAX), &[]).contains("WARNING"));
}

#[test]
fn bad_signatures_are_marked() {
    let good = all(refund_signature("payee/K2"));
    let high = all(high_s(refund_signature("payer/K1")));
    let text = refund_page("refund with a high S", &[high, good.clone()]);
    assert_has(
        &text,
        "1  signature by payer key K1 (ALL, HIGH S: not standard, 72 bytes)",
    );
    insta::assert_snapshot!("high_s", text);

    let stranger = all(refund_signature("a stranger"));
    let text = refund_page("refund with a stranger's signature", &[stranger, good.clone()]);
    assert!(text.contains("INVALID: no key of the script made it"), "{text}");
    assert_has(&text, "signed    by payee key K2 (1 of 2; not by payer key K1)");
    insta::assert_snapshot!("wrong_signature", text);

    let other_digest = all(sign(
        "payer/K1",
        legacy(&refund(), &redeem_script(), EcdsaSighashType::None),
    ));
    let text = refund_page("digest of another hash type", &[other_digest, good.clone()]);
    assert!(text.contains("INVALID: no key of the script made it"), "{text}");

    let text = refund_page("not DER", &[vec![0x30; 70], good.clone()]);
    assert_has(&text, "1  signature (70 bytes) INVALID: not DER");

    let text = refund_page("wrong order", &[good, all(refund_signature("payer/K1"))]);
    let warning = "WARNING   the signatures do not follow the order of the keys, so OP_CHECKMULTISIG fails";
    assert_has(&text, warning);
}

#[test]
fn hash_types_are_shown() {
    let hash_type = EcdsaSighashType::SinglePlusAnyoneCanPay;
    let hash = legacy(&refund(), &redeem_script(), hash_type);
    let first = with_type(sign("payer/K1", hash), hash_type);
    let text = refund_page(
        "refund with another hash type",
        &[first, all(refund_signature("payee/K2"))],
    );
    assert!(
        text.contains("signature by payer key K1 (SINGLE|ANYONECANPAY, low S, "),
        "{text}"
    );
    insta::assert_snapshot!(text);
}

#[test]
fn facts_of_a_refund() {
    let tx = refund_with(&["payer/K1", "payee/K2"].map(|label| all(refund_signature(label))));
    let raw = serialize(&tx);
    let decoded = decode(&raw, &[funded(redeem_script().to_p2sh())]).expect("a transaction");
    assert_eq!(decoded.fee, Fee::Known(Amount::from_sat(1_000)));
    assert_eq!(
        (decoded.vsize, decoded.weight.to_wu()),
        (raw.len(), 4 * raw.len() as u64)
    );
    let input = &decoded.inputs[0];
    assert_eq!(
        input.signers(),
        [key("payer/K1"), key("payee/K2")].map(Into::into)
    );
    let ItemRole::Signature(signature) = &input.script_sig[1].role else {
        panic!("{:?}", input.script_sig[1])
    };
    assert_eq!(signature.signer, SignatureOwner::Key(key("payer/K1").into()));
    assert_eq!(
        signature.sighash,
        Some(legacy(&tx, &redeem_script(), EcdsaSighashType::All))
    );
    assert_eq!(signature.algorithm, Algorithm::Ecdsa { low_s: true });
    assert!(!input.has_invalid_signature() && decoded.lock_enabled());

    // Legacy signatures do not commit to the amount: without the spent output they are still checked.
    let alone = decode(&raw, &[]).expect("a transaction");
    assert!(alone.inputs[0].inferred && alone.fee == Fee::Unknown);
    assert_eq!(alone.inputs[0].signers(), input.signers());
    // A redeem script that is not the one of the spent output is shown, not believed.
    let other = decode(&raw, &[funded(p2pkh("x").to_p2sh())]).expect("a transaction");
    assert_eq!(other.inputs[0].problems, [Problem::ScriptHash]);
    assert!(other.inputs[0].signers().is_empty());
    let poor = TxOut {
        value: Amount::from_sat(98_999),
        script_pubkey: redeem_script().to_p2sh(),
    };
    assert_eq!(decode(&raw, &[poor]).expect("a transaction").fee, Fee::Negative);
}

#[test]
fn mismatches_with_the_spent_output_are_shown() {
    let problems = |tx: &Transaction, lock: ScriptBuf| {
        let decoded = decode(&serialize(tx), &[funded(lock)]).expect("a transaction");
        (
            decoded.inputs[0].problems.clone(),
            decoded.inputs[0].lacks_signatures(),
        )
    };
    let items = [vec![0x30; 71], key("payer/K1").to_bytes()];
    let mut witness = refund();
    witness.input[0].witness = Witness::from_slice(&items);
    assert_eq!(
        problems(&witness, p2wpkh("payee/K2")),
        (vec![Problem::KeyHash], true)
    );
    assert_eq!(problems(&witness, p2wpkh("payer/K1")), (vec![], true));
    witness.input[0].witness = Witness::from_slice(&[vec![], redeem_script().to_bytes()]);
    assert_eq!(problems(&witness, p2pkh("x").to_p2wsh()).0, [Problem::ScriptHash]);
    assert_eq!(problems(&witness, redeem_script().to_p2wsh()), (vec![], true));

    let mut legacy = refund();
    legacy.input[0].script_sig = script_sig(&items);
    assert_eq!(problems(&legacy, p2pkh("payee/K2")).0, [Problem::KeyHash]);
    let signatures = ["payer/K1", "payee/K2"].map(|label| all(refund_signature(label)));
    let items = [&[vec![1]], &signatures[..], &[redeem_script().to_bytes()]].concat();
    legacy.input[0].script_sig = script_sig(&items);
    assert_eq!(
        problems(&legacy, redeem_script().to_p2sh()).0,
        [Problem::DummyNotEmpty]
    );
    // One key that signs twice is not two keys.
    let twice = refund_with(&[signatures[0].clone(), signatures[0].clone()]);
    assert_eq!(
        problems(&twice, redeem_script().to_p2sh()),
        (vec![Problem::SignatureOrder], true)
    );
}

#[test]
fn version_3_is_explained() {
    let mut tx = refund();
    tx.version = Version(3);
    let text = page("a payment of version 3", &tx, &[]);
    let version = text
        .lines()
        .find(|line| line.starts_with("version"))
        .unwrap_or_default();
    assert!(
        version.starts_with("version   3 (TRUC, BIP 431): at most 10,000 vB"),
        "{text}"
    );
    assert!(!page("a refund of version 2", &refund(), &[]).contains("TRUC"));
}
