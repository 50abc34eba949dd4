//! A channel on any construction, opened by two parties in one process on a real node.

use bitcoin::{Address, Amount, Network, Transaction};
use spilman::channel::{Action, Construction, Event, LockKind, Protocol};
use spilman::regtest::Regtest;
use spilman::transcript::Side;

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
    let mut said = channel.pair.tell(Side::Payee, Event::Close).unwrap();
    let mut by = Side::Payee;
    while let Some(Action::Send(envelope)) = said.first() {
        by = by.peer();
        let heard = Event::Message(envelope.clone());
        said = channel.pair.tell(by, heard).unwrap();
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
