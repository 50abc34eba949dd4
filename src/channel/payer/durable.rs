use bitcoin::{OutPoint, Transaction};

use super::state::{Custody, Promises, Rebroadcast, Seen, Sums};
use super::Payer;
use crate::channel::claim::Claim;
use crate::channel::durable::{check_key, check_sum, PayerPhase, PayerProgress, PayerState, RestoreError};
use crate::channel::funding::FundingTx;
use crate::channel::keys::{ChannelKey, UnverifiedSignature};
use crate::channel::lock::Tip;
use crate::channel::params::ChannelParams;
use crate::channel::payment_template::PaymentTemplate;
use crate::channel::transaction::{RefundTx, SpendTemplate};

/// What the payer must not forget, and how it goes on from there.
impl Payer {
    pub(super) fn new(
        key: ChannelKey,
        params: ChannelParams,
        funding: FundingTx,
        refund: Claim<RefundTx>,
        promises: Promises,
        opened: Tip,
    ) -> Self {
        Self {
            channel: params.id(),
            template: Box::new(PaymentTemplate::new(&params, funding.outpoint())),
            key,
            params,
            funding,
            opened,
            version: 0,
            promises,
            refund,
            malleated: None,
            outcome: None,
            phase: PayerPhase::AwaitingReady,
            custody: Custody::Kept,
            confirmed: false,
            sums: Sums::default(),
            resuming: None,
            pays_when_ready: false,
            seen: Seen {
                tip: opened,
                funding_parent: None,
                confirmations: 0,
            },
            rebroadcast: Rebroadcast {
                offered: Some(opened),
                overdue: false,
            },
        }
    }

    /// Returns everything that this side must not forget.
    pub fn state(&self) -> PayerState {
        PayerState {
            params: self.params.clone(),
            funding: self.funding.clone(),
            opened: self.opened,
            refund_signature: self.refund().payee_signature(),
            broadcast_funding_after: self.promises.broadcast_funding_after,
            progress: self.progress(),
        }
    }

    pub(super) fn progress(&self) -> PayerProgress {
        let boxed = |tx: &Transaction| Box::new(tx.clone());
        PayerProgress {
            version: self.version,
            phase: self.phase,
            handed_over: self.custody.handed_over(),
            confirmed: self.confirmed,
            signed: self.sums.paid,
            acknowledged: self.sums.acknowledged,
            max_feerate: self.promises.max_feerate,
            child: self.refund.child().map(boxed),
            malleated: self.malleated.as_ref().map(FundingTx::tx).map(boxed),
            outcome: self.outcome,
        }
    }

    /// Makes the payer of what was stored. It goes on from there with the next event; let it see the chain first.
    ///
    /// # Errors
    /// If the key is not the channel's, or what was stored is damaged: every signature and every sum is checked.
    pub fn restore(state: PayerState, key: ChannelKey) -> Result<Self, RestoreError> {
        let PayerState {
            params,
            funding,
            opened,
            refund_signature,
            broadcast_funding_after,
            progress,
        } = state;
        check_sum(&params, Some(progress.signed))?;
        check_sum(&params, progress.acknowledged)?;
        let malleated = progress.malleated.map(|tx| FundingTx::find(&params, *tx));
        let malleated = malleated.transpose()?;
        let mined = malleated.as_ref().unwrap_or(&funding).outpoint();
        let refund = RefundTx::restore(&params, mined, refund_signature, &key)?;
        let fee = params.terms().capacity.to_amount() - params.refund_amount();
        let refund = Claim::restore(refund, fee, progress.child.map(|child| *child))?;
        let template = Box::new(PaymentTemplate::new(&params, mined));
        let promises = Promises {
            max_feerate: progress.max_feerate,
            broadcast_funding_after,
        };
        let mut payer = Self::new(key, params, funding, refund, promises, opened);
        (payer.template, payer.malleated) = (template, malleated);
        (payer.version, payer.phase, payer.outcome) = (progress.version, progress.phase, progress.outcome);
        payer.custody = progress.handed_over.map_or(Custody::Kept, Custody::HandedOver);
        payer.confirmed = progress.confirmed;
        payer.sums.paid = progress.signed;
        payer.sums.acknowledged = progress.acknowledged;
        // Nobody knows what the network has.
        payer.rebroadcast.offered = None;
        Ok(payer)
    }
}

impl RefundTx {
    /// Makes the refund again of what follows from nothing else: K2's signature, where both sign.
    pub(crate) fn restore(
        params: &ChannelParams,
        funding: OutPoint,
        signature: Option<UnverifiedSignature>,
        key: &ChannelKey,
    ) -> Result<Self, RestoreError> {
        check_key(key, params.payer_key().to_public_key())?;
        if signature.is_none() != params.terms().construction.has_script_refund() {
            return Err(RestoreError::RefundSignature {
                construction: params.terms().construction,
                stored: signature.is_some(),
            });
        }
        let spend = SpendTemplate::refund(params, funding);
        let payee = signature.map(|signature| spend.verify_payee(signature));
        let payee = payee
            .transpose()
            .map_err(|error| RestoreError::Signature { of: "refund", error })?;
        let payer = spend.sign(key);
        Ok(Self::complete(spend, payer, payee)?)
    }
}
