//! A transaction as its raw bytes state it.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::{deserialize, encode};
use bitcoin::transaction::Version;
use bitcoin::{Address, Amount, Network, ScriptBuf, Transaction, TxOut, Txid, Weight, Wtxid};

use super::input::{DecodedInput, ScriptType};
use super::spend;
use crate::wire::Walk;

/// Why raw bytes could not be shown as a transaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A field of the transaction cannot be read.
    #[error("cannot read {field} at byte {position} of {length}")]
    Field {
        /// Which field, such as `the value of output 1`.
        field: String,
        /// Where that field begins.
        position: usize,
        /// How many bytes there are.
        length: usize,
        /// What is wrong with it.
        source: encode::Error,
    },
    /// Bytes follow after the end of the transaction.
    #[error("the transaction ends at byte {position}, but {length} bytes were given")]
    TrailingBytes {
        /// Where the transaction ends.
        position: usize,
        /// How many bytes there are.
        length: usize,
    },
    /// There must be one spent output for each input, or none at all.
    #[error("expected {inputs} spent outputs, one for each input, got {prevouts}")]
    PrevoutCount {
        /// Inputs of the transaction.
        inputs: usize,
        /// Spent outputs given.
        prevouts: usize,
    },
}

/// The fee, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fee {
    /// Spent amounts less outputs.
    Known(Amount),
    /// The spent outputs are not known.
    Unknown,
    /// More goes out than comes in, or a sum overflows: no node accepts this.
    Negative,
    /// A coinbase transaction pays no fee, it collects fees.
    Coinbase,
}

/// A transaction, decoded from its raw bytes.
#[derive(Debug, Clone)]
pub struct DecodedTx {
    /// The hash without witnesses.
    pub txid: Txid,
    /// The hash with witnesses; equal to the txid where there are none.
    pub wtxid: Wtxid,
    /// The version.
    pub version: Version,
    /// The lock time, which counts only if [`lock_enabled`](Self::lock_enabled).
    pub lock_time: LockTime,
    /// The weight (BIP 141).
    pub weight: Weight,
    /// The virtual size in vbytes, rounded up.
    pub vsize: usize,
    /// The fee.
    pub fee: Fee,
    /// The inputs.
    pub inputs: Vec<DecodedInput>,
    /// The outputs.
    pub outputs: Vec<DecodedOutput>,
}

impl DecodedTx {
    /// Returns whether consensus looks at the lock time: it does not when every input's sequence is final.
    pub fn lock_enabled(&self) -> bool {
        self.inputs
            .iter()
            .any(|input| input.sequence.enables_absolute_lock_time())
    }
}

/// An output.
#[derive(Debug, Clone)]
pub struct DecodedOutput {
    /// The amount.
    pub value: Amount,
    /// The script.
    pub script: ScriptBuf,
    /// The type of the script.
    pub script_type: ScriptType,
}

impl DecodedOutput {
    /// Returns the address of the script, if it has one.
    pub fn address(&self, network: Network) -> Option<Address> {
        Address::from_script(&self.script, network).ok()
    }

    /// Returns the script in assembly, with every key and hash in full.
    pub fn asm(&self) -> String {
        super::script::asm(&self.script)
    }
}

/// Decodes a transaction from its raw bytes; `prevouts` are the outputs it spends, one for each input.
///
/// Without `prevouts` (an empty slice) the fee stays unknown, and so do signatures that commit to amounts.
/// A prevout that is not the one really spent makes the signatures fail or the hashes mismatch, and that
/// is shown; only its amount cannot be checked where the signatures are legacy ones.
///
/// # Errors
///
/// When the bytes are not exactly one transaction, or when the number of `prevouts` is not right.
pub fn decode(raw: &[u8], prevouts: &[TxOut]) -> Result<DecodedTx, DecodeError> {
    let tx = parse(raw)?;
    if !prevouts.is_empty() && prevouts.len() != tx.input.len() {
        return Err(DecodeError::PrevoutCount {
            inputs: tx.input.len(),
            prevouts: prevouts.len(),
        });
    }
    Ok(DecodedTx {
        txid: tx.compute_txid(),
        wtxid: tx.compute_wtxid(),
        version: tx.version,
        lock_time: tx.lock_time,
        weight: tx.weight(),
        vsize: tx.vsize(),
        fee: fee(&tx, prevouts),
        inputs: (0..tx.input.len())
            .map(|index| spend::read(&tx, index, prevouts))
            .collect(),
        outputs: tx.output.iter().map(output).collect(),
    })
}

fn output(out: &TxOut) -> DecodedOutput {
    let script = out.script_pubkey.clone();
    DecodedOutput {
        value: out.value,
        script_type: ScriptType::of(&script),
        script,
    }
}

fn fee(tx: &Transaction, prevouts: &[TxOut]) -> Fee {
    if tx.is_coinbase() {
        return Fee::Coinbase;
    }
    if prevouts.is_empty() {
        return Fee::Unknown;
    }
    let sum = |outs: &[TxOut]| {
        outs.iter()
            .try_fold(Amount::ZERO, |sum, out| sum.checked_add(out.value))
    };
    let fee = sum(prevouts)
        .zip(sum(&tx.output))
        .and_then(|(paid_in, out)| paid_in.checked_sub(out));
    fee.map_or(Fee::Negative, Fee::Known)
}

fn parse(raw: &[u8]) -> Result<Transaction, DecodeError> {
    let length = raw.len();
    let error = |field: String, position, source| DecodeError::Field {
        field,
        position,
        length,
        source,
    };
    // The library says what is wrong but not where, and "where" is what a person with a hex dump needs.
    let mut walk = Walk::new(raw);
    if let Err(source) = walk.transaction() {
        let (field, position) = walk.field();
        return Err(error(field.to_string(), position, source));
    }
    let end = walk.read();
    // What is wrong now is about the whole, such as an empty witness with the marker set.
    let tx = deserialize(&raw[..end]).map_err(|source| error("the transaction".to_owned(), 0, source))?;
    if end == length {
        return Ok(tx);
    }
    Err(DecodeError::TrailingBytes {
        position: end,
        length,
    })
}
