//! Spends of Taproot outputs (BIP 341).

use bitcoin::{Script, XOnlyPublicKey};

use super::{unknown, SpendReader};
use crate::transcript::input::SpendKind;
use crate::transcript::item::{ItemRole, StackItem};
use crate::transcript::problem::Problem;
use crate::transcript::revealed::{split_annex, Revealed};
use crate::transcript::signature::Digest;

impl SpendReader<'_> {
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

    /// Reads a single signature for the output key, which is `None` where the spent output is not known.
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
