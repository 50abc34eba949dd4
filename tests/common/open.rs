//! An open channel on any construction, without a node, a connection or a log: the two parties, ready to pay.

use bitcoin::Amount;
use spilman::channel::{Action, Capacity, Construction, Envelope, Event, Payee, Payer, Protocol};

use super::pair::{Case, Pair};

/// The sum of one payment: the largest channel has room for billions of them.
pub const STEP: Amount = Amount::ONE_SAT;

/// Example 7 with the largest capacity, after its payment of nothing.
pub fn open(construction: Construction) -> (Payer, Payee) {
    let mut case = Case::new(Protocol::Example7).on(construction);
    case.terms.capacity = Capacity::MAX;
    let Pair { payer, payee, .. } = case.open();
    (payer, payee)
}

/// What a party says, among what it does.
pub fn envelope(actions: Vec<Action>) -> Option<Envelope> {
    actions.into_iter().find_map(|action| match action {
        Action::Send(envelope) => Some(envelope),
        _ => None,
    })
}

/// The payer's next payment, for the payee.
pub fn payment(payer: &mut Payer) -> Event {
    let actions = payer.apply(Event::Pay(STEP)).unwrap();
    Event::Message(envelope(actions).expect("a payment is a message"))
}
