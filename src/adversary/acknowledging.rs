//! What a dishonest payee says to the payer of an open channel.

use bitcoin::{Amount, FeeRate};

use super::change::{other_channel, paid, SAT};
use super::closing::any_nonce;
use super::{bond, ecdsa, message, never_asked, taproot, Forgery};
use crate::channel::{Message, MessageKind, RefusalReason, UnverifiedSignature};
use crate::transcript::{MessagePosition, Side};

/// The third: two payments were acknowledged.
pub(super) const ACCEPTED: MessagePosition =
    MessagePosition::new(Side::Payee, MessageKind::PaymentAccepted, 2);
const REQUEST: MessagePosition = MessagePosition::new(Side::Payee, MessageKind::PaymentRequest, 2);
const CLOSE: MessagePosition = MessagePosition::new(Side::Payee, MessageKind::CloseRequest, 0);
const CLOSED: MessagePosition = MessagePosition::new(Side::Payee, MessageKind::Closed, 0);
const CHANNEL: RefusalReason = RefusalReason::WrongChannel;
const UNEXPECTED: RefusalReason = RefusalReason::UnexpectedMessage;
const UNSENT: RefusalReason = RefusalReason::AcknowledgedUnsent;

pub(super) const ALL: &[&[Forgery]] = &[ACKNOWLEDGING, REQUESTS, CLOSING];

#[rustfmt::skip]
const ACKNOWLEDGING: &[Forgery] = &[
    message("accepted-more", "acknowledges a satoshi more than was sent", ACCEPTED, UNSENT, &["{paid+1}", "{paid}"], |_, e| *paid(e) += SAT),
    message("accepted-again", "acknowledges the payment before once more", ACCEPTED, UNSENT, &["acknowledged", "{paid}"], |f, e| { let before = f.said().filter_map(|message| match message { Message::PaymentAccepted { paid } => Some(*paid), _ => None }); *paid(e) = before.max().expect("two payments were acknowledged"); }),
    message("accepted-wrong-channel", "the right acknowledgement for another channel", ACCEPTED, CHANNEL, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
    message("accepted-replaced-by-payment", "the payer's own payment", ACCEPTED, UNEXPECTED, &["payment", "open"], |f, e| { let newest = f.said().find(|message| message.kind() == MessageKind::Payment); e.message = newest.expect("there is one to acknowledge").clone(); }),
    message("accepted-replaced-by-refund-signature", "a signature of the opening", ACCEPTED, UNEXPECTED, &["refund-signature", "open"], |_, e| { let signature = UnverifiedSignature::from_compact([1; 64]); e.message = Message::RefundSignature { signature }; }),
    message("accepted-replaced-by-request", "asks for a payment where nobody asks", ACCEPTED, UNEXPECTED, &["payment-request", "open"], |f, e| { let paid = f.params().spendable(); e.message = Message::PaymentRequest { paid }; }).on(never_asked),
    message("accepted-replaced-by-cheap-close", "asks to close one sat/kwu below the agreed feerate", ACCEPTED, RefusalReason::SettlementFeerate, &["{feerate-1}", "{feerate}"], |f, e| { let agreed = f.params().terms().feerate.to_sat_per_kwu(); let feerate = FeeRate::from_sat_per_kwu(agreed - 1); e.message = Message::CloseRequest { feerate, nonce: None }; }),
    message("accepted-replaced-by-nonce", "asks with a nonce where two sign", ACCEPTED, UNEXPECTED, &["close-request", "open"], |f, e| { let (feerate, nonce) = (f.params().terms().feerate, Some(any_nonce())); e.message = Message::CloseRequest { feerate, nonce }; }).on(ecdsa),
];

#[rustfmt::skip]
const REQUESTS: &[Forgery] = &[
    message("request-exceeds", "asks for a satoshi more than the channel can pay", REQUEST, RefusalReason::PaidExceedsCapacity, &["{spendable+1}", "{spendable}"], |f, e| *paid(e) = f.params().spendable() + SAT),
    message("request-of-all-money", "asks for 21 million bitcoin", REQUEST, RefusalReason::PaidExceedsCapacity, &["21000000 BTC", "{spendable}"], |_, e| *paid(e) = Amount::MAX_MONEY),
    message("request-wrong-channel", "the right request for another channel", REQUEST, CHANNEL, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
    message("request-replaced-by-accepted", "acknowledges what was not paid yet", REQUEST, RefusalReason::AcknowledgedUnsent, &["acknowledged", "{paid}"], |_, e| { let paid = *paid(e); e.message = Message::PaymentAccepted { paid }; }).on(bond),
];

#[rustfmt::skip]
const CLOSING: &[Forgery] = &[
    message("nonce-feerate-low", "asks with a nonce to close one sat/kwu below the agreed feerate", CLOSE, RefusalReason::SettlementFeerate, &["{feerate-1}", "{feerate}"], |_, e| if let Message::CloseRequest { feerate, .. } = &mut e.message { *feerate = FeeRate::from_sat_per_kwu(feerate.to_sat_per_kwu() - 1); }).on(taproot),
    message("nonce-wrong-channel", "the nonce for another channel", CLOSE, CHANNEL, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
    message("closed-wrong-channel", "has settled another channel", CLOSED, CHANNEL, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
];
