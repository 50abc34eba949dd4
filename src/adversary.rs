//! Messages that a dishonest side sends, each one change away from an honest one, with the reason for which an honest
//! side refuses it.
//!
//! A wrong amount carries a valid signature over that amount, a wrong signature is over a transaction that differs in one
//! place: a receiver that refuses such a message for another reason did not see what is wrong with it.
//!
//! The conversation in which a [`Forgery`] takes an honest message's place is this one. Both sides have the default
//! [`Limits`](crate::channel::Limits), the terms lie within them, one payment adds at least 2 satoshi
//! ([`minimum_payment`](crate::channel::Terms::minimum_payment)), and the funding transaction spends a witness. There are
//! three payments at least (of which the first one in `example-7` is of nothing), each of them acknowledged before the
//! next, and the third leaves both sides more than dust; then the payer closes.
//!
//! ```
//! use spilman::channel::{Construction, MessageKind, Protocol, RefusalReason};
//! use spilman::adversary::Forgery;
//! use spilman::transcript::{MessagePosition, Side};
//!
//! let falls = Forgery::all().iter().find(|forgery| forgery.id == "payment-falls").expect("it is in the catalogue");
//! assert!(falls.applies(Protocol::Example7, Construction::Taproot));
//! assert_eq!(falls.position, MessagePosition::new(Side::Payer, MessageKind::Payment, 2));
//! assert_eq!(falls.reason, RefusalReason::PaidDecreased);
//! ```

mod acknowledging;
mod bytes;
mod change;
mod closing;
mod fields;
mod forger;
mod garbled;
pub mod oracle;
mod paying;
mod proposal;
mod protecting;
mod replies;
mod signing;
mod unpublished;
mod words;

use std::fmt;
use std::sync::LazyLock;

use crate::channel::{Construction, Envelope, Protocol, RefusalReason};
use crate::transcript::MessagePosition;
use crate::wire;

pub use forger::Forger;

/// The label of a key of neither party: its SHA-256 is the secret key.
pub(crate) const STRANGER: &str = "spilman/malice/stranger";

/// A dishonest message, and why it is refused.
#[derive(Clone, Copy)]
pub struct Forgery {
    /// Unique. That of a published one is never used again for another.
    pub id: &'static str,
    /// What is wrong, in one line.
    pub comment: &'static str,
    /// The honest message in whose place it is sent. Its sender is dishonest.
    pub position: MessagePosition,
    /// Why the other side refuses it.
    pub reason: RefusalReason,
    words: &'static [&'static str],
    applies: fn(Protocol, Construction) -> bool,
    forge: Forge,
}

/// How an honest message becomes a dishonest one.
#[derive(Clone, Copy)]
enum Forge {
    Message(fn(&Forger, &mut Envelope)),
    /// What no [`Envelope`] can hold.
    Bytes(fn(&mut Vec<u8>)),
}

impl Forgery {
    /// Those that are published: fixtures and `conform` have each of them, in this order.
    #[must_use]
    pub fn all() -> &'static [Self] {
        static ALL: LazyLock<Vec<Forgery>> = LazyLock::new(|| {
            let parts = [
                proposal::ALL,
                protecting::ALL,
                paying::ALL,
                signing::ALL,
                closing::ALL,
                replies::ALL,
                acknowledging::ALL,
                garbled::ALL,
                fields::ALL,
            ];
            parts.concat().concat()
        });
        &ALL
    }

    /// The others, which may change.
    #[must_use]
    pub const fn unpublished() -> &'static [Self] {
        unpublished::ALL
    }

    /// Whether a conversation of this protocol on this construction has the message, and the change makes it wrong there.
    pub fn applies(&self, protocol: Protocol, construction: Construction) -> bool {
        construction.runs(protocol)
            && self.position.kind.is_said(protocol, construction)
            && (self.applies)(protocol, construction)
    }

    /// The message's bytes without frame header, in place of the honest one. May be longer than [`wire::MAX_MESSAGE`].
    ///
    /// # Panics
    /// If the forger has not seen the conversation from its first message on.
    pub fn forge(&self, forger: &Forger, honest: &Envelope) -> Vec<u8> {
        match self.forge {
            Forge::Message(change) => {
                let mut envelope = honest.clone();
                change(forger, &mut envelope);
                wire::encode(&envelope)
            }
            Forge::Bytes(change) => {
                let mut bytes = wire::encode(honest);
                change(&mut bytes);
                bytes
            }
        }
    }

    /// What the refusal has to say besides its reason: the values at fault.
    ///
    /// # Panics
    /// If the forger has not seen the conversation from its first message on.
    pub fn words(&self, forger: &Forger) -> Vec<String> {
        self.words
            .iter()
            .map(|word| words::filled(word, forger))
            .collect()
    }

    const fn on(mut self, applies: fn(Protocol, Construction) -> bool) -> Self {
        self.applies = applies;
        self
    }
}

impl fmt::Debug for Forgery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Forgery({})", self.id)
    }
}

const fn message(
    id: &'static str,
    comment: &'static str,
    position: MessagePosition,
    reason: RefusalReason,
    words: &'static [&'static str],
    change: fn(&Forger, &mut Envelope),
) -> Forgery {
    Forgery {
        id,
        comment,
        position,
        reason,
        words,
        applies: |_, _| true,
        forge: Forge::Message(change),
    }
}

/// What is no message at all.
const fn garbled(
    id: &'static str,
    comment: &'static str,
    position: MessagePosition,
    words: &'static [&'static str],
    change: fn(&mut Vec<u8>),
) -> Forgery {
    Forgery {
        id,
        comment,
        position,
        reason: RefusalReason::Malformed,
        words,
        applies: |_, _| true,
        forge: Forge::Bytes(change),
    }
}

// Where an entry makes sense.

fn stepped(protocol: Protocol, _: Construction) -> bool {
    protocol == Protocol::SteppedLocktime
}

fn unlocked(protocol: Protocol, _: Construction) -> bool {
    protocol != Protocol::SteppedLocktime
}

fn bond(protocol: Protocol, _: Construction) -> bool {
    protocol == Protocol::Bond
}

fn never_asked(protocol: Protocol, _: Construction) -> bool {
    protocol != Protocol::Bond
}

/// The first payment is not of nothing.
fn paid_from_the_start(protocol: Protocol, _: Construction) -> bool {
    protocol != Protocol::Example7
}

fn co_signed(_: Protocol, construction: Construction) -> bool {
    !construction.has_script_refund()
}

fn refund_in_script(_: Protocol, construction: Construction) -> bool {
    construction.has_script_refund()
}

fn relative(_: Protocol, construction: Construction) -> bool {
    construction.has_relative_lock()
}

fn absolute(_: Protocol, construction: Construction) -> bool {
    !construction.has_relative_lock()
}

fn ecdsa(_: Protocol, construction: Construction) -> bool {
    !construction.closes_with_one_key()
}

fn taproot(_: Protocol, construction: Construction) -> bool {
    construction.closes_with_one_key()
}
