//! The node's answer to a transaction, in the same terms for every Core version.

use std::fmt;

use bitcoin::Txid;

/// The node's answer to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum MempoolVerdict {
    /// The transaction is, or would be, in the mempool.
    Accepted {
        /// Its id, as the node computed it.
        txid: Txid,
    },
    /// The node rejects the transaction.
    Rejected(Rejection),
}

/// A rejection: the reason, and the node's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The reason, the same in all versions.
    pub reason: RejectReason,
    /// The node's own words, which differ between versions.
    pub words: String,
}

/// Why a node rejects a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// The lock time is not final for the next block (BIP 113 for times).
    NonFinal,
    /// A relative lock has not passed (BIP 68).
    NonBip68Final,
    /// An input does not exist or is spent.
    MissingInputs,
    /// A coinbase is spent before it has 100 blocks on it.
    ImmatureCoinbase,
    /// The transaction pays out more than it takes in.
    OutputsExceedInputs,
    /// A replacement does not pay enough more than what it replaces (BIP 125).
    InsufficientFee,
    /// The fee is below what the node relays, or below what its full mempool asks.
    MinRelayFee,
    /// An output is too small to be worth spending.
    Dust,
    /// Another transaction of the mempool spends the same output and is not replaced.
    MempoolConflict,
    /// The transaction, or one with the same id, is in the mempool.
    AlreadyInMempool,
    /// The transaction is in a block.
    AlreadyKnown,
    /// A script or a signature does not verify; the words say why.
    ScriptFailed,
    /// An input script is not standard.
    ScriptSig,
    /// An output script is not standard.
    ScriptPubKey,
    /// A rule of version-3 transactions is broken (BIP 431).
    Truc,
    /// A rule for packages is broken, or a transaction of the package is rejected; the words say which.
    Package,
    /// The node did not judge this transaction, because the package or another transaction of it is rejected.
    NotValidated,
    /// Anything else; the words say what.
    Other,
}

impl RejectReason {
    /// Returns its name in lower case with hyphens, as in published texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NonFinal => "non-final",
            Self::NonBip68Final => "non-bip68-final",
            Self::MissingInputs => "missing-inputs",
            Self::ImmatureCoinbase => "immature-coinbase",
            Self::OutputsExceedInputs => "outputs-exceed-inputs",
            Self::InsufficientFee => "insufficient-fee",
            Self::MinRelayFee => "min-relay-fee",
            Self::Dust => "dust",
            Self::MempoolConflict => "mempool-conflict",
            Self::AlreadyInMempool => "already-in-mempool",
            Self::AlreadyKnown => "already-known",
            Self::ScriptFailed => "script-failed",
            Self::ScriptSig => "script-sig",
            Self::ScriptPubKey => "script-pub-key",
            Self::Truc => "truc",
            Self::Package => "package",
            Self::NotValidated => "not-validated",
            Self::Other => "other",
        }
    }

    /// Sorts a node's words: the reject reason, optionally followed by a comma or a parenthesis with details.
    #[must_use]
    pub fn of(words: &str) -> Self {
        // The order matters only where one prefix begins another.
        const TABLE: &[(&str, RejectReason)] = &[
            ("non-final", RejectReason::NonFinal),
            ("bad-txns-nonfinal", RejectReason::NonFinal),
            ("non-BIP68-final", RejectReason::NonBip68Final),
            ("missing-inputs", RejectReason::MissingInputs),
            ("missingorspent", RejectReason::MissingInputs),
            ("bad-txns-inputs-missingorspent", RejectReason::MissingInputs),
            (
                "bad-txns-premature-spend-of-coinbase",
                RejectReason::ImmatureCoinbase,
            ),
            ("bad-txns-in-belowout", RejectReason::OutputsExceedInputs),
            ("insufficient fee", RejectReason::InsufficientFee),
            ("replacement-failed", RejectReason::InsufficientFee),
            ("min relay fee not met", RejectReason::MinRelayFee),
            ("mempool min fee not met", RejectReason::MinRelayFee),
            ("dust", RejectReason::Dust),
            ("txn-mempool-conflict", RejectReason::MempoolConflict),
            ("bad-txns-spends-conflicting-tx", RejectReason::MempoolConflict),
            ("txn-already-in-mempool", RejectReason::AlreadyInMempool),
            (
                "txn-same-nonwitness-data-in-mempool",
                RejectReason::AlreadyInMempool,
            ),
            ("txn-already-known", RejectReason::AlreadyKnown),
            ("Transaction already in block chain", RejectReason::AlreadyKnown),
            (
                "Transaction outputs already in utxo set",
                RejectReason::AlreadyKnown,
            ),
            ("mempool-script-verify-flag-failed", RejectReason::ScriptFailed),
            ("mandatory-script-verify-flag-failed", RejectReason::ScriptFailed),
            ("non-mandatory-script-verify-flag", RejectReason::ScriptFailed),
            ("scriptsig-", RejectReason::ScriptSig),
            ("bad-txns-nonstandard-inputs", RejectReason::ScriptSig),
            ("bad-witness-nonstandard", RejectReason::ScriptSig),
            ("scriptpubkey", RejectReason::ScriptPubKey),
            ("TRUC-", RejectReason::Truc),
            ("v3-", RejectReason::Truc),
            ("package-not-validated", RejectReason::NotValidated),
            ("unevaluated", RejectReason::NotValidated),
            ("package", RejectReason::Package),
            ("conflict-in-package", RejectReason::Package),
            ("transaction failed", RejectReason::Package),
        ];
        let reason = TABLE.iter().find(|(start, _)| words.starts_with(start));
        reason.map_or(Self::Other, |(_, reason)| *reason)
    }
}

impl Rejection {
    pub(super) fn of(words: impl Into<String>) -> Self {
        let words = words.into();
        Self {
            reason: RejectReason::of(&words),
            words,
        }
    }
}

impl MempoolVerdict {
    /// A rejection in the node's own words.
    pub(super) fn rejected(words: impl Into<String>) -> Self {
        Self::Rejected(Rejection::of(words))
    }

    /// Returns whether the node accepts the transaction.
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }

    /// Returns the rejection, if it is one.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Accepted { .. } => None,
            Self::Rejected(rejection) => Some(rejection),
        }
    }

    /// Returns whether the node rejects the transaction for exactly this reason.
    pub fn rejected_for(&self, reason: RejectReason) -> bool {
        self.rejection()
            .is_some_and(|rejection| rejection.reason == reason)
    }

    /// Returns the transaction's id, if it is accepted.
    ///
    /// # Panics
    ///
    /// If the node rejects it, with the node's words.
    #[track_caller]
    pub fn expect_accepted(&self) -> Txid {
        match self {
            Self::Accepted { txid } => *txid,
            Self::Rejected(rejection) => panic!("expected the node to accept, but it {rejection}"),
        }
    }

    /// Returns the rejection, if it is for exactly this reason.
    ///
    /// # Panics
    ///
    /// If the node accepts, or rejects for another reason; the message has both.
    #[track_caller]
    pub fn expect_rejected(&self, reason: RejectReason) -> &Rejection {
        match self {
            Self::Rejected(rejection) if rejection.reason == reason => rejection,
            _ => panic!("expected the node to reject for {reason:?}, but it {self}"),
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for MempoolVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { txid } => write!(f, "accepted {txid}"),
            Self::Rejected(rejection) => rejection.fmt(f),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rejected ({:?}): {}", self.reason, self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of Core 28 to 31, as sent by `sendrawtransaction` and by `testmempoolaccept` (with and without
    /// `reject-details`).
    #[test]
    fn words_of_all_versions_are_sorted() {
        use RejectReason as R;
        let table = [
            ("non-final", R::NonFinal),
            ("non-BIP68-final", R::NonBip68Final),
            ("missing-inputs", R::MissingInputs),
            ("bad-txns-inputs-missingorspent", R::MissingInputs),
            ("bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 99", R::ImmatureCoinbase),
            ("bad-txns-in-belowout, value in (0.00001) < value out (0.00002)", R::OutputsExceedInputs),
            ("insufficient fee", R::InsufficientFee),
            ("insufficient fee, rejecting replacement 00ff, not enough additional fees to relay", R::InsufficientFee),
            ("replacement-failed, insufficient feerate: does not improve feerate diagram", R::InsufficientFee),
            ("min relay fee not met", R::MinRelayFee),
            ("min relay fee not met, 0 < 110", R::MinRelayFee),
            ("mempool min fee not met, 100 < 200", R::MinRelayFee),
            ("dust", R::Dust),
            ("dust, tx with dust output must be 0-fee", R::Dust),
            ("txn-mempool-conflict", R::MempoolConflict),
            ("bad-txns-spends-conflicting-tx, 00 spends conflicting transaction 11", R::MempoolConflict),
            ("txn-already-in-mempool", R::AlreadyInMempool),
            ("txn-same-nonwitness-data-in-mempool", R::AlreadyInMempool),
            ("txn-already-known", R::AlreadyKnown),
            ("Transaction already in block chain", R::AlreadyKnown),
            ("Transaction outputs already in utxo set", R::AlreadyKnown),
            ("mandatory-script-verify-flag-failed (Signature must be zero for failed CHECK(MULTI)SIG operation)", R::ScriptFailed),
            ("non-mandatory-script-verify-flag (Non-canonical signature: S value is unnecessarily high)", R::ScriptFailed),
            ("mempool-script-verify-flag-failed (Non-canonical signature: S value is unnecessarily high), input 0 of 00", R::ScriptFailed),
            ("scriptsig-not-pushonly", R::ScriptSig),
            ("scriptsig-size", R::ScriptSig),
            ("bad-txns-nonstandard-inputs, input 0 script unknown", R::ScriptSig),
            ("scriptpubkey", R::ScriptPubKey),
            ("TRUC-violation, version=3 tx 00 is too big", R::Truc),
            ("v3-rule-violation", R::Truc),
            ("package-not-validated", R::NotValidated),
            ("unevaluated", R::NotValidated),
            ("package-not-sorted", R::Package),
            ("package topology disallowed. not child-with-parents or parents depend on each other.", R::Package),
            ("conflict-in-package", R::Package),
            ("transaction failed", R::Package),
            ("version", R::Other),
            ("tx-size-small", R::Other),
            ("", R::Other),
        ];
        for (words, reason) in table {
            assert_eq!(RejectReason::of(words), reason, "{words}");
            assert_eq!(reason.name(), with_hyphens(&format!("{reason:?}")), "{reason:?}");
        }
    }

    /// `NonBip68Final` is `non-bip68-final`.
    fn with_hyphens(name: &str) -> String {
        let mut hyphened = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() && !hyphened.is_empty() {
                hyphened.push('-');
            }
            hyphened.push(c.to_ascii_lowercase());
        }
        hyphened
    }

    #[test]
    #[should_panic(expected = "expected the node to reject for NonFinal, but it rejected (Dust): dust")]
    fn another_reason_is_not_good_enough() {
        MempoolVerdict::rejected("dust").expect_rejected(RejectReason::NonFinal);
    }
}
