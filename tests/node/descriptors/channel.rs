//! A channel on any construction, opened by two parties in one process on a real node.

use bitcoin::{Address, Amount, Network, Transaction};
use spilman::channel::{Action, Construction, Event, LockKind, Protocol};
use spilman::regtest::Regtest;

use crate::common::cast::Cast;
use crate::common::channel::Channel;

pub const CAPACITY: Amount = Amount::from_sat(1_000_000);
pub const PAID: Amount = Amount::from_sat(250_000);

/// A channel in which [`PAID`] has been paid.
pub fn open(chain: &Regtest, construction: Construction) -> Channel {
    locked(chain, construction, LockKind::Height)
}

/// The same with a lock of this kind: a day, absolute or relative as the construction has it.
pub fn locked(chain: &Regtest, construction: Construction, kind: LockKind) -> Channel {
    let label = format!("descriptors/{construction}");
    let cast = Cast::new(chain, &label, Protocol::Example7, CAPACITY).on(construction);
    let mut duo = cast.locked(chain, kind).open(chain);
    duo.pay(PAID);
    duo
}

/// The payee closes; what it would broadcast stays here.
pub fn close(channel: &mut Channel) -> Transaction {
    let mut said = channel.pair.payee.apply(Event::Close).unwrap();
    let mut to_payer = true;
    while let Some(Action::Send(envelope)) = said.first() {
        let event = Event::Message(envelope.clone());
        let party = if to_payer {
            channel.pair.payer.apply(event)
        } else {
            channel.pair.payee.apply(event)
        };
        said = party.unwrap();
        to_payer = !to_payer;
    }
    let settlement = channel.pair.payee.settlement();
    settlement.expect("the payer answers at once").tx().clone()
}

/// With its checksum.
pub fn descriptor_of(channel: &Channel) -> String {
    channel.params().descriptor().to_string()
}

pub fn address_of(channel: &Channel) -> String {
    let script = channel.params().funding_script();
    let address = Address::from_script(&script, Network::Regtest);
    address.expect("every construction has an address").to_string()
}
