//! The form of the funding output. Only this folder distinguishes the constructions; everything else uses
//! [`Scripts`].

mod policy;
mod scripts;

use std::fmt;

use super::protocol::Protocol;

pub(crate) use scripts::{Scripts, SpendPath};

/// The form of the funding output. The numbers are those on the wire.
///
/// Scripts are written as output descriptors ([`Construction::template`]), with K1 the payer's key, K2 the payee's and
/// N the refund's lock.
///
/// ```
/// use bitcoin::absolute::{Height, Time};
/// use bitcoin::secp256k1::SecretKey;
/// use bitcoin::Amount;
/// use spilman::channel::*;
///
/// let key = |byte| ChannelKey::new(SecretKey::from_slice(&[byte; 32]).unwrap()).public_key();
/// let tip = Tip { height: Height::from_consensus(800_000)?, mtp: Time::from_consensus(1_700_000_000)? };
/// let terms = Terms::with(Protocol::Example7, Construction::Cltv, Capacity::new(Amount::ONE_BTC)?, tip)?;
/// let output = terms.descriptor(PayerKey::new(key(1)), PayeeKey::new(key(2)))?;
/// assert!(output.to_string().contains("v:after(800144)"));
/// assert!(output.script_pubkey().is_p2wsh());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
#[doc = include_str!("../weights.md")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Construction {
    /// As in the documents: pay to script hash (BIP 16) of `2 K1 K2 2 CHECKMULTISIG`.
    P2sh = 0,
    /// The same script as a witness (BIP 141), nested in P2SH for payers that can pay to no other addresses.
    P2shP2wsh = 1,
    /// The same script as a native witness: no one can change the id of a transaction that spends it.
    P2wsh = 2,
    /// Both keys, or the payer alone from an absolute lock: BIP 65's payment channel, as a witness.
    Cltv = 3,
    /// Both keys, or the payer alone from a relative lock after the funding transaction confirms (BIP 68 and 112).
    Csv = 4,
    /// Taproot (BIP 341): `MuSig2` of both keys (BIP 327) for a cooperative close; one leaf with both keys for
    /// payments, one with the payer's and an absolute lock for the refund.
    Taproot = 5,
}

impl Construction {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::P2sh,
        Self::P2shP2wsh,
        Self::P2wsh,
        Self::Cltv,
        Self::Csv,
        Self::Taproot,
    ];

    /// Returns the published name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P2sh => "p2sh",
            Self::P2shP2wsh => "p2sh-p2wsh",
            Self::P2wsh => "p2wsh",
            Self::Cltv => "cltv",
            Self::Csv => "csv",
            Self::Taproot => "taproot",
        }
    }

    /// Returns the output descriptor with names in place of keys and lock.
    #[must_use]
    pub const fn template(self) -> &'static str {
        match self {
            Self::P2sh => "sh(multi(2,K1,K2))",
            Self::P2shP2wsh => "sh(wsh(multi(2,K1,K2)))",
            Self::P2wsh => "wsh(multi(2,K1,K2))",
            Self::Cltv => "wsh(and_v(or_i(v:pk(K2),v:after(N)),pk(K1)))",
            Self::Csv => "wsh(and_v(or_i(v:pk(K2),v:older(N)),pk(K1)))",
            Self::Taproot => "tr(musig(K1,K2),{and_v(v:pk(K1),pk(K2)),and_v(v:pk(K1),after(N))})",
        }
    }

    /// Returns whether the payer's refund is written into the funding output. If not, the payee signs the refund
    /// before the payer may hand over the funding transaction.
    #[must_use]
    pub const fn has_script_refund(self) -> bool {
        matches!(self, Self::Cltv | Self::Csv | Self::Taproot)
    }

    /// Returns whether this construction supports this protocol. With the refund in a script, nothing is co-signed in
    /// advance, so only Example 7 is possible, whose payments are not locked.
    #[must_use]
    pub const fn runs(self, protocol: Protocol) -> bool {
        !self.has_script_refund() || matches!(protocol, Protocol::Example7)
    }

    /// Returns whether the refund's lock counts from the confirmation of the funding transaction.
    #[must_use]
    pub const fn has_relative_lock(self) -> bool {
        matches!(self, Self::Csv)
    }

    /// Returns whether both can close with one signature, indistinguishable from an ordinary one.
    #[must_use]
    pub const fn closes_with_one_key(self) -> bool {
        matches!(self, Self::Taproot)
    }
}

impl fmt::Display for Construction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
