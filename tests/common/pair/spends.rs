//! Whether a spend of the funding output is valid, judged without the crate's help.

use bitcoin::key::XOnlyPublicKey;
use bitcoin::opcodes::all::{OP_CHECKSIG, OP_CHECKSIGVERIFY, OP_CLTV};
use bitcoin::script::Builder;
use bitcoin::secp256k1::{schnorr, Message as Digest, Secp256k1};
use bitcoin::taproot::ControlBlock;
use bitcoin::{Amount, Script, ScriptBuf, TapSighashType, Transaction};
use spilman::adversary::oracle;
use spilman::channel::{ChannelParams, Construction};

/// The verdict over the spend of the funding output, and the sums: nothing is made or lost.
///
/// For scripts and segwit v0 it is Core's own. Core's library knows no Taproot, so such a spend is analysed here.
pub fn assert_spends(params: &ChannelParams, tx: &Transaction) {
    let capacity = params.terms().capacity.to_amount();
    let bytes = bitcoin::consensus::serialize(tx);
    params
        .funding_script()
        .verify(0, capacity, &bytes)
        .expect("consensus takes the spend");
    if params.terms().construction == Construction::Taproot {
        assert_tree_spends(params, tx);
    }
    assert!(!tx.output.is_empty(), "a transaction without outputs is invalid");
    let out: Amount = tx.output.iter().map(|output| output.value).sum();
    assert!(out <= capacity, "{out} is paid out of {capacity}");
}

fn assert_tree_spends(params: &ChannelParams, tx: &Transaction) {
    let script_pubkey = params.funding_script();
    let output_key = XOnlyPublicKey::from_slice(&script_pubkey.as_bytes()[2..]).expect("a key of 32 bytes");
    assert!(tx.input[0].script_sig.is_empty(), "a script beside the witness");
    let witness: Vec<_> = tx.input[0].witness.iter().collect();
    let [signatures @ .., script, control] = &witness[..] else {
        let digest = oracle::taproot_digest(params, tx, None, TapSighashType::Default, None);
        return assert_signed(witness[0], &digest, output_key);
    };
    let script = Script::from_bytes(script);
    let control = ControlBlock::decode(control).expect("a control block");
    assert!(
        control.verify_taproot_commitment(&Secp256k1::new(), output_key, script),
        "{script} is not in the output"
    );
    let [payer, payee] = [
        params.payer_key().to_public_key(),
        params.payee_key().to_public_key(),
    ]
    .map(|key| key.x_only_public_key().0);
    match signatures {
        [second, first] => {
            assert_eq!(script, &*both(payer, payee), "the payment leaf");
            let digest = leaf_digest(params, tx, 0);
            assert_signed(first, &digest, payer);
            assert_signed(second, &digest, payee);
        }
        [only] => {
            let lock = params.terms().refund_lock.to_lock_time();
            assert_eq!(script, &*refund(payer, lock), "the refund leaf");
            assert_signed(only, &leaf_digest(params, tx, 1), payer);
            assert!(
                lock.is_implied_by(tx.lock_time) && tx.input[0].sequence.enables_absolute_lock_time(),
                "the script's lock {lock:?} does not hold the spend back: {:?}",
                tx.lock_time
            );
        }
        other => panic!("{} items before the script", other.len()),
    }
}

fn leaf_digest(params: &ChannelParams, tx: &Transaction, leaf: usize) -> Digest {
    oracle::taproot_digest(params, tx, Some(leaf), TapSighashType::Default, None)
}

fn both(payer: XOnlyPublicKey, payee: XOnlyPublicKey) -> ScriptBuf {
    Builder::new()
        .push_x_only_key(&payer)
        .push_opcode(OP_CHECKSIGVERIFY)
        .push_x_only_key(&payee)
        .push_opcode(OP_CHECKSIG)
        .into_script()
}

fn refund(payer: XOnlyPublicKey, lock: bitcoin::absolute::LockTime) -> ScriptBuf {
    Builder::new()
        .push_x_only_key(&payer)
        .push_opcode(OP_CHECKSIGVERIFY)
        .push_lock_time(lock)
        .push_opcode(OP_CLTV)
        .into_script()
}

fn assert_signed(signature: &[u8], digest: &Digest, key: XOnlyPublicKey) {
    let parsed = schnorr::Signature::from_slice(signature).expect("64 bytes, for the default");
    Secp256k1::new()
        .verify_schnorr(&parsed, digest, &key)
        .unwrap_or_else(|error| panic!("{error}: not by {key}"));
}
