use std::fmt;

use bitcoin::absolute::{Height, LockTime, Time};
use bitcoin::{relative, Sequence};

/// Sequence of a locked input: below the maximum, so that consensus enforces `nLockTime`, and without signalling
/// replaceability (BIP 125).
pub const LOCKED_SEQUENCE: Sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;

/// The tip of the chain, as a party sees it. Every safety decision uses this, never a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Height of the last block.
    pub height: Height,
    /// Median time past: the median timestamp of the last 11 blocks (BIP 113), in seconds since 1970.
    pub mtp: Time,
}

/// The first block height or time at which a transaction can be mined.
///
/// The two kinds are compared differently, and both are off by one from the obvious guess:
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
    /// Returns a lock by block height.
    #[must_use]
    pub const fn from_height(height: Height) -> Self {
        Self(LockTime::Blocks(height))
    }

    /// Returns a lock by median time past.
    #[must_use]
    pub const fn from_time(time: Time) -> Self {
        Self(LockTime::Seconds(time))
    }

    /// Returns a lock `blocks` blocks after `tip`; `None` beyond the range of height locks.
    #[must_use]
    pub fn blocks_after(tip: Tip, blocks: u32) -> Option<Self> {
        let height = tip.height.to_consensus_u32().checked_add(blocks)?;
        Height::from_consensus(height).ok().map(Self::from_height)
    }

    /// Returns a lock `seconds` seconds after the median time past of `tip`; `None` beyond the range of time locks.
    #[must_use]
    pub fn seconds_after(tip: Tip, seconds: u32) -> Option<Self> {
        let time = tip.mtp.to_consensus_u32().checked_add(seconds)?;
        Time::from_consensus(time).ok().map(Self::from_time)
    }

    /// Returns the value for a transaction's `nLockTime`.
    #[must_use]
    pub const fn to_lock_time(self) -> LockTime {
        self.0
    }

    /// Returns whether the lock is a height or a time.
    #[must_use]
    pub const fn kind(self) -> LockKind {
        match self.0 {
            LockTime::Blocks(_) => LockKind::Height,
            LockTime::Seconds(_) => LockKind::Time,
        }
    }

    /// Returns whether a transaction with this lock can enter the block after `tip`.
    #[must_use]
    pub fn is_final(self, tip: Tip) -> bool {
        match self.0 {
            LockTime::Blocks(height) => height <= tip.height,
            LockTime::Seconds(time) => time < tip.mtp,
        }
    }

    /// Returns how far `tip` is before this lock, in blocks or seconds as [`Expiry::kind`] says, or zero after the lock.
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
            // A time lock is final one second after its time, and never below `Time::MIN`.
            LockTime::Seconds(time) => {
                let time = Time::from_consensus(earlier(time.to_consensus_u32()).saturating_sub(1));
                Self::from_time(time.unwrap_or(Time::MIN))
            }
        }
    }

    /// Returns how far `later` is after this lock; `None` if the kinds differ or `later` is earlier.
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

/// The lock of the refund, as agreed at the opening.
///
/// ```
/// use bitcoin::absolute::{Height, Time};
/// use bitcoin::relative::LockTime;
/// use spilman::channel::{RefundLock, Tip};
///
/// let day = RefundLock::Relative(LockTime::from_height(144));
/// assert_eq!(day.expiry(None), None, "it has not begun");
/// // The funding transaction is in block 501, so that the refund can be in block 645 and no earlier.
/// let parent = Tip { height: Height::from_consensus(500)?, mtp: Time::from_consensus(1_700_000_000)? };
/// assert_eq!(day.expiry(Some(parent)).unwrap().to_string(), "height 644");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefundLock {
    /// A height or a time (`nLockTime`, BIP 65).
    Absolute(Expiry),
    /// A number of blocks, or of units of 512 seconds, after the funding transaction confirms (`nSequence`, BIP 68 and
    /// 112). Until then the channel's lifetime has not begun. If a payee accepts the funding transaction and goes silent,
    /// the payer broadcasts it, or spends its inputs elsewhere.
    Relative(relative::LockTime),
}

impl RefundLock {
    /// `blocks` blocks after the confirmation.
    #[must_use]
    pub const fn after_blocks(blocks: u16) -> Self {
        Self::Relative(relative::LockTime::from_height(blocks))
    }

    /// At least `seconds` seconds of median time past after the confirmation; `None` above 33,553,920 seconds, or some
    /// 388 days.
    #[must_use]
    pub fn after_seconds(seconds: u32) -> Option<Self> {
        relative::Time::from_seconds_ceil(seconds)
            .ok()
            .map(|time| Self::Relative(time.into()))
    }

    /// A relative lock as in `nSequence`. BIP 68 gives a meaning to 17 bits of it. `None` if any other bit is set, because then
    /// there is no lock, or a second way to write one; and `None` for a lock of length zero.
    pub(crate) fn from_sequence(number: u32) -> Option<Self> {
        let lock = relative::LockTime::from_consensus(number).ok()?;
        (lock.to_consensus_u32() == number && number & 0xffff != 0).then_some(Self::Relative(lock))
    }

    /// Returns when the refund becomes final. A relative lock counts from `funding_parent`, the tip below the block with
    /// the funding transaction; without that it has not begun.
    ///
    /// A coin whose block is at height `h` can be spent with a lock of `n` blocks from block `h + n` on; with a lock of
    /// time, once the median time past is `n` units of 512 seconds above that of block `h - 1` (BIP 68).
    #[must_use]
    pub fn expiry(self, funding_parent: Option<Tip>) -> Option<Expiry> {
        match self {
            Self::Absolute(expiry) => Some(expiry),
            Self::Relative(relative::LockTime::Blocks(blocks)) => {
                Expiry::blocks_after(funding_parent?, u32::from(blocks.value()))
            }
            Self::Relative(relative::LockTime::Time(time)) => {
                let seconds = u32::from(time.value()) * 512;
                Expiry::seconds_after(funding_parent?, seconds.saturating_sub(1))
            }
        }
    }

    /// Returns the absolute lock, if it is one.
    #[must_use]
    pub const fn absolute(self) -> Option<Expiry> {
        match self {
            Self::Absolute(expiry) => Some(expiry),
            Self::Relative(_) => None,
        }
    }

    /// Returns whether the lock is a height or a time.
    #[must_use]
    pub const fn kind(self) -> LockKind {
        match self {
            Self::Absolute(expiry) => expiry.kind(),
            Self::Relative(relative::LockTime::Blocks(_)) => LockKind::Height,
            Self::Relative(relative::LockTime::Time(_)) => LockKind::Time,
        }
    }

    /// Returns how much time a channel that confirms after `tip` has, in blocks or seconds as [`RefundLock::kind`]
    /// says. For an absolute lock this is an upper bound.
    #[must_use]
    pub fn distance(self, tip: Tip) -> u32 {
        match self {
            Self::Absolute(expiry) => expiry.distance(tip),
            Self::Relative(relative::LockTime::Blocks(blocks)) => u32::from(blocks.value()),
            Self::Relative(relative::LockTime::Time(time)) => u32::from(time.value()) * 512,
        }
    }

    /// Returns the refund's `nLockTime`: zero where the lock is in its sequence.
    #[must_use]
    pub fn to_lock_time(self) -> LockTime {
        self.fields().0
    }

    /// `nLockTime` and sequence of the refund's only input.
    pub(crate) fn fields(self) -> (LockTime, Sequence) {
        match self {
            Self::Absolute(expiry) => (expiry.to_lock_time(), LOCKED_SEQUENCE),
            Self::Relative(lock) => (LockTime::ZERO, lock.to_sequence()),
        }
    }

    /// As in `nLockTime`, or as in `nSequence`.
    pub(crate) fn to_consensus_u32(self) -> u32 {
        match self {
            Self::Absolute(expiry) => expiry.to_lock_time().to_consensus_u32(),
            Self::Relative(lock) => lock.to_consensus_u32(),
        }
    }
}

impl From<Expiry> for RefundLock {
    fn from(expiry: Expiry) -> Self {
        Self::Absolute(expiry)
    }
}

impl fmt::Display for RefundLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(expiry) => fmt::Display::fmt(expiry, f),
            Self::Relative(relative::LockTime::Blocks(blocks)) => {
                write!(f, "{} blocks after funding", blocks.value())
            }
            Self::Relative(relative::LockTime::Time(time)) => {
                write!(f, "{} seconds after funding", u32::from(time.value()) * 512)
            }
        }
    }
}

/// The two kinds of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// Block height.
    Height,
    /// Median time past, in seconds.
    Time,
}

impl LockKind {
    /// A number of blocks or of seconds, with its unit.
    pub(crate) fn length(self, number: u32) -> String {
        let unit = match self {
            Self::Height => "block",
            Self::Time => "second",
        };
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {unit}{plural}")
    }
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Height => "height",
            Self::Time => "time",
        })
    }
}

/// How long before the refund's lock the payee stops accepting payments and settles, in blocks.
///
/// For a time lock, a block counts as ten minutes. After the lock, refund and settlement race, and a late payee loses
/// everything that it was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClosingMargin(u16);

impl ClosingMargin {
    /// 36 blocks, or six hours.
    pub const DEFAULT: Self = Self(36);

    /// Returns a margin of this many blocks; for a time lock, of ten minutes for each.
    #[must_use]
    pub const fn from_blocks(blocks: u16) -> Self {
        Self(blocks)
    }

    /// Returns the margin in blocks.
    #[must_use]
    pub const fn to_blocks(self) -> u16 {
        self.0
    }

    /// Returns the margin on the axis of a lock of this kind: in blocks, or in seconds.
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
