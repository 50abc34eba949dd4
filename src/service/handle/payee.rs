use bitcoin::Amount;
use tokio::sync::oneshot;

use super::{BumpError, Handle, RequestError};
use crate::channel::{ApplyError, Cpfp, CpfpPackage, Event, SettlementTx};
use crate::service::request::Request;
use crate::service::wallet::ChildSigner;

/// The payee's side of a [`Handle`].
pub struct PayeeSide(());

impl PayeeSide {
    pub(in crate::service) const fn new() -> Self {
        Self(())
    }
}

/// A running payee.
pub type PayeeHandle = Handle<PayeeSide>;

impl Handle<PayeeSide> {
    /// Asks the payer for `amount` more (`bond`). Not cancel safe: the request may be sent all the same.
    ///
    /// # Errors
    /// If the channel is not open, or holds less.
    pub async fn request_payment(&self, amount: Amount) -> Result<(), RequestError> {
        self.apply(Event::RequestPayment(amount)).await
    }

    /// Raises the feerate of the settlement that was broadcast with a child that spends the payee's output. `signer` signs
    /// that child. The observer reports whether the node accepts them. If the future is dropped while the signer works,
    /// nothing is broadcast; after that, the package may still be.
    ///
    /// # Errors
    /// If nothing was settled yet, there is no such child, or the wallet does not sign it.
    pub async fn bump(&self, cpfp: &Cpfp, signer: impl ChildSigner) -> Result<CpfpPackage, BumpError> {
        let (reply, answer) = oneshot::channel();
        let settlement = self.ask(Request::Settlement(reply), answer).await?;
        let settlement = settlement.ok_or(BumpError::NotSettled)?;
        let child = cpfp.settlement(self.params(), &settlement);
        self.sign_and_bump(child, signer).await
    }

    /// Returns the latest payment with both signatures, which the payee broadcasts if the payer is gone. Cancel
    /// safe.
    ///
    /// # Errors
    /// If the party's task has ended.
    pub async fn redeemable(&self) -> Result<Option<SettlementTx>, RequestError> {
        let (reply, answer) = oneshot::channel();
        let redeemable = self.ask(Request::Redeemable(reply), answer).await?;
        Ok(redeemable.map_err(ApplyError::Spend)?)
    }
}
