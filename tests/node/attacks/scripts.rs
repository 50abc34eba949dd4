//! Whatever is changed in an input that both signed, the node accepts nothing but what was agreed.

use bitcoin::key::Keypair;
use bitcoin::secp256k1::{schnorr, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{Annex, EcdsaSighashType};
use bitcoin::taproot::{LeafVersion, TapLeafHash};
use bitcoin::{TapSighashType, Transaction};
use spilman::adversary::oracle;
use spilman::channel::{
    AggregateKey, ChannelKey, Construction, NonceSeed, PayeeKey, PayerKey, Protocol, SecretNonce,
};
use spilman::regtest::{labelled_key, RejectReason};

use super::channel_on;
use crate::common::cast::{sat, start, Cast};
use crate::common::channel::Channel;
use crate::common::judge::Judge as _;
use crate::common::spend::{self, BOTH, REFUND};
use Construction::{Cltv, Csv, P2sh, P2shP2wsh, P2wsh, Taproot};

/// What is on the stack of a sound payment, bottom first, with script and control block.
type Stack = Vec<Vec<u8>>;

struct Row {
    name: &'static str,
    on: &'static [Construction],
    spoil: fn(&Channel, &Transaction, &mut Stack),
    reason: RejectReason,
    words: &'static str,
}

const ALL: &[Construction] = &Construction::ALL;
const MULTISIG: &[Construction] = &[P2sh, P2shP2wsh, P2wsh];
const BRANCHES: &[Construction] = &[Cltv, Csv];
const SEGWIT_V0: &[Construction] = &[P2shP2wsh, P2wsh, Cltv, Csv];
const ECDSA: &[Construction] = &[P2sh, P2shP2wsh, P2wsh, Cltv, Csv];
const TREE: &[Construction] = &[Taproot];

/// Where the payer's signature is, and the payee's.
fn places(channel: &Channel) -> [usize; 2] {
    match channel.params().terms().construction {
        Taproot => [1, 0],
        Cltv | Csv => [0, 1],
        _ => [1, 2],
    }
}

fn schnorr_by_payer(channel: &Channel, digest: &Message) -> Vec<u8> {
    let secp = Secp256k1::new();
    let pair = Keypair::from_secret_key(&secp, &channel.keys()[0]);
    secp.sign_schnorr_no_aux_rand(digest, &pair).serialize().to_vec()
}

fn key_digest(channel: &Channel, tx: &Transaction) -> Message {
    oracle::taproot_digest(channel.params(), tx, None, TapSighashType::Default, None)
}

/// Both sign with their aggregate key, and forget the tree that is mixed into the output's.
fn without_the_tree(channel: &Channel, tx: &Transaction) -> schnorr::Signature {
    let (payer, payee) = (
        ChannelKey::new(channel.keys()[0]),
        ChannelKey::new(channel.keys()[1]),
    );
    let aggregate =
        AggregateKey::new(channel.params().payer_key(), channel.params().payee_key()).tweaked(None);
    let digest = key_digest(channel, tx);
    let asked = SecretNonce::generate(
        NonceSeed::new([9; 32]),
        &payee,
        &aggregate,
        tx.input[0].previous_output,
    );
    let (nonce, partial) = aggregate
        .sign_with(&payer, &asked.public(), &digest)
        .expect("signed");
    aggregate
        .complete(asked, &payee, &nonce, &partial, &digest)
        .expect("signed")
}

const UNSIGNED: &str = "Signature must be zero for failed CHECK(MULTI)SIG operation";
const WRONG_SCHNORR: &str = "Invalid Schnorr signature";
const MISMATCH: &str = "Witness program hash mismatch";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { name: "an item more", on: ALL, spoil: |_, _, stack| stack.insert(0, vec![1, 1]), reason: RejectReason::ScriptFailed, words: "Stack size must be exactly one after execution" },
    Row { name: "an item less", on: ALL, spoil: |_, _, stack| { stack.remove(0); }, reason: RejectReason::ScriptFailed, words: "Operation not valid with the current stack size" },
    Row { name: "a dummy that is not empty", on: MULTISIG, spoil: |_, _, stack| stack[0] = vec![7, 7], reason: RejectReason::ScriptFailed, words: "Dummy CHECKMULTISIG argument must be zero" },
    Row { name: "a yes of two bytes", on: BRANCHES, spoil: |_, _, stack| stack[2] = vec![1, 0], reason: RejectReason::ScriptFailed, words: "OP_IF/NOTIF argument must be minimal" },
    Row { name: "another yes", on: BRANCHES, spoil: |_, _, stack| stack[2] = vec![2], reason: RejectReason::ScriptFailed, words: "OP_IF/NOTIF argument must be minimal" },
    Row { name: "the refund's branch with both signatures", on: BRANCHES, spoil: |_, _, stack| stack[2] = vec![], reason: RejectReason::ScriptFailed, words: "Locktime requirement not satisfied" },
    Row { name: "the signatures swapped", on: MULTISIG, spoil: |_, _, stack| stack.swap(1, 2), reason: RejectReason::ScriptFailed, words: UNSIGNED },
    Row { name: "the signatures swapped", on: BRANCHES, spoil: |_, _, stack| stack.swap(0, 1), reason: RejectReason::ScriptFailed, words: UNSIGNED },
    Row { name: "the signatures swapped", on: TREE, spoil: |_, _, stack| stack.swap(0, 1), reason: RejectReason::ScriptFailed, words: WRONG_SCHNORR },
    Row { name: "the payer's for both", on: ECDSA, spoil: |channel, _, stack| { let [payer, payee] = places(channel); stack[payee] = stack[payer].clone() }, reason: RejectReason::ScriptFailed, words: UNSIGNED },
    Row { name: "the payer's for both", on: TREE, spoil: |channel, _, stack| { let [payer, payee] = places(channel); stack[payee] = stack[payer].clone() }, reason: RejectReason::ScriptFailed, words: WRONG_SCHNORR },
    Row { name: "an empty signature", on: MULTISIG, spoil: |channel, _, stack| stack[places(channel)[1]].clear(), reason: RejectReason::ScriptFailed, words: UNSIGNED },
    Row { name: "high s", on: ECDSA, spoil: |channel, _, stack| { let at = places(channel)[0]; stack[at] = spend::high_s(&stack[at]) }, reason: RejectReason::ScriptFailed, words: "Non-canonical signature: S value is unnecessarily high" },
    Row { name: "a hash type that does not exist", on: ECDSA, spoil: |channel, _, stack| *stack[places(channel)[0]].last_mut().expect("a byte") = 5, reason: RejectReason::ScriptFailed, words: "Signature hash type missing or not understood" },
    Row { name: "another hash type than was signed", on: ECDSA, spoil: |channel, _, stack| *stack[places(channel)[0]].last_mut().expect("a byte") = EcdsaSighashType::Single as u8, reason: RejectReason::ScriptFailed, words: UNSIGNED },
    Row { name: "the default written out", on: TREE, spoil: |_, _, stack| stack[1].push(0), reason: RejectReason::ScriptFailed, words: "Invalid Schnorr signature hash type" },
    Row { name: "a hash type that does not exist", on: TREE, spoil: |_, _, stack| stack[1].push(5), reason: RejectReason::ScriptFailed, words: "Invalid Schnorr signature hash type" },
    Row { name: "another hash type than was signed", on: TREE, spoil: |_, _, stack| stack[1].push(1), reason: RejectReason::ScriptFailed, words: WRONG_SCHNORR },
    Row { name: "65 bytes and one", on: TREE, spoil: |_, _, stack| stack[1].extend([1, 1]), reason: RejectReason::ScriptFailed, words: "Invalid Schnorr signature size" },
    Row { name: "ECDSA for Schnorr", on: TREE, spoil: |channel, tx, stack| stack[1] = spend::sign_ecdsa(channel.params(), tx, &channel.keys()[0], EcdsaSighashType::All), reason: RejectReason::ScriptFailed, words: "Invalid Schnorr signature size" },
    Row { name: "another script", on: &[P2sh], spoil: |_, _, stack| stack.last_mut().expect("a script")[40] ^= 1, reason: RejectReason::ScriptFailed, words: "Script evaluated without error but finished with a false/empty top stack element" },
    Row { name: "another script", on: SEGWIT_V0, spoil: |_, _, stack| stack.last_mut().expect("a script")[40] ^= 1, reason: RejectReason::ScriptFailed, words: MISMATCH },
    Row { name: "another leaf version", on: TREE, spoil: |_, _, stack| stack[3][0] ^= 2, reason: RejectReason::ScriptFailed, words: MISMATCH },
    Row { name: "the other parity", on: TREE, spoil: |_, _, stack| stack[3][0] ^= 1, reason: RejectReason::ScriptFailed, words: MISMATCH },
    Row { name: "the payer's key as the internal one", on: TREE, spoil: |channel, _, stack| stack[3][1..33].copy_from_slice(&channel.params().payer_key().to_public_key().x_only_public_key().0.serialize()), reason: RejectReason::ScriptFailed, words: MISMATCH },
    Row { name: "another sibling", on: TREE, spoil: |_, _, stack| stack[3][40] ^= 1, reason: RejectReason::ScriptFailed, words: MISMATCH },
    Row { name: "a control block without the sibling", on: TREE, spoil: |_, _, stack| stack[3].truncate(33), reason: RejectReason::ScriptFailed, words: MISMATCH },
    Row { name: "a control block that is too short", on: TREE, spoil: |_, _, stack| { stack[3].pop(); }, reason: RejectReason::ScriptFailed, words: "Invalid Taproot control block size" },
    Row { name: "the payment's leaf with the refund's control block", on: TREE, spoil: |channel, _, stack| stack[3] = spend::control(channel.params(), REFUND), reason: RejectReason::ScriptFailed, words: MISMATCH },
    Row { name: "a signature for the refund's leaf", on: TREE, spoil: |channel, tx, stack| stack[1] = spend::sign_refund(channel.params(), tx, &channel.keys()[0]), reason: RejectReason::ScriptFailed, words: WRONG_SCHNORR },
    Row { name: "the refund's leaf with the payment's signature", on: TREE, spoil: |channel, _, stack| *stack = spend::refund_stack(channel.params(), stack[1].clone()), reason: RejectReason::ScriptFailed, words: WRONG_SCHNORR },
    Row { name: "the refund's leaf, signed", on: TREE, spoil: |channel, tx, stack| *stack = spend::refund_stack(channel.params(), spend::sign_refund(channel.params(), tx, &channel.keys()[0])), reason: RejectReason::ScriptFailed, words: "Locktime requirement not satisfied" },
    Row { name: "an annex", on: TREE, spoil: |channel, tx, stack| { let annex = || Annex::new(&[0x50, 1]).ok(); for (at, key) in [(0, &channel.keys()[1]), (1, &channel.keys()[0])] { stack[at] = spend::sign_leaf(channel.params(), tx, key, BOTH, TapSighashType::Default, annex()) } stack.push(vec![0x50, 1]) }, reason: RejectReason::ScriptSig, words: "bad-witness-nonstandard" },
    Row { name: "the key path by the payer alone", on: TREE, spoil: |channel, tx, stack| *stack = vec![schnorr_by_payer(channel, &key_digest(channel, tx))], reason: RejectReason::ScriptFailed, words: WRONG_SCHNORR },
    Row { name: "the key path without the tree", on: TREE, spoil: |channel, tx, stack| *stack = vec![without_the_tree(channel, tx).serialize().to_vec()], reason: RejectReason::ScriptFailed, words: WRONG_SCHNORR },
    Row { name: "nothing", on: TREE, spoil: |_, _, stack| stack.clear(), reason: RejectReason::ScriptFailed, words: "Witness program was passed an empty witness" },
];

/// Each row changes one thing in the input of a payment that the node accepts, on every construction that has such a
/// thing.
#[test]
fn nothing_but_the_agreed_input_is_accepted() {
    let chain = start();
    let mut wrong = Vec::new();
    for construction in Construction::ALL {
        let mut channel = channel_on(&chain, construction, "input");
        let held = channel.pay(sat(10_000));
        let tx = channel.payment();
        let sound = spend::stack(channel.params(), channel.signatures(&tx));
        assert_eq!(
            &spend::put(channel.params(), tx.clone(), sound.clone()),
            held.tx(),
            "{construction}: the payment made by hand is the payee's"
        );
        chain.node().accepts(held.tx());
        for row in ROWS.iter().filter(|row| row.on.contains(&construction)) {
            let mut stack = sound.clone();
            (row.spoil)(&channel, &tx, &mut stack);
            let spoilt = spend::put(channel.params(), tx.clone(), stack);
            let verdict = chain.node().test_accept(&spoilt).expect("verdict");
            let said = verdict.rejection().map(|said| (said.reason, said.words.as_str()));
            if !said.is_some_and(|(reason, words)| reason == row.reason && words.contains(row.words)) {
                wrong.push(format!(
                    "{construction}, {}: {said:?}, not {} {:?}",
                    row.name, row.reason, row.words
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What proves a leaf has the length of a signature with its hash type, and by chance it ends with a zero. Keys are tried
/// until that of the payment leaf does, and then until that of the refund's leaf does.
#[test]
fn a_proof_that_looks_like_a_signature_is_accepted() {
    let chain = start();
    for (other, leaf) in [(1, "payment"), (0, "refund")] {
        let label = format!("proof/{leaf}");
        let mut cast = Cast::new(&chain, &label, Protocol::Example7, sat(100_000)).on(Taproot);
        let public = |secret: &SecretKey| secret.public_key(&Secp256k1::new());
        let payee = PayeeKey::new(public(&cast.setup.payee.secret));
        let mut keys = (0..10_000).map(|n| labelled_key(&format!("spilman/tests/{label}/{n}")));
        let ends_with_zero = |key: &SecretKey| {
            let payer = PayerKey::new(public(key));
            let leaves = cast
                .setup
                .terms
                .revealed_scripts(payer, payee)
                .expect("two leaves");
            TapLeafHash::from_script(&leaves[other].1, LeafVersion::TapScript)[31] == 0
        };
        cast.setup.payer.secret = keys.find(ends_with_zero).expect("one of 256");
        let mut channel = cast.open(&chain);
        let payment = channel.pay(sat(10_000));
        let refund = channel.pair.payer.refund().tx().clone();
        let spend = if leaf == "payment" { payment.tx() } else { &refund };
        let proof = spend.input[0].witness.last().expect("a control block");
        assert_eq!((proof.len(), proof[64]), (65, 0), "{label}");
        chain.make_final(spend.lock_time).expect("blocks");
        chain.node().broadcasts(spend);
    }
}
