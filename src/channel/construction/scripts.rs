use std::str::FromStr;

use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::Message;
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache};
use bitcoin::taproot::{LeafVersion, TapLeafHash};
use bitcoin::transaction::InputWeightPrediction;
use bitcoin::{Script, ScriptBuf, TapSighashType, Transaction, TxOut, Witness};
use miniscript::{DefiniteDescriptorKey, Descriptor};

use super::{policy, Construction};
use crate::channel::digest::DigestTemplate;
use crate::channel::keys::{PayeeKey, PayerKey, Scheme, VerifiedSignature};
use crate::channel::lock::RefundLock;
use crate::channel::musig::{AggregateKey, AggregateOutputKey};
use crate::channel::script_check::SpendError;

/// How the funding output is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpendPath {
    /// Both sign: a payment, a settlement, or a refund that the payee signed in advance.
    Both,
    /// The payer alone, once the lock in the script has passed.
    Refund,
    /// Both with one signature.
    Cooperative,
}

/// The funding output of one channel: everything that follows from construction, keys and lock.
#[derive(Debug, Clone)]
pub(crate) struct Scripts {
    descriptor: Descriptor<DefiniteDescriptorKey>,
    pubkey: ScriptBuf,
    form: Form,
}

/// What a spend has to reveal.
#[derive(Debug, Clone)]
enum Form {
    /// One script, with the way in which it is committed to, and its shape.
    Script {
        script: ScriptBuf,
        wrapping: Wrapping,
        shape: Shape,
    },
    /// Two leaves below a key.
    Tree {
        both: Leaf,
        refund: Leaf,
        key: Box<AggregateOutputKey>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrapping {
    Legacy,
    Nested,
    Native,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `2 K1 K2 2 CHECKMULTISIG`
    Multisig,
    /// `IF K2 CHECKSIGVERIFY ELSE N CLTV VERIFY ENDIF K1 CHECKSIG`, or with CSV.
    Branches,
}

#[derive(Debug, Clone)]
struct Leaf {
    script: ScriptBuf,
    control: Vec<u8>,
}

/// The descriptor says it all.
impl PartialEq for Scripts {
    fn eq(&self, other: &Self) -> bool {
        self.descriptor == other.descriptor
    }
}

impl Eq for Scripts {}

impl Leaf {
    fn hash(&self) -> TapLeafHash {
        TapLeafHash::from_script(&self.script, LeafVersion::TapScript)
    }
}

/// A low-S signature in DER has at most 71 bytes, the hash type one more.
const ECDSA: usize = 72;
/// A Schnorr signature for `SIGHASH_DEFAULT`.
const SCHNORR: usize = 64;

impl Scripts {
    /// # Errors
    /// If no descriptor can be written with this lock, in the words of the descriptor library.
    pub fn new(
        construction: Construction,
        lock: RefundLock,
        payer: PayerKey,
        payee: PayeeKey,
    ) -> Result<Self, String> {
        let xonly = |key: bitcoin::secp256k1::PublicKey| key.x_only_public_key().0.to_string();
        let (k1, k2) = (payer.to_public_key(), payee.to_public_key());
        let aggregate = AggregateKey::new(payer, payee);
        let text = match construction {
            Construction::Taproot => construction
                .template()
                .replace("musig(K1,K2)", &aggregate.internal_key().to_string())
                .replace("K1", &xonly(k1))
                .replace("K2", &xonly(k2)),
            _ => construction
                .template()
                .replace("K1", &k1.to_string())
                .replace("K2", &k2.to_string()),
        };
        let text = text.replace("(N)", &format!("({})", lock.to_consensus_u32()));
        let descriptor = Descriptor::from_str(&text).map_err(|error| error.to_string())?;
        descriptor.sanity_check().map_err(|error| error.to_string())?;
        Ok(Self {
            pubkey: descriptor.script_pubkey(),
            form: Form::new(construction, &descriptor, &aggregate)?,
            descriptor,
        })
    }

    pub const fn descriptor(&self) -> &Descriptor<DefiniteDescriptorKey> {
        &self.descriptor
    }

    pub fn pubkey(&self) -> &Script {
        &self.pubkey
    }

    /// Returns what a spend can reveal, each with a name for people.
    pub fn revealed(&self) -> Vec<(&'static str, &Script)> {
        match &self.form {
            Form::Script {
                script,
                shape: Shape::Multisig,
                ..
            } => vec![("channel 2-of-2", script)],
            Form::Script { script, .. } => vec![("channel script", script)],
            Form::Tree { both, refund, .. } => {
                vec![("payment leaf", &both.script), ("refund leaf", &refund.script)]
            }
        }
    }

    /// Returns the key of both, where they can close with one signature.
    pub fn aggregate_key(&self) -> Option<&AggregateOutputKey> {
        match &self.form {
            Form::Script { .. } => None,
            Form::Tree { key, .. } => Some(key),
        }
    }

    pub const fn scheme(&self) -> Scheme {
        match self.form {
            Form::Script { .. } => Scheme::Ecdsa,
            Form::Tree { .. } => Scheme::Schnorr,
        }
    }

    /// Returns the leaf that a spend reveals, if it reveals one.
    pub fn leaf_hash(&self, path: SpendPath) -> Option<TapLeafHash> {
        match (&self.form, path) {
            (Form::Script { .. }, _) | (Form::Tree { .. }, SpendPath::Cooperative) => None,
            (Form::Tree { both, .. }, SpendPath::Both) => Some(both.hash()),
            (Form::Tree { refund, .. }, SpendPath::Refund) => Some(refund.hash()),
        }
    }

    /// Returns the size of the input that spends the output this way, with signatures of the largest size.
    pub fn input_weight(&self, path: SpendPath) -> InputWeightPrediction {
        let (script_sig, witness) = match &self.form {
            Form::Script {
                script,
                wrapping,
                shape,
            } => {
                let items = match (shape, path) {
                    // The dummy element, two signatures, the script.
                    (Shape::Multisig, _) => vec![0, ECDSA, ECDSA, script.len()],
                    (Shape::Branches, SpendPath::Refund) => vec![ECDSA, 0, script.len()],
                    (Shape::Branches, _) => vec![ECDSA, ECDSA, 1, script.len()],
                };
                match wrapping {
                    // Every item but the empty one takes one byte for its length, and that one is one byte.
                    Wrapping::Legacy => (items.iter().map(|len| 1 + len).sum(), vec![]),
                    Wrapping::Nested => (1 + 34, items),
                    Wrapping::Native => (0, items),
                }
            }
            Form::Tree { both, refund, .. } => match path {
                SpendPath::Both => (0, vec![SCHNORR, SCHNORR, both.script.len(), both.control.len()]),
                SpendPath::Refund => (0, vec![SCHNORR, refund.script.len(), refund.control.len()]),
                SpendPath::Cooperative => (0, vec![SCHNORR]),
            },
        };
        InputWeightPrediction::from_slice(script_sig, &witness)
    }

    /// Returns what is signed: every input and output (`SIGHASH_ALL`, or for Schnorr signatures the default, which
    /// means the same and needs no byte).
    pub fn digest(&self, tx: &Transaction, prevout: &TxOut, path: SpendPath) -> Message {
        const ONE_INPUT: &str = "a template has one input, and its index is 0";
        let mut cache = SighashCache::new(tx);
        match &self.form {
            Form::Script {
                script,
                wrapping: Wrapping::Legacy,
                ..
            } => Message::from(
                cache
                    .legacy_signature_hash(0, script, EcdsaSighashType::All.to_u32())
                    .expect(ONE_INPUT),
            ),
            Form::Script { script, .. } => Message::from(
                cache
                    .p2wsh_signature_hash(0, script, prevout.value, EcdsaSighashType::All)
                    .expect(ONE_INPUT),
            ),
            Form::Tree { .. } => {
                let prevouts = [prevout];
                let prevouts = Prevouts::All(&prevouts);
                let hash_type = TapSighashType::Default;
                let sighash = match self.leaf_hash(path) {
                    Some(leaf) => cache.taproot_script_spend_signature_hash(0, &prevouts, leaf, hash_type),
                    None => cache.taproot_key_spend_signature_hash(0, &prevouts, hash_type),
                };
                Message::from(sighash.expect(ONE_INPUT))
            }
        }
    }

    /// Returns the digest of [`SpendPath::Both`] for a spend that differs from `tx` in its outputs only.
    pub fn template(&self, tx: &Transaction, prevout: &TxOut) -> DigestTemplate {
        match &self.form {
            Form::Script {
                script,
                wrapping: Wrapping::Legacy,
                ..
            } => DigestTemplate::legacy(tx, script),
            Form::Script { script, .. } => DigestTemplate::segwit_v0(tx, script, prevout.value),
            Form::Tree { both, .. } => DigestTemplate::tapscript(tx, prevout, both.hash()),
        }
    }

    /// Puts the signatures of the payer and, unless the payer spends alone, of the payee into the only input.
    pub fn satisfy(&self, tx: &mut Transaction, payer: VerifiedSignature, payee: Option<VerifiedSignature>) {
        let (payer, payee) = (
            payer.to_script_bytes(),
            payee.map(VerifiedSignature::to_script_bytes),
        );
        let input = &mut tx.input[0];
        match &self.form {
            Form::Script {
                script,
                wrapping,
                shape,
            } => {
                let mut items = match (shape, payee) {
                    // CHECKMULTISIG pops one element too many; NULLDUMMY (BIP 147) wants it empty.
                    (Shape::Multisig, payee) => vec![vec![], payer, payee.unwrap_or_default()],
                    // MINIMALIF wants just these two ways to say yes and no.
                    (Shape::Branches, Some(payee)) => vec![payer, payee, vec![1]],
                    (Shape::Branches, None) => vec![payer, vec![]],
                };
                items.push(script.to_bytes());
                match wrapping {
                    Wrapping::Legacy => input.script_sig = pushes(items),
                    Wrapping::Nested => {
                        input.script_sig = pushes(vec![script.to_p2wsh().into_bytes()]);
                        input.witness = Witness::from_slice(&items);
                    }
                    Wrapping::Native => input.witness = Witness::from_slice(&items),
                }
            }
            Form::Tree { both, refund, .. } => {
                let (leaf, mut items) = match payee {
                    Some(payee) => (both, vec![payee, payer]),
                    None => (refund, vec![payer]),
                };
                items.push(leaf.script.to_bytes());
                items.push(leaf.control.clone());
                input.witness = Witness::from_slice(&items);
            }
        }
    }

    /// Checks what a node's policy asks of the finished input, beyond consensus.
    pub fn check_policy(&self, tx: &Transaction) -> Result<(), SpendError> {
        let input = &tx.input[0];
        match &self.form {
            Form::Script {
                wrapping: Wrapping::Legacy,
                ..
            } => policy::check_pushes(&input.script_sig),
            Form::Script { script, shape, .. } => policy::check_witness(
                &input.witness,
                script,
                match (shape, input.witness.len()) {
                    (Shape::Multisig, _) => &[
                        policy::WitnessItem::Empty,
                        policy::WitnessItem::Ecdsa,
                        policy::WitnessItem::Ecdsa,
                    ],
                    (Shape::Branches, 3) => &[policy::WitnessItem::Ecdsa, policy::WitnessItem::Empty],
                    (Shape::Branches, _) => &[
                        policy::WitnessItem::Ecdsa,
                        policy::WitnessItem::Ecdsa,
                        policy::WitnessItem::One,
                    ],
                },
            ),
            Form::Tree { .. } => policy::check_tree(&input.witness),
        }
    }
}

impl Form {
    fn new(
        construction: Construction,
        descriptor: &Descriptor<DefiniteDescriptorKey>,
        aggregate: &AggregateKey,
    ) -> Result<Self, String> {
        let (wrapping, shape) = match construction {
            Construction::P2sh => (Wrapping::Legacy, Shape::Multisig),
            Construction::P2shP2wsh => (Wrapping::Nested, Shape::Multisig),
            Construction::P2wsh => (Wrapping::Native, Shape::Multisig),
            Construction::Cltv | Construction::Csv => (Wrapping::Native, Shape::Branches),
            Construction::Taproot => {
                let Descriptor::Tr(tree) = descriptor else {
                    return Err("not a Taproot descriptor".to_owned());
                };
                let info = tree.spend_info();
                let mut leaves = info.leaves().map(|leaf| Leaf {
                    script: leaf.script().to_owned(),
                    control: leaf.control_block().serialize(),
                });
                let (Some(both), Some(refund)) = (leaves.next(), leaves.next()) else {
                    return Err("not a tree of two leaves".to_owned());
                };
                let key = Box::new(aggregate.tweaked(info.merkle_root()));
                return Ok(Self::Tree { both, refund, key });
            }
        };
        let script = descriptor.explicit_script().map_err(|error| error.to_string())?;
        Ok(Self::Script {
            script,
            wrapping,
            shape,
        })
    }
}

fn pushes(items: Vec<Vec<u8>>) -> ScriptBuf {
    let push = |builder: Builder, item: Vec<u8>| {
        builder.push_slice(
            PushBytesBuf::try_from(item).expect("signatures and a 2-of-2 are below the push limit"),
        )
    };
    items.into_iter().fold(Builder::new(), push).into_script()
}
