use bitcoin::{Amount, FeeRate, ScriptBuf, Transaction};

use super::{known_input, own_output, predicted_vsize, ChildTx, Cpfp, CpfpError, CpfpPackage};
use crate::channel::lock::{Expiry, LockKind, Tip};
use crate::channel::params::ChannelParams;
use crate::channel::transaction::{RefundTx, SettlementTx};

/// Blocks are ten minutes apart, on average.
const BLOCK_SECONDS: u32 = 600;

/// A settlement or refund that one side broadcasts, with what is needed to build a child that raises its feerate.
#[derive(Debug, Clone)]
pub(crate) struct Raisable {
    parent: Transaction,
    parent_fee: Amount,
    /// The script of this side's output.
    owner: ScriptBuf,
    dust_feerate: FeeRate,
    /// What it is broadcast with already.
    pub raised: Option<CpfpPackage>,
    /// How many blocks are left before the other side can take the money; `None` if it cannot.
    pub blocks_left: Option<u32>,
}

impl Raisable {
    pub fn settlement(
        params: &ChannelParams,
        settlement: &SettlementTx,
        (raised, expiry, tip): (Option<CpfpPackage>, Option<Expiry>, Tip),
    ) -> Self {
        Self {
            parent: settlement.tx().clone(),
            parent_fee: settlement.balance().fee_on_chain(),
            owner: params.payee_payout().to_owned(),
            dust_feerate: params.terms().dust_feerate,
            raised,
            blocks_left: expiry.map(|expiry| blocks_before(expiry, tip)),
        }
    }

    pub fn refund(params: &ChannelParams, refund: &RefundTx, raised: Option<CpfpPackage>) -> Self {
        Self {
            parent: refund.tx().clone(),
            parent_fee: params.terms().capacity.to_amount() - params.refund_amount(),
            owner: params.payer_payout().to_owned(),
            dust_feerate: params.terms().dust_feerate,
            raised,
            blocks_left: None,
        }
    }

    /// Returns what the parent pays alone, rounded down.
    pub fn feerate_alone(&self) -> FeeRate {
        self.parent_fee / self.parent.weight()
    }

    /// Returns the value of this side's output.
    pub fn value(&self) -> Result<Amount, CpfpError> {
        Ok(own_output(&self.parent, &self.owner)?.1.value)
    }

    /// Returns the highest feerate that parent and child reach if the child pays this fee.
    pub fn affordable(&self, fee: Amount) -> Result<FeeRate, CpfpError> {
        let input = known_input(&self.owner).ok_or_else(|| CpfpError::UnknownInput {
            script: self.owner.clone(),
        })?;
        let vsize = self.parent.vsize() as u64 + predicted_vsize(input, &self.owner);
        let sat_per_kwu = (self.parent_fee + fee).to_sat().saturating_mul(250) / vsize;
        Ok(FeeRate::from_sat_per_kwu(sat_per_kwu))
    }

    /// Returns the child with which both pay this feerate. The rest goes where the output went.
    pub fn child(&self, feerate: FeeRate) -> Result<ChildTx, CpfpError> {
        let cpfp = Cpfp::new(feerate, self.owner.clone());
        cpfp.child(self.dust_feerate, &self.parent, self.parent_fee, &self.owner)
    }
}

fn blocks_before(expiry: Expiry, tip: Tip) -> u32 {
    let distance = expiry.distance(tip);
    match expiry.kind() {
        LockKind::Height => distance,
        LockKind::Time => distance / BLOCK_SECONDS,
    }
}
