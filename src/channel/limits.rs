use std::ops::RangeInclusive;

use bitcoin::{Amount, FeeRate, Script};
use thiserror::Error;

use super::amount::Capacity;
use super::construction::Construction;
use super::lock::{ClosingMargin, Expiry, LockKind, RefundLock, Tip};
use super::protocol::Protocol;
use super::terms::Terms;

/// The terms that one side accepts. Each side checks the terms against its own limits: the payee because a stranger
/// proposes them, the payer because its own mistake could lock its money for years.
///
/// The defaults are for ordinary use under a node's default policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Default 10,000 sat to [`Capacity::MAX`].
    pub capacity: RangeInclusive<Amount>,
    /// Default 1 to 500 sat/vB.
    pub feerate: RangeInclusive<FeeRate>,
    /// The payer: the highest feerate of a settlement that the payee wants to confirm sooner; the payer's change pays for
    /// it. Default 10 sat/vB; the agreed feerate is always granted.
    pub settlement_feerate: FeeRate,
    /// Default 3 to 30 sat/vB: below 3, nodes do not relay outputs that the channel would make.
    pub dust_feerate: RangeInclusive<FeeRate>,
    /// How far ahead the refund's lock may be, in blocks (for a time lock, in units of ten minutes).
    /// Default 72 (half a day) to 4,032 (four weeks).
    pub expiry_blocks: RangeInclusive<u32>,
    /// Default 36 to 1,008 blocks: the payer proposes it, and the payee depends on it.
    pub closing_margin: RangeInclusive<ClosingMargin>,
    /// Confirmations of the funding transaction. The payee asks for the lower end; the payer accepts up to
    /// the upper. Default 3 to 12. Never less than 1: a funding transaction that is not in a block can still be
    /// double-spent, or mined under another id. For the payee's exception see [`Limits::zero_conf_limit`].
    pub confirmations: RangeInclusive<u32>,
    /// The payee: the total up to which payments count once the network has accepted the funding transaction, before it is
    /// confirmed. The payee can lose this much to a double spend. Default 0.
    pub zero_conf_limit: Amount,
    /// The least that one payment adds. Default 1 to 100,000.
    pub minimum_payment: RangeInclusive<Amount>,
    /// What the payer keeps in the channel to the end. Default 0 to 100,000.
    pub reserve: RangeInclusive<Amount>,
    /// The payer: whether it may fund a channel with a co-signed refund from a transaction whose id others can change
    /// ([`FundingTx::is_malleable`](super::FundingTx::is_malleable)). If they change it, the refund is worthless, and
    /// the payer gets nothing back without the payee. Default false.
    pub malleable_funding: bool,
    /// The payer: the number of blocks that the payee may hold an unconfirmed funding transaction before the payer
    /// broadcasts it itself. With `None` the payer never does: after [`Limits::BROADCAST_FUNDING_AFTER`]
    /// blocks it notifies its user, who can take the coins back by spending one of them elsewhere.
    /// Default [`Limits::BROADCAST_FUNDING_AFTER`].
    pub broadcast_funding_after: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        let per_vb = |sat: u64| FeeRate::from_sat_per_kwu(sat * 250);
        Self {
            capacity: Amount::from_sat(10_000)..=Capacity::MAX.to_amount(),
            feerate: per_vb(1)..=per_vb(500),
            settlement_feerate: per_vb(10),
            dust_feerate: per_vb(3)..=per_vb(30),
            expiry_blocks: 72..=4_032,
            closing_margin: ClosingMargin::DEFAULT..=ClosingMargin::from_blocks(1_008),
            confirmations: 3..=12,
            zero_conf_limit: Amount::ZERO,
            minimum_payment: Amount::ONE_SAT..=Amount::from_sat(100_000),
            reserve: Amount::ZERO..=Amount::from_sat(100_000),
            malleable_funding: false,
            broadcast_funding_after: Some(Self::BROADCAST_FUNDING_AFTER),
        }
    }
}

impl Limits {
    /// 6 blocks.
    pub const BROADCAST_FUNDING_AFTER: u32 = 6;

    /// Checks proposed terms, seen from `tip`.
    ///
    /// # Errors
    /// The first term that is outside the limits or contradicts another.
    pub fn check(&self, terms: &Terms, tip: Tip) -> Result<(), TermsError> {
        self.check_ranges(terms)?;
        check_construction(terms)?;
        self.check_lock(terms.refund_lock, tip)?;
        check_room(terms, tip, *self.confirmations.start())?;
        check_payment_expiry(terms)
    }

    fn check_ranges(&self, terms: &Terms) -> Result<(), TermsError> {
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
        let (payment, reserve) = (terms.minimum_payment, terms.reserve);
        within(&self.minimum_payment, &payment, |min, max| {
            TermsError::MinimumPayment {
                min,
                max,
                received: payment,
            }
        })?;
        within(&self.reserve, &reserve, |min, max| TermsError::Reserve {
            min,
            max,
            received: reserve,
        })
    }

    /// Checks the confirmations that the payee wants, as the payer.
    pub(super) fn check_confirmations(&self, received: u32) -> Result<(), TermsError> {
        let range = 1..=*self.confirmations.end();
        within(&range, &received, |min, max| TermsError::Confirmations {
            min,
            max,
            received,
        })
    }

    /// Checks that a lock is inside the limits, seen from `tip`.
    ///
    /// # Errors
    /// [`TermsError::Expiry`] if not.
    pub fn check_lock(&self, lock: RefundLock, tip: Tip) -> Result<(), TermsError> {
        let unit = match lock.kind() {
            LockKind::Height => 1,
            LockKind::Time => 600,
        };
        let min = self.expiry_blocks.start().saturating_mul(unit);
        let max = self.expiry_blocks.end().saturating_mul(unit);
        let distance = lock.distance(tip);
        if !(min..=max).contains(&distance) {
            return Err(TermsError::Expiry {
                lock,
                distance,
                min,
                max,
            });
        }
        Ok(())
    }
}

/// There must be time for payments between the funding and the first moment to settle.
pub(crate) fn check_room(terms: &Terms, tip: Tip, confirmations: u32) -> Result<(), TermsError> {
    let (lock, margin) = match terms.payment_expiry {
        Some(payment_expiry) => (payment_expiry.into(), 0),
        None => (
            terms.refund_lock,
            terms.closing_margin.of_kind(terms.refund_lock.kind()),
        ),
    };
    let confirmations = u16::try_from(confirmations).unwrap_or(u16::MAX);
    let confirmations = ClosingMargin::from_blocks(confirmations).of_kind(lock.kind());
    let needed = margin.saturating_add(confirmations);
    let distance = lock.distance(tip);
    if distance <= needed {
        return Err(TermsError::NoRoom {
            lock,
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
            let margin = terms.closing_margin.of_kind(terms.refund_lock.kind());
            let gap = terms
                .refund_lock
                .absolute()
                .and_then(|expiry| payment_expiry.gap_to(expiry));
            match gap {
                Some(gap) if gap >= margin => Ok(()),
                _ => Err(TermsError::PaymentExpiryTooLate {
                    payment_expiry,
                    lock: terms.refund_lock,
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

/// Whether protocol and lock go with the construction.
pub(crate) fn check_construction(terms: &Terms) -> Result<(), TermsError> {
    /// Descriptors write a script's lock as a signed four-byte number (BIP 379).
    const MAX_IN_SCRIPT: u32 = i32::MAX as u32;
    let construction = terms.construction;
    if !construction.runs(terms.protocol) {
        return Err(TermsError::Protocol {
            protocol: terms.protocol,
            construction,
        });
    }
    let lock = terms.refund_lock;
    if construction.has_relative_lock() == lock.absolute().is_some() {
        return Err(TermsError::LockForm { lock, construction });
    }
    if construction.has_script_refund() && lock.to_consensus_u32() > MAX_IN_SCRIPT {
        return Err(TermsError::LockPast2038 {
            lock,
            max: MAX_IN_SCRIPT,
            construction,
        });
    }
    Ok(())
}

/// Checks that every node relays a payout to this script.
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

/// What a protocol says of the payments' lock that a proposal gives it, or lacks.
fn presence(payment_expiry: Option<Expiry>) -> String {
    match payment_expiry {
        Some(expiry) => format!("has no payments' lock, but the proposal has one at {expiry}"),
        None => "needs a payments' lock, but the proposal has none".to_owned(),
    }
}

/// Why one side does not accept a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TermsError {
    /// Capacity.
    #[error("capacity {received} is outside the limits {min} to {max}")]
    Capacity {
        /// Least.
        min: Amount,
        /// Most.
        max: Amount,
        /// Proposed.
        received: Amount,
    },
    /// Feerate, in sat/kwu.
    #[error("feerate {received} sat/kwu is outside the limits {min} to {max}")]
    Feerate {
        /// Least.
        min: FeeRate,
        /// Most.
        max: FeeRate,
        /// Proposed.
        received: FeeRate,
    },
    /// Dust relay feerate, in sat/kwu.
    #[error("dust feerate {received} sat/kwu is outside the limits {min} to {max}")]
    DustFeerate {
        /// Least.
        min: FeeRate,
        /// Most.
        max: FeeRate,
        /// Proposed.
        received: FeeRate,
    },
    /// The refund's lock is too close or too far.
    #[error("the lock at {lock} is {} ahead, outside the limits {min} to {max}", .lock.kind().length(*.distance))]
    Expiry {
        /// The lock.
        lock: RefundLock,
        /// How far it is ahead, in blocks or seconds.
        distance: u32,
        /// Least.
        min: u32,
        /// Most.
        max: u32,
    },
    /// The channel would have to close before it could open.
    #[error(
        "the lock at {lock} is {} ahead, but closing margin and confirmations take {needed}: choose a later lock",
        .lock.kind().length(*.distance)
    )]
    NoRoom {
        /// The lock.
        lock: RefundLock,
        /// How far it is ahead, in blocks or seconds.
        distance: u32,
        /// What margin and confirmations take.
        needed: u32,
    },
    /// The payments' lock is not a closing margin before the refund's.
    #[error("the payments' lock at {payment_expiry} is less than the closing margin of {closing_margin} before the refund's lock at {lock}")]
    PaymentExpiryTooLate {
        /// The payments' lock.
        payment_expiry: Expiry,
        /// The refund's lock.
        lock: RefundLock,
        /// The agreed margin.
        closing_margin: ClosingMargin,
    },
    /// A payments' lock that the protocol does not have, or a missing one that it needs.
    #[error("protocol {protocol} {}", presence(*.payment_expiry))]
    PaymentExpiryPresence {
        /// The protocol.
        protocol: Protocol,
        /// What was proposed.
        payment_expiry: Option<Expiry>,
    },
    /// Closing margin.
    #[error("a closing margin of {received} is outside the limits {min} to {max}")]
    ClosingMargin {
        /// Least.
        min: ClosingMargin,
        /// Most.
        max: ClosingMargin,
        /// Proposed.
        received: ClosingMargin,
    },
    /// The least payment.
    #[error("a minimum payment of {received} is outside the limits {min} to {max}")]
    MinimumPayment {
        /// Least.
        min: Amount,
        /// Most.
        max: Amount,
        /// Proposed.
        received: Amount,
    },
    /// The payer's reserve.
    #[error("a reserve of {received} is outside the limits {min} to {max}")]
    Reserve {
        /// Least.
        min: Amount,
        /// Most.
        max: Amount,
        /// Proposed.
        received: Amount,
    },
    /// The construction has the refund in the script; the protocol's opening consists mostly of co-signing it.
    #[error("the construction {construction} supports the protocol example-7 only, not {protocol}")]
    Protocol {
        /// The protocol.
        protocol: Protocol,
        /// The construction.
        construction: Construction,
    },
    /// An absolute lock where the construction has a relative one, or the reverse.
    #[error("the construction {construction} cannot use the refund lock {lock}: csv takes a relative lock, all others an absolute one")]
    LockForm {
        /// The lock.
        lock: RefundLock,
        /// The construction.
        construction: Construction,
    },
    /// A time lock that the descriptor of a script cannot hold. A refund that is signed in advance can have it.
    #[error(
        "the refund lock of {lock} is later than {max}, the latest that a script of {construction} can hold"
    )]
    LockPast2038 {
        /// The lock.
        lock: RefundLock,
        /// The last one.
        max: u32,
        /// The construction.
        construction: Construction,
    },
    /// The payee wants to wait longer than the payer.
    #[error("the payee wants {received} confirmations, outside the limits {min} to {max}")]
    Confirmations {
        /// Least.
        min: u32,
        /// Most.
        max: u32,
        /// Wanted.
        received: u32,
    },
    /// A payout script that nodes do not relay.
    #[error("the payout script {script} is not a standard one: use P2PKH, P2SH, P2WPKH, P2WSH or P2TR")]
    Payout {
        /// The script.
        script: bitcoin::ScriptBuf,
    },
}
