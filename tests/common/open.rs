//! An open channel on any construction, without a node, a connection or a log: the two parties, ready to pay.

use bitcoin::Amount;
use spilman::channel::{Capacity, Construction, Event, Payee, Payer, Protocol};

use super::pair::{sent, Case, Pair};

/// The sum of one payment: the largest channel has room for billions of them.
pub const STEP: Amount = Amount::ONE_SAT;

/// Example 7 with the largest capacity, after its payment of nothing.
pub fn open(construction: Construction) -> (Payer, Payee) {
    let mut case = Case::new(Protocol::Example7).on(construction);
    case.terms.capacity = Capacity::MAX;
    let Pair { payer, payee, .. } = case.open();
    (payer, payee)
}

/// The payer's next payment, for the payee.
pub fn payment(payer: &mut Payer) -> Event {
    let actions = payer.apply(Event::Pay(STEP)).unwrap();
    Event::Message(sent(actions).next().expect("a payment is a message"))
}
