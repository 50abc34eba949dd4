//! Rows after the opening: payments, requests, closing.

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Amount, FeeRate, OutPoint, Txid};
use spilman::channel::{
    ChannelId, Confirmation, Event, Message, PayeeKey, Protocol, RefusalReason, Stage, Terms,
    UnverifiedSignature,
};

use super::scene::*;
use crate::pair::{
    digest, key, leaf_digest, payout, sat, secret, signature, signature_over, tip, Case, Side, Sign, HEIGHT,
    MTP,
};
use Protocol::Bond;
use Side::{Payee, Payer};
use Stage::{AwaitingFunding, Closing, Open};

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    // Before the funding transaction is deep enough.
    row("payment on an unconfirmed channel", bare, (Payee, AwaitingFunding), |_, _| (), RefusalReason::FundingUnconfirmed, &["0 confirmations", "3 are needed"]),
    row("payment one confirmation early", bare, (Payee, AwaitingFunding), |w, _| w.pair().look(Payee, 2, None).unwrap(), RefusalReason::FundingUnconfirmed, &["2 confirmations", "3 are needed"]),
    row("a second funding transaction", bare, (Payee, AwaitingFunding), |w, e| e.message = Message::Funding { tx: w.pair().payer.funding().tx().clone() }, RefusalReason::UnexpectedMessage, &["funding", "to confirm"]),
    row("settlement of a sum that was never paid", bare, (Payee, AwaitingFunding), |w, e| e.message = w.pair().settlement(500, "payer"), RefusalReason::SettlementDiffers, &["0.000005", "0 BTC"]),
    row("acknowledged before the channel is open", bare, (Payer, AwaitingFunding), |_, _| (), RefusalReason::UnexpectedMessage, &["payment-accepted", "to confirm"]),
    row("asked for funding twice", bond, (Payer, AwaitingFunding), |_, e| e.message = Message::FundingRequest, RefusalReason::UnexpectedMessage, &["funding-request"]),
    row("closed before the channel is open", bare, (Payer, AwaitingFunding), |_, e| e.message = Message::Closed { txid: Txid::all_zeros() }, RefusalReason::UnexpectedMessage, &["closed"]),

    // Payments: the amount.
    row("amount falls", example7, (Payee, Open), |w, e| pays(w, e, 1_999, "payer"), RefusalReason::PaidDecreased, &["0.00002", "0.00001999"]),
    row("amount repeats", example7, (Payee, Open), |w, e| pays(w, e, 2_000, "payer"), RefusalReason::PaidRepeated, &["repeats", "0.00002"]),
    row("an old payment again", example7, (Payee, Open), |w, e| pays(w, e, 1_000, "payer"), RefusalReason::PaidDecreased, &["0.00002", "0.00001"]),
    row("nothing is paid", stepped_unpaid, (Payee, Open), |w, e| pays(w, e, 0, "payer"), RefusalReason::PaidRepeated, &["repeats", "0 BTC"]),
    row("the empty start again", bare, (Payee, Open), |w, e| pays(w, e, 0, "payer"), RefusalReason::PaidRepeated, &["repeats", "0 BTC"]),
    row("a satoshi above the capacity", example7, (Payee, Open), |w, e| { let paid = w.spendable() + 1; pays(w, e, paid, "payer") }, RefusalReason::PaidExceedsCapacity, &["{above}", "{spendable}"]),
    row("all the money there is", example7, (Payee, Open), |w, e| pays(w, e, 2_100_000_000_000_000, "payer"), RefusalReason::PaidExceedsCapacity, &["21000000", "{spendable}"]),

    row("less than the least payment", dear, (Payee, Open), |w, e| { let paid = w.pair().payee.paid().to_sat() + 499; pays(w, e, paid, "payer") }, RefusalReason::PaidBelowMinimum, &["0.00000499", "0.00000500"]),
    row("a satoshi of the reserve", reserved, (Payee, Open), |w, e| { let paid = w.spendable() + 1; pays(w, e, paid, "payer") }, RefusalReason::PaidExceedsCapacity, &["{above}", "{spendable}"]),
    row("more than counts before the confirmation", trusting, (Payee, Open), |w, e| { w.pair().tip = tip(HEIGHT + 1, MTP); w.pair().look(Payee, 0, None).unwrap(); pays(w, e, 2_501, "payer") }, RefusalReason::FundingUnconfirmed, &["0 confirmations", "3 are needed for more than 0.00002500"]),

    // Payments: the signature.
    row("signed by a stranger", example7, (Payee, Open), |w, e| pays(w, e, 3_000, "stranger"), RefusalReason::SignatureWrong, &["is not by key"]),
    row("signed by the payee", example7, (Payee, Open), |w, e| pays(w, e, 3_000, "payee"), RefusalReason::SignatureWrong, &["is not by key"]),
    row("signed for another amount", example7, (Payee, Open), |w, e| { pays(w, e, 2_999, "payer"); if let Message::Payment { paid, .. } = &mut e.message { *paid = sat(3_000) } }, RefusalReason::SignatureWrong, &["is not by key"]),
    row("signed for another funding output", example7, (Payee, Open), |w, e| { let signature = w.pair().sign(3_000, None, OutPoint::new(Txid::from_byte_array([3; 32]), 0), "payer"); e.message = Message::Payment { paid: sat(3_000), signature } }, RefusalReason::SignatureWrong, &["is not by key"]),
    row("signed with a lock", example7, (Payee, Open), |w, e| { let pair = w.pair(); let signature = pair.sign(3_000, Some(height(344)), pair.outpoint(), "payer"); e.message = Message::Payment { paid: sat(3_000), signature } }, RefusalReason::SignatureWrong, &["is not by key"]),
    row("signed without the payments' lock", stepped, (Payee, Open), |w, e| { if let Message::Settlement { paid, signature, .. } = w.pair().settlement(3_000, "payer") { e.message = Message::Payment { paid, signature } } }, RefusalReason::SignatureWrong, &["is not by key"]),
    row("the refund's signature for a payment", example7, (Payee, Open), |w, e| { let pair = w.pair(); let signature = signature(pair.payee.params(), pair.payer.refund().tx(), "payer"); e.message = Message::Payment { paid: sat(3_000), signature } }, RefusalReason::SignatureWrong, &["is not by key"]),
    row("signed by another construction's digest", example7, (Payee, Open), pays_by_another_digest, RefusalReason::SignatureWrong, &["is not by key"]),
    row("signed for the refund's leaf", example7, (Payee, Open), |w, e| { let pair = w.pair(); let params = pair.payee.params(); let tx = pair.division(3_000, None, pair.outpoint()); pays_signed(e, signature_over(params, &leaf_digest(params, &tx, 1), "payer")) }, RefusalReason::SignatureWrong, &["is not by key"]).on(taproot),
    row("ECDSA where it is Schnorr", example7, (Payee, Open), |w, e| { let pair = w.pair(); let tx = pair.division(3_000, None, pair.outpoint()); let signed = Secp256k1::new().sign_ecdsa(&digest(pair.payee.params(), &tx), &secret("payer")); pays_signed(e, UnverifiedSignature::from_compact(signed.serialize_compact())) }, RefusalReason::SignatureWrong, &["is not by key"]).on(taproot),
    row("the other s of Schnorr", example7, (Payee, Open), |_, e| compact(e, high_s), RefusalReason::SignatureWrong, &["is not by key"]).on(taproot),
    row("r of Schnorr out of range", example7, (Payee, Open), |_, e| compact(e, |b| b[..32].fill(0xff)), RefusalReason::SignatureWrong, &["ffffffff", "is not by key"]).on(taproot),
    row("s of Schnorr out of range", example7, (Payee, Open), |_, e| compact(e, |b| b[32..].fill(0xff)), RefusalReason::SignatureWrong, &["ffffffff", "is not by key"]).on(taproot),
    row("high s", example7, (Payee, Open), |_, e| compact(e, high_s), RefusalReason::SignatureHighS, &["high s"]).on(ecdsa),
    row("r out of range", example7, (Payee, Open), |_, e| compact(e, |b| b[..32].fill(0xff)), RefusalReason::SignatureOutOfRange, &["not below the order", "ffffffff"]).on(ecdsa),
    row("s out of range", example7, (Payee, Open), |_, e| compact(e, |b| b[32..].fill(0xff)), RefusalReason::SignatureOutOfRange, &["not below the order", "ffffffff"]).on(ecdsa),
    row("all zero", example7, (Payee, Open), |_, e| compact(e, |b| b.fill(0)), RefusalReason::SignatureWrong, &["0000000000000000", "is not by key"]),
    row("r zero", example7, (Payee, Open), |_, e| compact(e, |b| b[..32].fill(0)), RefusalReason::SignatureWrong, &["is not by key"]),
    row("s zero", example7, (Payee, Open), |_, e| compact(e, |b| b[32..].fill(0)), RefusalReason::SignatureWrong, &["is not by key"]),

    // Payments: the moment, the channel, the kind.
    row("inside the closing margin", bare, (Payee, Open), |w, _| { w.pair().tip = tip(HEIGHT + 108, MTP); w.pair().look(Payee, 100, None).unwrap() }, RefusalReason::ChannelExpiring, &["36 before", "height 344"]),
    row("inside the closing margin by time", || Case::new(Bond), (Payee, Open), |w, _| { w.pair().tip = tip(900, MTP + 86_400 - 21_600); w.pair().look(Payee, 100, None).unwrap() }, RefusalReason::ChannelExpiring, &["21600 before", "time 1700086400"]),
    row("inside the closing margin by time", timed, (Payee, Open), |w, _| { w.pair().tip = tip(900, MTP + 86_400 - 21_600); w.pair().look(Payee, 100, None).unwrap() }, RefusalReason::ChannelExpiring, &["21600 before", "time 1700086400"]).on(absolute_in_script),
    row("inside the closing margin by relative time", timed, (Payee, Open), |w, _| { w.pair().tip = tip(900, MTP + 86_528 - 21_600); w.pair().look(Payee, 100, None).unwrap() }, RefusalReason::ChannelExpiring, &["21599 before", "time 1700086527"]).on(relative),
    row("after the payments' lock", stepped_unpaid, (Payee, Open), |w, _| { w.pair().tip = tip(HEIGHT + 108, MTP); w.pair().look(Payee, 100, None).unwrap() }, RefusalReason::ChannelExpiring, &["0 before", "height 308"]),
    row("another channel's payment", example7, (Payee, Open), |_, e| e.channel = ChannelId(8), RefusalReason::WrongChannel, &["channel 8", "channel 7"]),
    row("another proposal", example7, (Payee, Open), |_, e| e.message = example7().propose().1.message, RefusalReason::UnexpectedMessage, &["open", "open"]),
    row("another refund", example7, (Payee, Open), |w, e| e.message = Message::RefundRequest { tx: w.pair().payer.refund().tx().clone() }, RefusalReason::UnexpectedMessage, &["refund-request"]),
    row("the payee's words from the payer: ready", example7, (Payee, Open), |_, e| e.message = Message::Ready, RefusalReason::UnexpectedMessage, &["ready"]),
    row("the payee's words from the payer: accepted", example7, (Payee, Open), |_, e| e.message = Message::PaymentAccepted { paid: sat(2_000) }, RefusalReason::UnexpectedMessage, &["payment-accepted"]),
    row("the payee's words from the payer: request", bond, (Payee, Open), |_, e| e.message = Message::PaymentRequest { paid: sat(3_000) }, RefusalReason::UnexpectedMessage, &["payment-request"]),
    row("the payee's words from the payer: close", example7, (Payee, Open), |_, e| e.message = Message::CloseRequest { feerate: Terms::FEERATE, nonce: None }, RefusalReason::UnexpectedMessage, &["close-request"]).on(ecdsa),
    row("the payer's words from the payee: payment", example7, (Payer, Open), |w, e| pays(w, e, 3_000, "payer"), RefusalReason::UnexpectedMessage, &["payment", "open"]),
    row("the payer's words from the payee: settlement", example7, (Payer, Open), |w, e| e.message = w.pair().settlement(2_000, "payer"), RefusalReason::UnexpectedMessage, &["settlement"]),
    row("the payer's words from the payee: funding", example7, (Payer, Open), |w, e| e.message = Message::Funding { tx: w.pair().payer.funding().tx().clone() }, RefusalReason::UnexpectedMessage, &["funding"]),
    row("another key", example7, (Payer, Open), |_, e| e.message = Message::Accept { payee_key: PayeeKey::new(key("new").public_key()), payee_payout: payout("new"), confirmation: Confirmation { depth: 3, zero_conf_limit: Amount::ZERO } }, RefusalReason::UnexpectedMessage, &["accept"]),
    row("another refund signature", example7, (Payer, Open), |_, e| e.message = Message::RefundSignature { signature: UnverifiedSignature::from_compact([1; 64]) }, RefusalReason::UnexpectedMessage, &["refund-signature"]),

    // What the payee says to an open payer.
    row("acknowledged, never sent", example7, (Payer, Open), |_, e| e.message = Message::PaymentAccepted { paid: sat(2_001) }, RefusalReason::AcknowledgedUnsent, &["0.00002001", "0.00002"]),
    row("acknowledged less than before", example7, (Payer, Open), |_, e| e.message = Message::PaymentAccepted { paid: sat(1_999) }, RefusalReason::AcknowledgedUnsent, &["0.00001999", "0.00002"]),
    row("another channel's acknowledgement", example7, (Payer, Open), |_, e| e.channel = ChannelId(8), RefusalReason::WrongChannel, &["channel 8", "channel 7"]),
    row("requested where nobody requests", example7, (Payer, Open), |_, e| e.message = Message::PaymentRequest { paid: sat(3_000) }, RefusalReason::UnexpectedMessage, &["payment-request"]),
    row("requested in the stepped protocol", stepped, (Payer, Open), |_, e| e.message = Message::PaymentRequest { paid: sat(3_000) }, RefusalReason::UnexpectedMessage, &["payment-request"]),
    row("request exceeds", bond, (Payer, Open), |w, e| e.message = Message::PaymentRequest { paid: sat(w.spendable() + 1) }, RefusalReason::PaidExceedsCapacity, &["{above}", "{spendable}"]),

    // Closing.
    row("settlement for less", example7, (Payee, Open), |w, e| e.message = w.pair().settlement(1_999, "payer"), RefusalReason::SettlementDiffers, &["0.00001999", "0.00002"]),
    row("settlement for more", example7, (Payee, Open), |w, e| e.message = w.pair().settlement(2_001, "payer"), RefusalReason::SettlementDiffers, &["0.00002001", "0.00002"]),
    row("settlement signed by a stranger", example7, (Payee, Open), |w, e| e.message = w.pair().settlement(2_000, "stranger"), RefusalReason::SignatureWrong, &["is not by key"]),
    row("settlement with the payment's lock", stepped, (Payee, Open), |w, e| if let Message::Payment { paid, signature } = w.pair().payment(2_000, "payer") { e.message = Message::Settlement { paid, feerate: Terms::FEERATE, signature } }, RefusalReason::SignatureWrong, &["is not by key"]),
    row("settlement with a high s", example7, (Payee, Open), |w, e| { e.message = w.pair().settlement(2_000, "payer"); compact(e, high_s) }, RefusalReason::SignatureHighS, &["high s"]).on(ecdsa),
    row("settlement below the agreed feerate", example7, (Payee, Open), |w, e| { e.message = w.pair().settlement(2_000, "payer"); if let Message::Settlement { feerate, .. } = &mut e.message { *feerate = FeeRate::from_sat_per_kwu(499) } }, RefusalReason::SettlementFeerate, &["499", "500"]),
    row("settlement at a feerate that the change does not pay", example7, (Payee, Open), |w, e| { e.message = w.pair().settlement(2_000, "payer"); if let Message::Settlement { feerate, .. } = &mut e.message { *feerate = FeeRate::from_sat_per_kwu(4_000_000) } }, RefusalReason::SettlementFeerate, &["4000000"]),
    row("settlement for less while closing", stepped, (Payee, Closing), |w, e| e.message = w.pair().settlement(1_000, "payer"), RefusalReason::SettlementDiffers, &["0.00001", "0.00002"]),
    row("payment after the settlement", example7, (Payee, Closing), |_, _| (), RefusalReason::UnexpectedMessage, &["payment", "closing"]).on(ecdsa),
    row("acknowledged unsent while closing", example7, (Payer, Closing), |_, e| e.message = Message::PaymentAccepted { paid: sat(2_001) }, RefusalReason::AcknowledgedUnsent, &["0.00002001", "0.00002"]),
    row("settlement of one signature that nobody asked for", example7, (Payee, Open), |w, e| { let nonce = a_nonce(); e.message = w.pair().cooperative_settlement(2_000, Terms::FEERATE, &nonce, "payer") }, RefusalReason::UnexpectedMessage, &["joint-settlement", "open"]).on(taproot),
    row("asked with a nonce where two sign", example7, (Payer, Open), |_, e| e.message = Message::CloseRequest { feerate: Terms::FEERATE, nonce: Some(a_nonce()) }, RefusalReason::UnexpectedMessage, &["close-request", "open"]).on(ecdsa),
    row("asked to settle below the agreed feerate", example7, (Payer, Open), |_, e| e.message = Message::CloseRequest { feerate: FeeRate::from_sat_per_kwu(499), nonce: None }, RefusalReason::SettlementFeerate, &["499", "500"]),
    row("asked with a nonce to settle below the agreed feerate", example7, (Payer, Open), |_, e| e.message = Message::CloseRequest { feerate: FeeRate::from_sat_per_kwu(499), nonce: Some(a_nonce()) }, RefusalReason::SettlementFeerate, &["499", "500"]).on(taproot),
    row("the payer asks to settle below the agreed feerate", example7, (Payee, Open), |_, e| e.message = Message::CloseRequest { feerate: FeeRate::from_sat_per_kwu(499), nonce: None }, RefusalReason::SettlementFeerate, &["499", "500"]).on(taproot),
    row("the payee's words from the payer: a nonce", example7, (Payee, Open), |_, e| e.message = Message::CloseRequest { feerate: Terms::FEERATE, nonce: Some(a_nonce()) }, RefusalReason::UnexpectedMessage, &["close-request"]),
    row("payment after the payee settled alone", example7, (Payee, Closing), |w, _| { w.pair().tell(Payee, Event::PeerGone).unwrap(); }, RefusalReason::UnexpectedMessage, &["payment", "closing"]).on(taproot),

    // The settlement with one signature, after the payee has asked for it.
    row("part changed", example7, (Payee, Closing), |w, e| { answers(w, e, 2_000, "payer"); part(e, |b| b[31] ^= 1) }, RefusalReason::PartialSignatureWrong, &["the partial signature", "is not by key"]).on(taproot),
    row("part of nothing", example7, (Payee, Closing), |w, e| { answers(w, e, 2_000, "payer"); part(e, |b| b.fill(0)) }, RefusalReason::PartialSignatureWrong, &["0000000000", "is not by key"]).on(taproot),
    row("part by a stranger", example7, (Payee, Closing), |w, e| answers(w, e, 2_000, "stranger"), RefusalReason::PartialSignatureWrong, &["is not by key"]).on(taproot),
    row("part for another sum", example7, (Payee, Closing), |w, e| { answers(w, e, 1_999, "payer"); if let Message::CooperativeSettlement { paid, .. } = &mut e.message { *paid = sat(2_000) } }, RefusalReason::PartialSignatureWrong, &["is not by key"]).on(taproot),
    row("part for another feerate", example7, (Payee, Closing), |w, e| { answers(w, e, 2_000, "payer"); if let Message::CooperativeSettlement { feerate, .. } = &mut e.message { *feerate = FeeRate::from_sat_per_kwu(501) } }, RefusalReason::PartialSignatureWrong, &["is not by key"]).on(taproot),
    row("part with another nonce", example7, (Payee, Closing), |w, e| { answers(w, e, 2_000, "payer"); let asked = w.asked(); if let Message::CooperativeSettlement { nonce, .. } = &mut e.message { *nonce = asked } }, RefusalReason::PartialSignatureWrong, &["is not by key"]).on(taproot),
    row("part for a nonce that was not asked with", example7, (Payee, Closing), |w, e| { let other = a_nonce(); e.message = w.pair().cooperative_settlement(2_000, Terms::FEERATE, &other, "payer") }, RefusalReason::PartialSignatureWrong, &["is not by key"]).on(taproot),
    row("one signature for less", example7, (Payee, Closing), |w, e| answers(w, e, 1_999, "payer"), RefusalReason::SettlementDiffers, &["0.00001999", "0.00002"]).on(taproot),
    row("one signature for more", example7, (Payee, Closing), |w, e| answers(w, e, 2_001, "payer"), RefusalReason::SettlementDiffers, &["0.00002001", "0.00002"]).on(taproot),
    row("one signature below the agreed feerate", example7, (Payee, Closing), |w, e| { let asked = w.asked(); e.message = w.pair().cooperative_settlement(2_000, FeeRate::from_sat_per_kwu(499), &asked, "payer") }, RefusalReason::SettlementFeerate, &["499", "500"]).on(taproot),
    row("one signature at a feerate that the change does not pay", example7, (Payee, Closing), |w, e| { answers(w, e, 2_000, "payer"); if let Message::CooperativeSettlement { feerate, .. } = &mut e.message { *feerate = FeeRate::from_sat_per_kwu(4_000_000) } }, RefusalReason::SettlementFeerate, &["4000000"]).on(taproot),
    row("another channel's part", example7, (Payee, Closing), |w, e| { answers(w, e, 2_000, "payer"); e.channel = ChannelId(8) }, RefusalReason::WrongChannel, &["channel 8", "channel 7"]).on(taproot),
];
