//! One connection to a server: requests and answers of the electrum protocol, one JSON object a line.
//!
//! The crate `electrum-client` would do, if servers could be trusted: it reads a line of any length, waits for
//! every byte anew, blocks a thread meanwhile, and hears of news only while it asks for something else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use super::error::{excerpt, ElectrumError};

/// The longest line that is read, in bytes: a transaction of four megabytes in hex, or a history of some 200,000
/// entries.
const MAX_LINE: usize = 32 << 20;

/// How long a server may take to make room for a request.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to happen when the server has news, or is gone.
pub(super) type OnNews = Arc<dyn Fn() + Send + Sync>;

/// A connection. It ends when this is dropped.
pub(super) struct Link {
    asks: mpsc::Sender<Ask>,
}

type Reply = oneshot::Sender<Result<Value, ElectrumError>>;

struct Ask {
    call: &'static str,
    params: Value,
    reply: Reply,
}

impl Link {
    /// Connects, and agrees on the version of the protocol.
    pub async fn connect(address: &str, on_news: OnNews) -> Result<Self, ElectrumError> {
        let connect = |source| ElectrumError::Connect {
            address: address.to_owned(),
            source,
        };
        let stream = TcpStream::connect(address).await.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let (asks, inbox) = mpsc::channel(16);
        let wire = Wire {
            lines: Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE)),
            waiting: HashMap::new(),
            asked: 0,
            on_news,
        };
        tokio::spawn(wire.run(inbox));
        let link = Self { asks };
        let _: Value = link.call("server.version", json!(["spilman", "1.4"])).await?;
        Ok(link)
    }

    pub fn is_open(&self) -> bool {
        !self.asks.is_closed()
    }

    pub async fn call<T: DeserializeOwned>(
        &self,
        call: &'static str,
        params: Value,
    ) -> Result<T, ElectrumError> {
        let gone = || ElectrumError::Lost("the connection was closed".to_owned());
        let (reply, answer) = oneshot::channel();
        let ask = Ask { call, params, reply };
        self.asks.send(ask).await.map_err(|_| gone())?;
        let answer = answer.await.map_err(|_| gone())??;
        T::deserialize(answer).map_err(|error| ElectrumError::nonsense(call, &error))
    }
}

/// The task that holds the socket.
struct Wire {
    lines: Framed<TcpStream, LinesCodec>,
    waiting: HashMap<u64, (&'static str, Reply)>,
    asked: u64,
    on_news: OnNews,
}

/// An answer has an id, news have a method.
#[derive(Deserialize)]
struct Line {
    id: Option<u64>,
    method: Option<String>,
    #[serde(default)]
    result: Value,
    error: Option<Value>,
}

impl Wire {
    async fn run(mut self, mut inbox: mpsc::Receiver<Ask>) {
        let why = loop {
            let done = tokio::select! {
                // A server that talks without pause does not keep this from ending.
                biased;
                ask = inbox.recv() => match ask {
                    Some(ask) => self.send(ask).await,
                    None => return,
                },
                line = self.lines.next() => match line {
                    Some(Ok(line)) => self.hear(&line),
                    Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                        Err(format!("it sent a line of more than {MAX_LINE} bytes"))
                    }
                    Some(Err(LinesCodecError::Io(error))) => Err(error.to_string()),
                    None => Err("it closed the connection".to_owned()),
                },
            };
            if let Err(why) = done {
                break why;
            }
        };
        inbox.close();
        for (_, (_, reply)) in self.waiting.drain() {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(Err(ElectrumError::Lost(why.clone())));
        }
        (self.on_news)();
    }

    async fn send(&mut self, ask: Ask) -> Result<(), String> {
        self.asked += 1;
        let line = json!({ "jsonrpc": "2.0", "id": self.asked, "method": ask.call, "params": ask.params });
        self.waiting.insert(self.asked, (ask.call, ask.reply));
        let sending = self.lines.send(line.to_string());
        match tokio::time::timeout(SEND_TIMEOUT, sending).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it read nothing for {SEND_TIMEOUT:?}")),
        }
    }

    fn hear(&mut self, text: &str) -> Result<(), String> {
        let line: Line = serde_json::from_str(text)
            .map_err(|error| format!("it said {:?}, which is no answer: {error}", excerpt(text)))?;
        let Some(id) = line.id else {
            if line.method.is_none() {
                return Err(format!("it said {:?} to nobody", excerpt(text)));
            }
            (self.on_news)();
            return Ok(());
        };
        let Some((call, reply)) = self.waiting.remove(&id) else {
            return Err(format!("it answered {id}, which was not asked"));
        };
        let answer = match line.error {
            None => Ok(line.result),
            Some(error) => Err(refused(call, &error)),
        };
        let _ = reply.send(answer);
        Ok(())
    }
}

fn refused(call: &'static str, error: &Value) -> ElectrumError {
    let message = error["message"].as_str();
    ElectrumError::Refused {
        call,
        code: error["code"].as_i64().unwrap_or_default(),
        message: excerpt(message.map_or_else(|| error.to_string(), str::to_owned).trim()),
    }
}
