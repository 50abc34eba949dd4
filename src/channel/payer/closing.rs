use bitcoin::FeeRate;

use super::Payer;
use crate::channel::bump::CpfpPackage;
#[cfg(feature = "service")]
use crate::channel::bump::Raisable;
use crate::channel::durable::PayerPhase;
use crate::channel::error::{CommandError, PaymentError, Refusal};
use crate::channel::event::Action;
use crate::channel::lock::Expiry;
use crate::channel::message::{Message, MessageKind};
use crate::channel::musig::PublicNonce;
use crate::channel::stage::Stage;
use crate::channel::transaction::SpendTemplate;

/// How the payer ends a channel: with a settlement, alone or as its part of one signature, or with the refund.
impl Payer {
    pub(super) fn close(&mut self, feerate: FeeRate) -> Result<Vec<Action>, CommandError> {
        match self.phase {
            PayerPhase::AwaitingReady | PayerPhase::Open | PayerPhase::Suspended => {
                self.params.check_wish(self.sums.paid, feerate)?;
                if self.params.aggregate_key().is_some() {
                    self.promises.max_feerate = self.promises.max_feerate.max(feerate);
                    self.phase = PayerPhase::AwaitingCooperativeClose;
                    return Ok(vec![self.send(Message::CloseRequest { feerate, nonce: None })]);
                }
            }
            // The payee does not answer, so it gets the settlement that takes two signatures.
            PayerPhase::AwaitingCooperativeClose => self.params.check_wish(self.sums.paid, feerate)?,
            PayerPhase::Protected => return Ok(vec![self.abandon()]),
            // The user has another use for the coins of a funding transaction that no one else has.
            PayerPhase::Closing if self.custody.is_kept() && self.seen.confirmations == 0 => {
                return Ok(vec![self.abandon()]);
            }
            PayerPhase::Closing | PayerPhase::Closed | PayerPhase::Abandoned => {
                return Err(CommandError::wrong_stage(self.stage(), "close"))
            }
        }
        self.phase = PayerPhase::Closing;
        Ok(vec![self.settlement(feerate)])
    }

    pub(super) fn on_close_request(
        &mut self,
        feerate: FeeRate,
        nonce: Option<PublicNonce>,
    ) -> Result<Vec<Action>, Refusal> {
        let settlement = match (self.stage(), nonce) {
            (Stage::Open | Stage::AwaitingFunding | Stage::Closing, Some(nonce)) => {
                self.cooperative_settlement(feerate, nonce)?
            }
            (Stage::Open | Stage::AwaitingFunding, None) => {
                self.settlement(self.settlement_feerate(feerate)?)
            }
            // It answers this side's wish, but closes with two signatures.
            (Stage::Closing, None) if self.params.aggregate_key().is_some() => {
                self.settlement(self.settlement_feerate(feerate)?)
            }
            // Both spoke at the same moment, and the settlement is on its way.
            (Stage::Closing, None) => return Ok(Vec::new()),
            (stage, _) => return Err(Refusal::unexpected(stage, MessageKind::CloseRequest)),
        };
        self.phase = PayerPhase::Closing;
        Ok(vec![settlement])
    }

    /// What a settlement will pay if the payee asks for this: no more than this side agrees to, and can.
    fn settlement_feerate(&self, asked: FeeRate) -> Result<FeeRate, PaymentError> {
        self.params.check_feerate(asked)?;
        let agreed = self.params.terms().feerate;
        let feerate = asked.min(self.promises.max_feerate.max(agreed));
        let affordable = self.params.balance_at(self.sums.paid, feerate).is_some();
        Ok(if affordable { feerate } else { agreed })
    }

    pub(super) fn settlement(&self, feerate: FeeRate) -> Action {
        let balance = self
            .params
            .balance_at(self.sums.paid, feerate)
            .expect("the change was asked before");
        let spend = SpendTemplate::settlement(&self.params, self.funding().outpoint(), &balance);
        self.send(Message::Settlement {
            paid: self.sums.paid,
            feerate,
            signature: spend.sign(&self.key).to_unverified(),
        })
    }

    /// This side's part of the one signature. Its nonce follows from the payee's and from what is signed, so that nothing
    /// must be kept, and no nonce is ever used for two things.
    fn cooperative_settlement(&self, asked: FeeRate, nonce: PublicNonce) -> Result<Action, Refusal> {
        let Some(key) = self.params.aggregate_key() else {
            return Err(Refusal::unexpected(self.stage(), MessageKind::CloseRequest));
        };
        let feerate = self.settlement_feerate(asked)?;
        let balance = self
            .params
            .cooperative_balance(self.sums.paid, feerate)
            .expect("it costs less than a settlement with two signatures, and that can be paid");
        let spend = SpendTemplate::cooperative(&self.params, self.funding().outpoint(), &balance);
        let (nonce, partial) = key.sign_with(&self.key, &nonce, spend.digest())?;
        Ok(self.send(Message::CooperativeSettlement {
            paid: self.sums.paid,
            feerate,
            nonce,
            partial,
        }))
    }

    /// Returns the lock from which this side refunds, if the channel is not settled by then. `None` once the channel is closed,
    /// and for a relative lock before the funding transaction is confirmed.
    pub fn deadline(&self) -> Option<Expiry> {
        let is_over = self.stage() == Stage::Closed;
        self.refund_expiry().filter(|_| !is_over)
    }

    fn refund_expiry(&self) -> Option<Expiry> {
        self.params.terms().refund_lock.expiry(self.seen.funding_parent)
    }

    /// Whether the refund's lock has passed.
    pub(super) fn may_refund(&self) -> bool {
        let expiry = self.refund_expiry();
        expiry.is_some_and(|expiry| expiry.is_final(self.seen.tip))
    }

    /// Returns the refund, if it is time to broadcast it.
    #[cfg(feature = "service")]
    pub(crate) fn raisable(&self) -> Option<Raisable> {
        let is_due = self.stage() == Stage::Closing && self.may_refund();
        let raised = self.refund.raised().cloned();
        is_due.then(|| Raisable::refund(&self.params, self.refund.spend(), raised))
    }

    /// Broadcasts the refund with a child, now and from now on.
    pub(super) fn bump(&mut self, package: CpfpPackage) -> Result<Action, CommandError> {
        if self.stage() != Stage::Closing || !self.may_refund() {
            return Err(CommandError::wrong_stage(self.stage(), "raise the refund"));
        }
        self.refund.raise(package)
    }
}
