//! One connection to a server: requests and answers of the electrum protocol, one JSON object a line.
//!
//! The crate `electrum-client` would do, if servers could be trusted: it reads a line of any length, waits for
//! every byte again, blocks a thread meanwhile, and hears of news only while it asks for something else.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, Value};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use super::error::{cut, excerpt, ElectrumError};

/// The longest line that is read, in bytes: twice the longest honest answer.
///
/// Anyone can send to the script of a channel until its list of unspent outputs is as long as the server allows. Fulcrum
/// allows 125,000 entries, of about 130 bytes each. A shorter limit would turn that list into a lost connection, at every
/// poll, and the spend of the funding output would go unnoticed. The largest transaction has eight million digits, and no
/// other answer is near that.
const MAX_LINE: usize = 32 << 20;

/// How long a server may take to make room for a request.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest message of a refusal that is kept, in characters. A node's reason has two or three transaction ids in
/// it.
const MAX_MESSAGE: usize = 4_000;

/// Passes on that the server has news, or is gone.
pub(super) struct Notifier {
    on_news: Box<dyn Fn() + Send + Sync>,
    told_of_loss: AtomicBool,
}

impl Notifier {
    pub fn new(on_news: Box<dyn Fn() + Send + Sync>) -> Self {
        let told_of_loss = AtomicBool::new(false);
        Self {
            on_news,
            told_of_loss,
        }
    }

    /// The server has answered a call: losing it would be news again.
    pub fn served(&self) {
        self.told_of_loss.store(false, Ordering::Relaxed);
    }

    /// Told once until the server answers again. Otherwise this would not end: news cause a poll, a poll makes a
    /// connection, and losing that is news.
    pub fn lost(&self) {
        if !self.told_of_loss.swap(true, Ordering::Relaxed) {
            (self.on_news)();
        }
    }
}

/// A connection. It ends when this is dropped.
pub(super) struct Link {
    asks: mpsc::Sender<LinkRequest>,
    /// Why it has ended.
    end: Arc<OnceLock<String>>,
    /// The hashes of scripts that are subscribed to.
    subscribed: Mutex<HashSet<String>>,
    /// The server's program, as it names itself.
    software: String,
    since: Instant,
}

/// An answer stays text until its type is known: as a tree of values it can take forty times as much memory.
type Reply = oneshot::Sender<Result<Box<RawValue>, ElectrumError>>;

struct LinkRequest {
    call: &'static str,
    params: Value,
    reply: Reply,
}

impl Link {
    /// Connects, and agrees on the version of the protocol.
    pub async fn connect(address: &str, notifier: Arc<Notifier>) -> Result<Self, ElectrumError> {
        let connect = |source| ElectrumError::Connect {
            address: address.to_owned(),
            source,
        };
        let stream = TcpStream::connect(address).await.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let (asks, inbox) = mpsc::channel(16);
        let wire = SocketTask {
            lines: Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE)),
            waiting: HashMap::new(),
            asked: 0,
            notifier,
            end: Arc::default(),
        };
        let mut link = Self {
            asks,
            end: Arc::clone(&wire.end),
            subscribed: Mutex::default(),
            software: String::new(),
            since: Instant::now(),
        };
        tokio::spawn(wire.run(inbox));
        let greeting: Box<RawValue> = link.call("server.version", json!(["spilman", "1.4"])).await?;
        // As values, a longer one could take much more memory than its text.
        let greeting = Some(greeting.get()).filter(|text| text.len() <= MAX_MESSAGE);
        let greeting: Vec<Value> = greeting
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        if let Some(Value::String(software)) = greeting.into_iter().next() {
            link.software = software;
        }
        Ok(link)
    }

    pub fn software(&self) -> &str {
        &self.software
    }

    /// Returns the time since it was made.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Returns what ended it.
    pub fn end(&self) -> ElectrumError {
        let why = self.end.get().cloned();
        ElectrumError::Lost(why.unwrap_or_else(|| "the connection was closed".to_owned()))
    }

    pub fn is_open(&self) -> bool {
        !self.asks.is_closed()
    }

    pub async fn call<T: DeserializeOwned>(
        &self,
        call: &'static str,
        params: Value,
    ) -> Result<T, ElectrumError> {
        let (reply, answer) = oneshot::channel();
        let ask = LinkRequest { call, params, reply };
        self.asks.send(ask).await.map_err(|_| self.end())?;
        let answer = answer.await.map_err(|_| self.end())??;
        serde_json::from_str(answer.get()).map_err(|error| ElectrumError::nonsense(call, &error))
    }

    /// Returns the same, for a call that the server may refuse: the refusal is then a part of the answer.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        call: &'static str,
        params: Value,
    ) -> Result<Result<T, ElectrumError>, ElectrumError> {
        match self.call(call, params).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(refusal @ ElectrumError::Refused { .. }) => Ok(Err(refusal)),
            Err(error) => Err(error),
        }
    }

    /// Subscribes to news of a script. The server may refuse: no poll depends on these news.
    pub async fn subscribe(&self, script_hash: &str) -> Result<(), ElectrumError> {
        // Whole entries are put in, so that a panic elsewhere leaves nothing half done.
        let subscribed = || self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        if subscribed().contains(script_hash) {
            return Ok(());
        }
        let asked = self.ask::<IgnoredAny>("blockchain.scripthash.subscribe", json!([script_hash]));
        if asked.await?.is_ok() {
            subscribed().insert(script_hash.to_owned());
        }
        Ok(())
    }
}

/// The task that holds the socket.
struct SocketTask {
    lines: Framed<TcpStream, LinesCodec>,
    waiting: HashMap<u64, (&'static str, Reply)>,
    asked: u64,
    notifier: Arc<Notifier>,
    end: Arc<OnceLock<String>>,
}

/// An answer has an id, news have a method.
#[derive(Deserialize)]
struct Line<'a> {
    id: Option<u64>,
    method: Option<IgnoredAny>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl SocketTask {
    async fn run(mut self, mut inbox: mpsc::Receiver<LinkRequest>) {
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
                        Err(format!("it sent a line longer than {MAX_LINE} bytes"))
                    }
                    Some(Err(LinesCodecError::Io(error))) => Err(error.to_string()),
                    None => Err("it closed the connection".to_owned()),
                },
            };
            if let Err(why) = done {
                break why;
            }
        };
        // Before the inbox is closed, because a caller that finds it closed asks why. Nothing else sets it.
        let _ = self.end.set(why.clone());
        inbox.close();
        for (_, (_, reply)) in self.waiting.drain() {
            // The caller may have stopped waiting.
            let _ = reply.send(Err(ElectrumError::Lost(why.clone())));
        }
        self.notifier.lost();
    }

    async fn send(&mut self, ask: LinkRequest) -> Result<(), String> {
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
        let line: Line<'_> = serde_json::from_str(text)
            .map_err(|error| format!("it sent {:?}, which is not an answer: {error}", excerpt(text)))?;
        let Some(id) = line.id else {
            if line.method.is_none() {
                return Err(format!("it sent {:?}, which answers no request", excerpt(text)));
            }
            (self.notifier.on_news)();
            return Ok(());
        };
        let Some((call, reply)) = self.waiting.remove(&id) else {
            return Err(format!("it answered request {id}, which was never sent"));
        };
        let answer = match line.error {
            None => Ok(line.result.unwrap_or(RawValue::NULL).to_owned()),
            Some(error) => Err(refused(call, error)),
        };
        let _ = reply.send(answer);
        Ok(())
    }
}

/// An error is an object, or just a string.
fn refused(call: &'static str, error: &RawValue) -> ElectrumError {
    #[derive(Deserialize)]
    struct Words<'a> {
        #[serde(borrow)]
        code: Option<&'a RawValue>,
        message: String,
    }
    let Words { code, message } = serde_json::from_str(error.get()).unwrap_or_else(|_| {
        let text = serde_json::from_str(error.get());
        let message = text.unwrap_or_else(|_| error.get().to_owned());
        Words { code: None, message }
    });
    ElectrumError::Refused {
        call,
        // Some servers send none, or text.
        code: code
            .and_then(|code| serde_json::from_str(code.get()).ok())
            .unwrap_or_default(),
        message: cut(message.trim(), MAX_MESSAGE),
    }
}
