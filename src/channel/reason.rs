use std::fmt;

macro_rules! reasons {
    (
        messages { $($message:ident = $message_number:literal, $message_name:literal;)* }
        transactions { $($transaction:ident = $transaction_number:literal, $transaction_name:literal;)* }
    ) => {
        reasons!(
            $($message = $message_number, $message_name;)*
            $($transaction = $transaction_number, $transaction_name;)*
        );

        impl RefusalReason {
            /// The reasons that one side sends to the other, in the order of their numbers.
            pub const OF_MESSAGES: &'static [Self] = &[$(Self::$message),*];
        }
    };
    ($($variant:ident = $number:literal, $name:literal;)*) => {
        /// The closed list of reasons for which something is refused. Those for which a message is, up to 63, have the
        /// number that stands for them on the wire; those for which a node rejects a transaction, from 64 on, are never sent.
        /// The rejections among the fixtures have their names from here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "the name says it, and the error that it stands for has the details")]
        pub enum RefusalReason {
            $($variant = $number),*
        }

        impl RefusalReason {
            /// All, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the reason with this name.
            #[must_use]
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.name() == name)
            }

            /// Returns the published name.
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
    messages {
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
        // 23 stays undefined: a published fixture has it as unknown.
        NoCommonVersion = 24, "no-common-version";
        UnknownChannel = 25, "unknown-channel";
        ChannelBusy = 26, "channel-busy";
        ProofWrong = 27, "proof-wrong";
        ResumeDiffers = 28, "resume-differs";
    }
    transactions {
        NonFinal = 64, "non-final";
        NonBip68Final = 65, "non-bip68-final";
        MissingInputs = 66, "missing-inputs";
        OutputsExceedInputs = 67, "outputs-exceed-inputs";
        ScriptFailed = 68, "script-failed";
        InsufficientFee = 69, "insufficient-fee";
        MinRelayFee = 70, "min-relay-fee";
        Dust = 71, "dust";
        Truc = 72, "truc";
        ScriptSig = 73, "script-sig";
        ScriptPubKey = 74, "script-pub-key";
        Other = 75, "other";
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
