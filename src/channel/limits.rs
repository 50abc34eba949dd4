use std::ops::RangeInclusive;

use bitcoin::{Amount, FeeRate, Script};
use thiserror::Error;

use super::amount::Capacity;
use super::lock::{ClosingMargin, Expiry, LockKind, Tip};
use super::params::{Protocol, Terms};

/// What one side is willing to agree to. Each side checks the terms against limits of its own: the payee
/// because a stranger proposes them, the payer because a slip of its own could lock its money for years.
///
/// The defaults are for ordinary use under a node's default policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// In satoshi. Default 10,000 to [`Capacity::MAX`].
    pub capacity: RangeInclusive<Amount>,
    /// Default 1 to 500 sat/vB.
    pub feerate: RangeInclusive<FeeRate>,
    /// Default 3 to 30 sat/vB: below 3, nodes do not relay outputs that the channel would make.
    pub dust_feerate: RangeInclusive<FeeRate>,
    /// How far the refund's lock may lie ahead, in blocks (or, for a time lock, as many times ten minutes).
    /// Default 72 (half a day) to 4,032 (four weeks).
    pub expiry_blocks: RangeInclusive<u32>,
    /// Default 36 to 1,008 blocks: the payer proposes it, and the payee lives by it.
    pub closing_margin: RangeInclusive<ClosingMargin>,
    /// Confirmations of the funding transaction. The payee asks for the lower end; the payer accepts up to
    /// the upper. Default 3 to 12. Never less than 1: a funding transaction that is not in a block can still be
    /// double-spent, or mined under another id.
    pub confirmations: RangeInclusive<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        let per_vb = |sat: u64| FeeRate::from_sat_per_kwu(sat * 250);
        Self {
            capacity: Amount::from_sat(10_000)..=Capacity::MAX.to_amount(),
            feerate: per_vb(1)..=per_vb(500),
            dust_feerate: per_vb(3)..=per_vb(30),
            expiry_blocks: 72..=4_032,
            closing_margin: ClosingMargin::DEFAULT..=ClosingMargin::from_blocks(1_008),
            confirmations: 3..=12,
        }
    }
}

impl Limits {
    /// Checks proposed terms, seen from `tip`.
    ///
    /// # Errors
    /// The first term that is out of bounds or contradicts another.
    pub fn check(&self, terms: &Terms, tip: Tip) -> Result<(), TermsError> {
        let capacity = terms.capacity.to_amount();
        within(&self.capacity, &capacity, |min, max| TermsError::Capacity {
            min,
            max,
            received: capacity,
        })?;
        within(&self.feerate, &terms.feerate, |min, max| TermsError::Feerate {
            min,
            max,
            received: terms.feerate,
        })?;
        within(&self.dust_feerate, &terms.dust_feerate, |min, max| {
            TermsError::DustFeerate {
                min,
                max,
                received: terms.dust_feerate,
            }
        })?;
        within(&self.closing_margin, &terms.closing_margin, |min, max| {
            TermsError::ClosingMargin {
                min,
                max,
                received: terms.closing_margin,
            }
        })?;
        self.check_expiry(terms.expiry, tip)?;
        check_room(terms, tip, *self.confirmations.start())?;
        check_payment_expiry(terms)
    }

    /// Checks that a lock lies inside the window, seen from `tip`.
    ///
    /// # Errors
    /// [`TermsError::Expiry`] if not.
    pub fn check_expiry(&self, expiry: Expiry, tip: Tip) -> Result<(), TermsError> {
        let unit = match expiry.kind() {
            LockKind::Height => 1,
            LockKind::Time => 600,
        };
        let min = self.expiry_blocks.start().saturating_mul(unit);
        let max = self.expiry_blocks.end().saturating_mul(unit);
        let distance = expiry.distance(tip);
        if !(min..=max).contains(&distance) {
            return Err(TermsError::Expiry {
                expiry,
                distance,
                min,
                max,
            });
        }
        Ok(())
    }
}

/// Between funding and the first moment to settle there has to be time for payments.
pub(crate) fn check_room(terms: &Terms, tip: Tip, confirmations: u32) -> Result<(), TermsError> {
    let (lock, margin) = match terms.payment_expiry {
        Some(payment_expiry) => (payment_expiry, 0),
        None => (terms.expiry, terms.closing_margin.of_kind(terms.expiry.kind())),
    };
    let confirmations = u16::try_from(confirmations).unwrap_or(u16::MAX);
    let confirmations = ClosingMargin::from_blocks(confirmations).of_kind(lock.kind());
    let needed = margin.saturating_add(confirmations);
    let distance = lock.distance(tip);
    if distance <= needed {
        return Err(TermsError::NoRoom {
            expiry: lock,
            distance,
            needed,
        });
    }
    Ok(())
}

fn within<T: PartialOrd + Copy>(
    range: &RangeInclusive<T>,
    value: &T,
    error: impl FnOnce(T, T) -> TermsError,
) -> Result<(), TermsError> {
    if range.contains(value) {
        Ok(())
    } else {
        Err(error(*range.start(), *range.end()))
    }
}

/// The article's step 5: payments carry an earlier lock than the refund, and no other protocol has one.
fn check_payment_expiry(terms: &Terms) -> Result<(), TermsError> {
    let wanted = terms.protocol == Protocol::SteppedLocktime;
    match (wanted, terms.payment_expiry) {
        (false, None) => Ok(()),
        (true, Some(payment_expiry)) => {
            let margin = terms.closing_margin.of_kind(terms.expiry.kind());
            match payment_expiry.gap_to(terms.expiry) {
                Some(gap) if gap >= margin => Ok(()),
                _ => Err(TermsError::PaymentExpiryTooLate {
                    payment_expiry,
                    expiry: terms.expiry,
                    closing_margin: terms.closing_margin,
                }),
            }
        }
        (true, None) | (false, Some(_)) => Err(TermsError::PaymentExpiryPresence {
            protocol: terms.protocol,
            payment_expiry: terms.payment_expiry,
        }),
    }
}

/// A payout goes to a script that every node relays.
pub(crate) fn check_payout(script: &Script) -> Result<(), TermsError> {
    let standard =
        script.is_p2pkh() || script.is_p2sh() || script.is_p2wpkh() || script.is_p2wsh() || script.is_p2tr();
    if standard {
        Ok(())
    } else {
        Err(TermsError::Payout {
            script: script.to_owned(),
        })
    }
}

/// A proposal that one side does not take.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TermsError {
    /// Capacity, in satoshi.
    #[error("capacity {received} is not within {min} to {max}")]
    Capacity {
        /// Least.
        min: Amount,
        /// Most.
        max: Amount,
        /// Proposed.
        received: Amount,
    },
    /// Feerate, in sat/kwu.
    #[error("feerate {received} sat/kwu is not within {min} to {max}")]
    Feerate {
        /// Least.
        min: FeeRate,
        /// Most.
        max: FeeRate,
        /// Proposed.
        received: FeeRate,
    },
    /// Dust relay feerate, in sat/kwu.
    #[error("dust feerate {received} sat/kwu is not within {min} to {max}")]
    DustFeerate {
        /// Least.
        min: FeeRate,
        /// Most.
        max: FeeRate,
        /// Proposed.
        received: FeeRate,
    },
    /// The refund's lock is too near or too far.
    #[error("the lock at {expiry} is {distance} ahead, allowed is {min} to {max} (blocks or seconds)")]
    Expiry {
        /// The lock.
        expiry: Expiry,
        /// How far it is ahead, in blocks or seconds.
        distance: u32,
        /// Least.
        min: u32,
        /// Most.
        max: u32,
    },
    /// The channel would have to close before it could open.
    #[error(
        "the lock at {expiry} is {distance} ahead, closing margin and confirmations take {needed} (blocks or \
         seconds)"
    )]
    NoRoom {
        /// The lock.
        expiry: Expiry,
        /// How far it is ahead, in blocks or seconds.
        distance: u32,
        /// What margin and confirmations take.
        needed: u32,
    },
    /// The payments' lock is not a closing margin before the refund's.
    #[error("payments locked until {payment_expiry} are not {closing_margin} before the refund at {expiry}")]
    PaymentExpiryTooLate {
        /// The payments' lock.
        payment_expiry: Expiry,
        /// The refund's lock.
        expiry: Expiry,
        /// The agreed margin.
        closing_margin: ClosingMargin,
    },
    /// A payments' lock where the protocol has none, or none where it has one.
    #[error("protocol {protocol} with the payments' lock {payment_expiry:?}")]
    PaymentExpiryPresence {
        /// The protocol.
        protocol: Protocol,
        /// What was proposed.
        payment_expiry: Option<Expiry>,
    },
    /// Closing margin.
    #[error("a closing margin of {received} is not within {min} to {max}")]
    ClosingMargin {
        /// Least.
        min: ClosingMargin,
        /// Most.
        max: ClosingMargin,
        /// Proposed.
        received: ClosingMargin,
    },
    /// The payee wants to wait longer than the payer.
    #[error("{received} confirmations are not within {min} to {max}")]
    Confirmations {
        /// Least.
        min: u32,
        /// Most.
        max: u32,
        /// Wanted.
        received: u32,
    },
    /// A payout script that nodes do not relay.
    #[error("the payout script {script} is not a standard one (P2PKH, P2SH, P2WPKH, P2WSH, P2TR)")]
    Payout {
        /// The script.
        script: bitcoin::ScriptBuf,
    },
}
