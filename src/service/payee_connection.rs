use std::collections::HashSet;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::{mpsc, oneshot};

use super::connection::Connection;
use super::hello::{greet, random, Greeting};
use super::mux::Mux;
use super::resume_error::{ChannelError, HelloError};
use super::timing::OPENING_TIMEOUT;
use crate::channel::{ChannelId, Features, HelloRandoms};

/// A payer's connection to its payee, on which both have said hello. It carries channels that are resumed and channels that
/// are opened, as many as the payee takes.
///
/// A copy is the same connection. It ends when the last copy is dropped and no channel is on it.
///
/// ```
/// use spilman::channel::ChannelId;
/// use spilman::service::{Chain, PayeeConnection, PayerHandle, Proposal, Setup, Wallet};
/// use tokio::net::TcpStream;
///
/// # async fn f(stream: TcpStream, earlier: PayerHandle, setup: Setup, chain: impl Chain, proposal: Proposal, wallet: impl Wallet)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// let payee = PayeeConnection::new(stream).await?;
/// // A channel of an earlier connection goes on, even one of an earlier process.
/// earlier.resume(&payee).await?;
/// // A new one beside it.
/// let stream = payee.channel(proposal.id).await?;
/// let payer = setup.open(stream, chain, proposal, wallet).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PayeeConnection {
    greeting: Greeting,
    asks: mpsc::Sender<Ask>,
}

/// Asks for the stream of a new channel: of this number, or else of any.
#[derive(Debug)]
struct Ask {
    channel: ChannelId,
    or_another: bool,
    reply: oneshot::Sender<Result<(ChannelId, DuplexStream), ChannelError>>,
}

impl PayeeConnection {
    /// Says hello on a new stream of bytes, and waits for the payee's answer. Not cancel safe: the stream is lost.
    ///
    /// # Errors
    /// If the payee does not answer, or cannot resume channels: a payee without *hello* refuses it. Then
    /// [`Setup::open`](super::Setup::open) still opens a channel on another connection.
    pub async fn new<IO>(io: IO) -> Result<Self, HelloError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::with_random(io, random()?).await
    }

    /// The same with the bytes that this side says hello with.
    pub(crate) async fn with_random<IO>(io: IO, random: [u8; 32]) -> Result<Self, HelloError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut connection = Connection::new(io);
        let greeting = greet(&mut connection, random, OPENING_TIMEOUT).await?;
        let (asks, asked) = mpsc::channel(16);
        tokio::spawn(carry(Mux::new(connection), asked, greeting.features));
        Ok(Self { greeting, asks })
    }

    /// Returns what both sides can do.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.greeting.features
    }

    pub(super) const fn randoms(&self) -> HelloRandoms {
        self.greeting.randoms
    }

    /// Returns the stream of a new channel with this number, for [`Setup::open`](super::Setup::open) with the same number in
    /// its [`Proposal`](super::Proposal).
    ///
    /// # Errors
    /// If a channel of this connection has the number or had it, the payee takes one channel only and it is in use, or the connection
    /// has ended.
    pub async fn channel(&self, channel: ChannelId) -> Result<DuplexStream, ChannelError> {
        let (_, stream) = self.ask(channel, false).await?;
        Ok(stream)
    }

    /// The same with another number if this one is taken.
    pub(super) async fn any_channel(
        &self,
        channel: ChannelId,
    ) -> Result<(ChannelId, DuplexStream), ChannelError> {
        self.ask(channel, true).await
    }

    async fn ask(
        &self,
        channel: ChannelId,
        or_another: bool,
    ) -> Result<(ChannelId, DuplexStream), ChannelError> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            channel,
            or_another,
            reply,
        };
        // If the connection has ended, `reply` is gone with the request.
        let _ = self.asks.send(ask).await;
        answer.await.unwrap_or(Err(ChannelError::Ended))
    }
}

/// Carries channels until the connection ends, or nobody needs it any more.
async fn carry(mut mux: Mux, mut asked: mpsc::Receiver<Ask>, features: Features) {
    // A number is never used twice: what is still on its way belongs to the channel that had it.
    let mut used = HashSet::new();
    let mut may_be_asked = true;
    while may_be_asked || mux.len() > 0 {
        tokio::select! {
            ask = asked.recv(), if may_be_asked => match ask {
                Some(ask) => {
                    // The caller may have stopped waiting.
                    let _ = ask.reply.send(begin((&mut mux, &mut used), features, ask.channel, ask.or_another));
                }
                None => may_be_asked = false,
            },
            // What the payee says in no channel means nothing to this side.
            stray = mux.next() => if stray.is_none() {
                break;
            },
        }
    }
    mux.close();
}

fn begin(
    (mux, used): (&mut Mux, &mut HashSet<ChannelId>),
    features: Features,
    channel: ChannelId,
    or_another: bool,
) -> Result<(ChannelId, DuplexStream), ChannelError> {
    if mux.len() > 0 && !features.contains(Features::MANY_CHANNELS) {
        return Err(ChannelError::Unsupported {
            what: "several channels on one connection",
            features,
        });
    }
    let others = (0..=u16::MAX).map(ChannelId).filter(|_| or_another);
    let mut numbers = std::iter::once(channel).chain(others);
    let number = numbers.find(|number| used.insert(*number));
    let begun = number.and_then(|number| Some((number, mux.channel(number)?)));
    begun.ok_or(ChannelError::Taken)
}
