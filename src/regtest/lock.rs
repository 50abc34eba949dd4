//! Absolute and relative lock times: what keeps a spend out of the next block.

use std::fmt;

use bitcoin::{absolute, relative, OutPoint, Transaction, Txid};

use super::best_block::BestBlock;

/// The unit of relative times, in seconds (BIP 68).
pub(super) const UNIT: u32 = 512;

/// A lock time to cross: an absolute one, a relative one on a coin, or all of a transaction.
///
/// Each is judged for the *next* block:
///
/// | lock | final as soon as |
/// |---|---|
/// | absolute height H | the tip's height is H, so that the next block has H + 1 |
/// | absolute time T | the tip's median time past is greater than T; equal is not enough (BIP 113) |
/// | relative height N, on a coin in block h | the tip's height is h + N − 1, so that the next block has h + N (BIP 68) |
/// | relative time V, on a coin in block h | the tip's median time past is at least that of block h − 1 plus V × 512 seconds (BIP 68) |
///
/// ```
/// use spilman::regtest::{CoinKind, Lock, Regtest, Spend};
/// use bitcoin::{relative, Amount};
///
/// let mut chain = Regtest::start()?;
/// let coin = chain.fund(Amount::from_sat(100_000), CoinKind::Segwit)?;
/// let after_a_day = relative::LockTime::from_seconds_ceil(24 * 60 * 60)?;
/// let coins = [coin];
/// let spend = Spend::of(&coins).sequence(after_a_day.to_sequence()).sign()?;
///
/// // The same lock, once read from the transaction and once named.
/// chain.stop_before(&spend)?;
/// let crossing = chain.make_final(Lock::relative(coins[0].outpoint, after_a_day))?;
/// assert_eq!(crossing.blocks.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lock {
    /// An `nLockTime`, or what `OP_CHECKLOCKTIMEVERIFY` requires (BIP 65).
    Absolute(absolute::LockTime),
    /// The sequence of an input (BIP 68), or what `OP_CHECKSEQUENCEVERIFY` requires (BIP 112).
    Relative {
        /// The coin that the input spends. It must be in a block.
        coin: OutPoint,
        /// The lock.
        lock: relative::LockTime,
    },
    /// All that keeps a transaction out of a block.
    Spend {
        /// The transaction.
        txid: Txid,
        /// Its locks; none if it can be mined at once.
        locks: Vec<Lock>,
    },
}

impl Lock {
    /// Returns a relative lock on a coin.
    #[must_use]
    pub fn relative(coin: OutPoint, lock: relative::LockTime) -> Self {
        Self::Relative { coin, lock }
    }
}

impl From<absolute::LockTime> for Lock {
    fn from(lock: absolute::LockTime) -> Self {
        Self::Absolute(lock)
    }
}

/// The transaction's `nLockTime`, unless all inputs have the final sequence, and the sequences of its inputs, if its
/// version is at least 2 and the disable bit is not set. A lock of zero is no lock.
impl From<&Transaction> for Lock {
    fn from(transaction: &Transaction) -> Self {
        let mut locks = Vec::new();
        if transaction.is_lock_time_enabled() && transaction.lock_time != absolute::LockTime::ZERO {
            locks.push(Self::Absolute(transaction.lock_time));
        }
        // The consensus rules take the version as a number without sign.
        if transaction.version.0.cast_unsigned() >= 2 {
            locks.extend(transaction.input.iter().filter_map(|input| {
                let lock = input.sequence.to_relative_lock_time()?;
                (!is_zero(lock)).then(|| Self::relative(input.previous_output, lock))
            }));
        }
        Self::Spend {
            txid: transaction.compute_txid(),
            locks,
        }
    }
}

fn is_zero(lock: relative::LockTime) -> bool {
    match lock {
        relative::LockTime::Blocks(blocks) => blocks.value() == 0,
        relative::LockTime::Time(units) => units.value() == 0,
    }
}

pub(super) fn counted(blocks: usize) -> String {
    let plural = if blocks == 1 { "" } else { "s" };
    format!("{blocks} block{plural}")
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(lock) => write!(f, "lock time {lock}"),
            Self::Relative { coin, lock } => match lock {
                relative::LockTime::Blocks(blocks) => {
                    write!(f, "the lock of {} on {coin}", counted(blocks.value().into()))
                }
                relative::LockTime::Time(units) => {
                    write!(f, "the lock of {} × {UNIT} s on {coin}", units.value())
                }
            },
            Self::Spend { txid, .. } => write!(f, "transaction {txid}"),
        }
    }
}

/// The least height and median time past of a tip with which a [`Lock`] is final for the next block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LockRequirement {
    /// The height, if it matters.
    pub height: Option<u32>,
    /// The median time past in seconds since 1970, if it matters.
    pub mtp: Option<u32>,
}

impl LockRequirement {
    pub(super) fn height(height: u32) -> Self {
        Self {
            height: Some(height),
            mtp: None,
        }
    }

    pub(super) fn mtp(mtp: u32) -> Self {
        Self {
            height: None,
            mtp: Some(mtp),
        }
    }

    /// Both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            height: self.height.max(other.height),
            mtp: self.mtp.max(other.mtp),
        }
    }

    /// Returns whether this tip is enough.
    pub fn are_met_by(&self, tip: &BestBlock) -> bool {
        self.height.is_none_or(|height| tip.height >= height) && self.mtp.is_none_or(|mtp| tip.mtp >= mtp)
    }
}

impl fmt::Display for LockRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.height, self.mtp) {
            (None, None) => f.write_str("nothing"),
            (Some(height), None) => write!(f, "height {height}"),
            (None, Some(mtp)) => write!(f, "median time past {mtp}"),
            (Some(height), Some(mtp)) => write!(f, "height {height} and median time past {mtp}"),
        }
    }
}
