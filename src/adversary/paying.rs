//! Payments: the sum, and other messages in their place.

use bitcoin::Amount;

use super::change::{other_channel, paid, sign, SAT};
use super::{ecdsa, message, paid_from_the_start, taproot, Forger, Forgery};
use crate::channel::{Envelope, Message, MessageKind, RefusalReason};
use crate::transcript::{MessagePosition, Side};

/// Two payments were accepted.
pub(super) const PAYMENT: MessagePosition = MessagePosition::new(Side::Payer, MessageKind::Payment, 2);
const FIRST: MessagePosition = MessagePosition::new(Side::Payer, MessageKind::Payment, 0);
const UNEXPECTED: RefusalReason = RefusalReason::UnexpectedMessage;

pub(super) const ALL: &[&[Forgery]] = &[SUMS, OTHERS];

#[rustfmt::skip]
const SUMS: &[Forgery] = &[
    message("payment-falls", "a satoshi less than was paid before", PAYMENT, RefusalReason::PaidDecreased, &["{paid}", "{paid-1}"], |f, e| pays(f, e, f.paid() - SAT)),
    message("payment-repeats", "just what was paid before", PAYMENT, RefusalReason::PaidRepeated, &["{paid}"], |f, e| pays(f, e, f.paid())),
    message("payment-stale", "the first payment once more", PAYMENT, RefusalReason::PaidDecreased, &["lowers", "{paid}"], |f, e| { let payments = f.said().filter(|message| message.kind() == MessageKind::Payment); e.message = payments.last().expect("two payments were accepted").clone(); }),
    message("payment-newest-again", "the newest payment once more", PAYMENT, RefusalReason::PaidRepeated, &["{paid}"], |f, e| { let newest = f.said().find(|message| message.kind() == MessageKind::Payment); e.message = newest.expect("two payments were accepted").clone(); }),
    message("payment-back-to-nothing", "everything back to the payer", PAYMENT, RefusalReason::PaidDecreased, &["{paid}", " 0 BTC"], |f, e| pays(f, e, Amount::ZERO)),
    message("payment-of-nothing", "a first payment of nothing where the protocol has none", FIRST, RefusalReason::PaidRepeated, &["{paid}"], |f, e| pays(f, e, Amount::ZERO)).on(paid_from_the_start),
    message("payment-below-minimum", "a satoshi less than one payment has to add", PAYMENT, RefusalReason::PaidBelowMinimum, &["{minimum-1}", "{minimum}"], |f, e| pays(f, e, f.paid() + f.params().terms().minimum_payment - SAT)),
    message("payment-exceeds", "a satoshi more than the channel can pay", PAYMENT, RefusalReason::PaidExceedsCapacity, &["{spendable+1}", "{spendable}"], |f, e| pays(f, e, f.params().spendable() + SAT)),
    message("payment-of-the-capacity", "all of the capacity, and no fee", PAYMENT, RefusalReason::PaidExceedsCapacity, &["{capacity}", "{spendable}"], |f, e| pays(f, e, f.params().terms().capacity.to_amount())),
    message("payment-of-all-money", "21 million bitcoin", PAYMENT, RefusalReason::PaidExceedsCapacity, &["21000000 BTC", "{spendable}"], |f, e| pays(f, e, Amount::MAX_MONEY)),
];

/// Other messages, and none for this channel.
#[rustfmt::skip]
const OTHERS: &[Forgery] = &[
    message("payment-wrong-channel", "the right payment for another channel", PAYMENT, RefusalReason::WrongChannel, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
    message("payment-replaced-by-open", "the proposal once more", PAYMENT, UNEXPECTED, &["open", "open"], |f, e| *e = f.open().clone()),
    message("payment-replaced-by-funding", "the funding transaction once more", PAYMENT, UNEXPECTED, &["funding", "open"], |f, e| { let funding = f.said().find(|message| message.kind() == MessageKind::Funding); e.message = funding.expect("the channel is funded").clone(); }),
    message("payment-replaced-by-ready", "a message of the payee's from the payer", PAYMENT, UNEXPECTED, &["ready", "open"], |_, e| e.message = Message::Ready),
    message("payment-replaced-by-accepted", "an acknowledgement from the payer", PAYMENT, UNEXPECTED, &["payment-accepted", "open"], |f, e| e.message = Message::PaymentAccepted { paid: f.paid() }),
    message("payment-replaced-by-close-request", "a wish to close that only the payee has here", PAYMENT, UNEXPECTED, &["close-request", "open"], |f, e| { let feerate = f.params().terms().feerate; e.message = Message::CloseRequest { feerate, nonce: None }; }).on(ecdsa),
    message("payment-replaced-by-joint-settlement", "a settlement with one signature that nobody asked for", PAYMENT, UNEXPECTED, &["joint-settlement", "open"], |f, e| { let feerate = f.params().terms().feerate; let nonce = super::closing::any_nonce(); e.message = f.join(f.paid(), feerate, &nonce); }).on(taproot),
];

/// A valid signature over this sum.
pub(super) fn pays(forger: &Forger, envelope: &mut Envelope, sum: Amount) {
    *paid(envelope) = sum;
    sign(forger, envelope);
}
