//! Spends of Taproot outputs (BIP 341).

use bitcoin::secp256k1::Parity;
use bitcoin::taproot::{ControlBlock, LeafVersion, TAPROOT_ANNEX_PREFIX};
use bitcoin::{Script, ScriptBuf, TapLeafHash, TapNodeHash, XOnlyPublicKey};

use super::item::{ItemRole, SpendKind, StackItem};
use super::problem::Problem;
use super::signature::{Digest, SECP};
use super::spend::{unknown, Reader};

/// A control block, and what its leaf makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedControlBlock {
    /// The control block itself.
    pub block: ControlBlock,
    /// The output key that the leaf, the merkle path and the internal key give.
    pub output_key: XOnlyPublicKey,
    /// The parity of that key; the one that the control block states must be the same.
    pub parity: Parity,
}

/// A leaf that a witness reveals, with its control block.
pub(super) struct Revealed {
    leaf: ScriptBuf,
    hash: TapLeafHash,
    control: DecodedControlBlock,
}

impl Revealed {
    /// The last two items of a witness, less the annex; `None` if they are not a leaf and its control block.
    pub(super) fn read(witness: &[Vec<u8>]) -> Option<Self> {
        let [.., leaf, control] = split_annex(witness).0 else {
            return None;
        };
        let (leaf, block) = (
            ScriptBuf::from_bytes(leaf.clone()),
            ControlBlock::decode(control).ok()?,
        );
        let hash = TapLeafHash::from_script(&leaf, block.leaf_version);
        let siblings = block.merkle_branch.iter();
        let root = siblings.fold(TapNodeHash::from(hash), |node, sibling| {
            TapNodeHash::from_node_hashes(node, *sibling)
        });
        let tweak = bitcoin::TapTweakHash::from_key_and_tweak(block.internal_key, Some(root));
        let (output_key, parity) = block.internal_key.add_tweak(&*SECP, &tweak.to_scalar()).ok()?;
        let control = DecodedControlBlock {
            block,
            output_key,
            parity,
        };
        Some(Self { leaf, hash, control })
    }

    /// Whether the leaf has the version whose rules are known (BIP 342).
    pub(super) fn is_tapscript(&self) -> bool {
        self.control.block.leaf_version == LeafVersion::TapScript
    }

    /// The output script that commits to it.
    pub(super) fn output(&self) -> ScriptBuf {
        let key = bitcoin::key::TweakedPublicKey::dangerous_assume_tweaked(self.control.output_key);
        ScriptBuf::new_p2tr_tweaked(key)
    }

    fn problems(&self, program: &Script) -> Vec<Problem> {
        let version = self.control.block.leaf_version.to_consensus();
        let found = [
            (self.output().as_script() != program, Problem::Commitment),
            (
                self.control.block.output_key_parity != self.control.parity,
                Problem::Parity,
            ),
            (!self.is_tapscript(), Problem::LeafVersion { version }),
        ];
        found
            .into_iter()
            .filter_map(|(found, problem)| found.then_some(problem))
            .collect()
    }
}

impl Reader<'_> {
    pub(super) fn open_taproot(&mut self, program: &Script, witness: &[Vec<u8>]) {
        let (stack, annex) = split_annex(witness);
        self.spend.witness = match stack {
            [] => return,
            [signature] => {
                let output_key = XOnlyPublicKey::from_slice(&program.as_bytes()[2..]).ok();
                vec![self.key_path(output_key, annex, signature)]
            }
            [items @ .., leaf, control] => self.script_path(program, witness, (items, leaf, control)),
        };
        self.spend.witness.extend(annex.map(|bytes| StackItem {
            role: ItemRole::Annex,
            bytes: bytes.to_vec(),
        }));
    }

    /// A single signature for the output key, which is `None` where the spent output is not known.
    pub(super) fn key_path(
        &mut self,
        output_key: Option<XOnlyPublicKey>,
        annex: Option<&[u8]>,
        signature: &[u8],
    ) -> StackItem {
        self.spend.kind = SpendKind::TaprootKeyPath;
        self.spend.required = 1;
        self.spend.keys = output_key.into_iter().map(Into::into).collect();
        let digest = Digest::Taproot {
            prevouts: self.prevouts,
            annex,
            leaf: None,
        };
        self.signature(&digest, &self.spend.keys, signature)
    }

    fn script_path(
        &mut self,
        program: &Script,
        witness: &[Vec<u8>],
        (stack, leaf, control): (&[Vec<u8>], &[u8], &[u8]),
    ) -> Vec<StackItem> {
        self.spend.kind = SpendKind::TaprootScriptPath;
        let Some(revealed) = Revealed::read(witness) else {
            self.spend.problems.push(Problem::ControlBlock);
            return unknown(split_annex(witness).0);
        };
        self.spend.problems.extend(revealed.problems(program));
        let mut items = if revealed.is_tapscript() {
            let digest = Digest::Taproot {
                prevouts: self.prevouts,
                annex: split_annex(witness).1,
                leaf: Some(revealed.hash),
            };
            self.path_items(&revealed.leaf, &digest, stack)
        } else {
            unknown(stack)
        };
        items.push(StackItem {
            role: ItemRole::Leaf(revealed.hash),
            bytes: leaf.to_vec(),
        });
        items.push(StackItem {
            role: ItemRole::ControlBlock(revealed.control),
            bytes: control.to_vec(),
        });
        items
    }
}

/// The last of at least two items is the annex if it begins with 0x50.
fn split_annex(witness: &[Vec<u8>]) -> (&[Vec<u8>], Option<&[u8]>) {
    match witness.split_last() {
        Some((last, rest)) if !rest.is_empty() && last.first() == Some(&TAPROOT_ANNEX_PREFIX) => {
            (rest, Some(last))
        }
        _ => (witness, None),
    }
}
