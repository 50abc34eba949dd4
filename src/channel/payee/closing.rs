use bitcoin::{Amount, FeeRate};

use super::{Payee, State};
use crate::channel::bump::CpfpPackage;
#[cfg(feature = "service")]
use crate::channel::bump::Raisable;
use crate::channel::claim::Claim;
use crate::channel::error::{ApplyError, CommandError, PaymentError, Refusal};
use crate::channel::event::Action;
use crate::channel::keys::UnverifiedSignature;
use crate::channel::message::{Message, MessageKind};
use crate::channel::musig::{PartialSignature, PublicNonce, SecretNonce};
use crate::channel::script_check::SpendError;
use crate::channel::stage::Stage;
use crate::channel::transaction::{PaymentTx, SettlementTx, SpendTemplate};

/// How the payee ends a channel: with the latest payment alone, or with a settlement that it asks the payer for.
impl Payee {
    /// With an unlocked payment the payee can close alone; it asks the payer for a settlement where a settlement is
    /// smaller, pays more, or is the only way. A second request stops waiting for the answer.
    pub(super) fn close(&mut self, feerate: Option<FeeRate>) -> Result<Vec<Action>, ApplyError> {
        let wrong_stage = CommandError::wrong_stage(self.stage(), "close");
        match self.stage() {
            Stage::Open | Stage::AwaitingFunding => {}
            // What has one signature can be pinned, and before Core 31 no child lifts it over the least feerate. The
            // payment is safe from both.
            Stage::Closing if self.settlement().is_none_or(SettlementTx::is_cooperative) => {
                return Ok(vec![self.settle_alone()?.ok_or(wrong_stage)?]);
            }
            _ => return Err(wrong_stage.into()),
        }
        let agreed = self.params.terms().feerate;
        let asked = feerate.unwrap_or(agreed);
        self.params.check_wish(self.payments.held_sum(), asked)?;
        let one_key = self.params.aggregate_key().is_some() && self.nonces.is_some();
        if asked == agreed && !one_key {
            let unlocked = self.params.terms().payment_expiry.is_none();
            if let Some(settlement) = self.redeemable()?.filter(|_| unlocked) {
                return Ok(vec![self.settle(settlement)]);
            }
        }
        Ok(self.answer_close(asked))
    }

    /// The payer would like to close with one signature. If both asked at once, the payer answers this side's
    /// request.
    pub(super) fn on_close_request(&mut self, received: FeeRate) -> Result<Vec<Action>, Refusal> {
        self.params.check_feerate(received)?;
        let under_way = self.settlement().is_some() || self.awaits_partial();
        Ok(if under_way {
            Vec::new()
        } else {
            self.answer_close(received)
        })
    }

    /// Asks for a settlement, with a fresh nonce where both can sign as one.
    pub(super) fn answer_close(&mut self, feerate: FeeRate) -> Vec<Action> {
        let key = self.params.aggregate_key();
        let nonce = self.nonces.as_mut().zip(key).and_then(|(nonces, output)| {
            let seed = nonces.seed()?;
            Some(SecretNonce::generate(
                seed,
                &self.key,
                output,
                self.funding.outpoint(),
            ))
        });
        let public = nonce.as_ref().map(SecretNonce::public);
        self.state.await_settlement(true);
        self.asked_with = nonce.map(Box::new);
        vec![self.send(Message::CloseRequest {
            feerate,
            nonce: public,
        })]
    }

    /// Settles with the latest payment instead of waiting for the payer, if that can be done now.
    pub(super) fn settle_alone(&mut self) -> Result<Option<Action>, SpendError> {
        if self.stage() != Stage::Closing || self.params.terms().payment_expiry.is_some() {
            return Ok(None);
        }
        let settlement = self.redeemable()?;
        Ok(settlement.map(|settlement| self.settle(settlement)))
    }

    pub(super) fn settle(&mut self, settlement: SettlementTx) -> Action {
        let claim = Claim::new(settlement);
        let action = claim.broadcast();
        self.state = State::Settling(Box::new(claim));
        self.asked_with = None;
        action
    }

    /// Returns the settlement that is broadcast.
    #[cfg(feature = "service")]
    pub(crate) fn raisable(&self) -> Option<Raisable> {
        let State::Settling(claim) = &self.state else {
            return None;
        };
        let lock = self.params.terms().refund_lock;
        let expiry = lock.expiry(Some(self.sight.funding_parent().unwrap_or(self.opened)));
        let state = (claim.raised().cloned(), expiry, self.sight.tip);
        Some(Raisable::settlement(&self.params, claim.spend(), state))
    }

    /// Broadcasts the settlement with a child, now and from now on.
    pub(super) fn bump(&mut self, package: CpfpPackage) -> Result<Action, CommandError> {
        match &mut self.state {
            State::Settling(settlement) => settlement.raise(package),
            state => Err(CommandError::wrong_stage(state.stage(), "raise a settlement")),
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
        let Some((own, key)) = self.asked_with.take().zip(self.params.aggregate_key()) else {
            // A nonce is only made where there is such a key.
            return Err(Refusal::unexpected(
                self.stage(),
                MessageKind::CooperativeSettlement,
            ));
        };
        let signature = key.complete(*own, &self.key, nonce, partial, spend.digest())?;
        let settlement = SettlementTx::cooperative(balance, spend, signature)?;
        Ok(vec![self.settle(settlement)])
    }

    /// The settlement is for what was last accepted, and pays what was agreed.
    fn check_settlement(&self, paid: Amount, received: FeeRate) -> Result<(), PaymentError> {
        if paid != self.payments.held_sum() {
            return Err(PaymentError::SettlementDiffers {
                expected: self.payments.held_sum(),
                received: paid,
            });
        }
        self.params.check_feerate(received)
    }
}
