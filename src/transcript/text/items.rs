//! Inputs in words: the kind of spend, who signed, and every item.

use bitcoin::hex::DisplayHex;
use bitcoin::secp256k1::Parity;
use bitcoin::taproot::LeafVersion;
use bitcoin::{Script, TapLeafHash};

use super::Page;
use crate::transcript::input::DecodedInput;
use crate::transcript::item::{DecodedControlBlock, ItemRole, StackItem};
use crate::transcript::keys::ScriptKey;
use crate::transcript::path::Ask;
use crate::transcript::script_lock::ScriptLock;
use crate::transcript::signature::{hash_type_name, Algorithm, DecodedSignature, SignatureOwner};
use crate::transcript::units::thousands;

impl Page<'_> {
    pub(super) fn kind(&self, input: &DecodedInput) -> String {
        let inferred = if input.inferred {
            " (guessed from the items; the spent output is unknown)"
        } else {
            ""
        };
        if !input.asks.is_empty() {
            return format!("{}: {}{inferred}", input.kind, self.asks(&input.asks));
        }
        match input.keys.len() {
            0 | 1 if input.required < 2 => format!("{}{inferred}", input.kind),
            keys => format!("{} {}-of-{keys} multisig{inferred}", input.kind, input.required),
        }
    }

    pub(super) fn signed(&mut self, input: &DecodedInput) {
        if input.is_unsigned() {
            return self.line(2, "unsigned");
        }
        if input.required == 0 {
            return;
        }
        let signers = input.signers();
        let missing: Vec<_> = input
            .keys
            .iter()
            .filter(|key| !signers.contains(key))
            .copied()
            .collect();
        let by = if signers.is_empty() {
            "by no one".into()
        } else {
            format!("by {}", self.list(&signers))
        };
        let count = format!("{} of {}", signers.len(), input.required);
        if signers.len() < input.required && !missing.is_empty() {
            let missing = self.list(&missing);
            return self.field(2, "signed", &format!("{by} ({count}; not by {missing})"));
        }
        self.field(2, "signed", &format!("{by} ({count})"));
    }

    fn list(&self, keys: &[ScriptKey]) -> String {
        keys.iter()
            .map(|key| self.names.show_key(key))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// `payee key K2 and payer key K1 sign, not before height 245`
    fn asks(&self, asks: &[Ask]) -> String {
        let (mut keys, mut words) = (Vec::new(), Vec::new());
        for ask in asks {
            match ask {
                Ask::Signature(key) => keys.push(self.names.show_key(key)),
                Ask::Lock(lock) => words.push(format!("not before {}", moment(*lock))),
            }
        }
        match &keys[..] {
            [] => {}
            [key] => words.insert(0, format!("{key} signs")),
            keys => words.insert(0, format!("{} sign", keys.join(" and "))),
        }
        words.join(", ")
    }

    pub(super) fn items(&mut self, place: &str, items: &[StackItem]) {
        if items.is_empty() {
            return;
        }
        self.line(2, place);
        for (index, item) in items.iter().enumerate() {
            self.line(4, &format!("{index:<2} {}", self.label(item)));
            if !item.bytes.is_empty() {
                self.line(7, &item.bytes.to_lower_hex_string());
            }
            self.below(item);
        }
    }

    /// Describes an item besides its bytes.
    fn below(&mut self, item: &StackItem) {
        let script = Script::from_bytes(&item.bytes);
        match &item.role {
            ItemRole::Signature(DecodedSignature {
                sighash: Some(hash), ..
            }) => {
                self.line(7, &format!("signs sighash {}", hash.to_lower_hex_string()));
            }
            ItemRole::RedeemScript
            | ItemRole::WitnessScript
            | ItemRole::WitnessProgram
            | ItemRole::Opaque => {
                self.script(7, "asm ", script);
            }
            ItemRole::Leaf(hash) => self.leaf(*hash, script),
            ItemRole::ControlBlock(control) => self.control_block(control),
            _ => {}
        }
    }

    fn leaf(&mut self, hash: TapLeafHash, script: &Script) {
        self.script(7, "asm ", script);
        self.line(7, &format!("leaf hash {hash}"));
    }

    fn control_block(&mut self, control: &DecodedControlBlock) {
        let block = &control.block;
        let rules = if block.leaf_version == LeafVersion::TapScript {
            "tapscript, BIP 342"
        } else {
            "unknown"
        };
        let version = block.leaf_version.to_consensus();
        self.field(7, "leaf", &format!("version 0x{version:02x} ({rules})"));
        self.key(7, "internal", &block.internal_key.into());
        for sibling in &block.merkle_branch {
            self.field(7, "path", &sibling.to_string());
        }
        self.key(7, "gives", &control.output_key.into());
        let (stated, found) = (parity(block.output_key_parity), parity(control.parity));
        let agrees = if stated == found { "as" } else { "but" };
        self.field(
            7,
            "parity",
            &format!("{stated}, {agrees} that of the output key is {found}"),
        );
    }

    fn label(&self, item: &StackItem) -> String {
        let length = match item.bytes.len() {
            0 => "empty".to_owned(),
            1 => "1 byte".to_owned(),
            length => format!("{} bytes", thousands(length as u64)),
        };
        let label = match &item.role {
            ItemRole::Signature(signature) => return self.signature(signature, &length),
            ItemRole::Dummy => "dummy",
            ItemRole::NoSignature => "no signature",
            ItemRole::PublicKey(key) => match self.names.name_of_key(key) {
                Some(name) => &format!("public key: {name}"),
                None => "public key",
            },
            ItemRole::RedeemScript => "redeem script",
            ItemRole::WitnessScript => "witness script",
            ItemRole::WitnessProgram => "witness program",
            ItemRole::Branch(branch) => &format!("branch, {}: {}", branch.taken, self.asks(&branch.asks)),
            ItemRole::Leaf(_) => match self.names.name_of_leaf(Script::from_bytes(&item.bytes)) {
                Some(name) => &format!("leaf script: {name}"),
                None => "leaf script",
            },
            ItemRole::ControlBlock(_) => "control block",
            ItemRole::Annex => "annex, not standard",
            ItemRole::Opaque => "whole script",
            ItemRole::Unknown => "item",
        };
        format!("{label} ({length})")
    }

    fn signature(&self, signature: &DecodedSignature, length: &str) -> String {
        let algorithm = match signature.algorithm {
            Algorithm::Ecdsa { low_s: true } => "low S",
            Algorithm::Ecdsa { low_s: false } => "HIGH S: not standard",
            Algorithm::Schnorr => "Schnorr",
        };
        let details = format!("({}, {algorithm}, {length})", hash_type_name(signature));
        match &signature.signer {
            SignatureOwner::Key(key) => format!("signature by {} {details}", self.names.show_key(key)),
            SignatureOwner::NoKey => format!("signature {details} INVALID: no key of the script made it"),
            SignatureOwner::Malformed(why) => format!("signature ({length}) INVALID: {why}"),
            SignatureOwner::Unchecked(why) => format!("signature {details} not checked: {why}"),
        }
    }
}

/// Describes the end of a script's lock.
fn moment(lock: ScriptLock) -> String {
    match lock {
        ScriptLock::Absolute(_) => lock.to_string(),
        ScriptLock::Relative(_) => format!("{lock} after the spent output"),
    }
}

fn parity(parity: Parity) -> &'static str {
    match parity {
        Parity::Even => "even",
        Parity::Odd => "odd",
    }
}
