//! What a node answers to a transaction, by the codes and the words of Bitcoin Core.

/// The codes that are about the transaction: it does not decode, its inputs are missing or spent, it is against the
/// rules, or the chain has it. Every other code, such as that of a node that is still starting, says nothing about it.
const VERDICTS: [i64; 4] = [-22, -25, -26, IN_CHAIN];
const IN_CHAIN: i64 = -27;

/// What an error says of a transaction.
pub(super) enum NodeVerdict {
    /// The node has it already.
    Known,
    /// The node rejects it, in these words.
    Rejected(String),
}

impl NodeVerdict {
    /// The verdict behind an error; `None` if the error is about something else.
    pub fn of(code: i64, words: &str) -> Option<Self> {
        match code {
            IN_CHAIN => Some(Self::Known),
            code if VERDICTS.contains(&code) && is_known(words) => Some(Self::Known),
            code if VERDICTS.contains(&code) => Some(Self::Rejected(words.to_owned())),
            _ => None,
        }
    }

    pub fn rejection(self) -> Option<String> {
        match self {
            Self::Known => None,
            Self::Rejected(words) => Some(words),
        }
    }
}

/// Being in the mempool or in a block already is as good as being accepted.
pub(super) fn is_known(words: &str) -> bool {
    [
        "txn-already-in-mempool",
        "txn-already-known",
        "txn-same-nonwitness-data-in-mempool",
        "Transaction already in block chain",
        "Transaction outputs already in utxo set",
    ]
    .iter()
    .any(|known| words.starts_with(known))
}
