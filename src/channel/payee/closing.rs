use bitcoin::{Amount, FeeRate};

use super::Payee;
use crate::channel::bump::CpfpPackage;
use crate::channel::error::{ApplyError, CommandError, PaymentError, Refusal};
use crate::channel::event::Action;
use crate::channel::keys::UnverifiedSignature;
use crate::channel::message::{Message, MessageKind};
use crate::channel::musig::{PartialSignature, PublicNonce, SecretNonce};
use crate::channel::stage::Stage;
use crate::channel::transaction::{PaymentTx, SettlementTx, SpendTemplate};
use crate::channel::verify::SpendError;

/// How the payee ends a channel: with the latest payment alone, or with a settlement that it asks the payer for.
impl Payee {
    /// With an unlocked payment the payee can close alone; it asks the payer for a settlement where that one is
    /// smaller, pays more, or is all that can be had. Asked again, it does not wait for an answer any longer.
    pub(super) fn close(&mut self, feerate: Option<FeeRate>) -> Result<Vec<Action>, ApplyError> {
        match self.stage {
            Stage::Open | Stage::AwaitingFunding => {}
            // What has one signature can be pinned, and before Core 31 no child lifts it over the least feerate. The
            // payment is safe from both.
            Stage::Closing
                if self
                    .settlement
                    .as_ref()
                    .is_none_or(|settlement| settlement.is_cooperative()) =>
            {
                let alone = self.settle_alone()?;
                return match alone {
                    Some(action) => Ok(vec![action]),
                    None => Err(self.wrong_stage("close").into()),
                };
            }
            _ => return Err(self.wrong_stage("close").into()),
        }
        let agreed = self.params.terms().feerate;
        let asked = feerate.unwrap_or(agreed);
        self.params.check_wish(self.held_sum(), asked)?;
        let one_key = self.params.aggregate_key().is_some() && self.nonces.is_some();
        if asked == agreed && !one_key {
            let unlocked = self.params.terms().payment_expiry.is_none();
            if let Some(settlement) = self.redeemable()?.filter(|_| unlocked) {
                return Ok(vec![self.settle(settlement)]);
            }
        }
        Ok(self.answer_close(asked))
    }

    /// The payer would like to close with one signature. If this side's own wish crossed it, that one will be answered.
    pub(super) fn on_close_request(&mut self, received: FeeRate) -> Result<Vec<Action>, Refusal> {
        self.params.check_feerate(received)?;
        let under_way = self.settlement.is_some() || self.asked.is_some();
        Ok(if under_way {
            Vec::new()
        } else {
            self.answer_close(received)
        })
    }

    /// Asks for a settlement, with a fresh nonce where both can sign as one.
    fn answer_close(&mut self, feerate: FeeRate) -> Vec<Action> {
        self.stage = Stage::Closing;
        let key = self.params.aggregate_key();
        let nonce = self.nonces.as_mut().zip(key).map(|(nonces, output)| {
            let secret = SecretNonce::generate(nonces.seed(), &self.key, output, self.funding.outpoint());
            let public = secret.public();
            self.asked = Some(Box::new(secret));
            public
        });
        vec![self.send(Message::CloseRequest { feerate, nonce })]
    }

    /// Settles with the latest payment instead of waiting for the payer, if that can be done now.
    pub(super) fn settle_alone(&mut self) -> Result<Option<Action>, SpendError> {
        if self.stage != Stage::Closing || self.params.terms().payment_expiry.is_some() {
            return Ok(None);
        }
        let settlement = self.redeemable()?;
        Ok(settlement.map(|settlement| self.settle(settlement)))
    }

    pub(super) fn settle(&mut self, settlement: SettlementTx) -> Action {
        self.raised = None;
        let action = self.broadcast(&settlement);
        self.settlement = Some(Box::new(settlement));
        self.asked = None;
        self.stage = Stage::Closing;
        action
    }

    /// From now on the settlement goes out with its child.
    pub(super) fn bump(&mut self, package: CpfpPackage) -> Result<Vec<Action>, CommandError> {
        let Some(settlement) = self.settlement.as_ref().filter(|_| self.stage == Stage::Closing) else {
            return Err(self.wrong_stage("raise a settlement"));
        };
        package.check_parent(settlement.tx())?;
        let role = settlement.role();
        self.raised = Some(package.clone());
        Ok(vec![Action::BroadcastPackage { role, package }])
    }

    pub(super) fn broadcast(&self, settlement: &SettlementTx) -> Action {
        let role = settlement.role();
        match self.raised.clone() {
            Some(package) => Action::BroadcastPackage { role, package },
            None => Action::Broadcast {
                role,
                tx: settlement.tx().clone(),
            },
        }
    }

    pub(super) fn accept_settlement(
        &mut self,
        paid: Amount,
        feerate: FeeRate,
        signature: UnverifiedSignature,
    ) -> Result<Vec<Action>, Refusal> {
        self.check_settlement(paid, feerate)?;
        let balance = self
            .params
            .balance_at(paid, feerate)
            .ok_or(PaymentError::FeeAboveChange { paid, feerate })?;
        let spend = SpendTemplate::settlement(&self.params, self.funding.outpoint(), &balance);
        let payment = PaymentTx::new(balance, spend.verify_payer(signature)?);
        let settlement = payment.settle(&self.params, self.funding.outpoint(), &self.key)?;
        Ok(vec![self.settle(settlement)])
    }

    pub(super) fn accept_cooperative(
        &mut self,
        paid: Amount,
        feerate: FeeRate,
        nonce: &PublicNonce,
        partial: &PartialSignature,
    ) -> Result<Vec<Action>, Refusal> {
        self.check_settlement(paid, feerate)?;
        let balance = self
            .params
            .cooperative_balance(paid, feerate)
            .ok_or(PaymentError::FeeAboveChange { paid, feerate })?;
        let spend = SpendTemplate::cooperative(&self.params, self.funding.outpoint(), &balance);
        let Some((own, key)) = self.asked.take().zip(self.params.aggregate_key()) else {
            // There is no nonce without such a key, and who asked with one has it.
            return Err(Refusal::unexpected(
                self.stage,
                MessageKind::CooperativeSettlement,
            ));
        };
        let signature = key.complete(*own, &self.key, nonce, partial, spend.digest())?;
        let settlement = SettlementTx::cooperative(balance, spend, signature)?;
        Ok(vec![self.settle(settlement)])
    }

    /// The settlement is for what was last accepted, and pays what was agreed.
    fn check_settlement(&self, paid: Amount, received: FeeRate) -> Result<(), PaymentError> {
        if paid != self.held_sum() {
            return Err(PaymentError::SettlementDiffers {
                expected: self.held_sum(),
                received: paid,
            });
        }
        self.params.check_feerate(received)
    }
}
