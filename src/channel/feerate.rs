use bitcoin::{Amount, FeeRate};

use super::error::{CommandError, PaymentError};
use super::params::ChannelParams;

/// What a settlement may pay to the miners.
impl ChannelParams {
    /// Whether this side's user can have a settlement at this feerate: not below the agreed one, and the change pays for it.
    pub(crate) fn check_wish(&self, paid: Amount, feerate: FeeRate) -> Result<(), CommandError> {
        if feerate >= self.terms().feerate && self.balance_at(paid, feerate).is_some() {
            return Ok(());
        }
        Err(CommandError::SettlementFeerate {
            paid,
            feerate,
            change: self.terms().capacity.to_amount() - paid,
        })
    }

    /// Whether the peer asks for, or signed, a settlement at no less than the agreed feerate.
    pub(crate) fn check_feerate(&self, received: FeeRate) -> Result<(), PaymentError> {
        let expected = self.terms().feerate;
        if received < expected {
            return Err(PaymentError::SettlementFeerate { expected, received });
        }
        Ok(())
    }
}
