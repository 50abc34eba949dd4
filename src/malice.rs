//! Messages that a dishonest side sends, each one change away from an honest one.

use bitcoin::Amount;

use crate::channel::{ChannelId, ChannelKey, Construction, Envelope, Kind, Message, Protocol, Reason};
use crate::transcript::Side;
use crate::wire;

/// A dishonest message, and why it is refused.
#[derive(Debug)]
pub struct Malice {
    /// Unique.
    pub id: &'static str,
    /// What is wrong, in one line.
    pub comment: &'static str,
    /// Who is dishonest.
    pub from: Side,
    /// The kind of the honest message in whose place it is sent.
    pub kind: Kind,
    /// How many honest messages of that kind that side sends before.
    pub skip: u32,
    /// Why the other side refuses it.
    pub reason: Reason,
    forge: fn(&Envelope) -> Vec<u8>,
}

/// What the dishonest side knows.
#[derive(Debug)]
pub struct Forger {
    _key: ChannelKey,
}

impl Forger {
    /// With its own key.
    #[must_use]
    pub fn new(key: ChannelKey) -> Self {
        Self { _key: key }
    }

    /// Every message of the conversation before the one to be forged.
    pub fn saw(&mut self, _from: Side, _envelope: &Envelope) {}
}

fn elsewhere(honest: &Envelope) -> Vec<u8> {
    wire::encode(&Envelope {
        channel: ChannelId(77),
        message: honest.message.clone(),
    })
}

impl Malice {
    /// All of them.
    #[must_use]
    pub fn all() -> &'static [Self] {
        const ALL: &[Malice] = &[
            Malice {
                id: "payment-falls",
                comment: "less than before",
                from: Side::Payer,
                kind: Kind::Payment,
                skip: 2,
                reason: Reason::PaidDecreased,
                forge: |honest| {
                    let mut envelope = honest.clone();
                    if let Message::Payment { paid, .. } = &mut envelope.message {
                        *paid = Amount::from_sat(1_000);
                    }
                    wire::encode(&envelope)
                },
            },
            Malice {
                id: "payment-elsewhere",
                comment: "another channel",
                from: Side::Payer,
                kind: Kind::Payment,
                skip: 2,
                reason: Reason::WrongChannel,
                forge: elsewhere,
            },
            Malice {
                id: "funding-oversized",
                comment: "a frame of 65,535 bytes",
                from: Side::Payer,
                kind: Kind::Funding,
                skip: 0,
                reason: Reason::Malformed,
                forge: |_| vec![0; 65_535],
            },
            Malice {
                id: "accept-garbled",
                comment: "trailing byte",
                from: Side::Payee,
                kind: Kind::Accept,
                skip: 0,
                reason: Reason::Malformed,
                forge: |honest| [wire::encode(honest), vec![0]].concat(),
            },
            Malice {
                id: "payment-accepted-elsewhere",
                comment: "another channel",
                from: Side::Payee,
                kind: Kind::PaymentAccepted,
                skip: 2,
                reason: Reason::WrongChannel,
                forge: elsewhere,
            },
        ];
        ALL
    }

    /// Whether a conversation of this protocol on this construction has the message.
    #[must_use]
    pub fn applies(&self, _protocol: Protocol, _construction: Construction) -> bool {
        true
    }

    /// The message's bytes without frame header, in place of the honest one.
    #[must_use]
    pub fn forge(&self, _forger: &Forger, honest: &Envelope) -> Vec<u8> {
        (self.forge)(honest)
    }
}
