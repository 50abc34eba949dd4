//! Channels with a separate script: both keys, or the payer alone after a lock (BIP 65, BIP 112).

use std::str::FromStr;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize;
use bitcoin::consensus::verify_script;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::{OP_CHECKSIG, OP_HASH160, OP_NOP};
use bitcoin::script::Builder;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{relative, PublicKey, ScriptBuf, Sequence, Transaction, TxOut, Witness};
use miniscript::Descriptor;
use spilman::transcript::{decode, Ask, DecodedTx, ItemRole, Problem, ScriptLock, SignatureOwner, SpendKind};

use super::build::{
    all, assert_has, funded, high_s, key, legacy, page, refund, script_sig, sign, spend, FUNDED, LOCK,
};

/// Ten blocks.
const DELAY: u16 = 10;

/// The script behind `wsh(and_v(or_i(v:pk(K2),v:LOCK),pk(K1)))`.
fn channel(lock: &str) -> ScriptBuf {
    let (payer, payee) = (key("payer/K1"), key("payee/K2"));
    let descriptor = format!("wsh(and_v(or_i(v:pk({payee}),v:{lock}),pk({payer})))");
    let descriptor = Descriptor::<PublicKey>::from_str(&descriptor).expect("a descriptor");
    descriptor.explicit_script().expect("it has one script")
}

fn cltv() -> ScriptBuf {
    channel(&format!("after({LOCK})"))
}

fn csv() -> ScriptBuf {
    channel(&format!("older({DELAY})"))
}

fn digest(tx: &Transaction, script: &ScriptBuf) -> [u8; 32] {
    let hash = SighashCache::new(tx).p2wsh_signature_hash(0, script, FUNDED, EcdsaSighashType::All);
    hash.expect("input 0 exists").to_byte_array()
}

/// The transaction with these items, and the script after them.
fn with_items(tx: &Transaction, script: &ScriptBuf, items: &[Vec<u8>]) -> Transaction {
    let mut tx = tx.clone();
    tx.input[0].witness = Witness::from_slice(&[items, &[script.to_bytes()]].concat());
    tx
}

fn signed(tx: &Transaction, script: &ScriptBuf, label: &str) -> Vec<u8> {
    all(sign(label, digest(tx, script)))
}

fn payment(script: &ScriptBuf) -> Transaction {
    let tx = spend(0, Sequence::MAX);
    let [payer, payee] = ["payer/K1", "payee/K2"].map(|label| signed(&tx, script, label));
    with_items(&tx, script, &[payer, payee, vec![1]])
}

/// The payer's refund alone by the branch of the lock.
fn refund_of(tx: &Transaction, script: &ScriptBuf) -> Transaction {
    with_items(tx, script, &[signed(tx, script, "payer/K1"), vec![]])
}

/// A refund of `csv`, and the output that it spends.
pub fn any_refund() -> (Transaction, TxOut) {
    let script = csv();
    let tx = refund_of(&csv_spend(Sequence::from_height(DELAY)), &script);
    (tx, funded(script.to_p2wsh()))
}

fn csv_spend(sequence: Sequence) -> Transaction {
    spend(0, sequence)
}

fn read(tx: &Transaction, script: &ScriptBuf) -> DecodedTx {
    decode(&serialize(tx), &[funded(script.to_p2wsh())]).expect("a transaction")
}

fn problems(tx: &Transaction, script: &ScriptBuf) -> Vec<Problem> {
    read(tx, script).inputs[0].problems.clone()
}

#[test]
fn cltv_payment_and_refund() {
    let script = cltv();
    let output = funded(script.to_p2wsh());
    let text = page(
        "payment of cltv",
        &payment(&script),
        std::slice::from_ref(&output),
    );
    assert_has(&text, "kind      P2WSH: payee key K2 and payer key K1 sign");
    assert_has(&text, "2  branch, true: payee key K2 signs (1 byte)");
    assert_has(&text, "signed    by payer key K1, payee key K2 (2 of 2)");
    assert!(!text.contains("WARNING"), "{text}");
    insta::assert_snapshot!("cltv_payment", text);

    let text = page("refund of cltv", &refund_of(&refund(), &script), &[output]);
    assert_has(
        &text,
        "kind      P2WSH: payer key K1 signs, not before height 245",
    );
    assert_has(&text, "1  branch, false: not before height 245 (empty)");
    assert_has(&text, "signed    by payer key K1 (1 of 1)");
    assert!(!text.contains("WARNING"), "{text}");
    insta::assert_snapshot!("cltv_refund", text);
}

#[test]
fn csv_payment_and_refund() {
    let script = csv();
    let output = funded(script.to_p2wsh());
    let text = page("payment of csv", &payment(&script), std::slice::from_ref(&output));
    assert_has(&text, "kind      P2WSH: payee key K2 and payer key K1 sign");
    insta::assert_snapshot!("csv_payment", text);

    let tx = csv_spend(Sequence::from_height(DELAY));
    let text = page("refund of csv", &refund_of(&tx, &script), &[output]);
    assert_has(
        &text,
        "1  branch, false: not before 10 blocks after the spent output (empty)",
    );
    assert_has(
        &text,
        "waits     10 blocks: valid once the spent output has 10 confirmations",
    );
    assert!(!text.contains("WARNING"), "{text}");
    insta::assert_snapshot!("csv_refund", text);
}

#[test]
fn locks_of_time() {
    let time = 1_700_086_400;
    let script = channel(&format!("after({time})"));
    let tx = spend(time, Sequence::ENABLE_LOCKTIME_NO_RBF);
    let text = page("refund", &refund_of(&tx, &script), &[funded(script.to_p2wsh())]);
    let moment = "time 1700086400 (2023-11-15 22:13:20 UTC)";
    assert_has(
        &text,
        &format!("kind      P2WSH: payer key K1 signs, not before {moment}"),
    );
    assert_has(
        &text,
        &format!("<80425565> = {moment}: valid once the median time past is above it"),
    );

    // Past 2038 a time does not fit into the four bytes of a signed number, so the script has five.
    let late = 2_147_483_648;
    let script = ScriptBuf::from_bytes(hex("050000008000b175"));
    let script = ScriptBuf::from_bytes([script.to_bytes(), checksig("payer/K1")].concat());
    let tx = spend(late, Sequence::ENABLE_LOCKTIME_NO_RBF);
    let tx = with_items(&tx, &script, &[signed(&tx, &script, "payer/K1")]);
    verify_script(&script.to_p2wsh(), 0, FUNDED, &serialize(&tx)).expect("a valid spend");
    let input = read(&tx, &script).inputs.remove(0);
    let expected = [
        Ask::Lock(ScriptLock::Absolute(LockTime::from_consensus(late))),
        Ask::Signature(key("payer/K1").into()),
    ];
    assert_eq!((&input.asks[..], &input.problems[..]), (&expected[..], &[][..]));

    let units = Sequence::from_512_second_intervals(3);
    let script = channel(&format!("older({})", units.0));
    let text = page(
        "refund",
        &refund_of(&csv_spend(units), &script),
        &[funded(script.to_p2wsh())],
    );
    assert_has(
        &text,
        "kind      P2WSH: payer key K1 signs, not before 1,536 seconds after the spent output",
    );
    assert!(
        text.contains("waits     1,536 seconds: valid once the median time past is"),
        "{text}"
    );
}

fn hex(text: &str) -> Vec<u8> {
    bitcoin::hex::FromHex::from_hex(text).expect("hex")
}

fn checksig(label: &str) -> Vec<u8> {
    Builder::new()
        .push_key(&key(label))
        .push_opcode(OP_CHECKSIG)
        .into_script()
        .to_bytes()
}

/// One mutation of a good refund each, with the reason that the page must give; consensus refuses the same ones.
#[test]
fn locks_that_do_not_satisfy_the_script() {
    let (cltv, csv) = (cltv(), csv());
    let absolute = |lock| ScriptLock::Absolute(LockTime::from_consensus(lock));
    let blocks = |count| ScriptLock::Relative(relative::LockTime::from_height(count));
    let enabled = Sequence::ENABLE_LOCKTIME_NO_RBF;
    let time = 1_700_086_400;
    let (early, at) = (LOCK - 1, LOCK);
    let delay = u32::from(DELAY);
    let mut version_1 = csv_spend(Sequence::from_height(DELAY));
    version_1.version = Version::ONE;
    let seconds = Sequence::from_512_second_intervals(DELAY);
    let found = ScriptLock::Relative(seconds.to_relative_lock_time().expect("a relative lock"));
    let disabled = Sequence(delay | 1 << 31);
    #[rustfmt::skip]
    let cases = [
        (&cltv, spend(at, enabled), None),
        (&cltv, spend(at + 1, enabled), None),
        (&cltv, spend(early, enabled), Some(Problem::LockTooEarly { asked: absolute(at), found: absolute(early) })),
        (&cltv, spend(at, Sequence::MAX), Some(Problem::LockDisabled)),
        (&cltv, spend(time, enabled), Some(Problem::LockUnit { asked: absolute(at), found: absolute(time) })),
        (&csv, csv_spend(Sequence::from_height(DELAY)), None),
        (&csv, csv_spend(Sequence::from_height(DELAY - 1)), Some(Problem::LockTooEarly { asked: blocks(DELAY), found: blocks(DELAY - 1) })),
        (&csv, csv_spend(seconds), Some(Problem::LockUnit { asked: blocks(DELAY), found })),
        (&csv, csv_spend(disabled), Some(Problem::RelativeLockDisabled { sequence: disabled })),
        (&csv, version_1, Some(Problem::VersionTooLow { version: Version::ONE })),
    ];
    for (script, tx, expected) in cases {
        let refund = refund_of(&tx, script);
        let found = problems(&refund, script);
        let valid = verify_script(&script.to_p2wsh(), 0, FUNDED, &serialize(&refund)).is_ok();
        assert_eq!(found.is_empty(), valid, "consensus disagrees with {found:?}");
        let expected: Vec<Problem> = expected.into_iter().collect();
        assert_eq!(
            found, expected,
            "lock {} sequence {} version {}",
            tx.lock_time, tx.input[0].sequence, tx.version
        );
    }
}

#[test]
fn failing_locks_as_text() {
    let script = cltv();
    let output = [funded(script.to_p2wsh())];
    let tx = spend(LOCK - 1, Sequence::ENABLE_LOCKTIME_NO_RBF);
    let text = page("early refund of cltv", &refund_of(&tx, &script), &output);
    assert_has(
        &text,
        "WARNING   the script requires height 245, but the lock is only height 244",
    );
    insta::assert_snapshot!("early_refund", text);

    let tx = spend(LOCK, Sequence::MAX);
    let text = page(
        "refund of cltv with a final sequence",
        &refund_of(&tx, &script),
        &output,
    );
    assert_has(
        &text,
        "WARNING   the sequence is final, so OP_CHECKLOCKTIMEVERIFY fails",
    );
    assert_has(
        &text,
        "WARNING: every input's sequence is final, so this lock has no effect",
    );
}

#[test]
fn signatures_in_scripts_are_checked() {
    let script = cltv();
    let output = [funded(script.to_p2wsh())];
    let tx = spend(0, Sequence::MAX);
    let [payer, payee, stranger] =
        ["payer/K1", "payee/K2", "a stranger"].map(|label| signed(&tx, &script, label));

    let swapped = with_items(&tx, &script, &[payee.clone(), payer.clone(), vec![1]]);
    assert_eq!(problems(&swapped, &script), [Problem::OtherKey; 2]);

    let forged = with_items(&tx, &script, &[stranger, payee.clone(), vec![1]]);
    let text = page("payment with a stranger's signature", &forged, &output);
    assert!(text.contains("INVALID: no key of the script made it"), "{text}");
    assert_has(&text, "signed    by payee key K2 (1 of 2; not by payer key K1)");
    insta::assert_snapshot!("wrong_signature", text);

    let high = all(high_s(sign("payer/K1", digest(&tx, &script))));
    let text = page(
        "high S",
        &with_items(&tx, &script, &[high, payee.clone(), vec![1]]),
        &output,
    );
    assert_has(
        &text,
        "0  signature by payer key K1 (ALL, HIGH S: not standard, 72 bytes)",
    );

    let half = with_items(&tx, &script, &[vec![], payee.clone(), vec![1]]);
    let text = page("half-signed payment", &half, &output);
    assert_has(&text, "0  no signature (empty)");
    assert_has(&text, "signed    by payee key K2 (1 of 2; not by payer key K1)");

    let alone = with_items(&tx, &script, &[payee.clone(), vec![1]]);
    assert_eq!(problems(&alone, &script), [Problem::MissingItems]);
    assert_has(
        &page("payment without the payer's signature", &alone, &output),
        "signed    by payee key K2 (1 of 2; not by payer key K1)",
    );
    let valid = |tx: &Transaction| verify_script(&script.to_p2wsh(), 0, FUNDED, &serialize(tx)).is_ok();
    assert!(valid(&payment(&script)));
    for tx in [&swapped, &forged, &half, &alone] {
        assert!(!valid(tx), "consensus accepts {tx:?}");
    }
    let items = |items: &[Vec<u8>]| problems(&with_items(&tx, &script, items), &script);
    assert_eq!(
        items(&[vec![], payer.clone(), payee.clone(), vec![1]]),
        [Problem::LeftoverItems]
    );
    assert_eq!(items(&[payer, payee, vec![2]]), [Problem::BranchItem]);
}

#[test]
fn scripts_without_the_spent_output() {
    let (tx, script) = (payment(&cltv()), cltv());
    let decoded = decode(&serialize(&tx), &[]).expect("a transaction");
    let input = &decoded.inputs[0];
    assert!(input.inferred);
    assert_eq!(
        input.kind,
        SpendKind::Output(spilman::transcript::ScriptType::P2wsh)
    );
    let text = page("amount unknown", &tx, &[]);
    assert!(
        text.contains("not checked: it signs the amount of the spent output"),
        "{text}"
    );

    // Legacy signatures do not commit to the amount, so the same script in P2SH is checked all the same.
    let mut tx = refund();
    let signature = all(sign("payer/K1", legacy(&tx, &script, EcdsaSighashType::All)));
    tx.input[0].script_sig = script_sig(&[signature, vec![], script.to_bytes()]);
    let decoded = decode(&serialize(&tx), &[]).expect("a transaction");
    assert_eq!(decoded.inputs[0].signers(), [key("payer/K1").into()]);
    assert_eq!(decoded.inputs[0].problems, []);
}

/// Where a script does more than is understood, a signature is still found, and nothing else is claimed.
#[test]
fn a_script_that_is_not_followed() {
    let hash = bitcoin::PubkeyHash::hash(b"");
    let script = Builder::from(checksig("payer/K1"))
        .push_opcode(OP_NOP)
        .push_opcode(OP_HASH160)
        .push_slice(hash)
        .into_script();
    let tx = spend(0, Sequence::MAX);
    let tx = with_items(&tx, &script, &[vec![7; 71], signed(&tx, &script, "payer/K1")]);
    let input = read(&tx, &script).inputs.remove(0);
    assert_eq!((input.required, input.problems.len()), (0, 0));
    assert_eq!(input.witness[0].role, ItemRole::Unknown);
    let ItemRole::Signature(signature) = &input.witness[1].role else {
        panic!("{:?}", input.witness[1])
    };
    assert_eq!(signature.signer, SignatureOwner::Key(key("payer/K1").into()));
}
