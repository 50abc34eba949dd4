//! Spends of a channel's funding output made by hand, with the keys of both sides: what a naive or dishonest party
//! would make.

use bitcoin::absolute::LockTime;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{ecdsa, Keypair, Secp256k1, SecretKey};
use bitcoin::sighash::{Annex, EcdsaSighashType};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::{OutPoint, ScriptBuf, Sequence, TapSighashType, Transaction, TxIn, TxOut, Witness};
use spilman::adversary::oracle;
use spilman::channel::{AggregateKey, ChannelParams, Construction, SPEND_VERSION};

/// Index of the leaf with both keys, and of the one with the payer's and the lock.
pub const BOTH: usize = 0;
pub const REFUND: usize = 1;

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

/// The same without its signatures.
pub fn stripped(tx: &Transaction) -> Transaction {
    let mut tx = tx.clone();
    tx.input[0].script_sig = ScriptBuf::new();
    tx.input[0].witness = Witness::new();
    tx
}

/// A signature over a spend by both, as it goes into the input.
pub fn sign(params: &ChannelParams, tx: &Transaction, key: &SecretKey) -> Vec<u8> {
    match params.terms().construction {
        Construction::Taproot => sign_leaf(params, tx, key, BOTH, TapSighashType::Default, None),
        _ => sign_ecdsa(params, tx, key, EcdsaSighashType::All),
    }
}

/// The payer's over a refund that needs no other.
pub fn sign_refund(params: &ChannelParams, tx: &Transaction, key: &SecretKey) -> Vec<u8> {
    match params.terms().construction {
        Construction::Taproot => sign_leaf(params, tx, key, REFUND, TapSighashType::Default, None),
        _ => sign(params, tx, key),
    }
}

/// A signature of any hash type that commits to no output, nor to other inputs.
pub fn sign_nothing(params: &ChannelParams, tx: &Transaction, key: &SecretKey) -> Vec<u8> {
    match params.terms().construction {
        Construction::Taproot => sign_leaf(params, tx, key, BOTH, TapSighashType::NonePlusAnyoneCanPay, None),
        _ => sign_ecdsa(params, tx, key, EcdsaSighashType::NonePlusAnyoneCanPay),
    }
}

pub fn sign_ecdsa(
    params: &ChannelParams,
    tx: &Transaction,
    key: &SecretKey,
    kind: EcdsaSighashType,
) -> Vec<u8> {
    let digest = oracle::ecdsa_digest(params, tx, kind);
    let signature = Secp256k1::new().sign_ecdsa(&digest, key);
    ecdsa_bytes(signature, kind as u8)
}

pub fn ecdsa_bytes(signature: ecdsa::Signature, kind: u8) -> Vec<u8> {
    [&signature.serialize_der()[..], &[kind]].concat()
}

pub fn sign_leaf(
    params: &ChannelParams,
    tx: &Transaction,
    key: &SecretKey,
    leaf: usize,
    kind: TapSighashType,
    annex: Option<Annex<'_>>,
) -> Vec<u8> {
    let digest = oracle::taproot_digest(params, tx, Some(leaf), kind, annex);
    let secp = Secp256k1::new();
    let pair = Keypair::from_secret_key(&secp, key);
    let signature = secp.sign_schnorr_no_aux_rand(&digest, &pair);
    let sighash_type = kind;
    bitcoin::taproot::Signature {
        signature,
        sighash_type,
    }
    .to_vec()
}

/// The other S of the same signature: as valid in a block.
pub fn high_s(signature: &[u8]) -> Vec<u8> {
    let (kind, der) = signature.split_last().expect("a hash type");
    let signature = ecdsa::Signature::from_der(der).expect("a signature");
    let mut compact = signature.serialize_compact();
    oracle::high_s(&mut compact);
    let high = ecdsa::Signature::from_compact(&compact).expect("r and s");
    ecdsa_bytes(high, *kind)
}

/// The 64 bytes as they are sent to the payee.
pub fn compact(params: &ChannelParams, signature: &[u8]) -> [u8; 64] {
    match params.terms().construction {
        Construction::Taproot => signature[..64].try_into().expect("64 bytes"),
        _ => ecdsa::Signature::from_der(&signature[..signature.len() - 1])
            .expect("a signature")
            .serialize_compact(),
    }
}

/// What an input reveals when both have signed, script and control block included, the bottom of the stack first.
pub fn stack(params: &ChannelParams, [payer, payee]: [Vec<u8>; 2]) -> Vec<Vec<u8>> {
    let script = params.revealed_scripts()[0].1.to_bytes();
    match params.terms().construction {
        Construction::Taproot => vec![payee, payer, script, control(params, BOTH)],
        Construction::Cltv | Construction::Csv => vec![payer, payee, vec![1], script],
        _ => vec![vec![], payer, payee, script],
    }
}

/// The same for the payer alone.
pub fn refund_stack(params: &ChannelParams, payer: Vec<u8>) -> Vec<Vec<u8>> {
    let scripts = params.revealed_scripts();
    match params.terms().construction {
        Construction::Taproot => vec![payer, scripts[REFUND].1.to_bytes(), control(params, REFUND)],
        _ => vec![payer, vec![], scripts[0].1.to_bytes()],
    }
}

/// What proves that the leaf is in the output (BIP 341): parity and leaf version, internal key, the other leaf's hash.
pub fn control(params: &ChannelParams, leaf: usize) -> Vec<u8> {
    let leaves = params
        .revealed_scripts()
        .into_iter()
        .map(|(_, script)| script.to_owned());
    let leaves: Vec<_> = leaves.collect();
    let add = |tree: TaprootBuilder, leaf: &ScriptBuf| tree.add_leaf(1, leaf.clone()).expect("two leaves");
    let tree = leaves.iter().fold(TaprootBuilder::new(), add);
    let internal = AggregateKey::new(params.payer_key(), params.payee_key()).internal_key();
    let info = tree.finalize(&Secp256k1::new(), internal).expect("a whole tree");
    let block = info.control_block(&(leaves[leaf].clone(), LeafVersion::TapScript));
    block.expect("the leaf is in the tree").serialize()
}

/// Puts a stack where the construction wants it.
pub fn put(params: &ChannelParams, mut tx: Transaction, stack: Vec<Vec<u8>>) -> Transaction {
    let input = &mut tx.input[0];
    let push = |builder: Builder, item: Vec<u8>| {
        builder.push_slice(PushBytesBuf::try_from(item).expect("below the limit"))
    };
    match params.terms().construction {
        Construction::P2sh => {
            input.script_sig = stack.into_iter().fold(Builder::new(), push).into_script();
        }
        Construction::P2shP2wsh => {
            let program = params.revealed_scripts()[0].1.to_p2wsh();
            input.script_sig = push(Builder::new(), program.into_bytes()).into_script();
            input.witness = Witness::from_slice(&stack);
        }
        _ => input.witness = Witness::from_slice(&stack),
    }
    tx
}

/// Puts both signatures in, the payer's first.
pub fn finish(params: &ChannelParams, tx: Transaction, signatures: [Vec<u8>; 2]) -> Transaction {
    put(params, tx, stack(params, signatures))
}

pub fn finish_refund(params: &ChannelParams, tx: Transaction, signature: Vec<u8>) -> Transaction {
    put(params, tx, refund_stack(params, signature))
}
