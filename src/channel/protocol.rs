use std::fmt;

/// A conversation: who sends what, in which order, and who broadcasts. The numbers are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The article's seven steps: payments have their own lock, earlier than the refund's.
    SteppedLocktime = 0,
    /// The Bitcoin wiki's Example 7, rapidly adjusted payments to a pre-determined party.
    Example7 = 1,
    /// The developer guide's micropayment channel: the payee broadcasts the bond and requests each payment.
    Bond = 2,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SteppedLocktime, Self::Example7, Self::Bond];

    /// Returns the published name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SteppedLocktime => "stepped-locktime",
            Self::Example7 => "example-7",
            Self::Bond => "bond",
        }
    }

    /// Whether the payer broadcasts the funding transaction. Otherwise it hands the transaction to the payee, who
    /// broadcasts it.
    pub(super) const fn payer_broadcasts_funding(self) -> bool {
        matches!(self, Self::SteppedLocktime)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
