use bitcoin::{Amount, FeeRate, ScriptBuf};
use miniscript::{DefiniteDescriptorKey, Descriptor};
use thiserror::Error;

use super::amount::Capacity;
use super::construction::{Construction, Scripts};
use super::keys::{PayeeKey, PayerKey};
use super::lock::{ClosingMargin, Expiry, LockKind, RefundLock, Tip};
use super::params_error::ParamsError;
use super::protocol::Protocol;

/// The payer's proposal: everything about a channel except keys and payout scripts.
///
/// ```
/// use bitcoin::absolute::{Height, Time};
/// use bitcoin::Amount;
/// use spilman::channel::{Capacity, Construction, Protocol, Terms, Tip};
///
/// let tip = Tip { height: Height::from_consensus(800_000)?, mtp: Time::from_consensus(1_700_000_000)? };
/// let capacity = Capacity::new(Amount::from_btc(10.0)?)?;
/// let terms = Terms::new(capacity, tip)?;
/// assert_eq!((terms.protocol, terms.construction), (Protocol::Example7, Construction::Taproot));
/// assert_eq!(terms.refund_lock.distance(tip), 144);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The conversation.
    pub protocol: Protocol,
    /// The form of the funding output.
    pub construction: Construction,
    /// What the payer locks.
    pub capacity: Capacity,
    /// Feerate of refund, payments and settlement, for whole vbytes as nodes count them. Default 2 sat/vB.
    pub feerate: FeeRate,
    /// Dust relay feerate: an output that costs more at this feerate than its value, with the input that spends it, is
    /// omitted. Rounded up, as in Bitcoin Core. Default 3 sat/vB, as in Bitcoin Core.
    pub dust_feerate: FeeRate,
    /// The refund's lock. Default one day: 144 blocks, for [`Protocol::Bond`] 24 hours of median time past.
    pub refund_lock: RefundLock,
    /// The payments' lock, for [`Protocol::SteppedLocktime`] only. Default one closing margin before
    /// `refund_lock`.
    pub payment_expiry: Option<Expiry>,
    /// Default [`ClosingMargin::DEFAULT`].
    pub closing_margin: ClosingMargin,
    /// The least that one payment adds. Default 1 sat.
    pub minimum_payment: Amount,
    /// What the payer keeps in the channel to the end, so that the payer, too, has something to lose. Default 0.
    pub reserve: Amount,
}

impl Terms {
    /// 24 hours.
    pub const DAY: u32 = 24 * 60 * 60;
    /// The blocks that are expected in a day.
    pub const DAY_OF_BLOCKS: u16 = 144;
    /// 2 sat/vB.
    pub const FEERATE: FeeRate = FeeRate::from_sat_per_kwu(500);
    /// 3 sat/vB.
    pub const DUST_FEERATE: FeeRate = FeeRate::from_sat_per_kwu(750);

    /// Terms with every default, for a channel of one day from `tip`: [`Protocol::Example7`] on
    /// [`Construction::Taproot`], which has the smallest and most private end, and a refund that needs no co-signing.
    ///
    /// # Errors
    /// If `tip` is so late that no lock is a day after it.
    pub fn new(capacity: Capacity, tip: Tip) -> Result<Self, NoLockError> {
        Self::with(Protocol::Example7, Construction::Taproot, capacity, tip)
    }

    /// The same for another protocol or construction.
    ///
    /// # Errors
    /// If `tip` is so late that no lock is a day after it.
    pub fn with(
        protocol: Protocol,
        construction: Construction,
        capacity: Capacity,
        tip: Tip,
    ) -> Result<Self, NoLockError> {
        let margin = ClosingMargin::DEFAULT;
        let (expiry, payment_expiry) = Self::day_from(tip, protocol, margin).ok_or(NoLockError { tip })?;
        let terms = Self {
            protocol,
            construction,
            capacity,
            feerate: Self::FEERATE,
            dust_feerate: Self::DUST_FEERATE,
            refund_lock: expiry.into(),
            payment_expiry,
            closing_margin: margin,
            minimum_payment: Amount::ONE_SAT,
            reserve: Amount::ZERO,
        };
        Ok(terms.on(construction))
    }

    /// The locks of refund and payments, if there are any that late.
    fn day_from(tip: Tip, protocol: Protocol, margin: ClosingMargin) -> Option<(Expiry, Option<Expiry>)> {
        let day = u32::from(Self::DAY_OF_BLOCKS);
        Some(match protocol {
            Protocol::Bond => (Expiry::seconds_after(tip, Self::DAY)?, None),
            Protocol::Example7 => (Expiry::blocks_after(tip, day)?, None),
            Protocol::SteppedLocktime => {
                let payments = Expiry::blocks_after(tip, day - margin.of_kind(LockKind::Height))?;
                (Expiry::blocks_after(tip, day)?, Some(payments))
            }
        })
    }

    /// Returns the same terms on another construction. If its lock counts from the confirmation, an absolute lock becomes
    /// one of a day from there; set another lock after this.
    #[must_use]
    pub fn on(mut self, construction: Construction) -> Self {
        self.construction = construction;
        if construction.has_relative_lock() && self.refund_lock.absolute().is_some() {
            self.refund_lock = RefundLock::after_blocks(Self::DAY_OF_BLOCKS);
        }
        self
    }

    /// Returns the funding output of these terms and keys as a descriptor (BIP 380).
    ///
    /// # Errors
    /// If the construction cannot have the lock.
    pub fn descriptor(
        &self,
        payer: PayerKey,
        payee: PayeeKey,
    ) -> Result<Descriptor<DefiniteDescriptorKey>, ParamsError> {
        Ok(self.scripts(payer, payee)?.descriptor().clone())
    }

    /// Returns the scripts that a spend of such a funding output reveals, each with a name for people.
    ///
    /// # Errors
    /// If the construction cannot have the lock.
    pub fn revealed_scripts(
        &self,
        payer: PayerKey,
        payee: PayeeKey,
    ) -> Result<Vec<(&'static str, ScriptBuf)>, ParamsError> {
        let scripts = self.scripts(payer, payee)?;
        let revealed = scripts.revealed().into_iter();
        Ok(revealed.map(|(name, script)| (name, script.to_owned())).collect())
    }

    pub(super) fn scripts(&self, payer: PayerKey, payee: PayeeKey) -> Result<Scripts, ParamsError> {
        Scripts::new(self.construction, self.refund_lock, payer, payee).map_err(|error| ParamsError::Lock {
            lock: self.refund_lock,
            construction: self.construction,
            error,
        })
    }

    /// Returns when the payee stops accepting payments and settles: at the payments' own lock, or one closing margin before
    /// the refund's. For a relative lock this depends on `funding_parent`, the tip below the block with the
    /// funding transaction.
    pub fn settle_from(&self, funding_parent: Option<Tip>) -> Option<Expiry> {
        let refund = || self.refund_lock.expiry(funding_parent);
        self.payment_expiry
            .or_else(|| Some(refund()?.earlier(self.closing_margin)))
    }

    /// Returns why it is too late for a payment, if it is: the lock that ends payments, and how far `tip` is before it,
    /// in blocks or seconds.
    pub(crate) fn too_late(&self, tip: Tip, funding_parent: Option<Tip>) -> Option<(Expiry, u32)> {
        let lock = self
            .payment_expiry
            .or_else(|| self.refund_lock.expiry(funding_parent))?;
        self.must_settle(tip, funding_parent)
            .then(|| (lock, lock.distance(tip)))
    }

    /// Returns whether the payee must settle now.
    pub fn must_settle(&self, tip: Tip, funding_parent: Option<Tip>) -> bool {
        self.settle_from(funding_parent)
            .is_some_and(|from| from.is_final(tip))
    }
}

/// The tip is so late that no lock is a day after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "no lock is a day after height {} and median time past {}",
    tip.height.to_consensus_u32(),
    tip.mtp.to_consensus_u32()
)]
pub struct NoLockError {
    tip: Tip,
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::{Height, Time};

    use super::*;

    fn terms(height: u32, mtp: u32, protocol: Protocol) -> Result<Terms, NoLockError> {
        let tip = Tip {
            height: Height::from_consensus(height).unwrap(),
            mtp: Time::from_consensus(mtp).unwrap(),
        };
        Terms::with(protocol, Construction::P2wsh, Capacity::MAX, tip)
    }

    #[test]
    fn the_last_lock_is_a_day_after_the_tip() {
        let (height, mtp) = (Height::MAX.to_consensus_u32(), Time::MAX.to_consensus_u32());
        let (early, now) = (800_000, 1_700_000_000);
        for protocol in [Protocol::SteppedLocktime, Protocol::Example7] {
            assert!(terms(height - 144, now, protocol).is_ok(), "{protocol}");
            let error = terms(height - 143, now, protocol).expect_err("no such height");
            assert_eq!(
                error.to_string(),
                "no lock is a day after height 499999856 and median time past 1700000000"
            );
        }
        assert!(terms(early, mtp - Terms::DAY, Protocol::Bond).is_ok());
        assert!(terms(early, mtp - Terms::DAY + 1, Protocol::Bond).is_err());
    }
}
