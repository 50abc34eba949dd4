//! How calls reach a node: each is sent once, and waited for as long as the node's timeout says.
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

/// The user name with which a program under test can log in, besides the cookie.
pub const RPC_USER: &str = "spilman";
/// The password of [`RPC_USER`]. It is not a secret: the server listens on 127.0.0.1 only.
pub const RPC_PASSWORD: &str = "regtest";

/// The node closes a connection after half a minute without a call; one that may be closed is not used again, since
/// it would be unknown whether a call that was sent over it had arrived.
const IDLE: Duration = Duration::from_secs(10);
/// No call waits shorter than this, so that a test with a short timeout can still use a busy node.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Nor longer than this, since no clock counts that far.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Says why the node cannot have answered, if it is known.
pub(super) type Absence = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("no answer within {0:?}; the node may still execute the call")]
    Late(Duration),
    #[error("{0}")]
    Absent(String),
    #[error("connection refused by {0}")]
    Refused(String),
    #[error("the node answered HTTP {0}")]
    Status(String),
    #[error("the connection broke before the answer arrived; the node may have executed the call: {0}")]
    Broken(String),
}

/// A client whose calls wait so long.
pub(super) fn client(rpc: SocketAddrV4, timeout: Duration, absence: Option<Absence>) -> Client {
    let timeout = timeout.clamp(SHORTEST_TIMEOUT, LONGEST_TIMEOUT);
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
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
        timeout,
        absence,
    }))
}

struct Http {
    agent: ureq::Agent,
    url: String,
    authorization: String,
    timeout: Duration,
    absence: Option<Absence>,
}

impl Http {
    fn post<T: DeserializeOwned>(&self, request: &impl Serialize) -> Result<T, jsonrpc::Error> {
        let body = serde_json::to_vec(request)?;
        let (status, answer) = self
            .exchange(&body)
            .map_err(|error| jsonrpc::Error::Transport(Box::new(self.explain(&error))))?;
        // An error of the node comes with a separate status, and with an answer that says more.
        serde_json::from_slice(&answer).map_err(|error| {
            if status.is_success() {
                return error.into();
            }
            let said = String::from_utf8_lossy(&answer);
            let said = said.trim();
            let said = format!("{status}{}{said}", if said.is_empty() { "" } else { ": " });
            jsonrpc::Error::Transport(Box::new(NoAnswer::Status(said)))
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
            return NoAnswer::Late(self.timeout);
        }
        if let Some(absence) = self.absence.as_ref().and_then(|absence| absence()) {
            return NoAnswer::Absent(absence);
        }
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                NoAnswer::Refused(self.url.clone())
            }
            error => NoAnswer::Broken(error.to_string()),
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use bitcoincore_rpc::RpcApi;
    use serde_json::Value;

    use super::*;
    use crate::regtest::node::rpc::failed;

    /// A server that does this with each request, on a connection for each request or on one for all; and how many it
    /// has had.
    fn server(answer: fn(&mut TcpStream, u32), keeps: bool) -> (SocketAddrV4, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                while has_request(&mut stream) {
                    answer(&mut stream, counted.fetch_add(1, Ordering::Relaxed) + 1);
                    if !keeps {
                        break;
                    }
                }
            }
        });
        (address, count)
    }

    /// Reads one request to its end.
    fn has_request(stream: &mut TcpStream) -> bool {
        let (mut request, mut byte) = (Vec::new(), [0]);
        while !request.ends_with(b"}") {
            match stream.read(&mut byte) {
                Ok(1) => request.push(byte[0]),
                _ => return false,
            }
        }
        true
    }

    /// Answers the call of this number, as every client counts them from 1.
    fn well(stream: &mut TcpStream, number: u32, header: &str) {
        let body = format!(r#"{{"result":7,"error":null,"id":{number}}}"#);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{header}\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
    }

    fn call(client: &Client) -> Result<Value, String> {
        let called = client.call("generatetoaddress", &[]);
        called.map_err(|error| failed("generatetoaddress", error).to_string())
    }

    #[test]
    fn what_is_not_answered_is_not_sent_again() {
        let second = Duration::from_secs(1);
        for (answer, says) in [
            ((|_, _| ()) as fn(&mut TcpStream, u32), "the connection broke"),
            (|stream, _| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-").unwrap(), "the connection broke"),
            (
                |stream, _| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{").unwrap(),
                "the connection broke",
            ),
            (|stream, _| stream.write_all(b"rubbish\r\n\r\n").unwrap(), "the connection broke"),
            (
                |stream, _| drop(stream.read(&mut [0])),
                "timed out after 1s waiting for an answer to generatetoaddress; last seen: none; the node may still execute the call",
            ),
        ] {
            let (address, count) = server(answer, false);
            let said = call(&client(address, second, None)).unwrap_err();
            assert!(said.contains(says), "{said}");
            assert_eq!(count.load(Ordering::Relaxed), 1, "{said}");
        }
    }

    #[test]
    fn each_call_arrives_once() {
        for (answer, keeps) in [
            (
                (|stream, number| well(stream, number, "")) as fn(&mut TcpStream, u32),
                true,
            ),
            (
                |stream, number| well(stream, number, "Connection: close\r\n"),
                false,
            ),
        ] {
            let (address, count) = server(answer, keeps);
            let client = client(address, Duration::from_secs(10), None);
            for number in 1..=20 {
                assert_eq!(call(&client), Ok(Value::from(7)), "call {number}");
                assert_eq!(count.load(Ordering::Relaxed), number);
            }
        }
    }

    #[test]
    fn what_keeps_a_node_from_answering_is_said() {
        let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let nowhere = nowhere.to_string().parse().unwrap();
        let said = call(&client(nowhere, Duration::from_secs(10), None)).unwrap_err();
        assert_eq!(
            said,
            format!("generatetoaddress failed: connection refused by http://{nowhere}/")
        );
        let absence: Absence = Arc::new(|| Some("the node was eaten".to_owned()));
        let said = call(&client(nowhere, Duration::from_secs(10), Some(absence))).unwrap_err();
        assert_eq!(said, "generatetoaddress failed: the node was eaten");
        let (address, _) = server(
            |stream, _| {
                stream
                    .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                    .unwrap();
            },
            false,
        );
        let said = call(&client(address, Duration::from_secs(10), None)).unwrap_err();
        assert_eq!(
            said,
            "generatetoaddress failed: the node answered HTTP 403 Forbidden"
        );
    }
}
