//! How connections begin: hello, and what must come after it.

use std::time::Duration;

use spilman::channel::Protocol::Example7;
use spilman::channel::{
    ChannelId, Envelope, Features, HelloRandoms, Message, RefusalReason, Resume, Stage, VersionRange,
};
use spilman::service::{HelloError, PayeeConnection, ResumeError};
use tokio::io::{duplex, AsyncWriteExt};
use tokio::time::sleep;

use super::{connect, greet, pays, Manager, Sides};
use crate::chains::FakeChain;
use crate::common::assert_matches;
use crate::hand::{setup, soon, Hand};
use crate::pair::{sat, Case};

pub fn hello(random: [u8; 32], features: Features) -> Envelope {
    Envelope {
        channel: ChannelId(0),
        message: Message::Hello {
            versions: VersionRange::new(1, 1).unwrap(),
            features,
            random,
        },
    }
}

/// A payer by hand that has said hello.
pub async fn greeted(payees: &Manager, features: Features) -> (Hand, HelloRandoms) {
    let mut hand = Hand { io: connect(payees) };
    hand.send(&hello([5; 32], features)).await;
    let Some(Message::Hello { random, .. }) = hand.receive().await.map(|envelope| envelope.message) else {
        panic!("no hello")
    };
    let randoms = HelloRandoms {
        payer: [5; 32],
        payee: random,
    };
    (hand, randoms)
}

/// Whoever cannot prove that it is the payer learns nothing, and throws nobody out.
#[tokio::test(start_paused = true)]
async fn a_stranger_does_not_get_the_channel() {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, payee) = sides.opened(&payers, &payees, 1).await;
    pays(&payer, 1_000).await;
    let (params, funding) = (payer.params(), payer.funding().outpoint());
    for features in [Features::RESUME, Features::RESUME | Features::MANY_CHANNELS] {
        for (key, outpoint, refused) in [
            ("stranger", funding, RefusalReason::ProofWrong),
            (
                "stranger",
                bitcoin::OutPoint { vout: 9, ..funding },
                RefusalReason::UnknownChannel,
            ),
        ] {
            let (mut hand, randoms) = greeted(&payees, features).await;
            let resume = Resume {
                funding: outpoint,
                signed: sat(1_000),
                acknowledged: None,
            };
            let resume = resume.sign(&randoms, params, &crate::pair::key(key));
            let channel = ChannelId(3);
            hand.send(&Envelope {
                channel,
                message: Message::Resume(resume),
            })
            .await;
            let answer = hand.receive().await.unwrap();
            assert_eq!(
                answer,
                Envelope {
                    channel,
                    message: Message::Refuse { reason: refused }
                }
            );
        }
    }
    pays(&payer, 2_000).await;
    assert_eq!(sides.reported("Resumed"), 0);
    assert_eq!(payee.status().borrow().paid, sat(2_000));
}

/// Without the feature, *resume* is a message out of place, whoever sends it.
#[tokio::test(start_paused = true)]
async fn a_connection_without_the_feature_resumes_nothing() {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, _) = sides.opened(&payers, &payees, 1).await;
    for features in [Features::from_bits(0), Features::MANY_CHANNELS] {
        let (mut hand, randoms) = greeted(&payees, features).await;
        let resume = Resume {
            funding: payer.funding().outpoint(),
            signed: sat(0),
            acknowledged: None,
        };
        let resume = resume.sign(&randoms, payer.params(), &crate::pair::key("stranger"));
        let (channel, message) = (ChannelId(3), Message::Resume(resume));
        hand.send(&Envelope { channel, message }).await;
        let answer = hand.receive().await.unwrap().message;
        let reason = RefusalReason::UnexpectedMessage;
        assert_eq!(answer, Message::Refuse { reason });
    }
}

/// A wrong address, or a payee that has lost everything: the payer goes on alone, and can still find the right one.
#[tokio::test(start_paused = true)]
async fn a_payee_that_does_not_know_the_channel_costs_nothing() {
    let sides = Sides::of(Case::new(Example7));
    let (payers, payees) = (sides.payers().await, sides.payees().await);
    let (payer, _) = sides.opened(&payers, &payees, 1).await;
    pays(&payer, 1_000).await;
    let stranger = Sides::of(Case::new(Example7)).payees().await;
    let refused = payer.resume(&greet(&stranger).await).await.unwrap_err();
    let reason = RefusalReason::UnknownChannel;
    assert_matches!(refused, ResumeError::PeerRefused { reason: said } if said == reason);
    assert_eq!(payer.status().borrow().stage, Stage::Open);
    payer.resume(&greet(&payees).await).await.unwrap();
    pays(&payer, 2_000).await;
}

/// A payee as it was before there was *hello*, and peers that say other things.
#[tokio::test(start_paused = true)]
async fn a_payee_without_hello_is_named() {
    let (io, other) = duplex(4_096);
    let accepting = setup("payee").accept(other, FakeChain::new());
    let (refused, _) = tokio::join!(PayeeConnection::new(io), accepting);
    let reason = RefusalReason::UnexpectedMessage;
    assert_matches!(refused.map(drop), Err(HelloError::PeerRefused { reason: said }) if said == reason);
    // Silence, an end, a version of the future, garbage, another message.
    let future = Message::Hello {
        versions: VersionRange::new(2, 3).unwrap(),
        features: Features::RESUME,
        random: [1; 32],
    };
    let answers = [None, Some(future), Some(Message::Ready)];
    let mut errors = Vec::new();
    for answer in answers {
        let (mut hand, io) = Hand::over(4_096);
        let (error, ()) = tokio::join!(soon("an end", PayeeConnection::new(io)), async {
            hand.receive().await.unwrap();
            match answer {
                Some(message) => {
                    hand.send(&Envelope {
                        channel: ChannelId(0),
                        message,
                    })
                    .await;
                }
                None => sleep(Duration::from_secs(600)).await,
            }
        });
        errors.push(error.map(drop).unwrap_err());
    }
    assert_matches!(errors[0], HelloError::Timeout(_));
    assert_matches!(errors[1], HelloError::NoCommonVersion { .. });
    assert_matches!(errors[2], HelloError::Refused(_));
    let (io, other) = duplex(4_096);
    drop(other);
    assert_matches!(
        PayeeConnection::new(io).await.map(drop),
        Err(HelloError::Disconnected)
    );
}

/// What the payee says as its first messages, and then closes.
#[tokio::test(start_paused = true)]
async fn a_connection_that_begins_wrongly_is_refused() {
    let sides = Sides::of(Case::new(Example7));
    let payees = sides.payees().await;
    let say = |message| Envelope {
        channel: ChannelId(0),
        message,
    };
    let future = Message::Hello {
        versions: VersionRange::new(2, 3).unwrap(),
        features: Features::RESUME,
        random: [1; 32],
    };
    let wrong_channel = Envelope {
        channel: ChannelId(1),
        ..hello([1; 32], Features::RESUME)
    };
    for (first, reason) in [
        (say(Message::Ready), RefusalReason::UnexpectedMessage),
        (say(future), RefusalReason::NoCommonVersion),
        (wrong_channel, RefusalReason::WrongChannel),
    ] {
        let mut hand = Hand { io: connect(&payees) };
        hand.send(&first).await;
        assert_eq!(hand.refused().await, reason);
    }
    // Behind hello, too.
    for features in [Features::RESUME, Features::RESUME | Features::MANY_CHANNELS] {
        let (mut hand, _) = greeted(&payees, features).await;
        hand.send(&hello([5; 32], features)).await;
        assert_eq!(hand.refused().await, RefusalReason::UnexpectedMessage);
    }
    // Garbage in one of several channels ends the connection.
    let (mut hand, _) = greeted(&payees, Features::MANY_CHANNELS).await;
    hand.io.write_all(&[0, 1, 0xff]).await.unwrap();
    assert_eq!(hand.refused().await, RefusalReason::Malformed);
    // Silence.
    let mut hand = Hand { io: connect(&payees) };
    assert!(soon("the end", hand.receive()).await.is_none());
}
