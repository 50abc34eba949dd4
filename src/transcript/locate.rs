//! Where raw bytes stop being a transaction.

use bitcoin::consensus::encode::{self, Decodable, VarInt};
use bitcoin::{OutPoint, ScriptBuf, Witness};

use super::decode::DecodeError;

/// Walks the bytes field by field to find the one that cannot be read.
///
/// The library says what is wrong but not where, and "where" is what a person with a hex dump needs.
pub(super) fn locate(raw: &[u8], source: encode::Error) -> DecodeError {
    let mut walk = Walk {
        raw,
        rest: raw,
        field: String::new(),
        position: 0,
    };
    // A walk that reaches the end met a rule about the whole, such as an empty witness with the marker set.
    let (field, position) = match walk.transaction() {
        Ok(()) => ("the transaction".to_owned(), 0),
        Err(_) => (walk.field, walk.position),
    };
    DecodeError::Field {
        field,
        position,
        length: raw.len(),
        source,
    }
}

struct Walk<'a> {
    raw: &'a [u8],
    rest: &'a [u8],
    field: String,
    position: usize,
}

impl Walk<'_> {
    fn read<T: Decodable>(&mut self, field: impl Into<String>) -> Result<T, encode::Error> {
        self.field = field.into();
        self.position = self.raw.len() - self.rest.len();
        T::consensus_decode(&mut self.rest)
    }

    fn transaction(&mut self) -> Result<(), encode::Error> {
        self.read::<i32>("the version")?;
        let has_witness = self.rest.starts_with(&[0]);
        if has_witness {
            let [_, flag] = self.read::<[u8; 2]>("the segwit marker and flag")?;
            if flag != 1 {
                return Err(encode::Error::UnsupportedSegwitFlag(flag));
            }
        }
        let inputs = self.read::<VarInt>("the number of inputs")?.0;
        for index in 0..inputs {
            self.read::<OutPoint>(format!("the outpoint of input {index}"))?;
            self.read::<ScriptBuf>(format!("the scriptSig of input {index}"))?;
            self.read::<u32>(format!("the sequence of input {index}"))?;
        }
        for index in 0..self.read::<VarInt>("the number of outputs")?.0 {
            self.read::<u64>(format!("the value of output {index}"))?;
            self.read::<ScriptBuf>(format!("the script of output {index}"))?;
        }
        for index in 0..if has_witness { inputs } else { 0 } {
            self.read::<Witness>(format!("the witness of input {index}"))?;
        }
        self.read::<u32>("the lock time").map(|_| ())
    }
}
