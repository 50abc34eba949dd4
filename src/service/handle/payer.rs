use bitcoin::{Amount, Transaction};
use tokio::sync::oneshot;

use super::{BumpError, Handle, RequestError};
use crate::channel::{Balance, Cpfp, CpfpPackage, Event, Features, RefundTx};
use crate::service::connection::Connection;
use crate::service::payee_connection::PayeeConnection;
use crate::service::request::{PayError, Payment, Request, Signed, Sum};
use crate::service::resume_error::{ChannelError, ResumeError};
use crate::service::session::Attachment;
use crate::service::timing::ACKNOWLEDGE_TIMEOUT;
use crate::service::wallet::ChildSigner;

/// The payer's side of a [`Handle`].
pub struct PayerSide {
    refund: RefundTx,
}

impl PayerSide {
    pub(in crate::service) const fn new(refund: RefundTx) -> Self {
        Self { refund }
    }
}

/// A running payer.
pub type PayerHandle = Handle<PayerSide>;

impl Handle<PayerSide> {
    /// Returns the refund, as it was signed at the opening.
    pub const fn refund(&self) -> &RefundTx {
        &self.side.refund
    }

    /// Signs the refund anew for a funding transaction that was mined under another id, and returns it. The party watches
    /// that transaction from now on, broadcasts the new refund when its lock has passed, and pays nothing more.
    ///
    /// Cancel safe: call it again with the same transaction.
    ///
    /// # Errors
    /// If the transaction does not fund this channel; or if both parties signed the refund, which ties it to the id for
    /// which they did ([`Construction::has_script_refund`](crate::channel::Construction::has_script_refund)).
    pub async fn refund_malleated(&self, mined: Transaction) -> Result<RefundTx, RequestError> {
        self.apply(Event::FundingMalleated(mined)).await?;
        self.current_refund().await
    }

    async fn current_refund(&self) -> Result<RefundTx, RequestError> {
        let (reply, answer) = oneshot::channel();
        let refund = self.ask(Request::Refund(reply), answer).await?;
        refund.ok_or(RequestError::Ended)
    }

    /// Raises the feerate of the refund, once its lock has passed, with a child that spends it. `signer` signs that child.
    /// The observer reports whether the node accepts them. If the future is dropped while the signer works, nothing is
    /// broadcast; after that, the package may still be.
    ///
    /// # Errors
    /// If there is no such child, the wallet does not sign it, or the lock has not passed.
    pub async fn bump(&self, cpfp: &Cpfp, signer: impl ChildSigner) -> Result<CpfpPackage, BumpError> {
        let child = cpfp.refund(self.params(), &self.current_refund().await?);
        self.sign_and_bump(child, signer).await
    }

    /// Goes on with the channel on a new connection, in place of the one it had. Both sides compare what they hold, say
    /// again what was lost on the way, and the later of two copies wins.
    ///
    /// Cancel safe: if the future is dropped, the channel is resumed all the same or not at all.
    ///
    /// # Errors
    /// If the payee cannot resume channels, does not know this one, or contradicts what this side knows; or if the channel
    /// is over. The payer then goes on alone: it refunds when the lock has passed.
    pub async fn resume(&self, connection: &PayeeConnection) -> Result<(), ResumeError> {
        let features = connection.features();
        if !features.contains(Features::RESUME) {
            let what = "resuming channels";
            return Err(ChannelError::Unsupported { what, features }.into());
        }
        let (channel, stream) = connection.any_channel(self.params().id()).await?;
        let (reply, answer) = oneshot::channel();
        let attachment = Attachment {
            connection: Connection::new(stream),
            channel,
            randoms: connection.randoms(),
            resume: None,
            reply,
        };
        self.ask(Request::Attach(Box::new(attachment)), answer).await?
    }

    /// Pays up to `total`, the total of all payments in this channel, and waits until the payee has acknowledged
    /// that much. This is the call for most users: it never pays the same thing twice, however often it is repeated.
    ///
    /// Returns at once if that much is acknowledged already, waits for the acknowledgement if it is signed already, and
    /// signs what is missing otherwise.
    ///
    /// Cancel safe: call it again with the same total.
    ///
    /// # Errors
    /// If nothing was signed, or what was signed is not known to have been accepted; the error names the sum that the
    /// payee may hold.
    pub async fn pay_up_to(&self, total: Amount) -> Result<Balance, RequestError> {
        self.sign_and_wait(Sum::UpTo(total)).await
    }

    /// Pays `amount` more, and waits until the payee has acknowledged it. Every call adds its amount: use
    /// [`pay_up_to`](Self::pay_up_to) where a call may be repeated.
    ///
    /// Not cancel safe: when the future is dropped, the payment may be signed or not. [`Status::paid`](crate::service::Status) is the signed
    /// sum.
    ///
    /// # Errors
    /// If nothing was signed, or what was signed is not known to have been accepted; the error names the sum that the
    /// payee may hold.
    pub async fn pay(&self, amount: Amount) -> Result<Balance, RequestError> {
        self.sign_and_wait(Sum::More(amount)).await
    }

    async fn sign_and_wait(&self, sum: Sum) -> Result<Balance, RequestError> {
        let signed = Signed::default();
        let (reply, mut answer) = oneshot::channel();
        let payment = Payment {
            sum,
            signed: signed.clone(),
            reply,
        };
        let asked = async {
            // If the party has ended, `reply` is gone, and the answer is an error.
            let _ = self.payments.send(payment).await;
            (&mut answer).await
        };
        let answered = tokio::time::timeout(ACKNOWLEDGE_TIMEOUT, asked).await;
        if let Ok(Ok(answered)) = answered {
            return Ok(answered?);
        }
        let is_signed = {
            // Until here the party may sign, and from here on it does not.
            let signed = signed.lock();
            answer.close();
            *signed
        };
        if let Ok(answered) = answer.try_recv() {
            return Ok(answered?);
        }
        let paid = self.status.borrow().paid;
        Err(match (answered, is_signed) {
            (_, true) => PayError::Unacknowledged { paid }.into(),
            (Err(_), false) => PayError::NotSigned { paid }.into(),
            (Ok(_), false) => self.ended(),
        })
    }
}
