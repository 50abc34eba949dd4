//! The items that unlock an input, and what each is for.

use std::fmt;

use bitcoin::{PublicKey, TapLeafHash};

use super::decode::ScriptType;
use super::path::Ask;
use super::signature::DecodedSignature;
use super::taproot::DecodedControlBlock;

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

/// One item of a scriptSig or a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackItem {
    /// What it is for.
    pub role: ItemRole,
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
