//! What peers may ask for, and what a hostile one costs.

use std::sync::Arc;
use std::time::Duration;

use spilman::channel::Protocol::Example7;
use spilman::channel::{
    ChannelId, Envelope, Event, Features, Message, RefusalReason, Stage, UnverifiedSignature,
};
use spilman::service::{Bounds, OpenError, PayeeConnection, PayerHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::greetings::greeted;
use super::{connect, connect_from, greet, pays, Sides};
use crate::common::assert_matches;
use crate::hand::{soon, until, Hand};
use crate::pair::{sat, Case};

/// Bounds hold, and what is freed can be taken again.
#[tokio::test(start_paused = true)]
async fn peers_get_no_more_than_their_share() {
    let mut sides = Sides::of(Case::new(Example7));
    sides.bounds = Bounds {
        connections: 4,
        connections_per_peer: 2,
        channels_per_connection: 2,
        unfunded_channels: 3,
        unfunded_channels_per_peer: 2,
        idle: Duration::from_secs(600),
    };
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let here = Some("192.0.2.1");
    // 1. Connections.
    let held = [connect_from(&payees, here), connect_from(&payees, here)];
    let mut third = Hand {
        io: connect_from(&payees, here),
    };
    assert_eq!(third.refused().await, RefusalReason::ChannelBusy);
    let others = [connect_from(&payees, Some("192.0.2.2")), connect(&payees)];
    let mut fifth = Hand { io: connect(&payees) };
    assert_eq!(fifth.refused().await, RefusalReason::ChannelBusy);
    drop((held, others));
    sleep(Duration::from_secs(1)).await;
    // 2. Channels that wait for their funding.
    let io = connect_from(&payees, here);
    let connection = PayeeConnection::new(io).await.unwrap();
    for number in [1, 2] {
        let stream = connection.channel(ChannelId(number)).await.unwrap();
        sides.open(&payers, stream, number).await.unwrap();
    }
    let busy = |opened: Result<Arc<PayerHandle>, OpenError>| {
        let reason = RefusalReason::ChannelBusy;
        assert_matches!(opened.map(drop), Err(OpenError::PeerRefused { reason: said, .. }) if said == reason);
    };
    // 3. Channels on one connection.
    let stream = connection.channel(ChannelId(3)).await.unwrap();
    busy(sides.open(&payers, stream, 3).await);
    busy(sides.open(&payers, connect_from(&payees, here), 4).await);
    sides.open(&payers, connect(&payees), 5).await.unwrap();
    busy(sides.open(&payers, connect(&payees), 6).await);
    // A restart does not make room.
    for payee in payees.payees() {
        payee.abort();
    }
    let payees = sides.payees().await;
    busy(sides.open(&payers, connect(&payees), 7).await);
    sides.chain.confirm(3);
    sleep(Duration::from_secs(60)).await;
    sides.open(&payers, connect(&payees), 8).await.unwrap();
    // 4. A peer that says nothing.
    let silent = payers.payers().into_iter().next().unwrap();
    silent.resume(&greet(&payees).await).await.unwrap();
    sleep(Duration::from_secs(590)).await;
    assert!(silent.status().borrow().connected);
    until(silent.status(), "the end", |status| !status.connected).await;
    silent.resume(&greet(&payees).await).await.unwrap();
}

/// A channel that closes before its funding transaction is confirmed keeps its place: it has cost its peer nothing.
#[tokio::test(start_paused = true)]
async fn closing_makes_no_room() {
    let mut sides = Sides::of(Case::new(Example7));
    sides.bounds.unfunded_channels = 1;
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let mut hand = Hand { io: connect(&payees) };
    let mut payer = hand.fund_as_payer(&sides.case).await;
    sleep(Duration::from_secs(1)).await;
    hand.carry_out(payer.apply(Event::Close).unwrap()).await;
    let payee = payees.payees().pop().unwrap();
    until(payee.status(), "the close", |status| {
        status.stage == Stage::Closing
    })
    .await;
    let reason = RefusalReason::ChannelBusy;
    let refused = sides.open(&payers, connect(&payees), 2).await.map(drop);
    assert_matches!(refused, Err(OpenError::PeerRefused { reason: said, .. }) if said == reason);
    sides.chain.confirm_the_spend();
    sleep(Duration::from_secs(60)).await;
    sides.open(&payers, connect(&payees), 2).await.unwrap();
}

/// Who is told that there are too many connections has one for a while; the others are just dropped.
#[tokio::test(start_paused = true)]
async fn refusals_are_counted_as_well() {
    let mut sides = Sides::of(Case::new(Example7));
    sides.bounds.connections = 1;
    let payees = sides.payees().await;
    let _held = greet(&payees).await;
    let mut hands: Vec<_> = (0..20).map(|_| Hand { io: connect(&payees) }).collect();
    sleep(Duration::from_secs(1)).await;
    let mut told = 0;
    for hand in &mut hands {
        told += u32::from(soon("an answer", hand.receive()).await.is_some());
    }
    assert_eq!(told, 16);
    drop(hands);
    sleep(Duration::from_secs(20)).await;
    let mut hand = Hand { io: connect(&payees) };
    assert_eq!(hand.refused().await, RefusalReason::ChannelBusy);
}

/// A peer that does not read, or that floods one of its channels, holds up its own connection and no other.
#[tokio::test(start_paused = true)]
async fn a_hostile_peer_costs_others_nothing() {
    let mut sides = Sides::of(Case::new(Example7));
    sides.bounds.idle = Duration::from_secs(600);
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, _) = sides.opened(&payers, &payees, 1).await;
    let (mut hand, _) = greeted(&payees, Features::MANY_CHANNELS | Features::RESUME).await;
    let flood = tokio::spawn(async move {
        for channel in (0..=u16::MAX).map(ChannelId).cycle() {
            let message = Message::Payment {
                paid: sat(1),
                signature: UnverifiedSignature::from_compact([1; 64]),
            };
            let bytes = spilman::wire::encode(&Envelope { channel, message });
            let sent = async {
                hand.io.write_u16(bytes.len().try_into().unwrap()).await?;
                hand.io.write_all(&bytes).await
            };
            if sent.await.is_err() {
                break;
            }
        }
    });
    for total in 1..=20 {
        pays(&payer, total * 1_000).await;
    }
    assert!(!flood.is_finished(), "it is still at it");
    flood.abort();
    // Openings that nobody continues, each refused in time, and none of them read.
    let (mut hand, _) = greeted(&payees, Features::MANY_CHANNELS).await;
    for channel in (0..200).map(ChannelId) {
        let (_, open) = sides.case.propose();
        hand.send(&Envelope { channel, ..open }).await;
    }
    pays(&payer, 30_000).await;
    let ended = tokio::spawn(async move { hand.io.read_to_end(&mut Vec::new()).await });
    sleep(Duration::from_secs(300)).await;
    pays(&payer, 35_000).await;
    soon("the end of it", ended).await.unwrap().unwrap();
    pays(&payer, 40_000).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(payees.payees().len(), 1);
}
