//! What unlocks an input: every item of its scriptSig and witness, with its role.

mod taproot;

use bitcoin::{PublicKey, Script, ScriptBuf, Transaction, TxOut};

use super::infer::{infer, is_key_path};
use super::input::{signers, DecodedInput, ScriptType, SpendKind};
use super::item::{IfBranch, ItemRole, StackItem};
use super::keys::ScriptKey;
use super::path::{follow, Ask, Use};
use super::problem::Problem;
use super::script::{keys_in, multisig, pushes};
use super::signature::{self, Digest};

struct SpendReader<'a> {
    tx: &'a Transaction,
    index: usize,
    /// The spent outputs of all inputs, or none.
    prevouts: &'a [TxOut],
    spend: DecodedInput,
}

/// Reads the spend of input `index`, which must exist; `prevouts` holds one output for each input, or none.
pub(super) fn read(tx: &Transaction, index: usize, prevouts: &[TxOut]) -> DecodedInput {
    let spent = prevouts.get(index);
    let input = &tx.input[index];
    let witness: Vec<Vec<u8>> = input.witness.to_vec();
    let mut found = DecodedInput {
        outpoint: input.previous_output,
        sequence: input.sequence,
        spent: spent.cloned(),
        kind: spent.map_or(SpendKind::Unknown, |out| {
            SpendKind::Output(ScriptType::of(&out.script_pubkey))
        }),
        inferred: false,
        required: 0,
        keys: Vec::new(),
        asks: Vec::new(),
        script_sig: Vec::new(),
        witness: unknown(&witness),
        problems: Vec::new(),
    };
    if tx.is_coinbase() {
        found.kind = SpendKind::Coinbase;
    }
    let pushes = match pushes(&input.script_sig) {
        Some(pushes) if !tx.is_coinbase() => pushes,
        _ => {
            found.script_sig = vec![StackItem {
                role: ItemRole::Opaque,
                bytes: input.script_sig.to_bytes(),
            }];
            return found;
        }
    };
    found.script_sig = unknown(&pushes);
    let lock = spent
        .map(|out| out.script_pubkey.clone())
        .or_else(|| infer(&pushes, &witness));
    found.inferred = spent.is_none();
    let mut reader = SpendReader {
        tx,
        index,
        prevouts,
        spend: found,
    };
    match lock {
        Some(lock) => reader.open(&lock, &pushes, &witness),
        None if is_key_path(&pushes, &witness) => {
            reader.spend.witness = vec![reader.key_path(None, None, &witness[0])];
        }
        None => reader.spend.inferred = false,
    }
    reader.spend
}

impl SpendReader<'_> {
    fn open(&mut self, lock: &Script, pushes: &[Vec<u8>], witness: &[Vec<u8>]) {
        self.spend.kind = SpendKind::Output(ScriptType::of(lock));
        if lock.is_p2pkh() {
            self.spend.script_sig = self.single_key(
                lock,
                &Digest::Legacy {
                    code: lock.to_owned(),
                },
                pushes,
            );
        } else if lock.is_p2sh() {
            self.open_p2sh(lock, pushes, witness);
        } else {
            self.open_program(lock, witness);
        }
    }

    fn open_p2sh(&mut self, lock: &Script, pushes: &[Vec<u8>], witness: &[Vec<u8>]) {
        let Some((last, rest)) = pushes.split_last() else {
            return;
        };
        let redeem = ScriptBuf::from_bytes(last.clone());
        if redeem.to_p2sh() != *lock {
            self.spend.problems.push(Problem::ScriptHash);
            return;
        }
        let nested = [
            (redeem.is_p2wpkh(), SpendKind::NestedP2wpkh),
            (redeem.is_p2wsh(), SpendKind::NestedP2wsh),
        ];
        match nested.into_iter().find(|(is, _)| *is) {
            Some((_, kind)) if rest.is_empty() => {
                self.spend.kind = kind;
                self.spend.script_sig = vec![StackItem {
                    role: ItemRole::WitnessProgram,
                    bytes: last.clone(),
                }];
                self.open_program(&redeem, witness);
            }
            _ => {
                let digest = Digest::Legacy { code: redeem.clone() };
                self.spend.script_sig = self.script_stack(&redeem, ItemRole::RedeemScript, &digest, rest);
            }
        }
    }

    fn open_program(&mut self, program: &Script, witness: &[Vec<u8>]) {
        let value = self.prevouts.get(self.index).map(|out| out.value);
        if let Some(code) = program.p2wpkh_script_code() {
            let digest = Digest::SegwitV0 {
                code: code.clone(),
                value,
            };
            self.spend.witness = self.single_key(&code, &digest, witness);
        } else if program.is_p2wsh() {
            let Some((last, rest)) = witness.split_last() else {
                return;
            };
            let script = ScriptBuf::from_bytes(last.clone());
            if script.to_p2wsh() != *program {
                self.spend.problems.push(Problem::ScriptHash);
                return;
            }
            let digest = Digest::SegwitV0 {
                code: script.clone(),
                value,
            };
            self.spend.witness = self.script_stack(&script, ItemRole::WitnessScript, &digest, rest);
        } else if program.is_p2tr() {
            self.open_taproot(program, witness);
        }
    }

    /// Reads a signature and a key whose hash is in `lock`, which is a P2PKH script.
    fn single_key(&mut self, lock: &Script, digest: &Digest<'_>, stack: &[Vec<u8>]) -> Vec<StackItem> {
        let [signature, key] = stack else {
            return unknown(stack);
        };
        self.spend.required = 1;
        let parsed = PublicKey::from_slice(key).ok();
        self.spend.keys = parsed.into_iter().map(ScriptKey::Full).collect();
        if parsed.is_none_or(|key| ScriptBuf::new_p2pkh(&key.pubkey_hash()) != *lock) {
            self.spend.problems.push(Problem::KeyHash);
        }
        let role = parsed.map_or(ItemRole::Unknown, ItemRole::PublicKey);
        vec![
            self.signature(digest, &self.spend.keys, signature),
            StackItem {
                role,
                bytes: key.clone(),
            },
        ]
    }

    /// Reads items for `script`, then the script itself.
    fn script_stack(
        &mut self,
        script: &Script,
        role: ItemRole,
        digest: &Digest<'_>,
        rest: &[Vec<u8>],
    ) -> Vec<StackItem> {
        let mut items = match multisig(script) {
            Some((required, keys)) => {
                self.spend.required = required;
                self.spend.keys = keys.into_iter().map(ScriptKey::Full).collect();
                self.multisig_items(digest, rest)
            }
            None => self.path_items(script, digest, rest),
        };
        items.push(StackItem {
            role,
            bytes: script.to_bytes(),
        });
        items
    }

    fn multisig_items(&mut self, digest: &Digest<'_>, stack: &[Vec<u8>]) -> Vec<StackItem> {
        let Some((dummy, signatures)) = stack.split_first() else {
            return Vec::new();
        };
        if !dummy.is_empty() {
            self.spend.problems.push(Problem::DummyNotEmpty);
        }
        let mut items = vec![StackItem {
            role: ItemRole::Dummy,
            bytes: dummy.clone(),
        }];
        let keys = &self.spend.keys;
        items.extend(signatures.iter().map(|bytes| self.signature(digest, keys, bytes)));
        self.check_order(&items);
        items
    }

    /// Reads the items for a script that is not a template. Each gets its role from the script.
    fn path_items(&mut self, script: &Script, digest: &Digest<'_>, stack: &[Vec<u8>]) -> Vec<StackItem> {
        let keys = keys_in(script);
        let tapscript = matches!(digest, Digest::Taproot { .. });
        let Some(path) = follow(script, stack, tapscript) else {
            return stack
                .iter()
                .map(|bytes| self.proven(digest, &keys, bytes))
                .collect();
        };
        self.spend.problems.extend(path.problem);
        for ask in &path.asks {
            match ask {
                Ask::Signature(key) => self.spend.keys.push(*key),
                Ask::Lock(lock) => self.spend.problems.extend(lock.failing(self.tx, self.index)),
            }
        }
        self.spend.required = self.spend.keys.len();
        let mut items = Vec::new();
        for (bytes, used) in stack.iter().zip(path.uses) {
            items.push(match used {
                None => StackItem {
                    role: ItemRole::Unknown,
                    bytes: bytes.clone(),
                },
                Some(Use::Signature(expected)) => self.signature_for(expected, digest, &keys, bytes),
                Some(Use::Branch { taken, asks }) => {
                    let asks = path.asks[asks].to_vec();
                    self.branch(IfBranch { taken, asks }, digest, bytes)
                }
            });
        }
        self.spend.asks = path.asks;
        items
    }

    fn branch(&mut self, branch: IfBranch, digest: &Digest<'_>, bytes: &[u8]) -> StackItem {
        let minimal = bytes.is_empty() || bytes == [1];
        if !minimal && !matches!(digest, Digest::Legacy { .. }) {
            self.spend.problems.push(Problem::BranchItem);
        }
        StackItem {
            role: ItemRole::Branch(branch),
            bytes: bytes.to_vec(),
        }
    }

    fn signature_for(
        &mut self,
        expected: ScriptKey,
        digest: &Digest<'_>,
        keys: &[ScriptKey],
        bytes: &[u8],
    ) -> StackItem {
        let item = self.signature(digest, keys, bytes);
        if signers(std::slice::from_ref(&item)).any(|signer| signer != expected) {
            self.spend.problems.push(Problem::OtherKey);
        }
        item
    }

    /// Reads a signature if it verifies. Nothing else is claimed about a script that is not followed.
    fn proven(&self, digest: &Digest<'_>, keys: &[ScriptKey], bytes: &[u8]) -> StackItem {
        let item = self.signature(digest, keys, bytes);
        if signers(std::slice::from_ref(&item)).next().is_some() {
            return item;
        }
        StackItem {
            role: ItemRole::Unknown,
            ..item
        }
    }

    fn signature(&self, digest: &Digest<'_>, keys: &[ScriptKey], bytes: &[u8]) -> StackItem {
        let role = if bytes.is_empty() {
            ItemRole::NoSignature
        } else {
            ItemRole::Signature(signature::read(self.tx, self.index, digest, keys, bytes))
        };
        StackItem {
            role,
            bytes: bytes.to_vec(),
        }
    }

    fn check_order(&mut self, items: &[StackItem]) {
        let mut keys = self.spend.keys.iter();
        if !signers(items).all(|signer| keys.any(|key| *key == signer)) {
            self.spend.problems.push(Problem::SignatureOrder);
        }
    }
}

fn unknown(stack: &[Vec<u8>]) -> Vec<StackItem> {
    stack
        .iter()
        .map(|bytes| StackItem {
            role: ItemRole::Unknown,
            bytes: bytes.clone(),
        })
        .collect()
}
