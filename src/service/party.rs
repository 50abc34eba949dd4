use bitcoin::Amount;

use crate::channel::{
    Action, ApplyError, Balance, ChannelParams, Event, FundingTx, Payee, Payer, SettlementTx, SpendError,
    Stage,
};

/// What a session needs of either side.
pub(super) trait Party: Send + 'static {
    /// The payee: it may leave the peer waiting, and it is never the one who pays.
    const IS_PAID: bool;

    fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError>;
    fn params(&self) -> &ChannelParams;
    fn funding(&self) -> &FundingTx;
    fn stage(&self) -> Stage;
    fn paid(&self) -> Amount;
    /// What the payee has acknowledged, as this side's user is told.
    fn acknowledged(&self) -> Option<Balance>;
    fn redeemable(&self) -> Result<Option<SettlementTx>, SpendError>;
    fn settlement(&self) -> Option<SettlementTx>;
    /// The payer: whether its node refused the funding transaction.
    fn is_unfunded(&self) -> bool;
}

macro_rules! party {
    ($name:ident, $is_paid:literal, $acknowledged:expr, $redeemable:expr, $settlement:expr, $unfunded:expr) => {
        impl Party for $name {
            const IS_PAID: bool = $is_paid;

            fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError> {
                self.apply(event)
            }
            fn params(&self) -> &ChannelParams {
                self.params()
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
            fn acknowledged(&self) -> Option<Balance> {
                let acknowledged: fn(&Self) -> Amount = $acknowledged;
                self.params().balance(acknowledged(self))
            }
            fn redeemable(&self) -> Result<Option<SettlementTx>, SpendError> {
                let redeemable: fn(&Self) -> Result<Option<SettlementTx>, SpendError> = $redeemable;
                redeemable(self)
            }
            fn settlement(&self) -> Option<SettlementTx> {
                let settlement: fn(&Self) -> Option<&SettlementTx> = $settlement;
                settlement(self).cloned()
            }
            fn is_unfunded(&self) -> bool {
                let unfunded: fn(&Self) -> bool = $unfunded;
                unfunded(self)
            }
        }
    };
}

party!(
    Payer,
    false,
    Payer::acknowledged,
    |_| Ok(None),
    |_| None,
    Payer::is_unfunded
);
party!(
    Payee,
    true,
    Payee::paid,
    Payee::redeemable,
    Payee::settlement,
    |_| false
);
