//! Locks: what they wait for, and whether a transaction's locks are the ones that its scripts ask for.

use bitcoin::absolute::LockTime;
use bitcoin::script::Instruction;
use bitcoin::transaction::Version;
use bitcoin::{relative, Script, Sequence, Transaction};

use super::problem::Problem;
use super::script::pushed;
use super::script_lock::ScriptLock;
use super::units::thousands;

impl ScriptLock {
    /// Describes from when on it allows a spend.
    pub(super) fn waits(self) -> String {
        match self {
            Self::Absolute(lock) => absolute(lock),
            Self::Relative(lock) => format!("{self}: valid once {}", wait(lock)),
        }
    }

    /// Returns why input `index` of the transaction does not satisfy this lock of its script.
    pub(super) fn failing(self, tx: &Transaction, index: usize) -> Option<Problem> {
        let sequence = tx.input[index].sequence;
        let (same_unit, reached, found) = match self {
            Self::Absolute(_) if sequence.is_final() => return Some(Problem::LockDisabled),
            Self::Absolute(asked) => {
                let found = tx.lock_time;
                (
                    asked.is_same_unit(found),
                    asked.is_implied_by(found),
                    Self::Absolute(found),
                )
            }
            Self::Relative(_) if !has_relative_locks(tx.version) => {
                return Some(Problem::VersionTooLow { version: tx.version })
            }
            Self::Relative(asked) => {
                let Some(found) = sequence.to_relative_lock_time() else {
                    return Some(Problem::RelativeLockDisabled { sequence });
                };
                (
                    asked.is_same_unit(found),
                    asked.is_implied_by(found),
                    Self::Relative(found),
                )
            }
        };
        match (same_unit, reached) {
            (true, true) => None,
            (true, false) => Some(Problem::LockTooEarly { asked: self, found }),
            (false, _) => Some(Problem::LockUnit { asked: self, found }),
        }
    }
}

/// Returns the locks of a script, each with its operand.
pub(super) fn locks_in(script: &Script) -> Vec<(Instruction<'_>, ScriptLock)> {
    let parts: Vec<_> = script.instructions().map_while(Result::ok).collect();
    parts
        .windows(2)
        .filter_map(|pair| Some((pair[0], ScriptLock::of(pair[1].opcode()?, &pushed(&pair[0])?)?)))
        .collect()
}

/// BIP 68 compares the version as an unsigned number.
fn has_relative_locks(version: Version) -> bool {
    version.0.cast_unsigned() >= 2
}

/// Describes what a lock time waits for. Both kinds end one block, or second, later than they seem to.
pub(super) fn absolute(lock: LockTime) -> String {
    let words = ScriptLock::Absolute(lock);
    match lock {
        LockTime::ZERO => "none (lock time 0)".to_owned(),
        LockTime::Blocks(height) => {
            let height = height.to_consensus_u32();
            let next = height + 1;
            format!("{words}: valid in block {next} and later, when the tip is at height {height} or above")
        }
        LockTime::Seconds(_) => format!("{words}: valid once the median time past is above it"),
    }
}

/// Describes what a relative lock waits for. Time counts from the block before the one with the spent output.
pub(super) fn wait(lock: relative::LockTime) -> String {
    match lock {
        relative::LockTime::Blocks(blocks) => {
            let s = if blocks.value() == 1 { "" } else { "s" };
            format!(
                "the spent output has {} confirmation{s}",
                thousands(blocks.value().into())
            )
        }
        relative::LockTime::Time(_) => {
            let seconds = ScriptLock::Relative(lock);
            format!("the median time past is {seconds} above that of the block before the spent output's")
        }
    }
}

/// Returns the relative lock of an input, if it has one (BIP 68).
pub(super) fn relative_lock(sequence: Sequence, version: Version) -> Option<relative::LockTime> {
    sequence
        .to_relative_lock_time()
        .filter(|_| has_relative_locks(version))
}

/// Describes an input's sequence.
pub(super) fn sequence(sequence: Sequence, version: Version) -> String {
    if sequence.is_final() {
        return "final".to_owned();
    }
    if !sequence.is_rbf() {
        return "enables the lock time, does not signal replacement (BIP 125)".to_owned();
    }
    let base = "enables the lock time, signals replacement (BIP 125)";
    match sequence.to_relative_lock_time() {
        None => base.to_owned(),
        Some(_) if !has_relative_locks(version) => format!("{base}, no relative lock below version 2"),
        Some(lock) => format!("{base}, relative lock of {} (BIP 68)", ScriptLock::Relative(lock)),
    }
}
