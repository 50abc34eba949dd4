use thiserror::Error;

use crate::channel::{ApplyError, FundError, MessageKind, Refusal, TermsError};
use crate::transcript::Side;

/// Why two parties in memory did not come to the end of a step.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SimError<E> {
    /// The payer's own limits forbid its proposal.
    #[error("the payer cannot propose: {0}")]
    Propose(TermsError),
    /// The payer's own funding transaction is of no use.
    #[error("the payer cannot fund: {0}")]
    Fund(FundError),
    /// One side refused what the network delivered.
    #[error("the {by} refused {kind}: {refusal}", by = name(*by))]
    Refused {
        /// The receiver.
        by: Side,
        /// The message.
        kind: MessageKind,
        /// Why.
        refusal: Refusal,
    },
    /// One side could not do what it was told, or failed.
    #[error("the {side}: {error}", side = name(*side))]
    Apply {
        /// That side.
        side: Side,
        /// Why.
        error: ApplyError,
    },
    /// The opening cannot go on without a message that the network lost.
    #[error("the {from}'s {kind} was lost", from = name(*from))]
    Lost {
        /// The sender.
        from: Side,
        /// The message.
        kind: MessageKind,
    },
    /// The proposal was changed on its way: one side expects a refund that both sign, the other one in the script.
    #[error("the two sides disagree on who signs the refund")]
    RefundDisputed,
    /// The payer did not hand its funding transaction over.
    #[error("the payer keeps its funding transaction")]
    FundingKept,
    /// The network gave up.
    #[error("{0}")]
    Network(E),
}

impl<E> SimError<E> {
    pub(super) fn refused(by: Side, kind: MessageKind) -> impl FnOnce(Refusal) -> Self {
        move |refusal| Self::Refused { by, kind, refusal }
    }

    /// A refusal if a message was applied, or else a failure of that side.
    pub(super) fn of_apply(side: Side, message: Option<MessageKind>) -> impl FnOnce(ApplyError) -> Self {
        move |error| match (error, message) {
            (ApplyError::Refused(refusal), Some(kind)) => Self::refused(side, kind)(refusal),
            (error, _) => Self::Apply { side, error },
        }
    }
}

const fn name(side: Side) -> &'static str {
    match side {
        Side::Payer => "payer",
        Side::Payee => "payee",
    }
}
