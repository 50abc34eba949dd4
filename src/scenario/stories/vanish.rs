//! Each side vanishes at each stage: its machine loses power instead of sending a message.
//!
//! Whatever the moment, the other side gets what it is owed without help, or nothing was at stake.

use crate::channel::{Construction, MessageKind, Protocol};
use crate::scenario::channel::Channel;
use crate::scenario::error::ScenarioError;
use crate::scenario::interceptor::{Effect, Rule};
use crate::scenario::openings::{bond, plan, step};
use crate::scenario::scenario::{Play, Scenario};
use crate::scenario::steps::{
    confirm, ended_together, ended_with_paid, nothing_on_chain, payee_settles, payer_refunds,
    refund_from_backup,
};
use crate::scenario::world::World;
use crate::transcript::{MessagePosition, Side};

/// How a channel ends when its side vanishes instead of sending a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The funding transaction was never broadcast.
    NothingOnChain,
    /// The funding transaction is confirmed, and the vanished payer still owns a refund.
    RefundFromBackup,
    /// The payer takes its refund.
    PayerRefunds,
    /// The payee redeems the last payment that it accepted.
    PayeeSettles,
    /// The payee redeems it at once, because the cooperative close that it asked for will not happen.
    PayeeSettlesAtOnce,
    /// The settlement was already broadcast.
    Settled,
}

impl Ending {
    const fn of(protocol: Protocol, who: Side, kind: MessageKind) -> Self {
        match (kind, protocol, who) {
            // The article's payer broadcasts first, then tells the payee.
            (MessageKind::Funding, Protocol::SteppedLocktime, _) => Self::RefundFromBackup,
            (MessageKind::Ready | MessageKind::PaymentRequest | MessageKind::PaymentAccepted, ..)
            | (MessageKind::CloseRequest, _, Side::Payee) => Self::PayerRefunds,
            (MessageKind::Payment | MessageKind::Settlement, ..)
            | (MessageKind::CloseRequest, _, Side::Payer) => Self::PayeeSettles,
            (MessageKind::CooperativeSettlement, ..) => Self::PayeeSettlesAtOnce,
            (MessageKind::Closed, ..) => Self::Settled,
            _ => Self::NothingOnChain,
        }
    }

    const fn summary(self) -> &'static str {
        match self {
            Self::NothingOnChain => "nothing is on chain, nothing is lost",
            Self::RefundFromBackup => "the refund that it kept pays everything back",
            Self::PayerRefunds => "the payer gets its refund at the lock, and not one block before",
            Self::PayeeSettles => "the payee settles with the last payment, in time",
            Self::PayeeSettlesAtOnce => "the payee settles at once with the last payment, alone",
            Self::Settled => "the settlement is with the network already",
        }
    }
}

/// Every message after the proposal, in the order of the conversation.
pub(crate) const STAGES: [(Side, MessageKind); 14] = [
    (Side::Payee, MessageKind::Accept),
    (Side::Payer, MessageKind::RefundRequest),
    (Side::Payee, MessageKind::RefundSignature),
    (Side::Payee, MessageKind::FundingRequest),
    (Side::Payer, MessageKind::Funding),
    (Side::Payee, MessageKind::Ready),
    (Side::Payee, MessageKind::PaymentRequest),
    (Side::Payer, MessageKind::Payment),
    (Side::Payee, MessageKind::PaymentAccepted),
    (Side::Payer, MessageKind::Settlement),
    (Side::Payer, MessageKind::CloseRequest),
    (Side::Payee, MessageKind::CloseRequest),
    (Side::Payer, MessageKind::CooperativeSettlement),
    (Side::Payee, MessageKind::Closed),
];

/// Whether it is worth a scenario: where the refund is signed in advance, the conversation is that of the first
/// construction, and one stage is enough to show that it ends the same way.
fn is_told(kind: MessageKind, construction: Construction) -> bool {
    let told_before = construction != Construction::P2sh && !construction.has_script_refund();
    !told_before || kind == MessageKind::PaymentAccepted
}

pub fn scenarios(protocol: Protocol, construction: Construction) -> impl Iterator<Item = Scenario> {
    STAGES
        .into_iter()
        .filter(move |(_, kind)| kind.is_said(protocol, construction) && is_told(*kind, construction))
        .map(move |(who, kind)| scenario(protocol, who, kind))
}

fn scenario(protocol: Protocol, who: Side, kind: MessageKind) -> Scenario {
    let name = format!("{who}-vanishes-before-{kind}");
    let ending = Ending::of(protocol, who, kind).summary();
    let summary = format!("The {who} vanishes instead of sending {kind}; {ending}");
    let play: Play = Box::new(move |world| Box::pin(vanish(world, protocol, who, kind)));
    Scenario::new(protocol, &name, &summary, play)
}

/// How many messages of this kind pass before the side vanishes: the first payment succeeds, the second does not.
pub(crate) const fn skip(protocol: Protocol, kind: MessageKind) -> u32 {
    match (kind, protocol) {
        // Example 7 begins with a payment of nothing.
        (MessageKind::Payment | MessageKind::PaymentAccepted, Protocol::Example7) => 2,
        (MessageKind::Payment | MessageKind::PaymentAccepted | MessageKind::PaymentRequest, _) => 1,
        _ => 0,
    }
}

async fn vanish(
    world: &mut World,
    protocol: Protocol,
    who: Side,
    kind: MessageKind,
) -> Result<(), ScenarioError> {
    let mut plan = plan(world, protocol)?;
    plan.rules.push(Rule {
        message: MessagePosition::new(who, kind, skip(protocol, kind)),
        effect: Effect::Vanish,
    });
    world.say(format!("The {who} is about to vanish instead of sending {kind}"));
    let channel = world.open(plan).await?;
    let ending = Ending::of(protocol, who, kind);
    if ending != Ending::NothingOnChain {
        world.was_accepted("funding")?;
        world.mine(3, &[&channel]).await?;
    }
    if kind > MessageKind::Ready {
        pay_until_gone(world, &channel, protocol, kind).await?;
    }
    end(world, &channel, ending, protocol).await
}

/// One successful payment, and what follows until a party vanishes.
async fn pay_until_gone(
    world: &World,
    channel: &Channel,
    protocol: Protocol,
    kind: MessageKind,
) -> Result<(), ScenarioError> {
    let step = step(protocol);
    world.say("One payment succeeds");
    if protocol == Protocol::Bond {
        bond::post(channel).await?;
    } else {
        channel.pay(step).await?;
    }
    match kind {
        MessageKind::PaymentRequest => {
            world.say("Before it asks for the second");
            channel.request(step).await
        }
        MessageKind::Payment | MessageKind::PaymentAccepted => {
            world.say("At the second");
            channel.pay_in_vain(step).await.map(drop)
        }
        _ => {
            world.say("At the close");
            channel.close(Side::Payer).await
        }
    }
}

async fn end(
    world: &World,
    channel: &Channel,
    ending: Ending,
    protocol: Protocol,
) -> Result<(), ScenarioError> {
    match ending {
        Ending::NothingOnChain => nothing_on_chain(world, channel),
        Ending::RefundFromBackup => refund_from_backup(world, channel).await,
        Ending::PayerRefunds => payer_refunds(world, channel).await,
        Ending::PayeeSettles => {
            payee_settles(world, channel, "payment-1").await?;
            confirm(world, channel, "payment-1").await?;
            ended_with_paid(channel, step(protocol))
        }
        Ending::PayeeSettlesAtOnce => {
            world.was_accepted("payment-1")?;
            confirm(world, channel, "payment-1").await?;
            ended_with_paid(channel, step(protocol))
        }
        Ending::Settled => {
            let again = protocol == Protocol::SteppedLocktime || world.construction().closes_with_one_key();
            let name = if again { "settlement" } else { "payment-1" };
            world.was_accepted(name)?;
            confirm(world, channel, name).await?;
            ended_together(channel, step(protocol), channel.params()?.terms().feerate)
        }
    }
}
