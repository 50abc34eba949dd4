use bitcoin::{Amount, OutPoint};

use crate::channel::{
    Action, ApplyError, Balance, ChannelId, ChannelParams, Event, Expiry, FundingTx, Payee, Payer, Raisable,
    RefundTx, SettlementTx, SpendError, Stage, Tip,
};

/// What a session needs of either side.
pub(super) trait Party: Send + 'static {
    /// Whether it is the payee, which may leave its peer waiting and never pays.
    const IS_PAID: bool;

    fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError>;
    fn params(&self) -> &ChannelParams;
    /// The channel's number on the latest connection.
    fn channel(&self) -> ChannelId;
    fn funding(&self) -> &FundingTx;
    fn stage(&self) -> Stage;
    fn paid(&self) -> Amount;
    /// The lock at which this side acts without its peer.
    fn deadline(&self) -> Option<Expiry>;
    /// What the payee has acknowledged, as this side's user is told.
    fn acknowledged(&self) -> Option<Balance>;

    /// The payee's latest payment.
    fn redeemable(&self) -> Result<Option<SettlementTx>, SpendError> {
        Ok(None)
    }
    /// What the payee has broadcast.
    fn settlement(&self) -> Option<SettlementTx> {
        None
    }
    /// The payer's refund.
    fn refund(&self) -> Option<RefundTx> {
        None
    }
    /// The tip when the channel was opened.
    fn opened(&self) -> Tip;
    /// What this side broadcasts to get its share, and a child could pay for.
    fn raisable(&self) -> Option<Raisable>;
    /// What names the channel in a store: the funding output as it was signed.
    fn stored_as(&self) -> OutPoint {
        self.funding().outpoint()
    }
    /// The payee: whether it accepts no more payments, because the refund may win.
    fn is_too_late(&self) -> bool {
        false
    }
    /// The payer: whether its node rejected the funding transaction.
    fn is_unfunded(&self) -> bool {
        false
    }
}

macro_rules! party {
    ($name:ident { $($own:item)* }) => {
        impl Party for $name {
            $($own)*

            fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError> {
                self.apply(event)
            }
            fn params(&self) -> &ChannelParams {
                self.params()
            }
            fn channel(&self) -> ChannelId {
                self.channel()
            }
            fn funding(&self) -> &FundingTx {
                self.funding()
            }
            fn stage(&self) -> Stage {
                self.stage()
            }
            fn paid(&self) -> Amount {
                self.paid()
            }
            fn raisable(&self) -> Option<Raisable> {
                self.raisable()
            }
            fn opened(&self) -> Tip {
                self.opened()
            }
            fn deadline(&self) -> Option<Expiry> {
                self.deadline()
            }
        }
    };
}

party!(Payer {
    const IS_PAID: bool = false;

    fn acknowledged(&self) -> Option<Balance> {
        self.params().balance(self.acknowledged())
    }
    fn refund(&self) -> Option<RefundTx> {
        Some(self.refund().clone())
    }
    fn is_unfunded(&self) -> bool {
        self.is_unfunded()
    }
    fn stored_as(&self) -> OutPoint {
        self.signed_funding().outpoint()
    }
});

party!(Payee {
    const IS_PAID: bool = true;

    fn acknowledged(&self) -> Option<Balance> {
        self.params().balance(self.paid())
    }
    fn redeemable(&self) -> Result<Option<SettlementTx>, SpendError> {
        self.redeemable()
    }
    fn settlement(&self) -> Option<SettlementTx> {
        self.settlement().cloned()
    }
    fn is_too_late(&self) -> bool {
        self.is_too_late()
    }
});
