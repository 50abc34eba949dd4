//! The items that unlock an input, what each is for, and the forms of outputs that ask for them.

use std::fmt;

use bitcoin::secp256k1::Parity;
use bitcoin::taproot::ControlBlock;
use bitcoin::{PublicKey, Script, TapLeafHash, XOnlyPublicKey};

use super::path::Ask;
use super::signature::DecodedSignature;

/// What an item of a scriptSig or a witness is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemRole {
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
    /// It chooses a side of an `OP_IF`.
    Branch(IfBranch),
    /// The script of a leaf (BIP 342), which has this hash.
    Leaf(TapLeafHash),
    /// What ties the leaf to the output key (BIP 341).
    ControlBlock(DecodedControlBlock),
    /// The last item of a Taproot spend where it begins with 0x50 (BIP 341); no node relays one.
    Annex,
    /// A whole scriptSig that is not made of pushes alone.
    Opaque,
    /// Unknown.
    Unknown,
}

/// The side of an `OP_IF` that an item chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfBranch {
    /// Whether the item is true.
    pub taken: bool,
    /// What the script asks for on that side.
    pub asks: Vec<Ask>,
}

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

/// One item of a scriptSig or a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackItem {
    /// What it is for.
    pub role: ItemRole,
    /// Its bytes, without the push opcode or length in front.
    pub bytes: Vec<u8>,
}

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
        type Test = fn(&Script) -> bool;
        let tests: [(Test, ScriptType); 8] = [
            (Script::is_p2pk, Self::P2pk),
            (Script::is_p2pkh, Self::P2pkh),
            (Script::is_p2sh, Self::P2sh),
            (Script::is_p2wpkh, Self::P2wpkh),
            (Script::is_p2wsh, Self::P2wsh),
            (Script::is_p2tr, Self::P2tr),
            (Script::is_multisig, Self::Multisig),
            (Script::is_op_return, Self::OpReturn),
        ];
        tests
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
            Self::TaprootKeyPath => f.write_str("P2TR key path"),
            Self::TaprootScriptPath => f.write_str("P2TR script path"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}
