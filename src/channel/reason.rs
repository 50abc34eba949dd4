use std::fmt;

macro_rules! reasons {
    ($($variant:ident = $number:literal, $name:literal;)*) => {
        /// The closed list of reasons for which a message is refused, with their numbers on the wire. The
        /// same list names the reasons of the rejection fixtures.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "the name says it, and the error that it stands for has the details")]
        pub enum Reason {
            $($variant = $number),*
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The published name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
    };
}

reasons! {
    Malformed = 0, "malformed";
    WrongChannel = 1, "wrong-channel";
    UnexpectedMessage = 2, "unexpected-message";
    TermsOutOfLimits = 3, "terms-out-of-limits";
    BadParams = 4, "bad-params";
    RefundFinalSequence = 5, "refund-final-sequence";
    RefundLock = 6, "refund-lock";
    RefundTemplate = 7, "refund-template";
    FundingMismatch = 8, "funding-mismatch";
    SignatureOutOfRange = 9, "signature-out-of-range";
    SignatureHighS = 10, "signature-high-s";
    SignatureWrong = 11, "signature-wrong";
    SpendInvalid = 12, "spend-invalid";
    PaidDecreased = 13, "paid-decreased";
    PaidRepeated = 14, "paid-repeated";
    PaidExceedsCapacity = 15, "paid-exceeds-capacity";
    SettlementDiffers = 16, "settlement-differs";
    AcknowledgedUnsent = 17, "acknowledged-unsent";
    FundingUnconfirmed = 18, "funding-unconfirmed";
    ChannelExpiring = 19, "channel-expiring";
    PaidBelowMinimum = 20, "paid-below-minimum";
    SettlementFeerate = 21, "settlement-feerate";
    PartialSignatureWrong = 22, "partial-signature-wrong";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
