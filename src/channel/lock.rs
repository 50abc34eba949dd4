use std::fmt;

use bitcoin::absolute::{Height, LockTime, Time};

/// The chain's end as a party sees it. Every safety decision uses this, never a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Height of the last block.
    pub height: Height,
    /// Median time past: the median timestamp of the last 11 blocks (BIP 113), in seconds since 1970.
    pub mtp: Time,
}

/// From when on a transaction can be mined: a block height or a time.
///
/// The two kinds are compared in different ways, and both off by one from what one would guess:
///
/// * a height lock `H` can enter block `H + 1`, so it is final once the tip is at height `H`;
/// * a time lock `T` is final once the median time past is *above* `T`. (`LockTime::is_satisfied_by` of
///   the `bitcoin` crate says so one second early when it is given the median time past.)
///
/// ```
/// use bitcoin::absolute::{Height, Time};
/// use spilman::channel::{Expiry, Tip};
///
/// let tip = |height, mtp| Tip {
///     height: Height::from_consensus(height).unwrap(),
///     mtp: Time::from_consensus(mtp).unwrap(),
/// };
/// let expiry = Expiry::from_height(Height::from_consensus(144)?);
/// assert!(!expiry.is_final(tip(143, 1_700_000_000)));
/// assert!(expiry.is_final(tip(144, 1_700_000_000)));
///
/// let expiry = Expiry::from_time(Time::from_consensus(1_700_086_400)?);
/// assert!(!expiry.is_final(tip(999, 1_700_086_400)));
/// assert!(expiry.is_final(tip(999, 1_700_086_401)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Expiry(LockTime);

impl Expiry {
    /// A lock by block height.
    #[must_use]
    pub const fn from_height(height: Height) -> Self {
        Self(LockTime::Blocks(height))
    }

    /// A lock by median time past.
    #[must_use]
    pub const fn from_time(time: Time) -> Self {
        Self(LockTime::Seconds(time))
    }

    /// A lock `blocks` blocks after `tip`; `None` beyond the range of height locks.
    #[must_use]
    pub fn blocks_after(tip: Tip, blocks: u32) -> Option<Self> {
        let height = tip.height.to_consensus_u32().checked_add(blocks)?;
        Height::from_consensus(height).ok().map(Self::from_height)
    }

    /// A lock `seconds` seconds after the median time past of `tip`; `None` beyond the range of time locks.
    #[must_use]
    pub fn seconds_after(tip: Tip, seconds: u32) -> Option<Self> {
        let time = tip.mtp.to_consensus_u32().checked_add(seconds)?;
        Time::from_consensus(time).ok().map(Self::from_time)
    }

    /// The value for a transaction's `nLockTime`.
    #[must_use]
    pub const fn to_lock_time(self) -> LockTime {
        self.0
    }

    /// Whether height or time.
    #[must_use]
    pub const fn kind(self) -> LockKind {
        match self.0 {
            LockTime::Blocks(_) => LockKind::Height,
            LockTime::Seconds(_) => LockKind::Time,
        }
    }

    /// Whether a transaction with this lock can enter the block after `tip`.
    #[must_use]
    pub fn is_final(self, tip: Tip) -> bool {
        match self.0 {
            LockTime::Blocks(height) => height <= tip.height,
            LockTime::Seconds(time) => time < tip.mtp,
        }
    }

    /// How far `tip` is before this lock, in blocks or seconds as [`Expiry::kind`] says; zero once past it.
    #[must_use]
    pub fn distance(self, tip: Tip) -> u32 {
        let now = match self.kind() {
            LockKind::Height => tip.height.to_consensus_u32(),
            LockKind::Time => tip.mtp.to_consensus_u32(),
        };
        self.0.to_consensus_u32().saturating_sub(now)
    }

    /// A lock that is final as soon as no more than `margin` is left before this one.
    #[must_use]
    pub fn earlier(self, margin: ClosingMargin) -> Self {
        let margin = margin.of_kind(self.kind());
        let earlier = |value: u32| value.saturating_sub(margin);
        match self.0 {
            LockTime::Blocks(height) => {
                let height = Height::from_consensus(earlier(height.to_consensus_u32()));
                Self::from_height(height.unwrap_or(Height::ZERO))
            }
            // A time lock is final one second after its time, and is never before the first time there is.
            LockTime::Seconds(time) => {
                let time = Time::from_consensus(earlier(time.to_consensus_u32()).saturating_sub(1));
                Self::from_time(time.unwrap_or(Time::MIN))
            }
        }
    }

    /// How far `later` lies behind this lock; `None` if the kinds differ or `later` is earlier.
    #[must_use]
    pub fn gap_to(self, later: Self) -> Option<u32> {
        if self.kind() != later.kind() {
            return None;
        }
        later.0.to_consensus_u32().checked_sub(self.0.to_consensus_u32())
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            LockTime::Blocks(height) => write!(f, "height {height}"),
            LockTime::Seconds(time) => write!(f, "time {time}"),
        }
    }
}

/// The two axes on which a lock can lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// Block height.
    Height,
    /// Median time past, in seconds.
    Time,
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Height => "height",
            Self::Time => "time",
        })
    }
}

/// How long before the refund's lock the payee stops taking payments and settles, in blocks.
///
/// For a time lock every block stands for the ten minutes in which it is expected. After the lock, the
/// refund and the settlement race, and a payee that is late loses everything it was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClosingMargin(u16);

impl ClosingMargin {
    /// 36 blocks, or six hours.
    pub const DEFAULT: Self = Self(36);

    /// A margin of so many blocks; for a time lock, of ten minutes for each.
    #[must_use]
    pub const fn from_blocks(blocks: u16) -> Self {
        Self(blocks)
    }

    /// The margin in blocks.
    #[must_use]
    pub const fn to_blocks(self) -> u16 {
        self.0
    }

    /// The margin on the axis of a lock of this kind: in blocks, or in seconds.
    #[must_use]
    pub const fn of_kind(self, kind: LockKind) -> u32 {
        match kind {
            LockKind::Height => self.0 as u32,
            LockKind::Time => self.0 as u32 * 600,
        }
    }
}

impl fmt::Display for ClosingMargin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} blocks", self.0)
    }
}
