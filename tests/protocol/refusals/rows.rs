//! The rows: limits, tips and scenes that the conversation of the catalogue does not have.

use bitcoin::{FeeRate, ScriptBuf};
use spilman::channel::{
    Capacity, Construction, Event, Message, PayerKey, Protocol, RefundLock, RefusalReason, Stage,
};

use super::scene::*;
use crate::pair::{key, sat, signature, tip, Case, Inspect, Side, Sign, HEIGHT, MTP};
use Protocol::{Bond, SteppedLocktime};
use Side::{Payee, Payer};
use Stage::{AwaitingFunding, Closing, Open, Proposing, Protected, SigningRefund};

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    // The proposal: each term just out of the payee's limits, or at odds with another.
    row("capacity high", || { let mut c = bare(); c.limits.capacity = sat(10_000)..=sat(1_000_000); c }, (Payee, Proposing), |_, e| terms(e).capacity = Capacity::new(sat(1_000_001)).unwrap(), RefusalReason::TermsOutOfLimits, &["0.01000001", "0.01"]),
    row("height lock near", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = height(HEIGHT + 71).into(), RefusalReason::TermsOutOfLimits, &["height 271", "71 blocks ahead", "72 to 4032"]).on(absolute),
    row("height lock far", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = height(HEIGHT + 4_033).into(), RefusalReason::TermsOutOfLimits, &["4033 blocks ahead", "72 to 4032"]).on(absolute),
    row("height lock passed", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = height(HEIGHT - 1).into(), RefusalReason::TermsOutOfLimits, &["height 199", "0 blocks ahead"]).on(absolute),
    row("time lock near", bond, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 43_199).into(), RefusalReason::TermsOutOfLimits, &["43199 seconds ahead", "43200 to 2419200"]),
    row("time lock far", bond, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 2_419_201).into(), RefusalReason::TermsOutOfLimits, &["2419201 seconds ahead", "43200 to 2419200"]),
    row("time lock near", timed, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 43_199).into(), RefusalReason::TermsOutOfLimits, &["43199 seconds ahead", "43200 to 2419200"]).on(absolute_in_script),
    row("time lock far", timed, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 2_419_201).into(), RefusalReason::TermsOutOfLimits, &["2419201 seconds ahead", "43200 to 2419200"]).on(absolute_in_script),
    row("height lock where it counts from the confirmation", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = height(HEIGHT + 144).into(), RefusalReason::TermsOutOfLimits, &["height 344", "construction csv"]).on(relative),
    row("time lock where it counts from the confirmation", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 86_400).into(), RefusalReason::TermsOutOfLimits, &["time 1700086400", "construction csv"]).on(relative),
    row("relative height lock where it is absolute", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = RefundLock::after_blocks(144), RefusalReason::TermsOutOfLimits, &["144 blocks after funding", "the construction"]).on(absolute),
    row("relative time lock where it is absolute", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = RefundLock::after_seconds(86_400).unwrap(), RefusalReason::TermsOutOfLimits, &["86528 seconds after funding", "the construction"]).on(absolute),
    row("a lock past 2038", in_2038, (Payee, Proposing), |_, e| terms(e).refund_lock = time(0x8000_0000).into(), RefusalReason::TermsOutOfLimits, &["time 2147483648", "2147483647"]).on(absolute_in_script),
    row("the last lock there is", in_2038, (Payee, Proposing), |_, e| terms(e).refund_lock = time(u32::MAX).into(), RefusalReason::TermsOutOfLimits, &["time 4294967295", "2147483647"]).on(absolute_in_script),
    row("no room before the payments' lock", stepped, (Payee, Proposing), |_, e| terms(e).payment_expiry = Some(height(HEIGHT + 3)), RefusalReason::TermsOutOfLimits, &["3 blocks ahead", "take 3"]),
    row("payments' height lock before a time lock", || { let mut c = bond(); c.terms.protocol = SteppedLocktime; c.terms.payment_expiry = Some(time(MTP + 60_000)); c }, (Payee, Proposing), |_, e| terms(e).payment_expiry = Some(height(HEIGHT + 100)), RefusalReason::TermsOutOfLimits, &["height 300", "time 1700086400"]),
    row("the payee's own key", bare, (Payee, Proposing), |_, e| if let Message::Open { payer_key, .. } = &mut e.message { *payer_key = PayerKey::new(key("payee").public_key()) }, RefusalReason::BadParams, &["same key"]),

    // The refund that the payee is asked to sign.
    row("the tip moved on", late, (Payee, SigningRefund), |_, _| (), RefusalReason::TermsOutOfLimits, &["71 blocks ahead", "72 to 4032"]),
    row("the tip moved back", early, (Payee, SigningRefund), |_, _| (), RefusalReason::TermsOutOfLimits, &["4033 blocks ahead", "72 to 4032"]),
    row("no input", bare, (Payee, SigningRefund), |_, e| tx(e).input.clear(), RefusalReason::RefundTemplate, &["0 inputs", "expected 1"]),

    // The funding transaction.
    row("T1 with a malleated script", || bare().legacy(), (Payee, Protected), |_, e| tx(e).input[0].script_sig = ScriptBuf::from_bytes(vec![0]), RefusalReason::FundingMismatch, &["the refund spends"]).on(co_signed),
    row("T1 with another lock", bare, (Payee, Protected), |w, e| { let mut other = w.params.terms().clone(); other.refund_lock = if relative(other.construction) { RefundLock::after_blocks(143) } else { height(343).into() }; funds(e, other_output(&w.params, &other, false)) }, RefusalReason::FundingMismatch, &["no output of 0.01000000"]).on(in_script),
    row("T1 with a time for a height", bare, (Payee, Protected), |w, e| { let mut other = w.params.terms().clone(); other.refund_lock = if relative(other.construction) { RefundLock::after_seconds(86_400).unwrap() } else { time(MTP + 86_400).into() }; funds(e, other_output(&w.params, &other, false)) }, RefusalReason::FundingMismatch, &["no output of 0.01000000"]).on(in_script),
    row("T1 of another construction", bare, (Payee, Protected), |w, e| { let other = w.params.terms().clone().on(Construction::P2wsh); funds(e, other_output(&w.params, &other, false)) }, RefusalReason::FundingMismatch, &["no output of 0.01000000"]).on(absolute_in_script),
    row("T1 with the payer's own internal key", bare, (Payee, Protected), |w, e| funds(e, own_internal_key(w)), RefusalReason::FundingMismatch, &["no output of 0.01000000"]).on(taproot),

    // Before the funding transaction has its confirmations.
    row("payment on an unconfirmed channel", bare, (Payee, AwaitingFunding), |_, _| (), RefusalReason::FundingUnconfirmed, &["0 confirmations", "3 are needed"]),
    row("payment one confirmation early", bare, (Payee, AwaitingFunding), |w, _| w.pair().poll(Payee, 2, None).unwrap(), RefusalReason::FundingUnconfirmed, &["2 confirmations", "3 are needed"]),
    row("a second funding transaction", bare, (Payee, AwaitingFunding), |w, e| e.message = Message::Funding { tx: w.pair().payer.funding().tx().clone() }, RefusalReason::UnexpectedMessage, &["funding", "to confirm"]),
    row("settlement of a sum that was never paid", bare, (Payee, AwaitingFunding), |w, e| e.message = w.pair().settlement(500, "payer"), RefusalReason::SettlementDiffers, &["0.000005", "0 BTC"]),

    // Payments: the amount.

    row("a satoshi of the reserve", reserved, (Payee, Open), |w, e| { let paid = w.spendable() + 1; pays(w, e, paid, "payer") }, RefusalReason::PaidExceedsCapacity, &["{above}", "{spendable}"]),
    row("more than counts before the confirmation", trusting, (Payee, Open), |w, e| { w.pair().at(tip(HEIGHT + 1, MTP)).poll(Payee, 0, None).unwrap(); pays(w, e, 2_501, "payer") }, RefusalReason::FundingUnconfirmed, &["0 confirmations", "3 are needed for more than 0.00002500"]),

    // Payments: the signature.
    row("signed by the payee", example7, (Payee, Open), |w, e| pays(w, e, 3_000, "payee"), RefusalReason::SignatureWrong, &["was not made by key"]),
    row("the refund's signature for a payment", example7, (Payee, Open), |w, e| { let pair = w.pair(); let signature = signature(pair.payee.params(), pair.payer.refund().tx(), "payer"); e.message = Message::Payment { paid: sat(3_000), signature } }, RefusalReason::SignatureWrong, &["was not made by key"]),
    row("signed by another construction's digest", example7, (Payee, Open), pays_by_another_digest, RefusalReason::SignatureWrong, &["was not made by key"]),

    // Payments: the moment, the channel, the kind.
    row("inside the closing margin", bare, (Payee, Open), |w, _| { w.pair().at(tip(HEIGHT + 108, MTP)).poll(Payee, 100, None).unwrap() }, RefusalReason::ChannelExpiring, &["36 blocks before", "height 344"]),
    row("inside the closing margin by time", || Case::new(Bond), (Payee, Open), |w, _| { w.pair().at(tip(900, MTP + 86_400 - 21_600)).poll(Payee, 100, None).unwrap() }, RefusalReason::ChannelExpiring, &["21600 seconds before", "time 1700086400"]),
    row("inside the closing margin by time", timed, (Payee, Open), |w, _| { w.pair().at(tip(900, MTP + 86_400 - 21_600)).poll(Payee, 100, None).unwrap() }, RefusalReason::ChannelExpiring, &["21600 seconds before", "time 1700086400"]).on(absolute_in_script),
    row("inside the closing margin by relative time", timed, (Payee, Open), |w, _| { w.pair().at(tip(900, MTP + 86_528 - 21_600)).poll(Payee, 100, None).unwrap() }, RefusalReason::ChannelExpiring, &["21599 seconds before", "time 1700086527"]).on(relative),
    row("after the payments' lock", stepped_unpaid, (Payee, Open), |w, _| { w.pair().at(tip(HEIGHT + 108, MTP)).poll(Payee, 100, None).unwrap() }, RefusalReason::ChannelExpiring, &["0 blocks before", "height 308"]),
    row("another refund", example7, (Payee, Open), |w, e| e.message = Message::RefundRequest { tx: w.pair().payer.refund().tx().clone() }, RefusalReason::UnexpectedMessage, &["refund-request"]),

    // Closing.
    row("settlement for less", example7, (Payee, Open), |w, e| e.message = w.pair().settlement(1_999, "payer"), RefusalReason::SettlementDiffers, &["0.00001999", "0.00002"]).on(taproot),
    row("settlement for more", example7, (Payee, Open), |w, e| e.message = w.pair().settlement(2_001, "payer"), RefusalReason::SettlementDiffers, &["0.00002001", "0.00002"]).on(taproot),
    row("settlement signed by a stranger", example7, (Payee, Open), |w, e| e.message = w.pair().settlement(2_000, "stranger"), RefusalReason::SignatureWrong, &["was not made by key"]).on(taproot),
    row("settlement below the agreed feerate", example7, (Payee, Open), |w, e| { e.message = w.pair().settlement(2_000, "payer"); if let Message::Settlement { feerate, .. } = &mut e.message { *feerate = FeeRate::from_sat_per_kwu(499) } }, RefusalReason::SettlementFeerate, &["499", "500"]).on(taproot),
    row("settlement at a feerate that the change does not pay", example7, (Payee, Open), |w, e| { e.message = w.pair().settlement(2_000, "payer"); if let Message::Settlement { feerate, .. } = &mut e.message { *feerate = FeeRate::from_sat_per_kwu(4_000_000) } }, RefusalReason::SettlementFeerate, &["4000000"]).on(taproot),
    row("settlement for less while closing", stepped, (Payee, Closing), |w, e| e.message = w.pair().settlement(1_000, "payer"), RefusalReason::SettlementDiffers, &["0.00001", "0.00002"]),
    row("payment after the settlement", example7, (Payee, Closing), |_, _| (), RefusalReason::UnexpectedMessage, &["payment", "closing"]).on(ecdsa),
    row("acknowledged unsent while closing", example7, (Payer, Closing), |_, e| e.message = Message::PaymentAccepted { paid: sat(2_001) }, RefusalReason::AcknowledgedUnsent, &["0.00002001", "0.00002"]),
    row("payment after the payee settled alone", example7, (Payee, Closing), |w, _| { w.pair().tell(Payee, Event::PeerGone).unwrap(); }, RefusalReason::UnexpectedMessage, &["payment", "closing"]).on(taproot),

    // Resuming: before the proof, nothing but the proof is judged.
    row("resume without a new connection", example7, (Payee, Open), |w, e| resumes(w, e, "payer", |_| ()), RefusalReason::UnexpectedMessage, &["resume"]),
    row("resume by a stranger", example7, (Payee, Open), |w, e| { w.reconnect(Payee, [1; 32]); resumes(w, e, "stranger", |_| ()) }, RefusalReason::ProofWrong, &["was not made by key"]),
    row("resume of another connection", example7, (Payee, Open), |w, e| { resumes(w, e, "payer", |_| ()); w.reconnect(Payee, [3; 32]) }, RefusalReason::ProofWrong, &["was not made by key"]),
    row("resume of another funding output", example7, (Payee, Open), |w, e| { w.reconnect(Payee, [1; 32]); resumes(w, e, "payer", |resume| resume.funding.vout += 1) }, RefusalReason::UnknownChannel, &["no channel here has the funding output"]),
    row("more acknowledged than signed", example7, (Payee, Open), |w, e| { w.reconnect(Payee, [1; 32]); resumes(w, e, "payer", |resume| resume.acknowledged = Some(sat(2_001))) }, RefusalReason::ResumeDiffers, &["0.00002001 BTC was acknowledged", "signed 0.00002000 BTC at most"]),
    row("payment before resume", example7, (Payee, Open), |w, _| w.reconnect(Payee, [1; 32]), RefusalReason::UnexpectedMessage, &["payment"]),
    row("resumed by a stranger", example7, (Payer, Open), |w, e| { w.reconnect(Payer, [1; 32]); is_resumed(w, e, "stranger", |_| ()) }, RefusalReason::ProofWrong, &["was not made by key"]),
    row("resumed with more than was signed", example7, (Payer, Open), |w, e| { w.reconnect(Payer, [1; 32]); is_resumed(w, e, "payee", |resumed| if let Some(held) = &mut resumed.latest_payment { held.paid = sat(3_000) }) }, RefusalReason::ResumeDiffers, &["claims to hold 0.00003000 BTC", "signed 0.00002000 BTC at most"]),
    row("ready before resumed", example7, (Payer, Open), |w, e| { w.reconnect(Payer, [1; 32]); e.message = Message::Ready }, RefusalReason::UnexpectedMessage, &["ready"]),
];
