use bitcoin::{Amount, Transaction};

use super::bump::{CpfpError, CpfpPackage};
use super::error::CommandError;
use super::event::Action;
use super::transaction::{RefundTx, SettlementTx, SpendRole};

/// A transaction that takes a party's share out of the channel. The party broadcasts it until it is confirmed: alone, or
/// with a child that pays for it, once the agreed feerate was not enough.
#[derive(Debug)]
pub(super) struct Claim<T> {
    spend: T,
    raised: Option<CpfpPackage>,
}

/// The refund is the payer's, the settlement the payee's.
pub(super) trait Claimable {
    fn role(&self) -> SpendRole;
    fn tx(&self) -> &Transaction;
}

impl Claimable for RefundTx {
    fn role(&self) -> SpendRole {
        SpendRole::Refund
    }

    fn tx(&self) -> &Transaction {
        self.tx()
    }
}

impl Claimable for SettlementTx {
    fn role(&self) -> SpendRole {
        self.role()
    }

    fn tx(&self) -> &Transaction {
        self.tx()
    }
}

impl<T: Claimable> Claim<T> {
    pub const fn new(spend: T) -> Self {
        Self { spend, raised: None }
    }

    /// Takes a claim that was stored: what its transaction pays, and its child.
    pub fn restore(spend: T, fee: Amount, child: Option<Transaction>) -> Result<Self, CpfpError> {
        let raised = child.map(|child| CpfpPackage::restore(spend.tx().clone(), fee, child));
        let raised = raised.transpose()?;
        Ok(Self { spend, raised })
    }

    pub const fn spend(&self) -> &T {
        &self.spend
    }

    /// Returns it with the child that pays for it, if it has one.
    #[cfg(feature = "service")]
    pub const fn raised(&self) -> Option<&CpfpPackage> {
        self.raised.as_ref()
    }

    /// Returns the child that pays for it.
    pub fn child(&self) -> Option<&Transaction> {
        self.raised.as_ref().map(CpfpPackage::child)
    }

    pub fn broadcast(&self) -> Action {
        let role = self.spend.role();
        match self.raised.clone() {
            Some(package) => Action::BroadcastPackage { role, package },
            None => Action::broadcast(role, self.spend.tx()),
        }
    }

    /// Broadcasts it with this child, now and from now on.
    pub fn raise(&mut self, package: CpfpPackage) -> Result<Action, CommandError> {
        package.check_parent(self.spend.tx())?;
        self.raised = Some(package);
        Ok(self.broadcast())
    }
}
