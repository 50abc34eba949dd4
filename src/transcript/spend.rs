//! What unlocks an input: every item of its scriptSig and witness, with its role.

use std::fmt;

use bitcoin::{PublicKey, Script, ScriptBuf, Transaction, TxOut};

use super::decode::ScriptType;
use super::script::{infer, multisig, pushes};
use super::signature::{self, DecodedSignature, Digest, Signer};

/// What an item of a scriptSig or a witness is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The extra item that `OP_CHECKMULTISIG` removes from the stack.
    Dummy,
    /// A signature.
    Signature(DecodedSignature),
    /// An empty item in the place of a signature.
    NoSignature,
    /// The public key of a P2PKH or P2WPKH spend.
    PublicKey(PublicKey),
    /// The script behind a P2SH output.
    RedeemScript,
    /// The script behind a P2WSH output.
    WitnessScript,
    /// The witness program that a nested P2SH output hashes.
    WitnessProgram,
    /// A whole scriptSig that is not made of pushes alone.
    Opaque,
    /// Nothing is claimed about it.
    Unknown,
}

/// One item of a scriptSig or a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is for.
    pub role: Role,
    /// Its bytes, without the push opcode or length in front.
    pub bytes: Vec<u8>,
}

/// The rules by which an input is unlocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpendKind {
    /// The input of a coinbase transaction, which spends nothing.
    Coinbase,
    /// An output script of this type.
    Output(ScriptType),
    /// P2WPKH nested in P2SH.
    NestedP2wpkh,
    /// P2WSH nested in P2SH.
    NestedP2wsh,
    /// The spent output is not known and the items do not tell.
    Unknown,
}

impl fmt::Display for SpendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coinbase => f.write_str("coinbase"),
            Self::Output(kind) => kind.fmt(f),
            Self::NestedP2wpkh => f.write_str("P2SH-P2WPKH"),
            Self::NestedP2wsh => f.write_str("P2SH-P2WSH"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Something about an input that a reviewer must not overlook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The last item is not the script that the output hashes.
    #[error("the last item does not hash to the script hash of the spent output")]
    ScriptHash,
    /// The public key is not the one that the output hashes.
    #[error("the public key does not hash to the key hash of the spent output")]
    KeyHash,
    /// `OP_CHECKMULTISIG` walks keys and signatures in one direction.
    #[error("the signatures do not follow the order of the keys, so OP_CHECKMULTISIG fails")]
    SignatureOrder,
    /// BIP 147.
    #[error("the dummy is not empty (BIP 147)")]
    DummyNotEmpty,
}

/// An input's spend, read from its bytes and the spent output, if that is known.
pub(super) struct Spend {
    pub kind: SpendKind,
    pub inferred: bool,
    pub required: usize,
    pub keys: Vec<PublicKey>,
    pub script_sig: Vec<Item>,
    pub witness: Vec<Item>,
    pub problems: Vec<Problem>,
}

struct Reader<'a> {
    tx: &'a Transaction,
    index: usize,
    spent: Option<&'a TxOut>,
    spend: Spend,
}

/// Reads the spend of input `index`, which must exist.
pub(super) fn read(tx: &Transaction, index: usize, spent: Option<&TxOut>) -> Spend {
    let input = &tx.input[index];
    let witness: Vec<Vec<u8>> = input.witness.to_vec();
    let mut found = Spend {
        kind: spent.map_or(SpendKind::Unknown, |out| {
            SpendKind::Output(ScriptType::of(&out.script_pubkey))
        }),
        inferred: false,
        required: 0,
        keys: Vec::new(),
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
            found.script_sig = vec![Item {
                role: Role::Opaque,
                bytes: input.script_sig.to_bytes(),
            }];
            return found;
        }
    };
    found.script_sig = unknown(&pushes);
    let Some(lock) = spent
        .map(|out| out.script_pubkey.clone())
        .or_else(|| infer(&pushes, &witness))
    else {
        return found;
    };
    found.inferred = spent.is_none();
    let mut reader = Reader {
        tx,
        index,
        spent,
        spend: found,
    };
    reader.open(&lock, &pushes, &witness);
    reader.spend
}

impl Reader<'_> {
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
                self.spend.script_sig = vec![Item {
                    role: Role::WitnessProgram,
                    bytes: last.clone(),
                }];
                self.open_program(&redeem, witness);
            }
            _ => {
                let digest = Digest::Legacy { code: redeem.clone() };
                self.spend.script_sig = self.script_stack(&redeem, Role::RedeemScript, &digest, rest);
            }
        }
    }

    fn open_program(&mut self, program: &Script, witness: &[Vec<u8>]) {
        let value = self.spent.map(|out| out.value);
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
            self.spend.witness = self.script_stack(&script, Role::WitnessScript, &digest, rest);
        }
    }

    /// A signature and a key whose hash is in `lock`, which is a P2PKH script.
    fn single_key(&mut self, lock: &Script, digest: &Digest, stack: &[Vec<u8>]) -> Vec<Item> {
        let [signature, key] = stack else {
            return unknown(stack);
        };
        self.spend.required = 1;
        let parsed = PublicKey::from_slice(key).ok();
        self.spend.keys.extend(parsed);
        if parsed.is_none_or(|key| ScriptBuf::new_p2pkh(&key.pubkey_hash()) != *lock) {
            self.spend.problems.push(Problem::KeyHash);
        }
        let role = parsed.map_or(Role::Unknown, Role::PublicKey);
        vec![
            self.signature(digest, signature),
            Item {
                role,
                bytes: key.clone(),
            },
        ]
    }

    /// Items for `script`, then the script itself.
    fn script_stack(&mut self, script: &Script, role: Role, digest: &Digest, rest: &[Vec<u8>]) -> Vec<Item> {
        let mut items = unknown(rest);
        if let Some((required, keys)) = multisig(script) {
            self.spend.required = required;
            self.spend.keys = keys;
            if let Some((dummy, signatures)) = rest.split_first() {
                if !dummy.is_empty() {
                    self.spend.problems.push(Problem::DummyNotEmpty);
                }
                items = vec![Item {
                    role: Role::Dummy,
                    bytes: dummy.clone(),
                }];
                items.extend(signatures.iter().map(|bytes| self.signature(digest, bytes)));
                self.check_order(&items);
            }
        }
        items.push(Item {
            role,
            bytes: script.to_bytes(),
        });
        items
    }

    fn signature(&self, digest: &Digest, bytes: &[u8]) -> Item {
        let role = if bytes.is_empty() {
            Role::NoSignature
        } else {
            Role::Signature(signature::read(
                self.tx,
                self.index,
                digest,
                &self.spend.keys,
                bytes,
            ))
        };
        Item {
            role,
            bytes: bytes.to_vec(),
        }
    }

    fn check_order(&mut self, items: &[Item]) {
        let mut keys = self.spend.keys.iter();
        if !signers(items).all(|signer| keys.any(|key| *key == signer)) {
            self.spend.problems.push(Problem::SignatureOrder);
        }
    }
}

/// The keys that signed, in the order of their signatures.
pub(super) fn signers(items: &[Item]) -> impl Iterator<Item = PublicKey> + '_ {
    items.iter().filter_map(|item| match &item.role {
        Role::Signature(DecodedSignature {
            signer: Signer::Key(key),
            ..
        }) => Some(*key),
        _ => None,
    })
}

fn unknown(stack: &[Vec<u8>]) -> Vec<Item> {
    stack
        .iter()
        .map(|bytes| Item {
            role: Role::Unknown,
            bytes: bytes.clone(),
        })
        .collect()
}
