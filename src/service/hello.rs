use std::time::Duration;

use super::connection::{Connection, Received};
use super::keys::RandomnessError;
use super::resume_error::HelloError;
use crate::channel::{
    ChannelId, Envelope, Features, HelloRandoms, Message, Refusal, RefusalReason, Stage, VersionRange,
};

/// What is said of a connection and not of a channel has this number.
pub(super) const CONNECTION: ChannelId = ChannelId(0);

/// What this side can do besides the conversation of one channel.
pub(super) fn our_features() -> Features {
    Features::RESUME | Features::MANY_CHANNELS
}

/// What both sides have said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Greeting {
    /// What both can do.
    pub features: Features,
    pub randoms: HelloRandoms,
}

fn versions() -> VersionRange {
    VersionRange::new(1, 1).expect("1 is not above 1")
}

fn hello(random: [u8; 32]) -> Envelope {
    Envelope {
        channel: CONNECTION,
        message: Message::Hello {
            versions: versions(),
            features: our_features(),
            random,
        },
    }
}

pub(super) fn refuse(channel: ChannelId, reason: RefusalReason) -> Envelope {
    let message = Message::Refuse { reason };
    Envelope { channel, message }
}

pub(super) fn random() -> Result<[u8; 32], RandomnessError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(RandomnessError::new)?;
    Ok(random)
}

/// Says hello first, as the payer.
pub(super) async fn greet(
    connection: &mut Connection,
    ours: [u8; 32],
    within: Duration,
) -> Result<Greeting, HelloError> {
    connection.send(&hello(ours));
    let received = tokio::time::timeout(within, connection.receive(false)).await;
    let envelope = match received.map_err(|_| HelloError::Timeout(within))? {
        Received::Gone | Received::Room => return Err(HelloError::Disconnected),
        Received::Garbled(error) => {
            connection.send(&refuse(CONNECTION, RefusalReason::Malformed));
            connection.finish().await;
            return Err(error.into());
        }
        Received::Message(envelope) => envelope,
    };
    if let Message::Refuse { reason } = envelope.message {
        return Err(HelloError::PeerRefused { reason });
    }
    let answered = read(envelope).map(|(theirs, features, payee)| {
        if versions().common(theirs).is_none() {
            return Err(HelloError::NoCommonVersion {
                ours: versions(),
                theirs,
            });
        }
        let randoms = HelloRandoms { payer: ours, payee };
        Ok(Greeting {
            features: features & our_features(),
            randoms,
        })
    });
    let refused = match &answered {
        Err(refusal) => Some(refusal.reason()),
        Ok(Err(_)) => Some(RefusalReason::NoCommonVersion),
        Ok(Ok(_)) => None,
    };
    if let Some(reason) = refused {
        connection.send(&refuse(CONNECTION, reason));
        connection.finish().await;
    }
    answered?
}

/// Answers the payer's hello.
pub(super) fn answer(
    connection: &mut Connection,
    envelope: Envelope,
    draw: impl FnOnce() -> Result<[u8; 32], RandomnessError>,
) -> Result<Greeting, RefusalReason> {
    let (theirs, features, payer) = read(envelope).map_err(|refusal| refusal.reason())?;
    if versions().common(theirs).is_none() {
        return Err(RefusalReason::NoCommonVersion);
    }
    // Without random numbers no proof is worth anything; another machine may have some.
    let payee = draw().map_err(|_| RefusalReason::ChannelBusy)?;
    connection.send(&hello(payee));
    let randoms = HelloRandoms { payer, payee };
    Ok(Greeting {
        features: features & our_features(),
        randoms,
    })
}

fn read(envelope: Envelope) -> Result<(VersionRange, Features, [u8; 32]), Refusal> {
    match envelope.for_channel(CONNECTION)? {
        Message::Hello {
            versions,
            features,
            random,
        } => Ok((versions, features, random)),
        other => Err(Refusal::unexpected(Stage::Proposing, other.kind())),
    }
}
