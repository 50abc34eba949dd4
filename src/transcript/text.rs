//! One transaction as a page of text, for a person who checks it by hand.

use bitcoin::absolute::LockTime;
use bitcoin::hex::DisplayHex;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Network, Script, TxOut};

use super::decode::{decode, DecodeError, DecodedOutput, DecodedTx, Fee};
use super::input::DecodedInput;
use super::keys::ScriptKey;
use super::locks::{self, locks_in};
use super::names::Names;
use super::script::{keys_in, word, words};
use super::script_lock::ScriptLock;
use super::units::{btc, sat, thousands};

mod items;

/// Assembly is broken between words before this column. Hex never is: people copy it and search for it.
const COLUMNS: usize = 100;

/// What the reader knows besides the raw bytes.
#[derive(Debug, Clone, Copy)]
pub struct TextContext<'a> {
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
pub fn render(raw: &[u8], context: &TextContext<'_>) -> Result<String, DecodeError> {
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
        self.field(0, "version", &version(tx.version));
        let (weight, vsize) = (thousands(tx.weight.to_wu()), thousands(tx.vsize as u64));
        let unfinished = tx.inputs.iter().any(DecodedInput::lacks_signatures);
        let note = if unfinished {
            " · grows with the signatures that it lacks"
        } else {
            ""
        };
        self.field(0, "size", &format!("weight {weight} WU · vsize {vsize} vB{note}"));
        self.field(0, "fee", &fee(tx));
        self.field(0, "lock", &locks::absolute(tx.lock_time));
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
        self.field(2, "kind", &self.kind(input));
        let sequence = format!(
            "0x{:08x}: {}",
            input.sequence.0,
            locks::sequence(input.sequence, version)
        );
        self.field(2, "sequence", &sequence);
        if let Some(lock) = locks::relative_lock(input.sequence, version) {
            self.field(2, "waits", &ScriptLock::Relative(lock).waits());
        }
        self.signed(input);
        for problem in &input.problems {
            self.field(2, "WARNING", &problem.to_string());
        }
        self.items("scriptSig", &input.script_sig);
        self.items("witness", &input.witness);
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
        if let Some((internal_key, leaves)) = names.taproot_of(&output.script) {
            self.key(2, "internal", &internal_key.into());
            // Builders put each later leaf before the earlier ones.
            for leaf in leaves.script_leaves().rev() {
                let name = names.name_of_leaf(leaf.script());
                self.field(2, "leaf", name.unwrap_or("without a name"));
                self.script(4, "asm ", leaf.script());
            }
        }
    }

    fn amount_and_name(&self, value: Amount, script: &Script, to: &str) -> String {
        let name = self.names.name_of_script(script);
        let name = name.map_or_else(String::new, |name| format!(" {to} {name}"));
        format!("{} ({}){name}", sat(value), btc(value))
    }

    /// Writes a key by its name and in full.
    fn key(&mut self, indent: usize, label: &str, key: &ScriptKey) {
        let name = self.names.find_key(key);
        let name = name.map_or_else(String::new, |name| format!(" = {name}"));
        self.field(indent, label, &format!("{key}{name}"));
    }

    /// Writes a script in assembly after a label; below it, the keys that it has by name, and what its locks wait for.
    fn script(&mut self, indent: usize, label: &str, script: &Script) {
        if script.is_empty() {
            return self.line(indent, &format!("{label}(empty)"));
        }
        let mut line = label.to_owned();
        for word in words(script, self.names) {
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
            if let Some(name) = self.names.find_key(&key) {
                let text = format!("<{name}> = {key}");
                self.line(indent + label.len(), &text);
            }
        }
        for (operand, lock) in locks_in(script) {
            let text = format!("{} = {}", word(operand, self.names), lock.waits());
            self.line(indent + label.len(), &text);
        }
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

/// Describes the version; version 3 has a meaning for every node's mempool.
fn version(version: Version) -> String {
    match version {
        Version(3) => {
            "3 (TRUC, BIP 431): at most 10,000 vB, replaceable whatever its sequences; unconfirmed it has at \
             most one parent and one child, and a child has at most 1,000 vB"
                .to_owned()
        }
        Version(other) => other.to_string(),
    }
}
