//! Values written as their published names.

use std::fmt::Display;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::channel::{Construction, Protocol};

/// Reads a value by its name; an error lists the names.
pub(crate) fn deserialize<'de, T: Copy + Display, D: Deserializer<'de>>(
    from: D,
    all: &[T],
    what: &str,
) -> Result<T, D::Error> {
    let name = String::deserialize(from)?;
    let named = all.iter().copied().find(|value| value.to_string() == name);
    named.ok_or_else(|| {
        let known: Vec<_> = all.iter().map(ToString::to_string).collect();
        let known = known.join(", ");
        D::Error::custom(format!("unknown {what} `{name}`: expected one of {known}"))
    })
}

/// Implements serde's traits, and `JsonSchema`, for a type with `ALL` and a name that it displays.
macro_rules! by_name {
    ($type:ident, $what:literal, $description:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::json::deserialize_name(from, &Self::ALL, $what)
            }
        }

        $crate::json::schema!($type, {
            "type": "string", "enum": $type::ALL.map(|value| value.to_string()), "description": $description,
        });
    };
}
pub(crate) use by_name;

by_name!(Protocol, "protocol", "A conversation.");
by_name!(Construction, "construction", "What a funding output is made of.");
