use bitcoin::FeeRate;

use super::Payer;
use crate::channel::bump::CpfpPackage;
use crate::channel::error::{CommandError, PaymentError, Refusal};
use crate::channel::event::Action;
use crate::channel::message::{Message, MessageKind};
use crate::channel::musig::PublicNonce;
use crate::channel::stage::Stage;
use crate::channel::transaction::{SpendRole, SpendTemplate};

/// How the payer ends a channel: with a settlement, alone or as its part of one signature, or with the refund.
impl Payer {
    pub(super) fn close(&mut self, feerate: FeeRate) -> Result<Vec<Action>, CommandError> {
        match self.stage {
            Stage::Open | Stage::AwaitingFunding => {
                self.params.check_wish(self.paid, feerate)?;
                self.stage = Stage::Closing;
                if self.params.aggregate_key().is_some() {
                    self.max_feerate = self.max_feerate.max(feerate);
                    self.asked_to_close = true;
                    return Ok(vec![self.send(Message::CloseRequest { feerate, nonce: None })]);
                }
                Ok(vec![self.settlement(feerate)])
            }
            // The payee does not answer, so it gets the settlement that takes two signatures.
            Stage::Closing if self.asked_to_close => {
                self.params.check_wish(self.paid, feerate)?;
                self.asked_to_close = false;
                Ok(vec![self.settlement(feerate)])
            }
            // The node rejected the funding transaction, and the user has another use for its coins.
            Stage::Closing if self.handed_over.is_none() => Ok(vec![self.abandon()]),
            Stage::Protected => Ok(vec![self.abandon()]),
            _ => Err(self.wrong_stage("close")),
        }
    }

    pub(super) fn on_close_request(
        &mut self,
        feerate: FeeRate,
        nonce: Option<PublicNonce>,
    ) -> Result<Vec<Action>, Refusal> {
        let settlement = match (self.stage, nonce) {
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
        self.stage = Stage::Closing;
        self.asked_to_close = false;
        Ok(vec![settlement])
    }

    /// What a settlement will pay if the payee asks for this: no more than this side agrees to, and can.
    fn settlement_feerate(&self, asked: FeeRate) -> Result<FeeRate, PaymentError> {
        self.params.check_feerate(asked)?;
        let agreed = self.params.terms().feerate;
        let feerate = asked.min(self.max_feerate.max(agreed));
        let affordable = self.params.balance_at(self.paid, feerate).is_some();
        Ok(if affordable { feerate } else { agreed })
    }

    fn settlement(&self, feerate: FeeRate) -> Action {
        let balance = self
            .params
            .balance_at(self.paid, feerate)
            .expect("the change was asked before");
        let spend = SpendTemplate::settlement(&self.params, self.funding.outpoint(), &balance);
        self.send(Message::Settlement {
            paid: self.paid,
            feerate,
            signature: spend.sign(&self.key).to_unverified(),
        })
    }

    /// This side's part of the one signature. Its nonce follows from the payee's and from what is signed, so that nothing
    /// must be kept, and no nonce is ever used for two things.
    fn cooperative_settlement(&self, asked: FeeRate, nonce: PublicNonce) -> Result<Action, Refusal> {
        let Some(key) = self.params.aggregate_key() else {
            return Err(Refusal::unexpected(self.stage, MessageKind::CloseRequest));
        };
        let feerate = self.settlement_feerate(asked)?;
        let balance = self
            .params
            .cooperative_balance(self.paid, feerate)
            .expect("it costs less than a settlement with two signatures, and that can be paid");
        let spend = SpendTemplate::cooperative(&self.params, self.funding.outpoint(), &balance);
        let (nonce, partial) = key.sign_with(&self.key, &nonce, spend.digest())?;
        Ok(self.send(Message::CooperativeSettlement {
            paid: self.paid,
            feerate,
            nonce,
            partial,
        }))
    }

    /// Whether the refund's lock is over.
    pub(super) fn may_refund(&self) -> bool {
        let expiry = self.params.terms().refund_lock.expiry(self.funding_parent);
        expiry.is_some_and(|expiry| expiry.is_final(self.tip))
    }

    pub(super) fn broadcast_refund(&self) -> Action {
        let role = SpendRole::Refund;
        match self.raised.clone() {
            Some(package) => Action::BroadcastPackage { role, package },
            None => Action::Broadcast {
                role,
                tx: self.refund.tx().clone(),
            },
        }
    }

    /// From now on the refund goes out with its child.
    pub(super) fn bump(&mut self, package: CpfpPackage) -> Result<Action, CommandError> {
        if self.stage != Stage::Closing || !self.may_refund() {
            return Err(self.wrong_stage("raise the refund"));
        }
        package.check_parent(self.refund.tx())?;
        self.raised = Some(package);
        Ok(self.broadcast_refund())
    }
}
