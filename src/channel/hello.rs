use std::fmt;
use std::ops::{BitAnd, BitOr};

use thiserror::Error;

/// The versions of the conversation that one side speaks: from the least to the greatest, without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    least: u8,
    greatest: u8,
}

impl VersionRange {
    /// Takes the bounds, both of them included.
    ///
    /// # Errors
    /// If `least` is zero, or above `greatest`.
    pub const fn new(least: u8, greatest: u8) -> Result<Self, VersionRangeError> {
        if least == 0 || least > greatest {
            return Err(VersionRangeError { least, greatest });
        }
        Ok(Self { least, greatest })
    }

    /// Returns the lower bound.
    #[must_use]
    pub const fn least(self) -> u8 {
        self.least
    }

    /// Returns the upper bound.
    #[must_use]
    pub const fn greatest(self) -> u8 {
        self.greatest
    }

    /// Returns the greatest version that both sides speak, if there is one: the version of their conversation.
    #[must_use]
    pub fn common(self, peer: Self) -> Option<u8> {
        let greatest = self.greatest.min(peer.greatest);
        (greatest >= self.least.max(peer.least)).then_some(greatest)
    }
}

/// Two numbers that are no range of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "versions {least} to {greatest} are no range: the least must be 1 or more, and not above the greatest"
)]
pub struct VersionRangeError {
    least: u8,
    greatest: u8,
}

/// What one side can do on a connection besides the conversation of one channel: a set of 64 bits.
///
/// Both sides do what both can: `ours & theirs`. So a bit that has no name yet does no harm, and it is kept as received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features(u64);

impl Features {
    /// A channel can be resumed on a later connection.
    pub const RESUME: Self = Self(1);
    /// One connection carries many channels.
    pub const MANY_CHANNELS: Self = Self(1 << 1);
    /// The payee may acknowledge several payments with the latest of them.
    pub const LATEST_ACKNOWLEDGEMENT: Self = Self(1 << 2);
    /// The payee tells a payer that has lost its state what that state was.
    pub const RECOVER: Self = Self(1 << 3);

    /// Takes any 64 bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the 64 bits.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Whether all of these features are in the set.
    #[must_use]
    pub const fn contains(self, features: Self) -> bool {
        self.0 & features.0 == features.0
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Features, &str); 4] = [
            (Features::RESUME, "resume"),
            (Features::MANY_CHANNELS, "many channels"),
            (Features::LATEST_ACKNOWLEDGEMENT, "latest acknowledgement"),
            (Features::RECOVER, "recover"),
        ];
        let mut names: Vec<_> = NAMES
            .iter()
            .filter(|(bit, _)| self.contains(*bit))
            .map(|(_, name)| (*name).to_owned())
            .collect();
        let unnamed = NAMES.iter().fold(self.0, |bits, (bit, _)| bits & !bit.0);
        if unnamed != 0 {
            names.push(format!("{unnamed:#x}"));
        }
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

impl BitAnd for Features {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(least: u8, greatest: u8) -> VersionRange {
        VersionRange::new(least, greatest).unwrap()
    }

    #[test]
    fn the_greatest_common_version_is_spoken() {
        for (ours, theirs, common) in [
            (range(1, 1), range(1, 1), Some(1)),
            (range(1, 3), range(2, 7), Some(3)),
            (range(2, 255), range(1, 2), Some(2)),
            (range(1, 1), range(2, 3), None),
        ] {
            assert_eq!(ours.common(theirs), common, "{ours:?}, {theirs:?}");
            assert_eq!(theirs.common(ours), common, "{theirs:?}, {ours:?}");
        }
    }

    #[test]
    fn a_range_of_versions_is_not_empty_and_begins_above_0() {
        for (least, greatest) in [(0, 0), (0, 1), (2, 1), (255, 254)] {
            let error = VersionRange::new(least, greatest).unwrap_err().to_string();
            let says = |number: u8| error.contains(&number.to_string());
            assert!(says(least) && says(greatest), "{error}");
        }
    }

    #[test]
    fn only_what_both_sides_can_is_done() {
        let unknown = Features::from_bits(1 << 63);
        let (ours, theirs) = (Features::RESUME | Features::RECOVER, unknown | Features::RESUME);
        assert_eq!(ours & theirs, Features::RESUME);
        assert_eq!(theirs.to_bits(), 1 << 63 | 1, "an unknown bit is kept");
        assert!(ours.contains(Features::RECOVER) && !ours.contains(theirs));
    }
}
