use bitcoin::consensus::encode::VarInt;
use bitcoin::{Amount, FeeRate, Script};
use thiserror::Error;

/// The amount locked in the funding output.
///
/// At most [`Capacity::MAX`]: a one-way channel is for small payments (the developer guide warns against larger
/// ones), and the limit keeps every amount within five bytes of CBOR.
///
/// ```
/// use bitcoin::Amount;
/// use spilman::channel::Capacity;
///
/// let capacity = Capacity::new(Amount::from_btc(10.0)?)?;
/// assert_eq!(capacity.to_amount(), Amount::from_sat(1_000_000_000));
/// assert!(Capacity::new(Amount::from_btc(50.0)?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capacity(Amount);

impl Capacity {
    /// 42.94967295 BTC, the largest number of satoshi that fits into 32 bits.
    pub const MAX: Self = Self(Amount::from_sat(u32::MAX as u64));

    /// # Errors
    /// If `amount` is zero or above [`Capacity::MAX`].
    pub fn new(amount: Amount) -> Result<Self, CapacityError> {
        if amount == Amount::ZERO || amount > Self::MAX.0 {
            return Err(CapacityError {
                amount,
                max: Self::MAX.0,
            });
        }
        Ok(Self(amount))
    }

    /// Returns the capacity.
    #[must_use]
    pub const fn to_amount(self) -> Amount {
        self.0
    }
}

/// A capacity of zero, or one that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("capacity must be between 1 sat and {max}, got {amount}")]
pub struct CapacityError {
    amount: Amount,
    max: Amount,
}

/// How the funding output's value is divided by one payment: `capacity = paid + change + fee`.
///
/// `paid` and `change` are what the two parties are *owed*; a sum below the dust limit of its output script
/// cannot be an output, so the miner gets it ([`Balance::fee_on_chain`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// What the payee has been paid in total.
    pub paid: Amount,
    /// What is left for the payer.
    pub change: Amount,
    /// The fee at the agreed feerate, or at that of a raised settlement.
    pub fee: Amount,
    /// The payee's output, or `None` while `paid` is below the dust limit.
    pub to_payee: Option<Amount>,
    /// The payer's output, or `None` when `change` is below the dust limit.
    pub to_payer: Option<Amount>,
}

impl Balance {
    /// Returns whether the payee can claim `paid` on chain. A sum below the dust limit exists off chain only.
    pub const fn is_enforceable(&self) -> bool {
        self.to_payee.is_some()
    }

    /// Returns the fee that the transaction really pays: [`Balance::fee`] plus what was too small for an output.
    pub fn fee_on_chain(&self) -> Amount {
        let dropped_payee = if self.to_payee.is_none() {
            self.paid
        } else {
            Amount::ZERO
        };
        let dropped_change = if self.to_payer.is_none() {
            self.change
        } else {
            Amount::ZERO
        };
        self.fee + dropped_payee + dropped_change
    }
}

/// The input that spends a witness program, in vbytes, as Bitcoin Core counts it for every program.
const WITNESS_INPUT: usize = 67;
/// The same of any other output.
const OTHER_INPUT: usize = 148;

/// Returns the least value of an output to this script that is not dust: the cost of the output and of the input that
/// spends it, at the dust relay feerate. It is rounded up, as in Bitcoin Core; `Script::minimal_non_dust_custom` rounds
/// down.
///
/// Never panics. For feerates of up to 32 bits, the sum of two limits does not overflow.
#[must_use]
pub fn dust_limit(script: &Script, feerate: FeeRate) -> Amount {
    let input = if script.is_witness_program() {
        WITNESS_INPUT
    } else {
        OTHER_INPUT
    };
    let output = 8 + VarInt::from(script.len()).size() + script.len();
    let per_kvb = 4 * u128::from(feerate.to_sat_per_kwu());
    // A length has no more than 64 bits, and the feerate no more than 66: the product fits.
    let limit = (per_kvb * (input + output) as u128).div_ceil(1_000);
    Amount::from_sat(u64::try_from(limit).unwrap_or(u64::MAX))
}
