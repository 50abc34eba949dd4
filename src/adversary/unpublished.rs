//! Forgeries that no fixture has and `conform` does not play: boundaries and neighbours of those that are published.

use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate};

use super::acknowledging::ACCEPTED;
use super::change::{compact, paid, terms, tx, SAT};
use super::closing::any_nonce;
use super::paying::pays;
use super::proposal::{capacity, seconds, OPEN};
use super::protecting::REFUND;
use super::replies::{ACCEPT, SIGNED};
use super::{bond, ecdsa, message, refund_in_script, relative, stepped, Forger, Forgery};
use crate::channel::{
    ClosingMargin, Construction, Envelope, Message, MessageKind, Protocol, RefusalReason, UnverifiedSignature,
};
use crate::transcript::{MessagePosition, Side};

const PAYMENT: MessagePosition = super::paying::PAYMENT;
const SECOND_PAYMENT: MessagePosition = MessagePosition::new(Side::Payer, MessageKind::Payment, 1);
const OUT: RefusalReason = RefusalReason::TermsOutOfLimits;
const UNEXPECTED: RefusalReason = RefusalReason::UnexpectedMessage;

#[rustfmt::skip]
pub(super) const ALL: &[Forgery] = &[
    message("open-relative-time-far", "a refund 4,726 times 512 seconds after the confirmation", OPEN, OUT, &["2419712 seconds after funding", "43200 to 2419200"], |_, e| terms(e).refund_lock = seconds(4_726 * 512)).on(relative),
    message("open-protocol-stepped-locktime", "the article's payments with a refund in the script", OPEN, OUT, &["example-7", "stepped-locktime"], |_, e| terms(e).protocol = Protocol::SteppedLocktime).on(refund_in_script),
    message("open-no-room-by-a-block", "the closing margin begins when the channel can open", OPEN, OUT, &["144 blocks ahead", "take 144"], |_, e| terms(e).closing_margin = ClosingMargin::from_blocks(141)).on(example7),
    message("open-payment-lock-a-block-late", "the payments' lock is a block less than the margin before the refund's", OPEN, OUT, &["height 309", "36 blocks", "height 344"], |_, e| terms(e).payment_expiry = terms(e).refund_lock.absolute().map(|lock| lock.earlier(ClosingMargin::from_blocks(35)))).on(stepped),
    message("open-reserve-and-minimum", "reserve and least payment take all of the capacity", OPEN, RefusalReason::BadParams, &["capacity of 0.00100000 BTC is too small"], |_, e| { terms(e).capacity = capacity(100_000); terms(e).reserve = SAT * 50_000; terms(e).minimum_payment = SAT * 50_000; }),
    message("open-fee-eats-capacity", "the fee is more than the capacity", OPEN, RefusalReason::BadParams, &["capacity of 0.00010000 BTC is too small"], |_, e| { terms(e).capacity = capacity(10_000); terms(e).feerate = FeeRate::from_sat_per_kwu(20_000); }),
    message("accept-replaced-by-refund-signature", "a signature before the keys are known", ACCEPT, UNEXPECTED, &["refund-signature", "proposing"], |_, e| e.message = refund_signature()),
    message("refund-without-fee", "a refund of the whole capacity", REFUND, RefusalReason::RefundTemplate, &["{capacity}", "{refund}"], |f, e| tx(e).output[0].value = capacity_of(f)),
    message("refund-version-1", "version 1, which has no relative locks", REFUND, RefusalReason::RefundTemplate, &["version 1", "expected 3"], |_, e| tx(e).version = Version::ONE),
    message("refund-signature-changed", "one bit of s is another", SIGNED, RefusalReason::SignatureWrong, &["was not made by key"], |_, e| compact(e, |b| b[40] ^= 1)),
    message("refund-signature-replaced-by-ready", "payments count before the refund is signed", SIGNED, UNEXPECTED, &["ready", "signing the refund"], |_, e| e.message = Message::Ready),
    message("payment-of-nothing-again", "the first payment, which is of nothing, once more", SECOND_PAYMENT, RefusalReason::PaidRepeated, &["repeats", "{paid}"], |f, e| pays(f, e, Amount::ZERO)).on(example7),
    message("payment-replaced-by-request", "a request from the payer", PAYMENT, UNEXPECTED, &["payment-request", "open"], |_, e| { let paid = *paid(e); e.message = Message::PaymentRequest { paid }; }).on(bond),
    message("payment-replaced-by-nonce", "a nonce from the payer where two sign", PAYMENT, UNEXPECTED, &["close-request", "open"], |f, e| e.message = Message::CloseRequest { feerate: f.params().terms().feerate, nonce: Some(any_nonce()) }).on(ecdsa),
    message("accepted-less", "acknowledges a satoshi less than was acknowledged before", ACCEPTED, RefusalReason::AcknowledgedUnsent, &["acknowledged", "{paid}"], |f, e| { let before = f.said().find_map(|said| match said { Message::PaymentAccepted { paid } => Some(*paid), _ => None }); *paid(e) = before.expect("two payments were acknowledged") - SAT; }),
    message("accepted-replaced-by-settlement", "a settlement from the payee", ACCEPTED, UNEXPECTED, &["settlement", "open"], |f, e| e.message = Message::Settlement { paid: f.paid(), feerate: f.params().terms().feerate, signature: UnverifiedSignature::from_compact([1; 64]) }),
    message("accepted-replaced-by-funding", "the funding transaction from the payee", ACCEPTED, UNEXPECTED, &["funding", "open"], |f, e| said_before(f, e, MessageKind::Funding)),
    message("accepted-replaced-by-accept", "the payee's key once more", ACCEPTED, UNEXPECTED, &["accept", "open"], |f, e| said_before(f, e, MessageKind::Accept)),
];

fn example7(protocol: Protocol, _: Construction) -> bool {
    protocol == Protocol::Example7
}

const fn refund_signature() -> Message {
    Message::RefundSignature {
        signature: UnverifiedSignature::from_compact([1; 64]),
    }
}

fn capacity_of(forger: &Forger) -> Amount {
    forger.params().terms().capacity.to_amount()
}

fn said_before(forger: &Forger, envelope: &mut Envelope, kind: MessageKind) {
    let said = forger.said().find(|message| message.kind() == kind);
    envelope.message = said.expect("every conversation has one").clone();
}
