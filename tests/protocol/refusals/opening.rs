//! Rows up to the funding transaction: terms, keys, the refund that the payee signs, the output that locks the money.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::transaction::Version;
use bitcoin::{FeeRate, OutPoint, ScriptBuf, Sequence, Witness};
use spilman::channel::{
    Capacity, ChannelId, ClosingMargin, Construction, Message, PayeeKey, PayerKey, Protocol, RefundLock,
    RefusalReason, Stage, UnverifiedSignature,
};

use super::scene::*;
use crate::pair::{key, payout, sat, Side, HEIGHT, MTP};
use Protocol::{Bond, SteppedLocktime};
use Side::{Payee, Payer};
use Stage::{Proposing, Protected, SigningRefund};

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    // The proposal: each term just out of the payee's limits, or at odds with another.
    row("capacity low", bare, (Payee, Proposing), |_, e| terms(e).capacity = Capacity::new(sat(9_999)).unwrap(), RefusalReason::TermsOutOfLimits, &["0.00009999", "0.0001"]),
    row("capacity high", || { let mut c = bare(); c.limits.capacity = sat(10_000)..=sat(1_000_000); c }, (Payee, Proposing), |_, e| terms(e).capacity = Capacity::new(sat(1_000_001)).unwrap(), RefusalReason::TermsOutOfLimits, &["0.01000001", "0.01"]),
    row("feerate low", bare, (Payee, Proposing), |_, e| terms(e).feerate = FeeRate::from_sat_per_kwu(249), RefusalReason::TermsOutOfLimits, &["feerate 249", "250 to 125000"]),
    row("feerate high", bare, (Payee, Proposing), |_, e| terms(e).feerate = FeeRate::from_sat_per_kwu(125_001), RefusalReason::TermsOutOfLimits, &["feerate 125001", "250 to 125000"]),
    row("dust low", bare, (Payee, Proposing), |_, e| terms(e).dust_feerate = FeeRate::from_sat_per_kwu(749), RefusalReason::TermsOutOfLimits, &["dust feerate 749", "750 to 7500"]),
    row("dust high", bare, (Payee, Proposing), |_, e| terms(e).dust_feerate = FeeRate::from_sat_per_kwu(7_501), RefusalReason::TermsOutOfLimits, &["dust feerate 7501", "750 to 7500"]),
    row("height lock near", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = height(HEIGHT + 71).into(), RefusalReason::TermsOutOfLimits, &["height 271", "71 ahead", "72 to 4032"]).on(absolute),
    row("height lock far", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = height(HEIGHT + 4_033).into(), RefusalReason::TermsOutOfLimits, &["4033 ahead", "72 to 4032"]).on(absolute),
    row("height lock passed", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = height(HEIGHT - 1).into(), RefusalReason::TermsOutOfLimits, &["height 199", "0 ahead"]).on(absolute),
    row("time lock near", bond, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 43_199).into(), RefusalReason::TermsOutOfLimits, &["43199 ahead", "43200 to 2419200"]),
    row("time lock far", bond, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 2_419_201).into(), RefusalReason::TermsOutOfLimits, &["2419201 ahead", "43200 to 2419200"]),
    row("time lock near", timed, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 43_199).into(), RefusalReason::TermsOutOfLimits, &["43199 ahead", "43200 to 2419200"]).on(absolute_in_script),
    row("time lock far", timed, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 2_419_201).into(), RefusalReason::TermsOutOfLimits, &["2419201 ahead", "43200 to 2419200"]).on(absolute_in_script),
    row("relative height lock near", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = RefundLock::after_blocks(71), RefusalReason::TermsOutOfLimits, &["71 blocks after funding", "71 ahead", "72 to 4032"]).on(relative),
    row("relative height lock far", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = RefundLock::after_blocks(4_033), RefusalReason::TermsOutOfLimits, &["4033 ahead", "72 to 4032"]).on(relative),
    row("relative time lock near", timed, (Payee, Proposing), |_, e| terms(e).refund_lock = RefundLock::after_seconds(84 * 512).unwrap(), RefusalReason::TermsOutOfLimits, &["43008 seconds after funding", "43200 to 2419200"]).on(relative),
    row("relative time lock far", timed, (Payee, Proposing), |_, e| terms(e).refund_lock = RefundLock::after_seconds(4_726 * 512).unwrap(), RefusalReason::TermsOutOfLimits, &["2419712 ahead", "43200 to 2419200"]).on(relative),
    row("height lock where it counts from the confirmation", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = height(HEIGHT + 144).into(), RefusalReason::TermsOutOfLimits, &["height 344", "construction csv"]).on(relative),
    row("time lock where it counts from the confirmation", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 86_400).into(), RefusalReason::TermsOutOfLimits, &["time 1700086400", "construction csv"]).on(relative),
    row("relative height lock where it is absolute", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = RefundLock::after_blocks(144), RefusalReason::TermsOutOfLimits, &["144 blocks after funding", "the construction"]).on(absolute),
    row("relative time lock where it is absolute", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = RefundLock::after_seconds(86_400).unwrap(), RefusalReason::TermsOutOfLimits, &["86528 seconds after funding", "the construction"]).on(absolute),
    row("a lock past 2038", in_2038, (Payee, Proposing), |_, e| terms(e).refund_lock = time(0x8000_0000).into(), RefusalReason::TermsOutOfLimits, &["time 2147483648", "2147483647"]).on(absolute_in_script),
    row("the last lock there is", in_2038, (Payee, Proposing), |_, e| terms(e).refund_lock = time(u32::MAX).into(), RefusalReason::TermsOutOfLimits, &["time 4294967295", "2147483647"]).on(absolute_in_script),
    row("the article's payments", bare, (Payee, Proposing), |_, e| terms(e).protocol = SteppedLocktime, RefusalReason::TermsOutOfLimits, &["example-7", "stepped-locktime"]).on(in_script),
    row("the guide's payments", bare, (Payee, Proposing), |_, e| terms(e).protocol = Bond, RefusalReason::TermsOutOfLimits, &["example-7", "bond"]).on(in_script),
    row("least payment zero", bare, (Payee, Proposing), |_, e| terms(e).minimum_payment = sat(0), RefusalReason::TermsOutOfLimits, &["minimum payment of 0 BTC", "0.00000001 BTC to 0.00100000"]),
    row("least payment high", bare, (Payee, Proposing), |_, e| terms(e).minimum_payment = sat(100_001), RefusalReason::TermsOutOfLimits, &["minimum payment of 0.00100001", "to 0.00100000"]),
    row("reserve high", bare, (Payee, Proposing), |_, e| terms(e).reserve = sat(100_001), RefusalReason::TermsOutOfLimits, &["reserve of 0.00100001", "0 BTC to 0.00100000"]),
    row("reserve and least payment eat the capacity", || bare().capacity(100_000), (Payee, Proposing), |_, e| { terms(e).reserve = sat(50_000); terms(e).minimum_payment = sat(50_000) }, RefusalReason::BadParams, &["capacity of 0.00100000 BTC is too small"]),
    row("margin low", bare, (Payee, Proposing), |_, e| terms(e).closing_margin = ClosingMargin::from_blocks(5), RefusalReason::TermsOutOfLimits, &["margin of 5 blocks", "6 blocks to 1008 blocks"]),
    row("margin high", bare, (Payee, Proposing), |_, e| terms(e).closing_margin = ClosingMargin::from_blocks(1_009), RefusalReason::TermsOutOfLimits, &["margin of 1009 blocks"]),
    row("no room", bare, (Payee, Proposing), |_, e| terms(e).closing_margin = ClosingMargin::from_blocks(141), RefusalReason::TermsOutOfLimits, &["144 ahead", "take 144"]),
    row("no room before the payments' lock", stepped, (Payee, Proposing), |_, e| terms(e).payment_expiry = Some(height(HEIGHT + 3)), RefusalReason::TermsOutOfLimits, &["3 ahead", "take 3"]),
    row("payments' lock too late", stepped, (Payee, Proposing), |_, e| terms(e).payment_expiry = Some(height(HEIGHT + 109)), RefusalReason::TermsOutOfLimits, &["height 309", "36 blocks", "height 344"]),
    row("payments' lock of another kind", stepped, (Payee, Proposing), |_, e| terms(e).payment_expiry = Some(time(MTP + 50_000)), RefusalReason::TermsOutOfLimits, &["time 1700050000", "height 344"]),
    row("payments' height lock before a time lock", || { let mut c = bond(); c.terms.protocol = SteppedLocktime; c.terms.payment_expiry = Some(time(MTP + 60_000)); c }, (Payee, Proposing), |_, e| terms(e).payment_expiry = Some(height(HEIGHT + 100)), RefusalReason::TermsOutOfLimits, &["height 300", "time 1700086400"]),
    row("payments' lock missing", stepped, (Payee, Proposing), |_, e| terms(e).payment_expiry = None, RefusalReason::TermsOutOfLimits, &["stepped-locktime", "None"]),
    row("payments' lock unknown here", bare, (Payee, Proposing), |_, e| terms(e).payment_expiry = Some(height(HEIGHT + 100)), RefusalReason::TermsOutOfLimits, &["example-7", "300"]),
    row("payout not standard", bare, (Payee, Proposing), |_, e| if let Message::Open { payer_payout, .. } = &mut e.message { *payer_payout = ScriptBuf::from_bytes(vec![0x51]) }, RefusalReason::TermsOutOfLimits, &["OP_PUSHNUM_1", "P2WPKH"]),
    row("the payee's own key", bare, (Payee, Proposing), |_, e| if let Message::Open { payer_key, .. } = &mut e.message { *payer_key = PayerKey::new(key("payee").public_key()) }, RefusalReason::BadParams, &["same key"]),
    row("fee eats the capacity", || bare().capacity(10_000), (Payee, Proposing), |_, e| terms(e).feerate = FeeRate::from_sat_per_kwu(20_000), RefusalReason::BadParams, &["capacity of 0.00010000 BTC is too small"]),
    row("not a proposal", bare, (Payee, Proposing), |_, e| e.message = Message::Ready, RefusalReason::UnexpectedMessage, &["ready", "proposing"]),

    // The answer.
    row("another channel's answer", bare, (Payer, Proposing), |_, e| e.channel = ChannelId(8), RefusalReason::WrongChannel, &["channel 8", "channel 7"]),
    row("the payer's own key", bare, (Payer, Proposing), |_, e| if let Message::Accept { payee_key, .. } = &mut e.message { *payee_key = PayeeKey::new(key("payer").public_key()) }, RefusalReason::BadParams, &["same key"]),
    row("the payer's own key with the other sign", bare, (Payer, Proposing), |_, e| if let Message::Accept { payee_key, .. } = &mut e.message { *payee_key = PayeeKey::new(key("payer").public_key().negate(&Secp256k1::new())) }, RefusalReason::BadParams, &["same key"]),
    row("payee payout not standard", bare, (Payer, Proposing), |_, e| if let Message::Accept { payee_payout, .. } = &mut e.message { *payee_payout = ScriptBuf::new() }, RefusalReason::TermsOutOfLimits, &["not a standard one"]),
    row("no confirmations", bare, (Payer, Proposing), |_, e| if let Message::Accept { confirmation, .. } = &mut e.message { confirmation.depth = 0 }, RefusalReason::TermsOutOfLimits, &["0 confirmations", "1 to 12"]),
    row("too many confirmations", bare, (Payer, Proposing), |_, e| if let Message::Accept { confirmation, .. } = &mut e.message { confirmation.depth = 13 }, RefusalReason::TermsOutOfLimits, &["13 confirmations", "1 to 12"]),
    row("refund signature before the keys", bare, (Payer, Proposing), |_, e| e.message = Message::RefundSignature { signature: UnverifiedSignature::from_compact([1; 64]) }, RefusalReason::UnexpectedMessage, &["refund-signature", "proposing"]),

    // The refund that the payee is asked to sign.
    row("another channel's refund", bare, (Payee, SigningRefund), |_, e| e.channel = ChannelId(0), RefusalReason::WrongChannel, &["channel 0", "channel 7"]),
    row("funding before the refund", bare, (Payee, SigningRefund), |_, e| e.message = Message::Funding { tx: tx(e).clone() }, RefusalReason::UnexpectedMessage, &["funding", "signing the refund"]),
    row("final sequence", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].sequence = Sequence::MAX, RefusalReason::RefundFinalSequence, &["0xffffffff", "0xfffffffe"]),
    row("replaceable sequence", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].sequence = Sequence(0xffff_fffd), RefusalReason::RefundTemplate, &["0xfffffffd", "0xfffffffe"]),
    row("relative lock", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].sequence = Sequence(10), RefusalReason::RefundTemplate, &["0x0000000a", "0xfffffffe"]),
    row("no lock", bare, (Payee, SigningRefund), |_, e| tx(e).lock_time = LockTime::ZERO, RefusalReason::RefundLock, &["no lock", "height 344"]),
    row("lock one block early", bare, (Payee, SigningRefund), |_, e| tx(e).lock_time = height(343).to_lock_time(), RefusalReason::RefundLock, &["343", "height 344"]),
    row("lock one block late", bare, (Payee, SigningRefund), |_, e| tx(e).lock_time = height(345).to_lock_time(), RefusalReason::RefundLock, &["345", "height 344"]),
    row("time for height", bare, (Payee, SigningRefund), |_, e| tx(e).lock_time = time(MTP + 86_400).to_lock_time(), RefusalReason::RefundLock, &["1700086400", "height 344"]),
    row("height for time", bond, (Payee, SigningRefund), |_, e| tx(e).lock_time = height(344).to_lock_time(), RefusalReason::RefundLock, &["344", "time 1700086400"]),
    row("the tip moved on", late, (Payee, SigningRefund), |_, _| (), RefusalReason::TermsOutOfLimits, &["71 ahead", "72 to 4032"]),
    row("the tip moved back", early, (Payee, SigningRefund), |_, _| (), RefusalReason::TermsOutOfLimits, &["4033 ahead", "72 to 4032"]),
    row("null outpoint", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].previous_output = OutPoint::null(), RefusalReason::RefundTemplate, &["0000:4294967295"]),
    row("no input", bare, (Payee, SigningRefund), |_, e| tx(e).input.clear(), RefusalReason::RefundTemplate, &["0 inputs", "expected 1"]),
    row("a second input", bare, (Payee, SigningRefund), |_, e| { let input = tx(e).input[0].clone(); tx(e).input.push(input) }, RefusalReason::RefundTemplate, &["2 inputs", "expected 1"]),
    row("no output", bare, (Payee, SigningRefund), |_, e| tx(e).output.clear(), RefusalReason::RefundTemplate, &["0 outputs", "expected 1"]),
    row("a second output", bare, (Payee, SigningRefund), |_, e| { let output = tx(e).output[0].clone(); tx(e).output.push(output) }, RefusalReason::RefundTemplate, &["2 outputs", "expected 1"]),
    row("foreign script", bare, (Payee, SigningRefund), |_, e| tx(e).output[0].script_pubkey = payout("stranger"), RefusalReason::RefundTemplate, &["OP_0 OP_PUSHBYTES_20", "expected"]),
    row("refund less a satoshi", bare, (Payee, SigningRefund), |_, e| tx(e).output[0].value -= sat(1), RefusalReason::RefundTemplate, &["{less}", "{refund}"]),
    row("refund without a fee", bare, (Payee, SigningRefund), |_, e| tx(e).output[0].value = sat(1_000_000), RefusalReason::RefundTemplate, &["0.01000000 BTC", "{refund}"]),
    row("version 1", bare, (Payee, SigningRefund), |_, e| tx(e).version = Version::ONE, RefusalReason::RefundTemplate, &["version 1", "expected 3"]),
    row("already signed", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].script_sig = ScriptBuf::from_bytes(vec![0]), RefusalReason::RefundTemplate, &["1 bytes", "none"]),
    row("already has a witness", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].witness = Witness::from_slice(&[[0_u8]]), RefusalReason::RefundTemplate, &["3 bytes", "none"]),

    // The payee's signature over the refund.
    row("another channel's signature", bare, (Payer, SigningRefund), |_, e| e.channel = ChannelId(8), RefusalReason::WrongChannel, &["channel 8", "channel 7"]),
    row("ready before the refund", bare, (Payer, SigningRefund), |_, e| e.message = Message::Ready, RefusalReason::UnexpectedMessage, &["ready", "signing the refund"]),
    row("bond asked for before the refund", bond, (Payer, SigningRefund), |_, e| e.message = Message::FundingRequest, RefusalReason::UnexpectedMessage, &["funding-request", "signing the refund"]),
    row("refund signature changed", bare, (Payer, SigningRefund), |_, e| compact(e, |b| b[40] ^= 1), RefusalReason::SignatureWrong, &["is not by key"]),
    row("refund signature high s", bare, (Payer, SigningRefund), |_, e| compact(e, high_s), RefusalReason::SignatureHighS, &["high s"]),
    row("refund signature out of range", bare, (Payer, SigningRefund), |_, e| compact(e, |b| b[..32].fill(0xff)), RefusalReason::SignatureOutOfRange, &["not below the order", "ffffffff"]),
    row("refund signature of zeros", bare, (Payer, SigningRefund), |_, e| compact(e, |b| b.fill(0)), RefusalReason::SignatureWrong, &["is not by key"]),

    // The funding transaction.
    row("another channel's funding", bare, (Payee, Protected), |_, e| e.channel = ChannelId(8), RefusalReason::WrongChannel, &["channel 8", "channel 7"]),
    row("payment before funding", bare, (Payee, Protected), |_, e| e.message = Message::Payment { paid: sat(1), signature: UnverifiedSignature::from_compact([1; 64]) }, RefusalReason::UnexpectedMessage, &["payment", "waiting to fund"]),
    row("T1 of another txid", bare, (Payee, Protected), |_, e| tx(e).output[1].value += sat(1), RefusalReason::FundingMismatch, &["the refund spends", "is "]).on(co_signed),
    row("T1 with a malleated script", || bare().legacy(), (Payee, Protected), |_, e| tx(e).input[0].script_sig = ScriptBuf::from_bytes(vec![0]), RefusalReason::FundingMismatch, &["the refund spends"]).on(co_signed),
    row("bond: the payee asks twice, or says something else", bond, (Payer, Protected), |_, e| e.message = Message::Ready, RefusalReason::UnexpectedMessage, &["ready", "waiting to fund"]),
    row("bond: another channel's request", bond, (Payer, Protected), |_, e| e.channel = ChannelId(8), RefusalReason::WrongChannel, &["channel 8", "channel 7"]),
    row("T1 less a satoshi", bare, (Payee, Protected), |_, e| tx(e).output[0].value -= sat(1), RefusalReason::FundingMismatch, &["no output of 0.01000000"]).on(in_script),
    row("T1 that pays the payer", bare, (Payee, Protected), |_, e| funds(e, payout("payer")), RefusalReason::FundingMismatch, &["no output of 0.01000000"]).on(in_script),
    row("T1 with the keys in the other order", bare, (Payee, Protected), |w, e| funds(e, other_output(&w.params, w.params.terms(), true)), RefusalReason::FundingMismatch, &["no output of 0.01000000"]).on(in_script),
    row("T1 with another lock", bare, (Payee, Protected), |w, e| { let mut other = w.params.terms().clone(); other.refund_lock = if relative(other.construction) { RefundLock::after_blocks(143) } else { height(343).into() }; funds(e, other_output(&w.params, &other, false)) }, RefusalReason::FundingMismatch, &["no output of 0.01000000"]).on(in_script),
    row("T1 with a time for a height", bare, (Payee, Protected), |w, e| { let mut other = w.params.terms().clone(); other.refund_lock = if relative(other.construction) { RefundLock::after_seconds(86_400).unwrap() } else { time(MTP + 86_400).into() }; funds(e, other_output(&w.params, &other, false)) }, RefusalReason::FundingMismatch, &["no output of 0.01000000"]).on(in_script),
    row("T1 of another construction", bare, (Payee, Protected), |w, e| { let other = w.params.terms().clone().on(Construction::P2wsh); funds(e, other_output(&w.params, &other, false)) }, RefusalReason::FundingMismatch, &["no output of 0.01000000"]).on(absolute_in_script),
    row("T1 with the payer's own internal key", bare, (Payee, Protected), |w, e| funds(e, own_internal_key(w)), RefusalReason::FundingMismatch, &["no output of 0.01000000"]).on(taproot),
    row("T1 that funds twice", bare, (Payee, Protected), |_, e| tx(e).output[1] = tx(e).output[0].clone(), RefusalReason::FundingMismatch, &["outputs 0 and 1 both fund"]).on(in_script),
    row("a refund to sign where none is", bare, (Payee, Protected), |_, e| { let tx = tx(e).clone(); e.message = Message::RefundRequest { tx } }, RefusalReason::UnexpectedMessage, &["refund-request", "waiting to fund"]).on(in_script),
];
