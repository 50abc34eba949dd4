//! What a payment takes of the memory is the same however many came before, and nothing of it stays.

#[path = "common/open.rs"]
mod open;

use allocation_counter::{measure, AllocationInfo};
use open::{envelope, open, payment};
use spilman::channel::{Construction, Event, Payee, Payer};

/// One payment with all that follows: signed, checked and kept, acknowledged.
fn pay(payer: &mut Payer, payee: &mut Payee) {
    let payment = payment(payer);
    let accepted = envelope(payee.apply(payment).expect("an honest payment")).expect("an answer");
    payer.apply(Event::Message(accepted)).expect("an honest answer");
}

#[test]
fn the_ten_thousandth_payment_allocates_what_the_second_did() {
    for construction in Construction::ALL {
        let (mut payer, mut payee) = open(construction);
        pay(&mut payer, &mut payee);
        let second = measure(|| pay(&mut payer, &mut payee));
        let between = measure(|| (3..10_000).for_each(|_| pay(&mut payer, &mut payee)));
        let last = measure(|| pay(&mut payer, &mut payee));

        assert_eq!(second, last, "{construction}: payment 2, and payment 10,000");
        assert_eq!(payee.paid().to_sat(), 10_000, "{construction}");
        assert_stays_nothing(construction, &between);
        // The lists of actions of the three steps.
        assert_eq!(last.count_total, 3, "{construction}: {last:?}");
    }
}

fn assert_stays_nothing(construction: Construction, info: &AllocationInfo) {
    assert_eq!(
        (info.count_current, info.bytes_current),
        (0, 0),
        "{construction}: what stays of ten thousand payments"
    );
}
