//! One transaction as a page of text, for a person who checks it by hand.

use bitcoin::absolute::LockTime;
use bitcoin::hex::DisplayHex;
use bitcoin::transaction::Version;
use bitcoin::{relative, Amount, Network, PublicKey, Script, ScriptBuf, Sequence, TxOut};

use super::decode::{decode, DecodeError, DecodedInput, DecodedOutput, DecodedTx, Fee};
use super::names::Names;
use super::script::{asm, keys_in};
use super::signature::{hash_type_name, DecodedSignature, Signer};
use super::spend::{Item, Role};
use super::units::{btc, sat, thousands, utc};

/// Assembly is broken between words before this column. Hex never is: people copy it and search for it.
const COLUMNS: usize = 100;

/// What the reader knows beside the raw bytes.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The first line, such as `refund of example-7`.
    pub title: &'a str,
    /// The spent outputs, one for each input in order; empty for a coinbase or where they are unknown.
    pub prevouts: &'a [TxOut],
    /// Names for keys, scripts and transactions.
    pub names: &'a Names,
    /// The network, for addresses.
    pub network: Network,
}

/// Renders a raw transaction for review.
///
/// # Errors
///
/// When [`decode`](decode()) cannot decode it.
pub fn render(raw: &[u8], context: &Context<'_>) -> Result<String, DecodeError> {
    let tx = decode(raw, context.prevouts)?;
    let mut page = Page {
        text: String::new(),
        names: context.names,
        network: context.network,
    };
    page.line(0, context.title);
    page.line(0, "");
    page.head(&tx);
    for (index, input) in tx.inputs.iter().enumerate() {
        page.line(0, "");
        page.input(index, input, tx.version);
    }
    for (index, output) in tx.outputs.iter().enumerate() {
        page.line(0, "");
        page.output(index, output);
    }
    page.line(0, "");
    page.line(0, "raw");
    page.line(0, &raw.to_lower_hex_string());
    Ok(page.text)
}

struct Page<'a> {
    text: String,
    names: &'a Names,
    network: Network,
}

impl Page<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        if !text.is_empty() {
            self.text.push_str(&" ".repeat(indent));
        }
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn field(&mut self, indent: usize, label: &str, text: &str) {
        self.line(indent, &format!("{label:<9} {text}"));
    }

    fn head(&mut self, tx: &DecodedTx) {
        self.field(0, "txid", &tx.txid.to_string());
        if tx.wtxid.to_string() != tx.txid.to_string() {
            self.field(0, "wtxid", &tx.wtxid.to_string());
        }
        self.field(0, "version", &tx.version.0.to_string());
        let (weight, vsize) = (thousands(tx.weight.to_wu()), thousands(tx.vsize as u64));
        let unfinished = tx.inputs.iter().any(DecodedInput::lacks_signatures);
        let note = if unfinished {
            " · grows with the signatures that it lacks"
        } else {
            ""
        };
        self.field(0, "size", &format!("weight {weight} WU · vsize {vsize} vB{note}"));
        self.field(0, "fee", &fee(tx));
        self.field(0, "lock", &lock(tx.lock_time));
        if tx.lock_time != LockTime::ZERO && !tx.lock_enabled() {
            self.field(
                0,
                "",
                "WARNING: every input's sequence is final, so this lock has no effect",
            );
        }
    }

    fn input(&mut self, index: usize, input: &DecodedInput, version: Version) {
        let name = self.names.name_of_txid(input.outpoint.txid);
        let name = name.map_or_else(String::new, |name| format!(" ({name})"));
        self.field(0, &format!("input {index}"), &format!("{}{name}", input.outpoint));
        let spends = input.spent.as_ref().map_or_else(
            || "an unknown amount".to_owned(),
            |out| self.amount_and_name(out.value, &out.script_pubkey, "of"),
        );
        self.field(2, "spends", &spends);
        self.field(2, "kind", &kind(input));
        let sequence = format!(
            "0x{:08x}: {}",
            input.sequence.0,
            sequence(input.sequence, version)
        );
        self.field(2, "sequence", &sequence);
        self.signed(input);
        for problem in &input.problems {
            self.field(2, "WARNING", &problem.to_string());
        }
        self.items("scriptSig", &input.script_sig);
        self.items("witness", &input.witness);
    }

    fn signed(&mut self, input: &DecodedInput) {
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
            "by nobody".into()
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

    fn list(&self, keys: &[PublicKey]) -> String {
        keys.iter()
            .map(|key| self.names.show_key(key))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn items(&mut self, place: &str, items: &[Item]) {
        if items.is_empty() {
            return;
        }
        self.line(2, place);
        for (index, item) in items.iter().enumerate() {
            self.line(4, &format!("{index:<2} {}", self.label(item)));
            if !item.bytes.is_empty() {
                self.line(7, &item.bytes.to_lower_hex_string());
            }
            match &item.role {
                Role::Signature(DecodedSignature {
                    sighash: Some(hash), ..
                }) => {
                    self.line(7, &format!("signs sighash {}", hash.to_lower_hex_string()));
                }
                Role::RedeemScript | Role::WitnessScript | Role::WitnessProgram | Role::Opaque => {
                    self.script(7, "asm ", &ScriptBuf::from_bytes(item.bytes.clone()));
                }
                _ => {}
            }
        }
    }

    fn label(&self, item: &Item) -> String {
        let length = match item.bytes.len() {
            0 => "empty".to_owned(),
            1 => "1 byte".to_owned(),
            length => format!("{} bytes", thousands(length as u64)),
        };
        match &item.role {
            Role::Dummy => format!("dummy ({length})"),
            Role::Signature(signature) => self.signature(signature, &length),
            Role::NoSignature => format!("no signature ({length})"),
            Role::PublicKey(key) => match self.names.name_of_key(key) {
                Some(name) => format!("public key: {name} ({length})"),
                None => format!("public key ({length})"),
            },
            Role::RedeemScript => format!("redeem script ({length})"),
            Role::WitnessScript => format!("witness script ({length})"),
            Role::WitnessProgram => format!("witness program ({length})"),
            Role::Opaque => format!("whole script ({length})"),
            Role::Unknown => format!("item ({length})"),
        }
    }

    fn signature(&self, signature: &DecodedSignature, length: &str) -> String {
        let s = if signature.low_s {
            "low S"
        } else {
            "HIGH S: not standard"
        };
        let details = format!("({}, {s}, {length})", hash_type_name(signature.hash_type));
        match &signature.signer {
            Signer::Key(key) => format!("signature by {} {details}", self.names.show_key(key)),
            Signer::NoKey => format!("signature {details} INVALID: no key of the script made it"),
            Signer::Malformed => format!("signature ({length}) INVALID: not DER"),
            Signer::Unchecked(why) => format!("signature {details} not checked: {why}"),
        }
    }

    fn output(&mut self, index: usize, output: &DecodedOutput) {
        let amount = self.amount_and_name(output.value, &output.script, "to");
        self.field(0, &format!("output {index}"), &amount);
        self.field(2, "type", &output.script_type.to_string());
        if let Some(address) = output.address(self.network) {
            self.field(2, "address", &address.to_string());
        }
        self.script(2, "script    ", &output.script);
        let names = self.names;
        if let Some(redeem) = names.redeem_script_of(&output.script) {
            self.script(2, "hash of   ", redeem);
        }
    }

    fn amount_and_name(&self, value: Amount, script: &Script, to: &str) -> String {
        let name = self.names.name_of_script(script);
        let name = name.map_or_else(String::new, |name| format!(" {to} {name}"));
        format!("{} ({}){name}", sat(value), btc(value))
    }

    /// A script in assembly behind a label, and below it the keys that stand in it by name.
    fn script(&mut self, indent: usize, label: &str, script: &Script) {
        if script.is_empty() {
            return self.line(indent, &format!("{label}(empty)"));
        }
        let mut line = label.to_owned();
        for word in asm(script, self.names) {
            let filled = line.len() > label.len();
            if filled && indent + line.len() + word.len() >= COLUMNS {
                self.line(indent, line.trim_end());
                line = " ".repeat(label.len());
            }
            line.push_str(&word);
            line.push(' ');
        }
        self.line(indent, line.trim_end());
        for key in keys_in(script) {
            if let Some(name) = self.names.name_of_key(&key) {
                let text = format!("<{name}> = {key}");
                self.line(indent + label.len(), &text);
            }
        }
    }
}

fn kind(input: &DecodedInput) -> String {
    let inferred = if input.inferred {
        " (guessed from the items; the spent output is unknown)"
    } else {
        ""
    };
    match input.keys.len() {
        0 | 1 if input.required < 2 => format!("{}{inferred}", input.kind),
        keys => format!("{} {}-of-{keys} multisig{inferred}", input.kind, input.required),
    }
}

/// Rates are cut off after two decimals, so that none looks higher than it is.
fn fee(tx: &DecodedTx) -> String {
    match tx.fee {
        Fee::Known(fee) => {
            let hundredths = u128::from(fee.to_sat()) * 100 / (tx.vsize as u128).max(1);
            format!(
                "{} · {}.{:02} sat/vB",
                sat(fee),
                hundredths / 100,
                hundredths % 100
            )
        }
        Fee::Unknown => "unknown".to_owned(),
        Fee::Negative => "INVALID: the outputs are more than the inputs".to_owned(),
        Fee::Coinbase => "none (coinbase)".to_owned(),
    }
}

/// What a lock waits for. A lock says "not before", and both kinds are off by one from what it seems.
fn lock(lock: LockTime) -> String {
    match lock {
        LockTime::ZERO => "none (lock time 0)".to_owned(),
        LockTime::Blocks(height) => {
            let height = height.to_consensus_u32();
            let next = height + 1;
            format!("height {height}: valid in block {next} and later, when the tip is at height {height} or above")
        }
        LockTime::Seconds(time) => {
            let time = time.to_consensus_u32();
            format!(
                "time {time} ({}): valid once the median time past is above it",
                utc(time)
            )
        }
    }
}

fn sequence(sequence: Sequence, version: Version) -> String {
    if sequence.is_final() {
        return "final".to_owned();
    }
    if !sequence.is_rbf() {
        return "enables the lock time, does not signal replacement (BIP 125)".to_owned();
    }
    let base = "enables the lock time, signals replacement (BIP 125)";
    match sequence.to_relative_lock_time() {
        None => base.to_owned(),
        // BIP 68 compares the version as an unsigned number.
        Some(_) if version.0.cast_unsigned() < 2 => format!("{base}, no relative lock below version 2"),
        Some(relative::LockTime::Blocks(blocks)) => {
            format!(
                "{base}, relative lock of {} blocks (BIP 68)",
                thousands(blocks.value().into())
            )
        }
        Some(relative::LockTime::Time(time)) => {
            let seconds = u64::from(time.value()) * 512;
            format!("{base}, relative lock of {} seconds (BIP 68)", thousands(seconds))
        }
    }
}
