use bitcoin::hex::DisplayHex;

use crate::channel::UnverifiedSignature;

/// A value in a column. Unsigned numbers of 64 bits are stored as the signed ones with the same bits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of SQL")]
pub enum Value {
    Null,
    Integer(i64),
    Blob(Vec<u8>),
}

impl Value {
    pub(super) const fn unsigned(number: u64) -> Self {
        Self::Integer(number.cast_signed())
    }

    pub(super) fn signature(signature: Option<UnverifiedSignature>) -> Self {
        signature.map_or(Self::Null, |signature| {
            Self::Blob(signature.to_compact().to_vec())
        })
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Blob(bytes) => bytes.as_hex().to_string(),
        }
    }

    pub(super) fn blob(&self) -> Result<&[u8], String> {
        match self {
            Self::Blob(bytes) => Ok(bytes),
            other => Err(format!("expected bytes, got {}", other.describe())),
        }
    }

    pub(super) fn array<const N: usize>(&self) -> Result<[u8; N], String> {
        let bytes = self.blob()?;
        let error = |_| format!("expected {N} bytes, got {}", bytes.len());
        bytes.try_into().map_err(error)
    }

    pub(super) fn to_signature(&self) -> Result<UnverifiedSignature, String> {
        self.array().map(UnverifiedSignature::from_compact)
    }

    pub(super) fn to_u64(&self) -> Result<u64, String> {
        match self {
            Self::Integer(number) => Ok(number.cast_unsigned()),
            other => Err(format!("expected a number, got {}", other.describe())),
        }
    }

    pub(super) fn number<T: TryFrom<u64>>(&self) -> Result<T, String> {
        let number = self.to_u64()?;
        T::try_from(number).map_err(|_| format!("{} is out of range", number.cast_signed()))
    }

    pub(super) fn optional<'v, T>(
        &'v self,
        read: impl FnOnce(&'v Self) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        match self {
            Self::Null => Ok(None),
            value => read(value).map(Some),
        }
    }
}
