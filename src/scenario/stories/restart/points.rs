use std::fmt;

use At::{Broadcast, Message};
use MessageKind as Kind;
use Moment::{After, Before};
use Side::{Payee, Payer};

use crate::channel::{Construction, MessageKind, Protocol, SpendRole};
use crate::scenario::interceptor::{Effect, Rule};
use crate::scenario::restarts::Armed;
use crate::transcript::{MessagePosition, Side};

/// What a side loses power at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A message of this side.
    Message(Side, MessageKind),
    Broadcast(SpendRole),
}

/// When a side loses power. It is before a message if the message never arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

/// When a side loses power, at what, and which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point(pub Side, pub Moment, pub At);

/// Every point that the channel survives, in the order of the conversation. A side that loses power after a message that it
/// answers does so before the answer or after it. What is before these points is not stored yet.
#[rustfmt::skip]
pub const POINTS: &[Point] = &[
    Point(Payer, After,  Message(Payer, Kind::Funding)),
    Point(Payee, Before, Broadcast(SpendRole::Funding)),
    Point(Payee, After,  Broadcast(SpendRole::Funding)),
    Point(Payer, Before, Message(Payee, Kind::Ready)),
    Point(Payer, After,  Message(Payee, Kind::Ready)),
    Point(Payee, Before, Message(Payee, Kind::Ready)),
    Point(Payee, After,  Message(Payee, Kind::Ready)),
    Point(Payer, Before, Message(Payee, Kind::PaymentRequest)),
    Point(Payer, After,  Message(Payee, Kind::PaymentRequest)),
    Point(Payee, Before, Message(Payee, Kind::PaymentRequest)),
    Point(Payee, After,  Message(Payee, Kind::PaymentRequest)),
    Point(Payer, Before, Message(Payer, Kind::Payment)),
    Point(Payer, After,  Message(Payer, Kind::Payment)),
    Point(Payee, Before, Message(Payer, Kind::Payment)),
    Point(Payer, Before, Message(Payee, Kind::PaymentAccepted)),
    Point(Payer, After,  Message(Payee, Kind::PaymentAccepted)),
    Point(Payee, Before, Message(Payee, Kind::PaymentAccepted)),
    Point(Payee, After,  Message(Payee, Kind::PaymentAccepted)),
    Point(Payer, Before, Message(Payer, Kind::Settlement)),
    Point(Payer, After,  Message(Payer, Kind::Settlement)),
    Point(Payee, Before, Message(Payer, Kind::Settlement)),
    Point(Payer, Before, Message(Payer, Kind::CloseRequest)),
    Point(Payee, Before, Message(Payer, Kind::CloseRequest)),
    Point(Payee, Before, Message(Payee, Kind::CloseRequest)),
    Point(Payee, After,  Message(Payee, Kind::CloseRequest)),
    Point(Payer, After,  Message(Payer, Kind::CooperativeSettlement)),
    Point(Payee, Before, Message(Payer, Kind::CooperativeSettlement)),
    Point(Payee, Before, Broadcast(SpendRole::Settlement)),
    Point(Payee, After,  Broadcast(SpendRole::Settlement)),
    Point(Payer, Before, Message(Payee, Kind::Closed)),
    Point(Payer, After,  Message(Payee, Kind::Closed)),
    Point(Payee, After,  Message(Payee, Kind::Closed)),
];

/// The payee has asked for its part of one signature, and a payer without power does not answer: the payee settles at once
/// with its latest payment.
#[rustfmt::skip]
pub const ENDS_AT_ONCE: &[Point] = &[
    Point(Payer, After,  Message(Payer, Kind::CloseRequest)),
    Point(Payer, Before, Message(Payee, Kind::CloseRequest)),
    Point(Payer, Before, Message(Payer, Kind::CooperativeSettlement)),
];

impl Point {
    pub fn is_reached(self, protocol: Protocol, construction: Construction) -> bool {
        match self.2 {
            Message(_, kind) => kind.is_said(protocol, construction),
            Broadcast(role) => role != SpendRole::Funding || protocol != Protocol::SteppedLocktime,
        }
    }

    /// What makes it happen. Without it, the side loses power once both are idle.
    pub fn arm(self) -> Armed {
        let Self(side, moment, at) = self;
        let at_message = |from, kind, effect| {
            let message = MessagePosition::new(from, kind, 0);
            Armed {
                rules: vec![Rule { message, effect }],
                cut_at_broadcast: None,
            }
        };
        match (moment, at) {
            // A side that restarted meanwhile is told in another way.
            (After, Message(_, Kind::Closed)) => Armed::default(),
            (Before, Message(from, kind)) if from == side => at_message(from, kind, Effect::Vanish),
            (Before, Message(from, kind)) => at_message(from, kind, Effect::VanishReceiver),
            (After, Message(from, kind)) if from == side => at_message(from, kind, Effect::VanishSender),
            (Before, Broadcast(_)) => Armed {
                rules: Vec::new(),
                cut_at_broadcast: Some(side),
            },
            // The payee tells the payer as soon as the node has answered.
            (After, Broadcast(SpendRole::Settlement)) => at_message(side, Kind::Closed, Effect::Vanish),
            (After, _) => Armed::default(),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_, moment, at) = self;
        let moment = if *moment == Before { "before" } else { "after" };
        match at {
            Message(from, Kind::CloseRequest) => write!(f, "{moment}-{from}s-close-request"),
            Message(_, kind) => write!(f, "{moment}-{kind}"),
            Broadcast(role) => write!(f, "{moment}-broadcast-of-{}", role.name()),
        }
    }
}
