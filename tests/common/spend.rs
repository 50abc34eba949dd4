//! Spends of a channel's 2-of-2 output made by hand, with the keys of both sides: what a naive or dishonest party
//! would make.

use bitcoin::absolute::LockTime;
use bitcoin::ecdsa::Signature;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use spilman::channel::SPEND_VERSION;

/// An unsigned spend.
pub fn unsigned(from: OutPoint, lock_time: LockTime, sequence: Sequence, output: Vec<TxOut>) -> Transaction {
    let input = TxIn {
        previous_output: from,
        script_sig: ScriptBuf::new(),
        sequence,
        witness: Witness::new(),
    };
    Transaction {
        version: SPEND_VERSION,
        lock_time,
        input: vec![input],
        output,
    }
}

/// A signature over the only input, of any type.
pub fn sign(tx: &Transaction, redeem: &ScriptBuf, key: &SecretKey, kind: EcdsaSighashType) -> Signature {
    let hash = SighashCache::new(tx)
        .legacy_signature_hash(0, redeem, kind.to_u32())
        .expect("input 0 exists");
    Signature {
        signature: Secp256k1::new().sign_ecdsa(&Message::from(hash), key),
        sighash_type: kind,
    }
}

/// The other S of the same signature: as valid in a block.
pub fn high_s(mut signature: Signature) -> Signature {
    let mut compact = signature.signature.serialize_compact();
    let s = SecretKey::from_slice(&compact[32..]).expect("S is below the order");
    compact[32..].copy_from_slice(&s.negate().secret_bytes());
    signature.signature = bitcoin::secp256k1::ecdsa::Signature::from_compact(&compact).expect("r and s");
    signature
}

/// Puts both signatures in.
pub fn finish(mut tx: Transaction, [payer, payee]: [Signature; 2], redeem: &ScriptBuf) -> Transaction {
    tx.input[0].script_sig = Builder::new()
        .push_int(0)
        .push_slice(payer.serialize())
        .push_slice(payee.serialize())
        .push_slice(PushBytesBuf::try_from(redeem.to_bytes()).expect("71 bytes"))
        .into_script();
    tx
}
