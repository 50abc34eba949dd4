//! Each side restarts from its file, before and after every message and every broadcast.
//!
//! One conversation has all the points at which a side can lose power. A scenario names some of them.

mod points;

use bitcoin::Amount;

use crate::channel::{Construction, MessageKind, Protocol, RefusalReason, SpendRole, Stage};
use crate::scenario::channel::Channel;
use crate::scenario::error::{expect, ScenarioError};
use crate::scenario::openings::{plan, step};
use crate::scenario::restarts::Armed;
use crate::scenario::scenario::{Play, Scenario};
use crate::scenario::steps::{
    confirm, ended_together, ended_with_paid, payer_refunds, refund_lock, refund_waits,
};
use crate::scenario::world::World;
use crate::service::ResumeError;
use crate::transcript::Side;

use points::{At, Moment, Point, ENDS_AT_ONCE, POINTS};
use At::{Broadcast, Message};
use MessageKind as Kind;
use Moment::{After, Before};
use Side::{Payee, Payer};

/// The same conversation without a restart.
const UNDISTURBED: &str = "undisturbed";

/// The conversation with restarts, and without one for comparison. Where the refund is signed in advance, one construction
/// is enough.
pub fn scenarios(protocol: Protocol, construction: Construction) -> Vec<Scenario> {
    if construction != Construction::P2sh && !construction.has_script_refund() {
        return Vec::new();
    }
    let reached = |points: &[Point]| {
        let points = points.iter().copied();
        let points = points.filter(|point| point.is_reached(protocol, construction));
        points.collect::<Vec<_>>()
    };
    let mut scenarios = vec![scenario(
        protocol,
        UNDISTURBED,
        "Four payments and a close without a restart; the stories that restart leave the same transactions",
        Vec::new(),
    )];
    let except = if construction.closes_with_one_key() {
        ", except the signature of the cooperative close"
    } else {
        ""
    };
    for (who, moment) in [(Payer, Before), (Payer, After), (Payee, Before), (Payee, After)] {
        let when = if moment == Before { "before" } else { "after" };
        let name = format!("{who}-restarts-{when}-each-message");
        let summary = format!(
            "The {who} restarts from its file {when} each message and each broadcast, and resumes; every transaction is \
             that of {UNDISTURBED}{except}"
        );
        let mut points = reached(POINTS);
        points.retain(|point| (point.0, point.1) == (who, moment));
        scenarios.push(scenario(protocol, &name, &summary, points).like(UNDISTURBED));
    }
    for point in reached(ENDS_AT_ONCE) {
        let name = format!("{}-restarts-{point}", point.0);
        let summary = "The payer restarts while the payee waits for its part of one signature: the payee has settled with \
                       its latest payment";
        scenarios.push(scenario(protocol, &name, summary, vec![point]).like(UNDISTURBED));
    }
    scenarios.extend(payer_alone(protocol));
    scenarios
}

/// Where the payer restarts, and its payee does not know the channel, or is gone.
fn payer_alone(protocol: Protocol) -> [Scenario; 2] {
    let play: Play = Box::new(move |world| Box::pin(before_funding(world, protocol)));
    let summary =
        "The payer restarts instead of sending funding: the payee does not know the channel, and the payer \
                   refunds at the lock";
    let unknown = Scenario::new(protocol, "payer-restarts-before-funding", summary, play);
    let play: Play = Box::new(move |world| Box::pin(around_refund(world, protocol)));
    let summary =
        "The payee is gone; the payer restarts from its file before and after it broadcasts the refund";
    let around = Scenario::new(protocol, "payer-restarts-around-refund", summary, play);
    // The funding transaction and the refund are the same, too.
    [unknown, around].map(|scenario| scenario.like(UNDISTURBED))
}

fn scenario(protocol: Protocol, name: &str, summary: &str, points: Vec<Point>) -> Scenario {
    let play: Play = Box::new(move |world| {
        let conversation = Conversation {
            world,
            protocol,
            points: points.clone(),
            ends_at_once: points.iter().any(|point| ENDS_AT_ONCE.contains(point)),
        };
        Box::pin(conversation.play())
    });
    Scenario::new(protocol, name, summary, play)
}

/// The payments, each with what a side can lose power at.
const PAYMENTS: [Option<MessageKind>; 4] = [
    Some(Kind::PaymentRequest),
    Some(Kind::Payment),
    Some(Kind::PaymentAccepted),
    None,
];

struct Conversation<'w> {
    world: &'w World,
    protocol: Protocol,
    /// The points that are still to come.
    points: Vec<Point>,
    /// The payee settles with its latest payment, alone.
    ends_at_once: bool,
}

impl Conversation<'_> {
    async fn play(mut self) -> Result<(), ScenarioError> {
        let mut channel = self.open().await?;
        for (payment, kind) in (1..).zip(PAYMENTS) {
            self.pay(&mut channel, payment, kind).await?;
        }
        self.close(&mut channel).await?;
        self.end(&channel).await
    }

    /// Takes the next point if it is at this.
    fn take(&mut self, is_here: impl Fn(At) -> bool) -> Option<Point> {
        let is_next = self.points.first().is_some_and(|point| is_here(point.2));
        is_next.then(|| self.points.remove(0))
    }

    async fn open(&mut self) -> Result<Channel, ScenarioError> {
        let mut plan = plan(self.world, self.protocol)?;
        plan.stored = true;
        let point = self.take(|at| matches!(at, Message(_, Kind::Funding) | Broadcast(SpendRole::Funding)));
        let Armed {
            rules,
            cut_at_broadcast,
        } = point.map(Point::arm).unwrap_or_default();
        (plan.rules, plan.cut_at_broadcast) = (rules, cut_at_broadcast);
        self.world
            .say("Both sides open the channel, and each stores it in its file before the money is locked");
        let mut channel = self.world.open(plan).await?;
        self.survive(&mut channel, point, Amount::ZERO).await?;
        self.world.was_accepted("funding")?;
        refund_waits(self.world)?;
        self.world
            .say("The funding transaction confirms, and payments count");
        let point = self.take(|at| matches!(at, Message(_, Kind::Ready)));
        self.arm(&channel, point);
        self.world.mine(3, &[&channel]).await?;
        self.survive(&mut channel, point, Amount::ZERO).await?;
        channel.stage_is(Payer, Stage::Open)?;
        channel.stage_is(Payee, Stage::Open)?;
        Ok(channel)
    }

    async fn pay(
        &mut self,
        channel: &mut Channel,
        payment: u64,
        kind: Option<MessageKind>,
    ) -> Result<(), ScenarioError> {
        self.world.say(format!("Payment {payment}"));
        let (before, total) = (step(self.protocol) * (payment - 1), step(self.protocol) * payment);
        let point = self.take(|at| matches!(at, Message(_, found) if Some(found) == kind));
        self.arm(channel, point);
        if let Some(point) = self.request(channel, point, before).await? {
            channel.try_to_pay(total).await?;
            let never_came = point == Point(Payee, Before, Message(Payer, Kind::Payment));
            self.survive(channel, Some(point), if never_came { before } else { total })
                .await?;
            // Whatever was lost, both sides found out when they resumed.
            channel.holds(Payer, total)?;
            channel.holds(Payee, total)?;
        }
        channel.pay_up_to(total).await
    }

    /// Lets the payee ask for a payment, where it does. Returns the point, unless it has passed.
    async fn request(
        &self,
        channel: &mut Channel,
        point: Option<Point>,
        held: Amount,
    ) -> Result<Option<Point>, ScenarioError> {
        if self.protocol != Protocol::Bond {
            return Ok(point);
        }
        let amount = step(self.protocol);
        channel.request(amount).await?;
        let Some(Point(_, moment, Message(_, Kind::PaymentRequest))) = point else {
            return Ok(point);
        };
        self.survive(channel, point, held).await?;
        if moment == Before {
            // Nothing is owed yet, so no side stores a request.
            channel.request(amount).await?;
        }
        Ok(None)
    }

    async fn close(&mut self, channel: &mut Channel) -> Result<(), ScenarioError> {
        self.world.say("The payer closes the channel");
        let points = std::mem::take(&mut self.points);
        self.arm(channel, points.first().copied());
        channel.try_to_close(Payer).await?;
        for (index, point) in points.iter().enumerate() {
            self.restart(channel, *point, step(self.protocol) * 4).await?;
            let armed = points.get(index + 1).map(|point| point.arm());
            channel.resume(self.world, armed.unwrap_or_default()).await?;
        }
        Ok(())
    }

    fn arm(&self, channel: &Channel, point: Option<Point>) {
        if let Some(point) = point {
            channel.arm(self.world, point.arm());
        }
    }

    /// The side loses power, restarts from its file, which holds this much, and resumes the channel.
    async fn survive(
        &self,
        channel: &mut Channel,
        point: Option<Point>,
        held: Amount,
    ) -> Result<(), ScenarioError> {
        let Some(point) = point else { return Ok(()) };
        self.restart(channel, point, held).await?;
        channel.resume(self.world, Armed::default()).await
    }

    /// The side has lost power at this point, or does it now, and restarts from its file, which holds this much.
    async fn restart(&self, channel: &mut Channel, point: Point, held: Amount) -> Result<(), ScenarioError> {
        let Point(side, ..) = point;
        let is_armed = !point.arm().is_empty();
        expect(
            format!("the side that loses power {point}"),
            &is_armed.then_some(side),
            &channel.vanished(),
        )?;
        channel.lose_power(side).await?;
        channel.restart(side).await?;
        channel.holds(side, held)
    }

    async fn end(&self, channel: &Channel) -> Result<(), ScenarioError> {
        let paid = step(self.protocol) * 4;
        let one_key = self.world.construction().closes_with_one_key();
        let again = self.protocol == Protocol::SteppedLocktime || one_key;
        let name = if again && !self.ends_at_once {
            "settlement"
        } else {
            "payment-4"
        };
        self.world.was_accepted(name)?;
        confirm(self.world, channel, name).await?;
        if self.ends_at_once {
            return ended_with_paid(channel, paid);
        }
        ended_together(channel, paid, channel.params()?.terms().feerate)
    }
}

async fn before_funding(world: &mut World, protocol: Protocol) -> Result<(), ScenarioError> {
    let mut plan = plan(world, protocol)?;
    plan.stored = true;
    plan.rules = Point(Payer, Before, Message(Payer, Kind::Funding)).arm().rules;
    world.say("The payer stores the channel and loses power; the payee has nothing to store yet");
    let mut channel = world.open(plan).await?;
    channel.lose_power(Payer).await?;
    channel.restart(Payer).await?;
    world.say("The payer finds the channel in its file. The payee does not");
    let refused = channel.try_to_resume(world, Armed::default()).await?;
    let is_unknown = matches!(
        refused,
        Err(ResumeError::PeerRefused {
            reason: RefusalReason::UnknownChannel
        })
    );
    expect("the payee does not know the channel", &true, &is_unknown)?;
    if protocol == Protocol::SteppedLocktime {
        world.was_accepted("funding")?;
    } else {
        world.say(
            "The payer cannot know who has its funding transaction. After six blocks it broadcasts it itself",
        );
        world.mine(5, &[&channel]).await?;
        world.was_not_broadcast("funding")?;
        world.mine(1, &[&channel]).await?;
        world.was_accepted("funding")?;
    }
    world.mine(1, &[&channel]).await?;
    payer_refunds(world, &channel).await
}

async fn around_refund(world: &mut World, protocol: Protocol) -> Result<(), ScenarioError> {
    let mut plan = plan(world, protocol)?;
    plan.stored = true;
    world.say("Both sides store the channel, and the payer pays once");
    let mut channel = world.open(plan).await?;
    world.mine(3, &[&channel]).await?;
    channel.pay_up_to(step(protocol)).await?;
    world.say("The payee is gone for good");
    channel.lose_power(Payee).await?;
    let lock = refund_lock(world, &channel)?;
    world.say("The last block before the refund's lock: it is not final");
    world.stop_before(lock.clone(), &[&channel]).await?;
    refund_waits(world)?;
    world.say("With the next block it is final");
    let instead = Point(Payer, Before, Broadcast(SpendRole::Refund));
    channel.arm(world, instead.arm());
    world.make_final(lock, &[&channel]).await?;
    world.was_not_broadcast("refund")?;
    channel.lose_power(Payer).await?;
    channel.restart(Payer).await?;
    channel.holds(Payer, step(protocol))?;
    world.was_accepted("refund")?;
    world.say("The refund is in the mempool");
    channel.lose_power(Payer).await?;
    channel.restart(Payer).await?;
    confirm(world, &channel, "refund").await?;
    channel.ended_with(channel.params()?.refund_amount(), Amount::ZERO)
}
