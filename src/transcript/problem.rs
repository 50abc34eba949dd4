//! What a reviewer of an input must not overlook.

use bitcoin::transaction::Version;
use bitcoin::Sequence;

use super::script_lock::ScriptLock;

/// A problem of an input that a reviewer must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The last item is not the script that the output hashes.
    #[error("the last item does not hash to the script hash of the spent output")]
    ScriptHash,
    /// The public key is not the one that the output hashes.
    #[error("the public key does not hash to the key hash of the spent output")]
    KeyHash,
    /// `OP_CHECKMULTISIG` walks keys and signatures in one direction.
    #[error("the signatures do not follow the order of the keys, so OP_CHECKMULTISIG fails")]
    SignatureOrder,
    /// BIP 147.
    #[error("the dummy is not empty (BIP 147)")]
    DummyNotEmpty,
    /// The script checks a signature against another key.
    #[error("the script checks a signature against another key")]
    OtherKey,
    /// The script removes more items from the stack than there are.
    #[error("the script takes more items than the input has")]
    MissingItems,
    /// The script leaves items on the stack (BIP 62 for P2SH, consensus for witness scripts).
    #[error("the script leaves items on the stack, so it fails")]
    LeftoverItems,
    /// `MINIMALIF`: consensus in tapscripts (BIP 342), policy in P2WSH.
    #[error("the item that chooses the branch is neither empty nor 01 (BIP 342; policy in P2WSH)")]
    BranchItem,
    /// The last item of a script path spend is not a control block (BIP 341).
    #[error("the last item is not a control block (BIP 341)")]
    ControlBlock,
    /// The leaf and the control block give another output key.
    #[error("the leaf and the control block do not commit to the output key of the spent output")]
    Commitment,
    /// The leaf and the control block give the output key with the other parity.
    #[error("the control block states the wrong parity of the output key")]
    Parity,
    /// Consensus does not run leaves of unknown versions (BIP 341).
    #[error("the leaf version 0x{version:02x} is unknown: anyone can spend it, and no node relays it")]
    LeafVersion {
        /// The version that the control block states.
        version: u8,
    },
    /// The lock of the transaction or input ends before the one that the script asks for.
    #[error("the script requires {asked}, but the lock is only {found}")]
    LockTooEarly {
        /// What the script asks for.
        asked: ScriptLock,
        /// What the transaction or its input states.
        found: ScriptLock,
    },
    /// A height cannot be compared with a time, nor blocks with seconds.
    #[error("the script requires {asked}, but the lock is {found}: the units differ, so it fails")]
    LockUnit {
        /// What the script asks for.
        asked: ScriptLock,
        /// What the transaction or its input states.
        found: ScriptLock,
    },
    /// BIP 65: a final sequence switches the lock time off.
    #[error("the sequence is final, so OP_CHECKLOCKTIMEVERIFY fails")]
    LockDisabled,
    /// BIP 112: bit 31 of the sequence switches the relative lock off.
    #[error("sequence 0x{:08x} has the disable flag, so OP_CHECKSEQUENCEVERIFY fails", sequence.0)]
    RelativeLockDisabled {
        /// The sequence of the input.
        sequence: Sequence,
    },
    /// BIP 112: there are no relative locks below version 2.
    #[error("the version is {}, below 2, so OP_CHECKSEQUENCEVERIFY fails", version.0)]
    VersionTooLow {
        /// The version of the transaction.
        version: Version,
    },
}

impl Problem {
    /// Returns whether the signatures may be valid in spite of it: only locks or other items are wrong.
    pub(super) fn spares_signatures(self) -> bool {
        matches!(
            self,
            Self::LockTooEarly { .. }
                | Self::LockUnit { .. }
                | Self::LockDisabled
                | Self::RelativeLockDisabled { .. }
                | Self::VersionTooLow { .. }
                | Self::BranchItem
                | Self::Parity
        )
    }
}
