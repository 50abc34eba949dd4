use super::state::{Payments, State};
use super::Payee;
use crate::channel::claim::Claim;
use crate::channel::durable::{
    check_key, PayeeProgress, PayeeState, RestoreError, SettlementForm, SignedPayment, SignedSettlement,
};
use crate::channel::keys::ChannelKey;
use crate::channel::transaction::{PaymentTx, SettlementTx, SpendTemplate};

/// What the payee must not forget, and how it goes on from there.
impl Payee {
    /// Returns everything that this side must not forget.
    pub fn state(&self) -> PayeeState {
        PayeeState {
            params: self.params.clone(),
            funding: self.funding.clone(),
            opened: self.opened,
            progress: self.progress(),
        }
    }

    pub(super) fn progress(&self) -> PayeeProgress {
        let settlement = self.state.settlement();
        PayeeProgress {
            version: self.version,
            phase: self.state.phase(),
            latest: self.payments.latest.as_ref().map(PaymentTx::signed),
            parked: self.payments.parked.as_ref().map(PaymentTx::signed),
            settlement: settlement.map(|claim| Box::new(claim.spend().signed(claim.child()))),
            outcome: self.outcome,
        }
    }

    /// Makes the payee of what was stored. It goes on from there with the next event, and acknowledges nothing before it
    /// has seen the chain. A nonce does not survive: a payee that asked to close with one signature must ask again.
    ///
    /// # Errors
    /// If the key is not the channel's, or what was stored is damaged: every signature and every sum is checked.
    pub fn restore(state: PayeeState, key: ChannelKey) -> Result<Self, RestoreError> {
        let PayeeState {
            params,
            funding,
            opened,
            progress,
        } = state;
        check_key(&key, params.payee_key().to_public_key())?;
        let mut payee = Self::new(key, params, funding, opened);
        let payment =
            |signed: Option<SignedPayment>| signed.map(|signed| payee.verify_stored(signed)).transpose();
        let payments = Payments {
            latest: payment(progress.latest)?,
            parked: payment(progress.parked)?,
        };
        let settlement = progress.settlement.map(|signed| payee.settle_stored(*signed));
        let state = State::restore(progress.phase, settlement.transpose()?)?;
        (payee.payments, payee.state) = (payments, state);
        (payee.version, payee.outcome) = (progress.version, progress.outcome);
        // Nobody knows what the network has.
        payee.broadcasts.offered = None;
        Ok(payee)
    }

    fn verify_stored(
        &self,
        SignedPayment { paid, signature }: SignedPayment,
    ) -> Result<PaymentTx, RestoreError> {
        let balance = self.params.balance(paid);
        let balance = balance.ok_or_else(|| RestoreError::unpayable(&self.params, paid))?;
        let payment = self.template.verify(&self.params, balance, signature);
        payment.map_err(|error| RestoreError::Signature { of: "payment", error })
    }

    fn settle_stored(&self, signed: SignedSettlement) -> Result<Claim<SettlementTx>, RestoreError> {
        let (params, funding) = (&self.params, self.funding.outpoint());
        let balance = params.balance_with_fee(signed.paid, signed.fee);
        let balance = balance.ok_or_else(|| RestoreError::unpayable(params, signed.paid))?;
        let spend = SpendTemplate::in_form(signed.form, params, funding, &balance);
        let wrong = |error| RestoreError::Signature {
            of: "settlement",
            error,
        };
        let settlement = if signed.form == SettlementForm::Cooperative {
            // The scripts are verified with it.
            let both = signed.signature.to_schnorr().map_err(wrong)?;
            SettlementTx::cooperative(balance, spend, both)?
        } else {
            let payment = PaymentTx::new(balance, spend.verify_payer(signed.signature).map_err(wrong)?);
            match signed.form {
                SettlementForm::Payment => payment.redeem(params, funding, &self.key)?,
                _ => payment.settle(params, funding, &self.key)?,
            }
        };
        let fee = balance.fee_on_chain();
        Ok(Claim::restore(settlement, fee, signed.child)?)
    }
}
