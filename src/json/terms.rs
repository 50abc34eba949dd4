//! Terms in the units of the wire.

use bitcoin::absolute::LockTime;
use bitcoin::FeeRate;
#[cfg(feature = "fixtures")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{nullable, Sat};
use crate::channel::{Capacity, ClosingMargin, Construction, Expiry, Protocol, RefundLock, Terms};

/// A number that no terms can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {error}")]
pub struct ImpossibleTerm {
    /// The field, below `terms`.
    pub field: &'static str,
    /// What is wrong with it.
    pub error: String,
}

/// Fixtures have protocol and construction among the terms; a conformance test has them beside the terms.
/// (Flattening one into the other would lose the field in errors.)
macro_rules! terms {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $kind:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "fixtures", derive(JsonSchema), schemars(rename = "Terms"))]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$doc])* pub $kind: $type,)*
            /// In satoshi.
            pub capacity: Sat,
            /// In satoshi for 1,000 weight units; fees are for whole virtual bytes, rounded up.
            pub feerate: u32,
            /// Dust relay feerate, in the same unit.
            pub dust_feerate: u32,
            /// The refund's lock: as in `nLockTime`; with a relative lock as in `nSequence` (BIP 68).
            pub expiry: u32,
            /// The payments' lock, as in `nLockTime`, where the protocol has one.
            #[serde(deserialize_with = "nullable")]
            pub payment_expiry: Option<u32>,
            /// In blocks; for a time lock as many times ten minutes.
            pub closing_margin: u16,
            /// What one payment adds at least, in satoshi.
            pub minimum_payment: Sat,
            /// What the payer keeps to the end, in satoshi.
            pub reserve: Sat,
        }

        impl $name {
            fn with(&self, protocol: Protocol, construction: Construction) -> Result<Terms, ImpossibleTerm> {
                let impossible = |field| move |error: String| ImpossibleTerm { field, error };
                let capacity = Capacity::new(self.capacity.to_amount());
                let refund_lock = if construction.has_relative_lock() {
                    RefundLock::from_sequence(self.expiry)
                        .ok_or_else(|| impossible("expiry")(format!("{} is not a relative lock", self.expiry)))?
                } else {
                    expiry(self.expiry).into()
                };
                Ok(Terms {
                    protocol,
                    construction,
                    capacity: capacity.map_err(|error| impossible("capacity")(error.to_string()))?,
                    feerate: feerate(self.feerate),
                    dust_feerate: feerate(self.dust_feerate),
                    refund_lock,
                    payment_expiry: self.payment_expiry.map(expiry),
                    closing_margin: ClosingMargin::from_blocks(self.closing_margin),
                    minimum_payment: self.minimum_payment.to_amount(),
                    reserve: self.reserve.to_amount(),
                })
            }
        }

        impl TryFrom<&Terms> for $name {
            type Error = ImpossibleTerm;

            /// # Errors
            /// If a feerate has more than the 32 bits that the wire has for it.
            fn try_from(terms: &Terms) -> Result<Self, ImpossibleTerm> {
                Ok(Self {
                    $($kind: terms.$kind,)*
                    capacity: terms.capacity.to_amount().into(),
                    feerate: sat_per_kwu("feerate", terms.feerate)?,
                    dust_feerate: sat_per_kwu("dust_feerate", terms.dust_feerate)?,
                    expiry: terms.refund_lock.to_consensus_u32(),
                    payment_expiry: terms.payment_expiry.map(|lock| lock.to_lock_time().to_consensus_u32()),
                    closing_margin: terms.closing_margin.to_blocks(),
                    minimum_payment: terms.minimum_payment.into(),
                    reserve: terms.reserve.into(),
                })
            }
        }
    };
}

terms! {
    /// What the payer proposes, in the units of the wire.
    ProposedTerms {
        /// The conversation.
        protocol: Protocol,
        /// What the funding output is made of.
        construction: Construction,
    }
}

terms! {
    /// The numbers of what the payer proposes, in the units of the wire.
    #[derive(Default)]
    TermNumbers {}
}

impl ProposedTerms {
    /// Returns the terms with their types.
    ///
    /// # Errors
    /// If a number is invalid for terms.
    pub fn to_terms(&self) -> Result<Terms, ImpossibleTerm> {
        self.with(self.protocol, self.construction)
    }
}

impl TermNumbers {
    /// Returns the terms with their types.
    ///
    /// # Errors
    /// If a number is invalid for terms.
    pub fn to_terms(&self, protocol: Protocol, construction: Construction) -> Result<Terms, ImpossibleTerm> {
        self.with(protocol, construction)
    }
}

fn expiry(number: u32) -> Expiry {
    match LockTime::from_consensus(number) {
        LockTime::Blocks(height) => Expiry::from_height(height),
        LockTime::Seconds(time) => Expiry::from_time(time),
    }
}

fn feerate(sat_per_kwu: u32) -> FeeRate {
    FeeRate::from_sat_per_kwu(sat_per_kwu.into())
}

fn sat_per_kwu(field: &'static str, feerate: FeeRate) -> Result<u32, ImpossibleTerm> {
    let feerate = feerate.to_sat_per_kwu();
    u32::try_from(feerate).map_err(|_| ImpossibleTerm {
        field,
        error: format!("{feerate} sat/kwu exceed the limit of {}", u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feerate_beyond_the_wire_is_an_error() {
        let terms = TermNumbers {
            capacity: Sat(1_000_000),
            expiry: 800_144,
            ..TermNumbers::default()
        };
        let mut terms = terms.to_terms(Protocol::Example7, Construction::ALL[0]).unwrap();
        terms.dust_feerate = FeeRate::from_sat_per_kwu(1 << 32);
        let error = TermNumbers::try_from(&terms).unwrap_err().to_string();
        assert_eq!(
            error,
            "dust_feerate: 4294967296 sat/kwu exceed the limit of 4294967295"
        );
    }
}
