//! How calls reach a node: each is sent once, and waited for as long as the node's patience says.
//!
//! The client crate's own transport sends a call again that takes longer than 15 seconds, so that one
//! `generatetoaddress` may mine twice.

use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::base64::prelude::{Engine as _, BASE64_STANDARD};
use bitcoincore_rpc::jsonrpc::{self, Request, Response, Transport};
use bitcoincore_rpc::Client;
use serde::de::DeserializeOwned;
use serde::Serialize;

use super::node::{RPC_PASSWORD, RPC_USER};

/// The node closes a connection after half a minute without a call; one that may be closed is not used again, since
/// nobody could tell whether a call that was sent over it had arrived.
const IDLE: Duration = Duration::from_secs(10);
/// No call waits shorter than this, so that a test with little patience can still use a busy node.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// Says why the node cannot have answered, if it is known.
pub(super) type Absence = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("no answer within {0:?}; the node may still carry the call out")]
    Late(Duration),
    #[error("{0}")]
    Absent(String),
    #[error("{0}")]
    Broken(String),
}

/// A client whose calls wait so long.
pub(super) fn client(rpc: SocketAddrV4, patience: Duration, absence: Option<Absence>) -> Client {
    let patience = patience.max(LEAST_PATIENCE);
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_age(IDLE)
        // What is on 127.0.0.1 is behind no proxy.
        .proxy(None);
    let login = BASE64_STANDARD.encode(format!("{RPC_USER}:{RPC_PASSWORD}"));
    Client::from_jsonrpc(jsonrpc::Client::with_transport(Http {
        agent: config.build().into(),
        url: format!("http://{rpc}/"),
        authorization: format!("Basic {login}"),
        patience,
        absence,
    }))
}

struct Http {
    agent: ureq::Agent,
    url: String,
    authorization: String,
    patience: Duration,
    absence: Option<Absence>,
}

impl Http {
    fn post<T: DeserializeOwned>(&self, request: &impl Serialize) -> Result<T, jsonrpc::Error> {
        let body = serde_json::to_vec(request)?;
        let (status, answer) = self
            .exchange(&body)
            .map_err(|error| jsonrpc::Error::Transport(Box::new(self.explain(&error))))?;
        // An error of the node comes with a status of its own, and with an answer that says more.
        serde_json::from_slice(&answer).map_err(|error| {
            if status.is_success() {
                return error.into();
            }
            let said = String::from_utf8_lossy(&answer);
            let said = said.trim();
            let said = format!(
                "the node answered HTTP {status}{}{said}",
                if said.is_empty() { "" } else { ": " }
            );
            jsonrpc::Error::Transport(Box::new(NoAnswer::Broken(said)))
        })
    }

    fn exchange(&self, body: &[u8]) -> Result<(ureq::http::StatusCode, Vec<u8>), ureq::Error> {
        let mut response = self
            .agent
            .post(&self.url)
            .header("Authorization", &self.authorization)
            .content_type("application/json")
            .send(body)?;
        // The node is trusted with any length: blocks are long.
        let answer = response.body_mut().with_config().limit(u64::MAX).read_to_vec()?;
        Ok((response.status(), answer))
    }

    fn explain(&self, error: &ureq::Error) -> NoAnswer {
        if matches!(error, ureq::Error::Timeout(_)) {
            return NoAnswer::Late(self.patience);
        }
        if let Some(absence) = self.absence.as_ref().and_then(|absence| absence()) {
            return NoAnswer::Absent(absence);
        }
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                NoAnswer::Broken(format!("nobody listens on {}", self.url))
            }
            error => NoAnswer::Broken(format!(
                "the connection broke before the answer came, so the call may have been carried out: {error}"
            )),
        }
    }
}

impl Transport for Http {
    fn send_request(&self, request: Request<'_>) -> Result<Response, jsonrpc::Error> {
        self.post(&request)
    }

    fn send_batch(&self, requests: &[Request<'_>]) -> Result<Vec<Response>, jsonrpc::Error> {
        self.post(&requests)
    }

    fn fmt_target(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}
