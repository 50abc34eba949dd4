//! Raw transactions as text, decoded from their bytes alone.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::{sha256, Hash};
use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::opcodes::OP_0;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{ecdsa, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Network, OutPoint, PublicKey, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use spilman::transcript::{decode, render, Context, DecodeError, Fee, Names, Problem, Role, Signer};

const LOCK: u32 = 245;
const FUNDED: Amount = Amount::from_sat(100_000);

fn secret(label: &str) -> SecretKey {
    SecretKey::from_slice(&sha256::Hash::hash(label.as_bytes()).to_byte_array()).expect("in the range")
}

fn key(label: &str) -> PublicKey {
    PublicKey::new(secret(label).public_key(&Secp256k1::new()))
}

fn sign(label: &str, hash: [u8; 32]) -> ecdsa::Signature {
    Secp256k1::new().sign_ecdsa(&Message::from_digest(hash), &secret(label))
}

fn with_type(signature: ecdsa::Signature, hash_type: EcdsaSighashType) -> Vec<u8> {
    bitcoin::ecdsa::Signature {
        signature,
        sighash_type: hash_type,
    }
    .to_vec()
}

fn all(signature: ecdsa::Signature) -> Vec<u8> {
    with_type(signature, EcdsaSighashType::All)
}

/// The same signature with S replaced by the order of the curve less S.
fn high_s(signature: ecdsa::Signature) -> ecdsa::Signature {
    let mut bytes = signature.serialize_compact();
    let s = SecretKey::from_slice(&bytes[32..])
        .expect("S is in the range")
        .negate();
    bytes[32..].copy_from_slice(&s.secret_bytes());
    ecdsa::Signature::from_compact(&bytes).expect("still in the range")
}

fn redeem_script() -> ScriptBuf {
    let keys = Builder::new()
        .push_int(2)
        .push_key(&key("payer/K1"))
        .push_key(&key("payee/K2"));
    keys.push_int(2).push_opcode(OP_CHECKMULTISIG).into_script()
}

fn p2pkh(label: &str) -> ScriptBuf {
    ScriptBuf::new_p2pkh(&key(label).pubkey_hash())
}

fn p2wpkh(label: &str) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&key(label).wpubkey_hash().expect("compressed"))
}

fn names() -> Names {
    let mut names = Names::default();
    names
        .key(key("payer/K1"), "payer key K1")
        .key(key("payee/K2"), "payee key K2");
    names
        .script(&p2pkh("payer/wallet"), "payer's wallet")
        .redeem_script(&redeem_script(), "channel 2-of-2");
    names.txid(funding_txid(), "funding");
    names
}

fn funding_txid() -> Txid {
    Txid::from_byte_array(sha256::Hash::hash(b"funding").to_byte_array())
}

/// A spend of `funding:0` that pays 99,000 satoshi to the payer's wallet.
fn spend(lock: u32, sequence: Sequence) -> Transaction {
    let input = TxIn {
        previous_output: OutPoint::new(funding_txid(), 0),
        sequence,
        ..TxIn::default()
    };
    let output = TxOut {
        value: Amount::from_sat(99_000),
        script_pubkey: p2pkh("payer/wallet"),
    };
    let lock_time = LockTime::from_consensus(lock);
    Transaction {
        version: Version::TWO,
        lock_time,
        input: vec![input],
        output: vec![output],
    }
}

fn refund() -> Transaction {
    spend(LOCK, Sequence::ENABLE_LOCKTIME_NO_RBF)
}

fn funded(script_pubkey: ScriptBuf) -> TxOut {
    TxOut {
        value: FUNDED,
        script_pubkey,
    }
}

fn script_sig(items: &[Vec<u8>]) -> ScriptBuf {
    let push = |builder: Builder, item: &Vec<u8>| {
        builder.push_slice(PushBytesBuf::try_from(item.clone()).expect("a short item"))
    };
    items.iter().fold(Builder::new(), push).into_script()
}

fn legacy(tx: &Transaction, code: &ScriptBuf, hash_type: EcdsaSighashType) -> [u8; 32] {
    let hash = SighashCache::new(tx).legacy_signature_hash(0, code, hash_type.to_u32());
    hash.expect("input 0 exists").to_byte_array()
}

/// The refund with these signatures in its scriptSig.
fn refund_with(signatures: &[Vec<u8>]) -> Transaction {
    let mut tx = refund();
    let items = [&[vec![]], signatures, &[redeem_script().to_bytes()]].concat();
    tx.input[0].script_sig = script_sig(&items);
    tx
}

fn refund_signature(label: &str) -> ecdsa::Signature {
    sign(label, legacy(&refund(), &redeem_script(), EcdsaSighashType::All))
}

fn page(title: &str, tx: &Transaction, prevouts: &[TxOut]) -> String {
    let context = Context {
        title,
        prevouts,
        names: &names(),
        network: Network::Regtest,
    };
    render(&serialize(tx), &context).expect("a transaction that was just serialised")
}

fn refund_page(title: &str, signatures: &[Vec<u8>]) -> String {
    page(
        title,
        &refund_with(signatures),
        &[funded(redeem_script().to_p2sh())],
    )
}

fn assert_has(page: &str, line: &str) {
    assert!(
        page.lines().any(|found| found.trim() == line),
        "no line {line:?} in:\n{page}"
    );
}

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
    assert_eq!(input.signers(), [key("payer/K1"), key("payee/K2")]);
    let Role::Signature(signature) = &input.script_sig[1].role else {
        panic!("{:?}", input.script_sig[1])
    };
    assert_eq!(signature.signer, Signer::Key(key("payer/K1")));
    assert_eq!(
        signature.sighash,
        Some(legacy(&tx, &redeem_script(), EcdsaSighashType::All))
    );
    assert!(signature.low_s && !input.has_invalid_signature() && decoded.lock_enabled());

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
fn every_truncation_names_the_field() {
    let raw = serialize(&refund_with(&[all(refund_signature("payer/K1"))]));
    for length in 0..raw.len() {
        let error = decode(&raw[..length], &[]).expect_err("truncated");
        let DecodeError::Field {
            position,
            length: found,
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert!(
            *position <= length && *found == length && length < position + raw.len(),
            "{error}"
        );
        assert_ne!(*position == 0, length >= 4, "{error}");
    }
    let text = |length: usize| decode(&raw[..length], &[]).expect_err("truncated").to_string();
    assert_eq!(text(3), "cannot read the version at byte 0 of 3");
    assert_eq!(text(40), "cannot read the outpoint of input 0 at byte 5 of 40");
    assert_eq!(
        text(100),
        "cannot read the scriptSig of input 0 at byte 41 of 100"
    );
    let end = raw.len() - 1;
    assert_eq!(
        text(end),
        format!("cannot read the lock time at byte {} of {end}", end - 3)
    );
    let longer = [&raw[..], &[0]].concat();
    let error = decode(&longer, &[]).expect_err("one byte too many").to_string();
    assert_eq!(
        error,
        format!("the transaction ends at byte {} of {}", raw.len(), longer.len())
    );
    let error = decode(&raw, &[funded(p2pkh("x")), funded(p2pkh("x"))]).expect_err("two for one");
    assert_eq!(error.to_string(), "2 spent outputs given for 1 inputs");
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
fn truncated_witnesses_and_unknown_flags_are_named() {
    let mut tx = refund();
    tx.input[0].witness = Witness::from_slice(&[vec![7; 80]]);
    let raw = serialize(&tx);
    let text = |bytes: &[u8]| decode(bytes, &[]).expect_err("broken").to_string();
    let (end, cut) = (raw.len(), raw.len() - 40);
    assert_eq!(
        text(&raw[..5]),
        "cannot read the segwit marker and flag at byte 4 of 5"
    );
    // Lock time (4), item (80) with its length (1) and the number of items (1) come last.
    let expected = format!("cannot read the witness of input 0 at byte {} of {cut}", end - 86);
    assert_eq!(text(&raw[..cut]), expected);
    let mut unknown_flag = raw;
    unknown_flag[5] = 2;
    let expected = format!("cannot read the segwit marker and flag at byte 4 of {end}");
    assert_eq!(text(&unknown_flag), expected);
}

#[test]
fn garbage_never_panics() {
    let raw = serialize(&refund_with(
        &["payer/K1", "payee/K2"].map(|label| all(refund_signature(label))),
    ));
    let names = names();
    for at in 0..raw.len() {
        for value in [0, 1, 0x30, 0x4c, 0x4d, 0x4e, 0x7f, 0x80, 0xae, 0xfd, 0xff] {
            let mut mutant = raw.clone();
            mutant[at] = value;
            for prevouts in [vec![], vec![funded(redeem_script().to_p2sh())]] {
                let context = Context {
                    title: "",
                    prevouts: &prevouts,
                    names: &names,
                    network: Network::Regtest,
                };
                let _ = render(&mutant, &context);
            }
        }
    }
}

#[test]
fn foreign_scripts_are_shown_without_claims() {
    let mut tx = spend(0, Sequence::MAX);
    tx.input[0].script_sig = Builder::new()
        .push_int(5)
        .push_opcode(OP_CHECKMULTISIG)
        .into_script();
    tx.input[0].witness = Witness::from_slice(&[vec![1, 2, 3], vec![]]);
    tx.output[0].script_pubkey =
        ScriptBuf::from_bytes(vec![OP_0.to_u8(), 0x51, 0x4f, 0xb1, 0x20, 0xab, 0xcd]);
    let text = page("foreign scripts", &tx, &[]);
    assert_has(&text, "asm 5 OP_CHECKMULTISIG");
    assert_has(&text, "0  item (3 bytes)");
    assert_has(
        &text,
        "script    0 1 -1 OP_CHECKLOCKTIMEVERIFY [malformed: 20abcd]",
    );

    let mut coinbase = spend(0, Sequence::MAX);
    coinbase.input[0].previous_output = OutPoint::null();
    coinbase.input[0].script_sig = ScriptBuf::from_bytes(vec![0x02, 0xf5, 0x00, 0x4c]);
    let text = page("coinbase", &coinbase, &[]);
    assert_has(&text, "fee       none (coinbase)");
    assert_has(&text, "kind      coinbase");
}
