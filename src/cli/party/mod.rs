//! What the commands of a payer and of a payee share.

pub mod channels;
pub mod data;
pub mod node;
pub mod report;
pub mod wallet;

use std::fmt;
use std::future::Future;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::signal::unix::{signal, SignalKind};

use super::stop::INTERRUPTED;

/// What a command says at its end, on standard output.
#[derive(Debug)]
pub struct Answer {
    text: String,
    json: Value,
}

impl Answer {
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        let text = text.into();
        Self { text, json }
    }

    pub const fn json(&self) -> &Value {
        &self.json
    }

    /// Text and JSON, for a process that prints one of them.
    pub fn envelope(&self) -> Value {
        serde_json::json!({ "text": self.text, "json": self.json })
    }

    /// The reverse.
    pub fn opened(envelope: &Value) -> Self {
        let text = envelope.get("text").and_then(Value::as_str);
        let json = envelope.get("json").cloned();
        Self::new(text.unwrap_or_default(), json.unwrap_or_default())
    }

    pub fn print(&self, as_json: bool) -> Result<()> {
        let text = if as_json {
            self.json.to_string()
        } else {
            self.text.clone()
        };
        Ok(super::print(&format!("{text}\n"))?)
    }
}

/// Runs a command until it is done, or a signal ends it. What a channel needs to go on is on disk by then.
pub fn run(command: impl Future<Output = Result<ExitCode>>, on_signal: ExitCode) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let code = runtime.block_on(async {
        tokio::select! {
            done = command => done,
            signal = interrupted() => signal.map(|()| on_signal),
        }
    });
    // A call to a node that does not answer would hold the process back.
    runtime.shutdown_background();
    code
}

/// What a command that waits ends with when it is interrupted.
pub fn interruption() -> ExitCode {
    ExitCode::from(INTERRUPTED)
}

async fn interrupted() -> Result<()> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut signals = [
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
        listen(SignalKind::hangup())?,
    ];
    let [interrupt, terminate, hangup] = &mut signals;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

/// Says on standard error how a wait goes on, unless it said the same before.
#[derive(Default)]
pub struct Progress {
    said: Option<String>,
    quiet: bool,
}

impl Progress {
    pub const fn new(quiet: bool) -> Self {
        Self { said: None, quiet }
    }

    pub fn say(&mut self, text: impl fmt::Display) {
        let text = text.to_string();
        if !self.quiet && self.said.as_ref() != Some(&text) {
            eprintln!("{text}");
        }
        self.said = Some(text);
    }
}
