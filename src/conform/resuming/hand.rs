use bitcoin::hashes::{sha256, Hash};
use futures_util::{SinkExt, StreamExt};
use tokio::io::DuplexStream;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::lies::{Lie, Scene};
use super::our_side::{keys, role};
use super::{Lives, STAGE};
use crate::adversary::STRANGER;
use crate::channel::{
    ChannelId, ChannelKey, ChannelState, Envelope, HelloRandoms, Message, RefusalReason, UnverifiedSignature,
};
use crate::conform::case::{Interference, InterferenceRule};
use crate::conform::failure::{CaseFailure, Stop};
use crate::conform::run::Run;
use crate::service::codec;
use crate::transcript::{MessagePosition, Side};
use crate::wire;

/// Our side, message by message.
struct Hand {
    frames: Framed<DuplexStream, LengthDelimitedCodec>,
}

/// What is said of a connection and not of a channel has this number.
const CONNECTION: ChannelId = ChannelId(0);

/// A channel may have another number than before.
const CHANNEL: ChannelId = ChannelId(7);

impl Hand {
    fn new(end: DuplexStream) -> Self {
        let frames = Framed::new(end, codec());
        Self { frames }
    }

    async fn send(&mut self, channel: ChannelId, message: Message) -> Result<(), CaseFailure> {
        let bytes = wire::encode(&Envelope { channel, message });
        self.frames
            .send(Bytes::from(bytes))
            .await
            .map_err(CaseFailure::runner)
    }

    /// The program's next message.
    async fn receive(&mut self, run: &Run<'_>, expected: &str) -> Result<Envelope, Stop> {
        let frame = run.unless_cut(STAGE, expected, self.frames.next()).await?;
        let envelope = frame
            .and_then(Result::ok)
            .and_then(|frame| wire::decode(&frame).ok());
        match envelope {
            Some(envelope) => Ok(envelope),
            None => Err(run.missed(STAGE, expected).await.into()),
        }
    }

    /// Reads the program's hello, and takes its random bytes.
    async fn hello(&mut self, run: &Run<'_>) -> Result<[u8; 32], Stop> {
        match self.receive(run, "hello").await?.message {
            Message::Hello { random, .. } => Ok(random),
            other => Err(CaseFailure::new(STAGE, "hello", other.kind().to_string()).into()),
        }
    }

    async fn resume(&mut self, run: &Run<'_>) -> Result<ChannelId, Stop> {
        let envelope = self.receive(run, "resume").await?;
        match envelope.message {
            Message::Resume(_) => Ok(envelope.channel),
            other => Err(CaseFailure::new(STAGE, "resume", other.kind().to_string()).into()),
        }
    }
}

impl Lives<'_> {
    /// The program comes back, hears what it must refuse, and does so.
    pub(super) async fn lie(&mut self, lie: &'static Lie) -> Result<(), Stop> {
        let rule = InterferenceRule {
            message: MessagePosition::new(lie.speaker, lie.kind, 0),
            interference: Interference::Lie(lie.comment),
        };
        let (run, end) = self.launcher.launch(Some(rule))?;
        let told = self.tell(lie, &run, end).await;
        self.launcher.end(run).await;
        told
    }

    async fn tell(&self, lie: &Lie, run: &Run<'_>, end: DuplexStream) -> Result<(), Stop> {
        let (mut hand, mut scene) = (Hand::new(end), self.scene()?);
        let mut channel = CHANNEL;
        match lie.speaker {
            Side::Payer if lie.is_first => {}
            Side::Payer => {
                hand.send(CONNECTION, scene.hello(Side::Payer, 1, 1)).await?;
                scene.randoms.payee = hand.hello(run).await?;
            }
            Side::Payee => {
                scene.randoms.payer = hand.hello(run).await?;
                if !lie.is_first {
                    hand.send(CONNECTION, scene.hello(Side::Payee, 1, 1)).await?;
                    channel = hand.resume(run).await?;
                }
            }
        }
        let message = (lie.message)(&scene);
        let is_hello = matches!(message, Message::Hello { .. });
        hand.send(if is_hello { CONNECTION } else { channel }, message)
            .await?;
        Ok(run.refused(lie.reason).await?)
    }

    fn scene(&self) -> Result<Scene<'_>, CaseFailure> {
        let (agreed, launcher) = (self.agreed()?, self.launcher);
        let stored = self.stored.first();
        let stored = stored.ok_or_else(|| CaseFailure::runner("our side has stored no channel"))?;
        let key = keys(launcher).derive(role(launcher.case.program.peer()), stored.key_id);
        let signature = match &stored.state {
            ChannelState::Payee(state) => state.progress.latest.map(|latest| latest.signature),
            ChannelState::Payer(_) => None,
        };
        let stranger = sha256::Hash::hash(STRANGER.as_bytes()).to_byte_array();
        let stranger = bitcoin::secp256k1::SecretKey::from_slice(&stranger).map_err(CaseFailure::runner)?;
        Ok(Scene {
            // Published, like everything of a test.
            randoms: HelloRandoms {
                payer: [1; 32],
                payee: [2; 32],
            },
            funding: agreed.funding,
            params: &agreed.params,
            key,
            stranger: ChannelKey::new(stranger),
            paid: self.said.unwrap_or_default(),
            signature: signature.unwrap_or_else(|| UnverifiedSignature::from_compact([1; 64])),
        })
    }

    /// A payee that does not know the channel refuses, which proves nothing: the payer still refunds at the expiry.
    pub(super) async fn stranger(&mut self) -> Result<(), CaseFailure> {
        let (run, end) = self.launcher.launch(None)?;
        let refunded = match self.refuse(&run, end).await {
            Ok(()) => crate::conform::against_payer::refunded(&run, self.agreed()?).await,
            Err(Stop::Failed(failure)) => Err(failure),
            Err(_) => Err(CaseFailure::runner("the connection ended early")),
        };
        self.launcher.end(run).await;
        refunded
    }

    async fn refuse(&self, run: &Run<'_>, end: DuplexStream) -> Result<(), Stop> {
        let (mut hand, mut scene) = (Hand::new(end), self.scene()?);
        scene.randoms.payer = hand.hello(run).await?;
        hand.send(CONNECTION, scene.hello(Side::Payee, 1, 1)).await?;
        let channel = hand.resume(run).await?;
        let reason = RefusalReason::UnknownChannel;
        Ok(hand.send(channel, Message::Refuse { reason }).await?)
    }
}
