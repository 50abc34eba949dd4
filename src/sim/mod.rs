//! Both parties of a channel in memory, with a network in between that may lose, change or delay what they say, and a
//! chain that is what the caller says it is. No I/O, no clock, no randomness: the same calls give the same bytes.
//!
//! [`Opening`] walks both sides through the opening, one typed step after the other. What comes out is a [`Pair`]: it
//! applies an [`Event`](crate::channel::Event) to one side and carries out every [`Action`](crate::channel::Action) that
//! follows on both, all at once ([`Pair::apply`]) or one at a time ([`Pair::step`]). A [`Network`] decides what becomes
//! of each message and each broadcast.
//!
//! ```
//! use bitcoin::Amount;
//! use spilman::channel::{Construction, Envelope, Event, MessageKind, Protocol};
//! use spilman::sim::{placeholder_funding, Network, Pair, PairSetup};
//! use spilman::transcript::Side;
//!
//! /// Loses every acknowledgement.
//! struct Lossy;
//!
//! impl Network for Lossy {
//!     type Error = std::convert::Infallible;
//!
//!     fn deliver(&mut self, _from: Side, envelope: Envelope) -> Result<Option<Envelope>, Self::Error> {
//!         Ok(Some(envelope).filter(|envelope| envelope.message.kind() != MessageKind::PaymentAccepted))
//!     }
//! }
//!
//! let setup = PairSetup::new(Protocol::Example7, Construction::Taproot);
//! let mut pair = Pair::open(setup, Lossy, placeholder_funding)?;
//! pair.apply(Side::Payer, Event::Pay(Amount::from_sat(5_000)))?;
//! assert_eq!(pair.payee.paid(), Amount::from_sat(5_000));
//! assert_eq!(pair.payer.acknowledged(), Amount::ZERO);
//!
//! // The payee dies before it has asked for a cooperative close, and settles alone when it is back.
//! let actions = pair.tell(Side::Payee, Event::Close)?;
//! pair.queue(Side::Payee, actions);
//! pair.crash(Side::Payee);
//! pair.apply(Side::Payee, Event::PeerGone)?;
//! assert!(pair.payee.settlement().is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod network;
mod opening;
mod pair;
mod setup;

pub use error::SimError;
pub use network::{BroadcastAnswer, Instant, Network};
pub use opening::{AtFunding, AtHandover, AtProposal, AtRefund, Opening};
pub use pair::Pair;
pub use setup::{placeholder_funding, sim_key, sim_payout, sim_tip, PairSetup, PartySetup};
