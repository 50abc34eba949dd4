//! A lock that a script enforces.

use std::fmt;

use bitcoin::absolute::LockTime;
use bitcoin::opcodes::all::{OP_CLTV, OP_CSV};
use bitcoin::opcodes::Opcode;
use bitcoin::{relative, Sequence};

use super::units::{thousands, utc};

/// A lock that a script enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptLock {
    /// `OP_CHECKLOCKTIMEVERIFY` (BIP 65): the lock time of the transaction must be this or later.
    Absolute(LockTime),
    /// `OP_CHECKSEQUENCEVERIFY` (BIP 112): the sequence of the input must wait this long or longer.
    Relative(relative::LockTime),
}

impl fmt::Display for ScriptLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(LockTime::Blocks(height)) => write!(f, "height {}", height.to_consensus_u32()),
            Self::Absolute(LockTime::Seconds(time)) => {
                let time = time.to_consensus_u32();
                write!(f, "time {time} ({})", utc(time))
            }
            Self::Relative(relative::LockTime::Blocks(blocks)) => {
                let s = if blocks.value() == 1 { "" } else { "s" };
                write!(f, "{} block{s}", thousands(blocks.value().into()))
            }
            Self::Relative(relative::LockTime::Time(time)) => {
                write!(f, "{} seconds", thousands(u64::from(time.value()) * 512))
            }
        }
    }
}

impl ScriptLock {
    /// Returns the lock that `opcode` enforces with this operand; `None` if it enforces no lock or always fails.
    pub(super) fn of(opcode: Opcode, operand: &[u8]) -> Option<Self> {
        let number = script_number(operand)?;
        match opcode {
            OP_CLTV => u32::try_from(number)
                .ok()
                .map(LockTime::from_consensus)
                .map(Self::Absolute),
            // BIP 112 allows five bytes, but only the lower 32 bits count.
            OP_CSV => u32::try_from(number & i64::from(u32::MAX))
                .ok()
                .and_then(|bits| Sequence(bits).to_relative_lock_time())
                .map(Self::Relative),
            _ => None,
        }
    }
}

/// Reads a number of at most five bytes, as both lock opcodes do; they fail on a negative number.
fn script_number(bytes: &[u8]) -> Option<i64> {
    let (last, rest) = match bytes.split_last() {
        None => return Some(0),
        Some(_) if bytes.len() > 5 => return None,
        Some((last, rest)) => (last, rest),
    };
    let magnitude = rest
        .iter()
        .rev()
        .fold(i64::from(last & 0x7f), |sum, byte| sum << 8 | i64::from(*byte));
    (last & 0x80 == 0 || magnitude == 0).then_some(magnitude)
}
