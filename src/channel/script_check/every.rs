//! Every construction: what the node rejects is refused here before it is kept. (The node's word on the same changes is
//! in `tests/node/attacks/scripts.rs` and `tests/node/attacks/locks.rs`.)

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::taproot::{LeafVersion, TapLeafHash};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Sequence, Transaction, TxOut, Txid, Witness};

use super::{verify_spend, SpendError};
use crate::channel::musig::{NonceSeed, SecretNonce};
use crate::channel::test_support::{
    example_of, example_on, finished_payment, finished_refund, high_s, key, Example,
};
use crate::channel::transaction::SpendTemplate;
use crate::channel::Construction::{self, Cltv, Csv, P2sh, P2shP2wsh, P2wsh, Taproot};
use crate::channel::Protocol;

type Stack = Vec<Vec<u8>>;

/// Who finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Consensus,
    Policy,
}

fn by(error: &SpendError) -> By {
    match error {
        SpendError::Consensus { .. } => By::Consensus,
        _ => By::Policy,
    }
}

fn stack(construction: Construction, tx: &Transaction) -> Stack {
    let input = &tx.input[0];
    if construction == P2sh {
        let pushes = input.script_sig.instructions();
        return pushes
            .map(|push| push.unwrap().push_bytes().unwrap().as_bytes().to_vec())
            .collect();
    }
    input.witness.to_vec()
}

fn put(construction: Construction, tx: &mut Transaction, stack: Stack) {
    let input = &mut tx.input[0];
    if construction == P2sh {
        let push = |builder: Builder, item| builder.push_slice(PushBytesBuf::try_from(item).unwrap());
        input.script_sig = stack.into_iter().fold(Builder::new(), push).into_script();
    } else {
        input.witness = Witness::from_slice(&stack);
    }
}

struct Spoilage {
    name: &'static str,
    on: &'static [Construction],
    spoil: fn(&mut Stack),
    by: By,
}

const MULTISIG: &[Construction] = &[P2sh, P2shP2wsh, P2wsh];
const BRANCHES: &[Construction] = &[Cltv, Csv];
const SEGWIT_V0: &[Construction] = &[P2shP2wsh, P2wsh, Cltv, Csv];
const TREE: &[Construction] = &[Taproot];

#[rustfmt::skip]
const ROWS: &[Spoilage] = &[
    Spoilage { name: "an item more", on: &[P2sh], spoil: |stack| stack.insert(0, vec![1, 1]), by: By::Policy },
    Spoilage { name: "an item more", on: SEGWIT_V0, spoil: |stack| stack.insert(0, vec![1, 1]), by: By::Consensus },
    Spoilage { name: "an item more", on: TREE, spoil: |stack| stack.insert(0, vec![1, 1]), by: By::Consensus },
    Spoilage { name: "an item less", on: &Construction::ALL, spoil: |stack| { stack.remove(0); }, by: By::Consensus },
    Spoilage { name: "a dummy that is not empty", on: MULTISIG, spoil: |stack| stack[0] = vec![7, 7], by: By::Consensus },
    Spoilage { name: "a yes of two bytes", on: BRANCHES, spoil: |stack| stack[2] = vec![1, 0], by: By::Policy },
    Spoilage { name: "another yes", on: BRANCHES, spoil: |stack| stack[2] = vec![2], by: By::Policy },
    Spoilage { name: "the refund's branch with both signatures", on: BRANCHES, spoil: |stack| stack[2] = vec![], by: By::Consensus },
    Spoilage { name: "the signatures swapped", on: MULTISIG, spoil: |stack| stack.swap(1, 2), by: By::Consensus },
    Spoilage { name: "the signatures swapped", on: BRANCHES, spoil: |stack| stack.swap(0, 1), by: By::Consensus },
    Spoilage { name: "the signatures swapped", on: TREE, spoil: |stack| stack.swap(0, 1), by: By::Consensus },
    Spoilage { name: "high s", on: MULTISIG, spoil: |stack| stack[1] = high_s(&stack[1]), by: By::Policy },
    Spoilage { name: "high s", on: BRANCHES, spoil: |stack| stack[0] = high_s(&stack[0]), by: By::Policy },
    Spoilage { name: "another hash type than was signed", on: MULTISIG, spoil: |stack| *stack[1].last_mut().unwrap() = 3, by: By::Consensus },
    Spoilage { name: "another hash type than was signed", on: TREE, spoil: |stack| stack[1].push(1), by: By::Consensus },
    Spoilage { name: "the default written out", on: TREE, spoil: |stack| stack[1].push(0), by: By::Consensus },
    Spoilage { name: "another script", on: SEGWIT_V0, spoil: |stack| stack.last_mut().unwrap()[40] ^= 1, by: By::Consensus },
    Spoilage { name: "the other parity", on: TREE, spoil: |stack| stack[3][0] ^= 1, by: By::Consensus },
    Spoilage { name: "another leaf version", on: TREE, spoil: |stack| stack[3][0] ^= 2, by: By::Consensus },
    Spoilage { name: "another internal key", on: TREE, spoil: |stack| { let key: [u8; 32] = stack[2][1..33].try_into().unwrap(); stack[3][1..33].copy_from_slice(&key) }, by: By::Consensus },
    Spoilage { name: "another sibling", on: TREE, spoil: |stack| stack[3][40] ^= 1, by: By::Consensus },
    Spoilage { name: "no sibling", on: TREE, spoil: |stack| stack[3].truncate(33), by: By::Consensus },
    Spoilage { name: "an annex that is not signed", on: TREE, spoil: |stack| stack.push(vec![0x50, 1]), by: By::Consensus },
    Spoilage { name: "nothing", on: TREE, spoil: Vec::clear, by: By::Consensus },
];

#[test]
fn what_is_changed_in_a_finished_payment_is_refused() {
    let mut wrong = Vec::new();
    for construction in Construction::ALL {
        let example = example_on(construction, Protocol::Example7);
        let (tx, prevout) = finished_payment(&example);
        for row in ROWS.iter().filter(|row| row.on.contains(&construction)) {
            let mut spoilt = tx.clone();
            let mut items = stack(construction, &tx);
            (row.spoil)(&mut items);
            put(construction, &mut spoilt, items);
            let verdict = verify_spend(example.params.scripts(), &spoilt, &prevout);
            if !verdict.as_ref().is_err_and(|error| by(error) == row.by) {
                wrong.push(format!(
                    "{construction}, {}: {verdict:?}, not {:?}",
                    row.name, row.by
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A control block is as long as a signature with its hash type, and one of 256 ends with a zero: that is no hash type.
#[test]
fn a_control_block_that_ends_with_zero_is_taken() {
    type Finish = fn(&Example) -> (Transaction, TxOut);
    // What proves a leaf ends with the hash of the other one.
    let finishes: [(usize, Finish); 2] = [(1, finished_payment), (0, finished_refund)];
    for (other, finish) in finishes {
        let example = (0..10_000)
            .map(|n| {
                example_of(
                    Taproot,
                    Protocol::Example7,
                    key(&format!("spilman/test/payer/{n}")),
                )
            })
            .find(|example| {
                let (_, script) = example.params.revealed_scripts()[other];
                TapLeafHash::from_script(script, LeafVersion::TapScript)[31] == 0
            })
            .expect("one of 256");
        let (tx, prevout) = finish(&example);
        let control = tx.input[0].witness.last().expect("a control block");
        assert_eq!((control.len(), control[64]), (65, 0));
        assert_eq!(verify_spend(example.params.scripts(), &tx, &prevout), Ok(()));
    }
}

/// The signature of both begins as an annex does once in 256 times. Alone in a witness, nothing is an annex (BIP 341).
#[test]
fn a_cooperative_signature_that_begins_like_an_annex_is_taken() {
    let Example { params, payer, payee } = example_on(Taproot, Protocol::Example7);
    let key = params.aggregate_key().expect("both sign as one");
    let funding = OutPoint::new(Txid::from_byte_array([7; 32]), 0);
    let sign = |paid: u64| {
        let balance = params
            .cooperative_balance(Amount::from_sat(paid), params.terms().feerate)
            .unwrap();
        let spend = SpendTemplate::cooperative(&params, funding, &balance);
        let nonce = SecretNonce::generate(NonceSeed::new([8; 32]), &payee, key, funding);
        let (theirs, partial) = key.sign_with(&payer, &nonce.public(), spend.digest()).unwrap();
        let signature = key
            .complete(nonce, &payee, &theirs, &partial, spend.digest())
            .unwrap();
        (spend, signature)
    };
    let (spend, signature) = (1_000..100_000)
        .map(sign)
        .find(|(_, signature)| signature.serialize()[0] == 0x50)
        .expect("one of 256");
    assert!(spend.complete_cooperative(&signature).is_ok(), "{signature}");
}

fn set(tx: &mut Transaction, sequence: Sequence) {
    tx.input[0].sequence = sequence;
}

/// A refund in the script with another lock, sequence or version, signed again: only the lock can be what is wrong.
#[test]
fn a_refund_that_does_not_wait_is_refused() {
    type Fields = fn(&mut Transaction);
    let absolute: [(&str, Fields); 4] = [
        ("a final sequence", |tx| set(tx, Sequence::MAX)),
        ("one less", |tx| tx.lock_time = LockTime::from_consensus(343)),
        ("none", |tx| tx.lock_time = LockTime::ZERO),
        ("the other kind", |tx| {
            tx.lock_time = LockTime::from_consensus(1_700_086_400);
        }),
    ];
    let relative: [(&str, Fields); 4] = [
        ("a final sequence", |tx| set(tx, Sequence::MAX)),
        ("the disable flag", |tx| set(tx, Sequence(0x8000_0090))),
        ("the other kind", |tx| set(tx, Sequence(0x0040_00a9))),
        ("version 1", |tx| tx.version = Version::ONE),
    ];
    for (construction, rows) in [(Cltv, absolute), (Csv, relative), (Taproot, absolute)] {
        let example = example_on(construction, Protocol::Example7);
        let (refund, prevout) = finished_refund(&example);
        for (name, change) in rows {
            let mut tx = refund.clone();
            change(&mut tx);
            tx.input[0].witness = Witness::new();
            let (scripts, path) = (example.params.scripts(), example.params.refund_path());
            let digest = scripts.digest(&tx, &prevout, path);
            scripts.satisfy(&mut tx, example.payer.sign(scripts.scheme(), &digest), None);
            let verdict = verify_spend(scripts, &tx, &prevout);
            assert!(
                matches!(verdict, Err(SpendError::Consensus { .. })),
                "{construction}, {name}: {verdict:?}"
            );
        }
    }
}
