use bitcoin::{Amount, OutPoint};

use crate::channel::{Action, ApplyError, ChannelId, Event, Payee, Payer, SettlementTx, SpendError, Stage};

/// What a session needs of either side.
pub(super) trait Party: Send + 'static {
    /// Whether this side's safety depends on what it sees of the chain when it takes a message.
    const IS_PAID: bool;

    fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError>;
    fn funding_outpoint(&self) -> OutPoint;
    fn channel(&self) -> ChannelId;
    fn stage(&self) -> Stage;
    fn paid(&self) -> Amount;
    fn redeemable(&self) -> Result<Option<SettlementTx>, SpendError>;
    fn settlement(&self) -> Option<SettlementTx>;
    /// The payer: whether its node refused the funding transaction.
    fn is_unfunded(&self) -> bool;
}

macro_rules! party {
    ($name:ident, $is_paid:literal, $redeemable:expr, $settlement:expr, $unfunded:expr) => {
        impl Party for $name {
            const IS_PAID: bool = $is_paid;

            fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError> {
                self.apply(event)
            }
            fn funding_outpoint(&self) -> OutPoint {
                self.funding().outpoint()
            }
            fn channel(&self) -> ChannelId {
                self.params().id()
            }
            fn stage(&self) -> Stage {
                self.stage()
            }
            fn paid(&self) -> Amount {
                self.paid()
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

party!(Payer, false, |_| Ok(None), |_| None, Payer::is_unfunded);
party!(Payee, true, Payee::redeemable, Payee::settlement, |_| false);
