//! The items that unlock an input, and what each is for.

use bitcoin::secp256k1::Parity;
use bitcoin::taproot::ControlBlock;
use bitcoin::{PublicKey, TapLeafHash, XOnlyPublicKey};

use super::path::Ask;
use super::signature::DecodedSignature;

/// What an item of a scriptSig or a witness is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemRole {
    /// The extra item that `OP_CHECKMULTISIG` removes from the stack.
    Dummy,
    /// A signature.
    Signature(DecodedSignature),
    /// An empty item in place of a signature.
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
    /// The proof that the output key commits to the leaf (BIP 341).
    ControlBlock(DecodedControlBlock),
    /// The last item of a Taproot spend where it begins with 0x50 (BIP 341); no node relays one.
    Annex,
    /// A whole scriptSig that has more than pushes.
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

/// A control block, and the output key that its leaf gives.
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
