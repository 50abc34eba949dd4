//! Decodes untrusted transactions without allocating more than their bytes need.
//!
//! `bitcoin` allocates what a count claims before it checks that the data follows: up to 16 MB for the items of a
//! witness, 4 MB for a script, 1 MB for inputs or outputs. So the bytes are walked first, and decoded only if they are
//! complete.

use std::fmt;

use bitcoin::consensus::{deserialize, encode, Decodable};
use bitcoin::io::ErrorKind;
use bitcoin::{Transaction, VarInt};

/// Decodes exactly one transaction, in memory proportional to its size.
///
/// # Errors
/// As [`deserialize`], which would take the same bytes and no others.
pub(crate) fn transaction(bytes: &[u8]) -> Result<Transaction, encode::Error> {
    Walk::new(bytes).transaction()?;
    deserialize(bytes)
}

/// The same of a block.
#[cfg(feature = "fixtures")]
pub(crate) fn block(bytes: &[u8]) -> Result<bitcoin::Block, encode::Error> {
    Walk::new(bytes).block()?;
    deserialize(bytes)
}

/// Where a [`Walk`] is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    name: &'static str,
    number: Option<u64>,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.number.map_or(Ok(()), |number| write!(f, " {number}"))
    }
}

/// Goes through a transaction field by field and keeps nothing. Where it stops, it is known which field cannot be read.
pub(crate) struct Walk<'b> {
    whole: &'b [u8],
    rest: &'b [u8],
    field: Field,
    position: usize,
}

impl<'b> Walk<'b> {
    pub fn new(whole: &'b [u8]) -> Self {
        let field = Field {
            name: "the transaction",
            number: None,
        };
        Self {
            whole,
            rest: whole,
            field,
            position: 0,
        }
    }

    /// Returns the field that was read last, and where it begins.
    pub const fn field(&self) -> (Field, usize) {
        (self.field, self.position)
    }

    /// Returns how many bytes were read.
    pub const fn read(&self) -> usize {
        self.whole.len() - self.rest.len()
    }

    pub fn transaction(&mut self) -> Result<(), encode::Error> {
        self.enter("the version", None).skip(4)?;
        let has_witness = self.rest.starts_with(&[0]);
        if has_witness {
            self.enter("the segwit marker and flag", None);
            let [_, flag] = Decodable::consensus_decode(&mut self.rest)?;
            if flag != 1 {
                return Err(encode::Error::UnsupportedSegwitFlag(flag));
            }
        }
        let inputs = self.enter("the number of inputs", None).number()?;
        for index in 0..inputs {
            let index = Some(index);
            self.enter("the outpoint of input", index).skip(36)?;
            self.enter("the scriptSig of input", index).string()?;
            self.enter("the sequence of input", index).skip(4)?;
        }
        for index in 0..self.enter("the number of outputs", None).number()? {
            let index = Some(index);
            self.enter("the value of output", index).skip(8)?;
            self.enter("the script of output", index).string()?;
        }
        for index in 0..if has_witness { inputs } else { 0 } {
            for _ in 0..self.enter("the witness of input", Some(index)).number()? {
                self.string()?;
            }
        }
        self.enter("the lock time", None).skip(4)
    }

    #[cfg(feature = "fixtures")]
    fn block(&mut self) -> Result<(), encode::Error> {
        self.skip(bitcoin::block::Header::SIZE as u64)?;
        for _ in 0..self.number()? {
            self.transaction()?;
        }
        Ok(())
    }

    fn enter(&mut self, name: &'static str, number: Option<u64>) -> &mut Self {
        self.field = Field { name, number };
        self.position = self.read();
        self
    }

    fn number(&mut self) -> Result<u64, encode::Error> {
        Ok(VarInt::consensus_decode(&mut self.rest)?.0)
    }

    /// Bytes with their length before them.
    fn string(&mut self) -> Result<(), encode::Error> {
        let length = self.number()?;
        self.skip(length)
    }

    fn skip(&mut self, length: u64) -> Result<(), encode::Error> {
        let there = usize::try_from(length).ok();
        let rest = there.and_then(|length| self.rest.get(length..));
        self.rest = rest.ok_or_else(|| encode::Error::Io(ErrorKind::UnexpectedEof.into()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::consensus::serialize;
    use bitcoin::transaction::Version;
    use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn, TxOut, Witness};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn string() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![9 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 250..260)]
    }

    fn tx() -> impl Strategy<Value = Transaction> {
        let input = (string(), vec(string(), 0..4)).prop_map(|(script, witness)| TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(script),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&witness),
        });
        let output = (any::<u64>(), string()).prop_map(|(value, script)| TxOut {
            value: Amount::from_sat(value),
            script_pubkey: ScriptBuf::from_bytes(script),
        });
        (vec(input, 0..4), vec(output, 0..4)).prop_map(|(input, output)| Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input,
            output,
        })
    }

    /// What is done to bytes: the heads of all counts and any byte put anywhere, and an end elsewhere.
    #[derive(Debug, Clone)]
    enum ByteEdit {
        Put(prop::sample::Index, u8),
        Insert(prop::sample::Index, u8),
        Cut(prop::sample::Index),
        Append(Vec<u8>),
    }

    fn spoil() -> impl Strategy<Value = ByteEdit> {
        let byte = || prop_oneof![0..=3_u8, 0xfc..=0xff_u8, any::<u8>()];
        prop_oneof![
            6 => (any::<prop::sample::Index>(), byte()).prop_map(|(at, byte)| ByteEdit::Put(at, byte)),
            3 => (any::<prop::sample::Index>(), byte()).prop_map(|(at, byte)| ByteEdit::Insert(at, byte)),
            1 => any::<prop::sample::Index>().prop_map(ByteEdit::Cut),
            1 => vec(byte(), 0..9).prop_map(ByteEdit::Append),
        ]
    }

    fn apply(bytes: &mut Vec<u8>, spoil: ByteEdit) {
        match spoil {
            ByteEdit::Put(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            ByteEdit::Put(..) => {}
            ByteEdit::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), byte),
            ByteEdit::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            ByteEdit::Append(more) => bytes.extend(more),
        }
    }

    fn assert_as_before(bytes: &[u8]) -> Result<(), TestCaseError> {
        let (walked, plain) = (transaction(bytes), deserialize::<Transaction>(bytes));
        prop_assert_eq!(
            walked.is_ok(),
            plain.is_ok(),
            "{:?} instead of {:?}",
            walked,
            plain
        );
        prop_assert_eq!(walked.ok(), plain.ok());
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_096) })]

        #[test]
        fn what_is_a_transaction_is_read(tx in tx()) {
            let bytes = serialize(&tx);
            let mut walk = Walk::new(&bytes);
            prop_assert!(walk.transaction().is_ok());
            prop_assert_eq!(walk.read(), bytes.len());
            prop_assert_eq!(transaction(&bytes).ok(), Some(tx));
        }

        #[test]
        fn what_is_spoiled_is_judged_as_without_the_walk(tx in tx(), spoils in vec(spoil(), 1..4)) {
            let mut bytes = serialize(&tx);
            for spoil in spoils {
                apply(&mut bytes, spoil);
            }
            assert_as_before(&bytes)?;
        }

        #[test]
        fn any_bytes_are_judged_as_without_the_walk(bytes in vec(any::<u8>(), 0..80)) {
            assert_as_before(&bytes)?;
        }
    }
}
