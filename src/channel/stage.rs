use std::fmt;

/// The stage of a channel, as one party sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The payer has proposed and waits for K2; the payee waits for a proposal.
    Proposing,
    /// Keys are exchanged; a refund that the payee must sign is not signed yet.
    SigningRefund,
    /// The refund is safe; the funding transaction is not handed over yet.
    Protected,
    /// The funding transaction is not confirmed yet.
    AwaitingFunding,
    /// Payments flow.
    Open,
    /// A settlement or refund is on its way.
    Closing,
    /// The spend of the funding output is confirmed, or the channel was abandoned.
    Closed,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proposing => "proposing",
            Self::SigningRefund => "signing the refund",
            Self::Protected => "waiting to fund",
            Self::AwaitingFunding => "waiting for the funding transaction to confirm",
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Closed => "closed",
        })
    }
}
