//! The JSON forms that fixtures, conformance tests and transcripts share: amounts, bytes, published names, terms.

mod hex;
mod names;
mod schema;
mod terms;

use serde::{Deserialize, Deserializer};

pub use hex::{Hash, Hex, Sat};
pub(crate) use names::{by_name, deserialize as deserialize_name};
pub(crate) use schema::schema;
pub use terms::{ImpossibleTerm, ProposedTerms, TermNumbers};

/// Reads a value or null: serde takes an absent field for null, and no field may be left out.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}
