//! An input, and the rules by which it is unlocked.

use std::fmt;

use bitcoin::{OutPoint, Script, Sequence, TxOut};

use super::item::{ItemRole, StackItem};
use super::keys::ScriptKey;
use super::path::Ask;
use super::problem::Problem;
use super::signature::{DecodedSignature, SignatureOwner};

/// The form of an output script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the whole meaning
pub enum ScriptType {
    P2pk,
    P2pkh,
    P2sh,
    P2wpkh,
    P2wsh,
    P2tr,
    Multisig,
    OpReturn,
    Other,
}

impl ScriptType {
    /// Returns the type of an output script.
    #[must_use]
    pub fn of(script: &Script) -> Self {
        type Check = fn(&Script) -> bool;
        let checks: [(Check, ScriptType); 8] = [
            (Script::is_p2pk, Self::P2pk),
            (Script::is_p2pkh, Self::P2pkh),
            (Script::is_p2sh, Self::P2sh),
            (Script::is_p2wpkh, Self::P2wpkh),
            (Script::is_p2wsh, Self::P2wsh),
            (Script::is_p2tr, Self::P2tr),
            (Script::is_multisig, Self::Multisig),
            (Script::is_op_return, Self::OpReturn),
        ];
        checks
            .into_iter()
            .find(|(is, _)| is(script))
            .map_or(Self::Other, |(_, kind)| kind)
    }
}

impl fmt::Display for ScriptType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P2pk => "P2PK",
            Self::P2pkh => "P2PKH",
            Self::P2sh => "P2SH",
            Self::P2wpkh => "P2WPKH",
            Self::P2wsh => "P2WSH",
            Self::P2tr => "P2TR",
            Self::Multisig => "bare multisig",
            Self::OpReturn => "OP_RETURN",
            Self::Other => "unknown",
        })
    }
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
    /// P2TR by a signature for the output key.
    TaprootKeyPath,
    /// P2TR by one of its leaves.
    TaprootScriptPath,
    /// The spent output is not known, and the items do not show it.
    Unknown,
}

impl fmt::Display for SpendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coinbase => f.write_str("coinbase"),
            Self::Output(kind) => kind.fmt(f),
            Self::NestedP2wpkh => f.write_str("P2SH-P2WPKH"),
            Self::NestedP2wsh => f.write_str("P2SH-P2WSH"),
            Self::TaprootKeyPath => f.write_str("P2TR key path"),
            Self::TaprootScriptPath => f.write_str("P2TR script path"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// An input.
#[derive(Debug, Clone)]
pub struct DecodedInput {
    /// What it spends.
    pub outpoint: OutPoint,
    /// The sequence.
    pub sequence: Sequence,
    /// The spent output, if it was given.
    pub spent: Option<TxOut>,
    /// The rules by which it is unlocked.
    pub kind: SpendKind,
    /// Whether [`kind`](Self::kind) was guessed from the items, because the spent output was not given.
    pub inferred: bool,
    /// How many signatures it needs; 0 where that is not known.
    pub required: usize,
    /// The keys that may sign; empty where they are not known.
    pub keys: Vec<ScriptKey>,
    /// What the path that the items take through a script asks for, in the script's order; empty for P2PKH,
    /// P2WPKH, multisig and the key path of P2TR, and where the script cannot be followed.
    pub asks: Vec<Ask>,
    /// What the scriptSig pushes.
    pub script_sig: Vec<StackItem>,
    /// The witness.
    pub witness: Vec<StackItem>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl DecodedInput {
    /// Returns whether it has nothing that could unlock it.
    pub fn is_unsigned(&self) -> bool {
        self.script_sig.is_empty() && self.witness.is_empty()
    }

    /// Returns the keys whose signatures verify, in the order of the signatures.
    pub fn signers(&self) -> Vec<ScriptKey> {
        signers(&self.script_sig).chain(signers(&self.witness)).collect()
    }

    /// Returns whether signatures are missing, as far as that is known. Its size and feerate are then not final.
    pub fn lacks_signatures(&self) -> bool {
        let spared = self.problems.iter().all(|problem| problem.spares_signatures());
        let failing = self.signers().len() < self.required || !spared;
        self.is_unsigned() || (self.required > 0 && failing)
    }

    /// Returns whether it has a signature that no key of the script made, or that cannot be read.
    pub fn has_invalid_signature(&self) -> bool {
        self.script_sig.iter().chain(&self.witness).any(
            |item| matches!(&item.role, ItemRole::Signature(signature) if matches!(signature.signer, SignatureOwner::NoKey | SignatureOwner::Malformed(_))),
        )
    }
}

/// Returns the keys that signed, in the order of their signatures.
pub(super) fn signers(items: &[StackItem]) -> impl Iterator<Item = ScriptKey> + '_ {
    items.iter().filter_map(|item| match &item.role {
        ItemRole::Signature(DecodedSignature {
            signer: SignatureOwner::Key(key),
            ..
        }) => Some(*key),
        _ => None,
    })
}
