//! Keys, names and transactions, built by hand.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::{sha256, Hash};
use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{ecdsa, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Network, OutPoint, PublicKey, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid};
use spilman::adversary::oracle;
use spilman::transcript::{render, Names, TextContext};

pub const LOCK: u32 = 245;
pub const FUNDED: Amount = Amount::from_sat(100_000);

pub fn secret(label: &str) -> SecretKey {
    SecretKey::from_slice(&sha256::Hash::hash(label.as_bytes()).to_byte_array()).expect("in the range")
}

pub fn key(label: &str) -> PublicKey {
    PublicKey::new(secret(label).public_key(&Secp256k1::new()))
}

pub fn sign(label: &str, hash: [u8; 32]) -> ecdsa::Signature {
    Secp256k1::new().sign_ecdsa(&Message::from_digest(hash), &secret(label))
}

pub fn with_type(signature: ecdsa::Signature, hash_type: EcdsaSighashType) -> Vec<u8> {
    bitcoin::ecdsa::Signature {
        signature,
        sighash_type: hash_type,
    }
    .to_vec()
}

pub fn all(signature: ecdsa::Signature) -> Vec<u8> {
    with_type(signature, EcdsaSighashType::All)
}

/// The same signature with S replaced by the order of the curve less S.
pub fn high_s(signature: ecdsa::Signature) -> ecdsa::Signature {
    let mut bytes = signature.serialize_compact();
    oracle::high_s(&mut bytes);
    ecdsa::Signature::from_compact(&bytes).expect("still in the range")
}

pub fn redeem_script() -> ScriptBuf {
    let keys = Builder::new()
        .push_int(2)
        .push_key(&key("payer/K1"))
        .push_key(&key("payee/K2"));
    keys.push_int(2).push_opcode(OP_CHECKMULTISIG).into_script()
}

pub fn p2pkh(label: &str) -> ScriptBuf {
    ScriptBuf::new_p2pkh(&key(label).pubkey_hash())
}

pub fn p2wpkh(label: &str) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&key(label).wpubkey_hash().expect("compressed"))
}

pub fn names() -> Names {
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

pub fn funding_txid() -> Txid {
    Txid::from_byte_array(sha256::Hash::hash(b"funding").to_byte_array())
}

/// A spend of `funding:0` that pays 99,000 satoshi to the payer's wallet.
pub fn spend(lock: u32, sequence: Sequence) -> Transaction {
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

pub fn refund() -> Transaction {
    spend(LOCK, Sequence::ENABLE_LOCKTIME_NO_RBF)
}

pub fn funded(script_pubkey: ScriptBuf) -> TxOut {
    TxOut {
        value: FUNDED,
        script_pubkey,
    }
}

pub fn script_sig(items: &[Vec<u8>]) -> ScriptBuf {
    let push = |builder: Builder, item: &Vec<u8>| {
        builder.push_slice(PushBytesBuf::try_from(item.clone()).expect("a short item"))
    };
    items.iter().fold(Builder::new(), push).into_script()
}

pub fn legacy(tx: &Transaction, code: &ScriptBuf, hash_type: EcdsaSighashType) -> [u8; 32] {
    let hash = SighashCache::new(tx).legacy_signature_hash(0, code, hash_type.to_u32());
    hash.expect("input 0 exists").to_byte_array()
}

/// The refund with these signatures in its scriptSig.
pub fn refund_with(signatures: &[Vec<u8>]) -> Transaction {
    let mut tx = refund();
    let items = [&[vec![]], signatures, &[redeem_script().to_bytes()]].concat();
    tx.input[0].script_sig = script_sig(&items);
    tx
}

pub fn refund_signature(label: &str) -> ecdsa::Signature {
    sign(label, legacy(&refund(), &redeem_script(), EcdsaSighashType::All))
}

pub fn page(title: &str, tx: &Transaction, prevouts: &[TxOut]) -> String {
    let context = TextContext {
        title,
        prevouts,
        names: &names(),
        network: Network::Regtest,
    };
    render(&serialize(tx), &context).expect("a transaction that was just serialised")
}

pub fn refund_page(title: &str, signatures: &[Vec<u8>]) -> String {
    page(
        title,
        &refund_with(signatures),
        &[funded(redeem_script().to_p2sh())],
    )
}

pub fn assert_has(page: &str, line: &str) {
    assert!(
        page.lines().any(|found| found.trim() == line),
        "no line {line:?} in:\n{page}"
    );
}
