//! Taproot channels: the key path, the leaf of a payment, the leaf of the refund (BIP 341, BIP 342).

use std::str::FromStr;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::key::TapTweak;
use bitcoin::opcodes::all::{OP_CHECKSIG, OP_ELSE, OP_ENDIF, OP_IF, OP_NOP, OP_RESERVED};
use bitcoin::opcodes::Opcode;
use bitcoin::script::Builder;
use bitcoin::secp256k1::{Keypair, Message, Secp256k1};
use bitcoin::sighash::{Annex, Prevouts, SighashCache};
use bitcoin::taproot::{ControlBlock, LeafVersion, TapTree};
use bitcoin::{
    Network, ScriptBuf, Sequence, TapLeafHash, TapNodeHash, TapSighashType, Transaction, TxOut, Witness,
    XOnlyPublicKey,
};
use miniscript::Descriptor;
use spilman::transcript::{
    decode, render, DecodedInput, ItemRole, Names, Problem, SignatureOwner, SpendKind, TextContext,
};

use super::build::{assert_has, funded, key, names, refund, secret, spend, LOCK};

/// The output, its two leaves, and what belongs to them.
struct Channel {
    internal: XOnlyPublicKey,
    tree: TapTree,
    /// Leaf 0 takes a payment, leaf 1 the refund.
    leaves: Vec<(ScriptBuf, ControlBlock)>,
    output: TxOut,
}

fn x_only(label: &str) -> XOnlyPublicKey {
    key(label).inner.x_only_public_key().0
}

fn channel() -> Channel {
    let [payer, payee, internal] = ["payer/K1", "payee/K2", "both"].map(x_only);
    let leaves = format!("{{and_v(v:pk({payer}),pk({payee})),and_v(v:pk({payer}),after({LOCK}))}}");
    let descriptor = Descriptor::<XOnlyPublicKey>::from_str(&format!("tr({internal},{leaves})"));
    let Descriptor::Tr(descriptor) = descriptor.expect("a descriptor") else {
        panic!("not Taproot")
    };
    let info = descriptor.spend_info();
    let leaves = info.leaves();
    Channel {
        internal,
        leaves: leaves
            .map(|leaf| (leaf.script().to_owned(), leaf.control_block().clone()))
            .collect(),
        tree: info.to_tap_tree().expect("two leaves"),
        output: funded(descriptor.script_pubkey()),
    }
}

impl Channel {
    fn leaf(&self, index: usize) -> ScriptBuf {
        self.leaves[index].0.clone()
    }

    fn control(&self, index: usize) -> ControlBlock {
        self.leaves[index].1.clone()
    }

    fn names(&self) -> Names {
        let mut names = names();
        names
            .x_only_key(self.internal, "MuSig2 key of K1 and K2")
            .taproot(self.internal, &self.tree, "channel")
            .leaf(&self.leaf(0), "payment")
            .leaf(&self.leaf(1), "refund after the lock");
        names
    }

    fn page(&self, title: &str, tx: &Transaction) -> String {
        self.page_with(title, tx, std::slice::from_ref(&self.output))
    }

    fn page_with(&self, title: &str, tx: &Transaction, prevouts: &[TxOut]) -> String {
        let context = TextContext {
            title,
            prevouts,
            names: &self.names(),
            network: Network::Regtest,
        };
        render(&serialize(tx), &context).expect("a transaction that was just serialised")
    }

    fn read(&self, tx: &Transaction) -> DecodedInput {
        let decoded = decode(&serialize(tx), std::slice::from_ref(&self.output)).expect("a transaction");
        decoded.inputs[0].clone()
    }

    fn digest(&self, tx: &Transaction, leaf: Option<&ScriptBuf>, hash_type: TapSighashType) -> [u8; 32] {
        let leaf = leaf.map(|leaf| TapLeafHash::from_script(leaf, LeafVersion::TapScript));
        let prevouts = [self.output.clone()];
        let mut cache = SighashCache::new(tx);
        let hash = match leaf {
            Some(leaf) => {
                cache.taproot_script_spend_signature_hash(0, &Prevouts::All(&prevouts), leaf, hash_type)
            }
            None => cache.taproot_key_spend_signature_hash(0, &Prevouts::All(&prevouts), hash_type),
        };
        hash.expect("input 0 exists").to_byte_array()
    }

    fn sign_leaf(&self, label: &str, tx: &Transaction, leaf: &ScriptBuf) -> Vec<u8> {
        schnorr(label, self.digest(tx, Some(leaf), TapSighashType::Default))
    }

    /// A payment by leaf 0.
    fn payment(&self) -> Transaction {
        let (tx, leaf) = (spend(0, Sequence::MAX), self.leaf(0));
        let [payee, payer] = ["payee/K2", "payer/K1"].map(|label| self.sign_leaf(label, &tx, &leaf));
        with_witness(&tx, &[payee, payer, leaf.to_bytes(), self.control(0).serialize()])
    }

    fn refund(&self, tx: &Transaction) -> Transaction {
        let leaf = self.leaf(1);
        let signature = self.sign_leaf("payer/K1", tx, &leaf);
        with_witness(tx, &[signature, leaf.to_bytes(), self.control(1).serialize()])
    }

    /// A key path signature over this digest.
    fn key_signature(&self, digest: [u8; 32]) -> Vec<u8> {
        let secp = Secp256k1::new();
        let pair = Keypair::from_secret_key(&secp, &secret("both"));
        let pair = pair.tap_tweak(&secp, Some(self.tree.root_hash())).to_keypair();
        let signature = secp.sign_schnorr_no_aux_rand(&Message::from_digest(digest), &pair);
        signature.serialize().to_vec()
    }

    fn settlement(&self) -> Transaction {
        let tx = spend(0, Sequence::MAX);
        let signature = self.key_signature(self.digest(&tx, None, TapSighashType::Default));
        with_witness(&tx, &[signature])
    }
}

fn schnorr(label: &str, digest: [u8; 32]) -> Vec<u8> {
    let secp = Secp256k1::new();
    let pair = Keypair::from_secret_key(&secp, &secret(label));
    let signature = secp.sign_schnorr_no_aux_rand(&Message::from_digest(digest), &pair);
    signature.serialize().to_vec()
}

fn with_witness(tx: &Transaction, items: &[Vec<u8>]) -> Transaction {
    let mut tx = tx.clone();
    tx.input[0].witness = Witness::from_slice(items);
    tx
}

/// The same transaction with another item in this place of its witness.
fn with_item(tx: &Transaction, at: usize, item: Vec<u8>) -> Transaction {
    let mut items = tx.input[0].witness.to_vec();
    items[at] = item;
    with_witness(tx, &items)
}

/// A payment by its leaf, and the output that it spends.
pub fn any_payment() -> (Transaction, TxOut) {
    let channel = channel();
    (channel.payment(), channel.output)
}

#[test]
fn funding_shows_the_key_and_the_leaves() {
    let channel = channel();
    let mut tx = spend(0, Sequence::MAX);
    tx.output[0] = channel.output.clone();
    let text = channel.page_with("funding of taproot", &tx, &[]);
    assert_has(&text, "script    1 <output key of channel>");
    assert_has(&text, "leaf      refund after the lock");
    insta::assert_snapshot!("funding", text);
}

#[test]
fn payment_by_its_leaf() {
    let channel = channel();
    let text = channel.page("payment of taproot", &channel.payment());
    assert_has(
        &text,
        "kind      P2TR script path: payer key K1 and payee key K2 sign",
    );
    assert_has(&text, "signed    by payee key K2, payer key K1 (2 of 2)");
    assert_has(&text, "0  signature by payee key K2 (DEFAULT, Schnorr, 64 bytes)");
    assert!(!text.contains("WARNING"), "{text}");
    insta::assert_snapshot!("payment", text);
}

#[test]
fn refund_by_its_leaf() {
    let channel = channel();
    let text = channel.page("refund of taproot", &channel.refund(&refund()));
    assert_has(
        &text,
        "kind      P2TR script path: payer key K1 signs, not before height 245",
    );
    assert_has(&text, "signed    by payer key K1 (1 of 1)");
    assert!(!text.contains("WARNING"), "{text}");
    insta::assert_snapshot!("refund", text);

    let early = channel.refund(&spend(LOCK - 1, Sequence::ENABLE_LOCKTIME_NO_RBF));
    let text = channel.page("early refund of taproot", &early);
    assert_has(
        &text,
        "WARNING   the script requires height 245, but the lock is only height 244",
    );
    let last = channel.refund(&spend(LOCK, Sequence::MAX));
    assert_eq!(channel.read(&last).problems, [Problem::LockDisabled]);
}

#[test]
fn settlement_by_the_key() {
    let channel = channel();
    let text = channel.page("settlement of taproot", &channel.settlement());
    assert_has(&text, "kind      P2TR key path");
    assert_has(&text, "signed    by output key of channel (1 of 1)");
    insta::assert_snapshot!("settlement", text);

    let tx = spend(0, Sequence::MAX);
    let sum = TapSighashType::AllPlusAnyoneCanPay;
    let mut signature = channel.key_signature(channel.digest(&tx, None, sum));
    signature.push(sum as u8);
    let text = channel.page("another hash type", &with_witness(&tx, &[signature]));
    assert_has(
        &text,
        "0  signature by output key of channel (ALL|ANYONECANPAY, Schnorr, 65 bytes)",
    );
}

#[test]
fn without_the_spent_output() {
    let channel = channel();
    // The leaf and its control block give the output, but not what the signatures commit to.
    let text = channel.page_with("payment, spent output unknown", &channel.payment(), &[]);
    assert_has(
        &text,
        "kind      P2TR script path: payer key K1 and payee key K2 sign (guessed from the items; the spent \
         output is unknown)",
    );
    assert!(
        text.contains("not checked: it signs the spent outputs, which are unknown"),
        "{text}"
    );
    insta::assert_snapshot!("payment_without_prevouts", text);

    let decoded = decode(&serialize(&channel.settlement()), &[]).expect("a transaction");
    let input = &decoded.inputs[0];
    assert_eq!((input.kind, input.inferred), (SpendKind::TaprootKeyPath, true));
    assert!(
        input.lacks_signatures() && !input.has_invalid_signature(),
        "{input:?}"
    );
}

#[test]
fn wrong_signatures_are_marked() {
    let channel = channel();
    let (good, tx, leaf) = (channel.payment(), spend(0, Sequence::MAX), channel.leaf(0));
    let stranger = channel.sign_leaf("a stranger", &tx, &leaf);
    let text = channel.page(
        "payment with a stranger's signature",
        &with_item(&good, 1, stranger),
    );
    assert!(text.contains("INVALID: no key of the script made it"), "{text}");
    assert_has(&text, "signed    by payee key K2 (1 of 2; not by payer key K1)");
    insta::assert_snapshot!("wrong_signature", text);

    // A signature for one leaf is none for the other, nor for the key path, nor one with the internal key.
    let digest = |leaf| channel.digest(&tx, leaf, TapSighashType::Default);
    let other_leaf = channel.sign_leaf("payer/K1", &tx, &channel.leaf(1));
    assert!(channel
        .read(&with_item(&good, 1, other_leaf))
        .has_invalid_signature());
    for forged in [
        channel.key_signature(digest(Some(&leaf))),
        schnorr("both", digest(None)),
    ] {
        let input = channel.read(&with_witness(&tx, &[forged]));
        assert!(
            input.has_invalid_signature() && input.lacks_signatures(),
            "{input:?}"
        );
    }

    let signature = |item: &[u8]| {
        channel
            .read(&with_witness(&tx, &[item.to_vec()]))
            .witness
            .remove(0)
            .role
    };
    let settled = channel.settlement().input[0].witness.to_vec().remove(0);
    for (bytes, why) in [
        (
            &[&settled[..], &[0]].concat(),
            "the default hash type must not be written (BIP 341)",
        ),
        (
            &[&settled[..], &[4]].concat(),
            "its hash type is undefined (BIP 341)",
        ),
        (&settled[..63].to_vec(), "neither 64 nor 65 bytes (BIP 341)"),
        (
            &[&settled[..], &[1, 1]].concat(),
            "neither 64 nor 65 bytes (BIP 341)",
        ),
    ] {
        let ItemRole::Signature(found) = signature(bytes) else {
            panic!("no signature: {bytes:?}")
        };
        assert_eq!(
            found.signer,
            SignatureOwner::Malformed(why),
            "{} bytes",
            bytes.len()
        );
    }
    let swapped = [1, 0, 2, 3].map(|at| good.input[0].witness.to_vec()[at].clone());
    assert_eq!(
        channel.read(&with_witness(&tx, &swapped)).problems,
        [Problem::OtherKey; 2]
    );
}

#[test]
fn wrong_commitments_are_marked() {
    let channel = channel();
    let good = channel.payment();
    let mut parity = channel.control(0).serialize();
    parity[0] ^= 1;
    let text = channel.page(
        "payment with the wrong parity",
        &with_item(&good, 3, parity.clone()),
    );
    assert_has(
        &text,
        "WARNING   the control block states the wrong parity of the output key",
    );
    insta::assert_snapshot!("wrong_parity", text);

    // The refund's leaf behind the control block of the payment's.
    let leaf = channel.leaf(1);
    let tx = refund();
    let signature = channel.sign_leaf("payer/K1", &tx, &leaf);
    let wrong = with_witness(&tx, &[signature, leaf.to_bytes(), channel.control(0).serialize()]);
    let text = channel.page("refund with the wrong leaf", &wrong);
    assert_has(
        &text,
        "WARNING   the leaf and the control block do not commit to the output key of the spent output",
    );
    insta::assert_snapshot!("wrong_leaf", text);
    assert!(channel.read(&wrong).lacks_signatures());

    let problems = |control: ControlBlock| channel.read(&with_item(&good, 3, control.serialize())).problems;
    assert_eq!(problems(channel.control(0)), []);
    let mut internal = channel.control(0);
    internal.internal_key = x_only("payer/K1");
    assert!(problems(internal).contains(&Problem::Commitment));
    let mut sibling = channel.control(0);
    sibling.merkle_branch = [TapNodeHash::all_zeros()].into();
    assert!(problems(sibling).contains(&Problem::Commitment));
    let mut version = channel.control(0);
    version.leaf_version = LeafVersion::from_consensus(0xc2).expect("even, and not the annex");
    assert!(problems(version).contains(&Problem::LeafVersion { version: 0xc2 }));
    for broken in [vec![], vec![0xc0; 32], [&parity[..], &[0]].concat()] {
        let input = channel.read(&with_item(&good, 3, broken));
        assert_eq!(input.problems, [Problem::ControlBlock]);
        assert!(input.signers().is_empty(), "{input:?}");
    }
}

#[test]
fn an_annex_is_signed_and_named() {
    let channel = channel();
    let tx = spend(0, Sequence::MAX);
    let annex = vec![0x50, 1, 2];
    let prevouts = [channel.output.clone()];
    let hash = SighashCache::new(&tx).taproot_signature_hash(
        0,
        &Prevouts::All(&prevouts),
        Some(Annex::new(&annex).expect("it begins with 0x50")),
        None,
        TapSighashType::Default,
    );
    let signature = channel.key_signature(hash.expect("input 0 exists").to_byte_array());
    let text = channel.page("annex", &with_witness(&tx, &[signature, annex.clone()]));
    assert_has(&text, "signed    by output key of channel (1 of 1)");
    assert_has(&text, "1  annex, not standard (3 bytes)");
    let settled = channel.settlement().input[0].witness.to_vec().remove(0);
    assert!(channel
        .read(&with_witness(&tx, &[settled, annex]))
        .has_invalid_signature());
}

/// A tapscript with an opcode that succeeds needs no signature at all, even where it does not run (BIP 342).
#[test]
fn a_leaf_that_always_succeeds_claims_nothing() {
    let channel = channel();
    let asked = |unrun: Opcode| {
        let leaf = Builder::new()
            .push_opcode(OP_IF)
            .push_opcode(unrun)
            .push_opcode(OP_ELSE);
        let leaf = leaf.push_x_only_key(&x_only("payer/K1")).push_opcode(OP_CHECKSIG);
        let leaf = leaf.push_opcode(OP_ENDIF).into_script();
        let tx = spend(0, Sequence::MAX);
        let items = [channel.sign_leaf("payer/K1", &tx, &leaf), vec![], leaf.to_bytes()];
        let input = channel.read(&with_witness(
            &tx,
            &[&items[..], &[channel.control(0).serialize()]].concat(),
        ));
        (input.required, input.asks.len())
    };
    assert_eq!(asked(OP_NOP), (1, 1));
    assert_eq!(asked(OP_RESERVED), (0, 0));
}
