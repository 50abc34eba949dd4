//! A leaf of a Taproot output (BIP 341), as a witness reveals it.

use bitcoin::taproot::{ControlBlock, LeafVersion, TAPROOT_ANNEX_PREFIX};
use bitcoin::{Script, ScriptBuf, TapLeafHash, TapNodeHash};

use super::item::DecodedControlBlock;
use super::keys::SECP;
use super::problem::Problem;

/// A leaf that a witness reveals, with its control block.
pub(super) struct Revealed {
    pub leaf: ScriptBuf,
    pub hash: TapLeafHash,
    pub control: DecodedControlBlock,
}

impl Revealed {
    /// Reads the last two items of a witness without annex; `None` if they are not a leaf and its control block.
    pub fn read(witness: &[Vec<u8>]) -> Option<Self> {
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

    /// Returns whether the leaf has the version whose rules are known (BIP 342).
    pub fn is_tapscript(&self) -> bool {
        self.control.block.leaf_version == LeafVersion::TapScript
    }

    /// Returns the output script that commits to it.
    pub fn output(&self) -> ScriptBuf {
        let key = bitcoin::key::TweakedPublicKey::dangerous_assume_tweaked(self.control.output_key);
        ScriptBuf::new_p2tr_tweaked(key)
    }

    pub fn problems(&self, program: &Script) -> Vec<Problem> {
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

/// Separates the annex: the last of at least two items, if it begins with 0x50.
pub(super) fn split_annex(witness: &[Vec<u8>]) -> (&[Vec<u8>], Option<&[u8]>) {
    match witness.split_last() {
        Some((last, rest)) if !rest.is_empty() && last.first() == Some(&TAPROOT_ANNEX_PREFIX) => {
            (rest, Some(last))
        }
        _ => (witness, None),
    }
}
