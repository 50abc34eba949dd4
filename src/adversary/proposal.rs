//! The payer's proposal: each term just out of the payee's limits, or at odds with another.

use bitcoin::{FeeRate, ScriptBuf};

use super::change::{terms, SAT};
use super::{absolute, message, refund_in_script, relative, stepped, unlocked, Forgery};
use crate::channel::{
    Capacity, ClosingMargin, Envelope, Expiry, LockKind, Message, MessageKind, Protocol, RefundLock,
    RefusalReason,
};
use crate::transcript::{MessagePosition, Side};

pub(super) const OPEN: MessagePosition = MessagePosition::new(Side::Payer, MessageKind::Open, 0);
const OUT: RefusalReason = RefusalReason::TermsOutOfLimits;

pub(super) const ALL: &[&[Forgery]] = &[SUMS, LOCKS, REST];

#[rustfmt::skip]
const SUMS: &[Forgery] = &[
    message("open-capacity-low", "a capacity of 9,999 sat, one less than the payee takes", OPEN, OUT, &["capacity", "0.00009999 BTC", "0.00010000 BTC to 42.94967295 BTC"], |_, e| terms(e).capacity = capacity(9_999)),
    message("open-feerate-low", "a feerate of 249 sat/kwu, which no node relays", OPEN, OUT, &["feerate 249", "250 to 125000"], |_, e| terms(e).feerate = FeeRate::from_sat_per_kwu(249)),
    message("open-feerate-high", "a feerate of 125,001 sat/kwu", OPEN, OUT, &["feerate 125001", "250 to 125000"], |_, e| terms(e).feerate = FeeRate::from_sat_per_kwu(125_001)),
    message("open-dust-feerate-low", "a dust feerate of 749 sat/kwu: outputs that no node relays", OPEN, OUT, &["dust feerate 749", "750 to 7500"], |_, e| terms(e).dust_feerate = FeeRate::from_sat_per_kwu(749)),
    message("open-dust-feerate-high", "a dust feerate of 7,501 sat/kwu", OPEN, OUT, &["dust feerate 7501", "750 to 7500"], |_, e| terms(e).dust_feerate = FeeRate::from_sat_per_kwu(7_501)),
    message("open-minimum-zero", "payments may add nothing", OPEN, OUT, &["minimum payment of 0", "0.00000001 BTC to 0.00100000 BTC"], |_, e| terms(e).minimum_payment = bitcoin::Amount::ZERO),
    message("open-minimum-high", "a payment adds at least 100,001 sat", OPEN, OUT, &["minimum payment of 0.00100001", "0.00000001 BTC to 0.00100000 BTC"], |_, e| terms(e).minimum_payment = SAT * 100_001),
    message("open-reserve-high", "a reserve of 100,001 sat", OPEN, OUT, &["reserve of 0.00100001", "0 BTC to 0.00100000 BTC"], |_, e| terms(e).reserve = SAT * 100_001),
    message("open-nothing-to-pay", "a reserve of 9,999 sat out of a capacity of 10,000 sat", OPEN, RefusalReason::BadParams, &["0.00010000 BTC", "too small"], |_, e| { terms(e).capacity = capacity(10_000); terms(e).reserve = SAT * 9_999; }),
];

#[rustfmt::skip]
const LOCKS: &[Forgery] = &[
    message("open-lock-passed", "the refund's lock is over already", OPEN, OUT, &["is 0 ", "ahead"], |_, e| terms(e).refund_lock = match terms(e).refund_lock.kind() { LockKind::Height => height(1), LockKind::Time => time(bitcoin::absolute::Time::MIN.to_consensus_u32()) }).on(|protocol, on| absolute(protocol, on) && unlocked(protocol, on)),
    message("open-lock-far", "the refund's lock is centuries, or years, ahead", OPEN, OUT, &["ahead", "outside the limits"], |_, e| terms(e).refund_lock = match terms(e).refund_lock.kind() { LockKind::Height => height(bitcoin::absolute::Height::MAX.to_consensus_u32()), LockKind::Time => time(i32::MAX.unsigned_abs()) }).on(absolute),
    message("open-relative-lock-near", "a refund 71 blocks after the confirmation, one too few", OPEN, OUT, &["at 71 blocks after funding", "72 to 4032"], |_, e| terms(e).refund_lock = RefundLock::after_blocks(71)).on(relative),
    message("open-relative-lock-far", "a refund 4,033 blocks after the confirmation, one too many", OPEN, OUT, &["at 4033 blocks after funding", "72 to 4032"], |_, e| terms(e).refund_lock = RefundLock::after_blocks(4_033)).on(relative),
    message("open-relative-time-near", "a refund 84 times 512 seconds after the confirmation", OPEN, OUT, &["at 43008 seconds after funding", "43200 to 2419200"], |_, e| terms(e).refund_lock = seconds(84 * 512)).on(relative),
    message("open-margin-low", "a closing margin of 35 blocks, one too few", OPEN, OUT, &["margin of 35", "36 blocks"], |_, e| terms(e).closing_margin = ClosingMargin::from_blocks(35)),
    message("open-margin-high", "a closing margin of 1,009 blocks", OPEN, OUT, &["margin of 1009", "1008 blocks"], |_, e| terms(e).closing_margin = ClosingMargin::from_blocks(1_009)),
    message("open-no-room", "the closing margin begins before the channel can open", OPEN, OUT, &["ahead", "take"], |_, e| terms(e).closing_margin = ClosingMargin::from_blocks(1_008)).on(unlocked),
    message("open-payment-lock-missing", "stepped-locktime without a lock for the payments", OPEN, OUT, &["stepped-locktime", "needs a payments' lock"], |_, e| terms(e).payment_expiry = None).on(stepped),
    message("open-payment-lock-too-late", "the payments' lock is the refund's, which may win", OPEN, OUT, &["height 344", "36 blocks"], |_, e| terms(e).payment_expiry = terms(e).refund_lock.absolute()).on(stepped),
    message("open-payment-lock-passed", "the payments' lock is over already", OPEN, OUT, &["height 1", "is 0 ", "ahead"], |_, e| terms(e).payment_expiry = height(1).absolute()).on(stepped),
    message("open-payment-lock-other-kind", "the payments are locked by a time, the refund by a height", OPEN, OUT, &["time 2147483647", "36 blocks", "height 344"], |_, e| terms(e).payment_expiry = time(i32::MAX.unsigned_abs()).absolute()).on(stepped),
    message("open-payment-lock-unknown", "a lock for payments where the protocol has none", OPEN, OUT, &["one at height 1000000"], |_, e| terms(e).payment_expiry = height(1_000_000).absolute()).on(unlocked),
];

#[rustfmt::skip]
const REST: &[Forgery] = &[
    message("open-protocol-bond", "the guide's payments with a refund in the script", OPEN, OUT, &["example-7", "bond"], |_, e| terms(e).protocol = Protocol::Bond).on(refund_in_script),
    message("open-payout-not-standard", "the payer's money goes to a script that no node relays", OPEN, OUT, &["OP_PUSHNUM_1", "not a standard"], |_, e| payout(e, ScriptBuf::from_bytes(vec![bitcoin::opcodes::OP_TRUE.to_u8()]))),
    message("open-payout-empty", "the payer's money goes to an empty script", OPEN, OUT, &["not a standard"], |_, e| payout(e, ScriptBuf::new())),
    message("open-replaced-by-ready", "another message where a proposal belongs", OPEN, RefusalReason::UnexpectedMessage, &["ready", "proposing"], |_, e| e.message = Message::Ready),
];

pub(super) fn capacity(sat: u64) -> Capacity {
    Capacity::new(SAT * sat).expect("above zero and below the largest capacity")
}

fn height(height: u32) -> RefundLock {
    let height = bitcoin::absolute::Height::from_consensus(height);
    Expiry::from_height(height.expect("below the first time")).into()
}

fn time(time: u32) -> RefundLock {
    let time = bitcoin::absolute::Time::from_consensus(time);
    Expiry::from_time(time.expect("above the last height")).into()
}

pub(super) fn seconds(seconds: u32) -> RefundLock {
    RefundLock::after_seconds(seconds).expect("below 388 days")
}

fn payout(envelope: &mut Envelope, script: ScriptBuf) {
    if let Message::Open { payer_payout, .. } = &mut envelope.message {
        *payer_payout = script;
    }
}
