//! The peers of a node.

use serde::Deserialize;
use serde_json::{json, Value};

use super::rpc::call;
use crate::regtest::error::Error;
use crate::regtest::node::Node;

/// A connection, as one of its ends sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Peer {
    /// The address of the other end: the one on which it listens, if this end connected.
    pub addr: String,
    /// The address of this end.
    pub addrbind: Option<String>,
    /// Whether the other end opened the connection.
    pub inbound: bool,
    /// The version of the peer-to-peer protocol that the other end speaks; 0 before the handshake.
    pub version: u32,
    /// The user agent of the other end, such as `/Satoshi:31.99.0/`; empty before the handshake.
    #[serde(rename = "subver")]
    pub subversion: String,
    inflight: Vec<Value>,
}

impl Peer {
    /// Returns whether the handshake is complete.
    pub fn is_ready(&self) -> bool {
        self.version > 0
    }

    /// Whether a block is on its way from there.
    pub(in crate::regtest) fn sends_block(&self) -> bool {
        !self.inflight.is_empty()
    }
}

impl Node {
    /// Returns the node's peers, on every version of Bitcoin Core.
    pub fn peers(&self) -> Result<Vec<Peer>, Error> {
        call(self.client(), "getpeerinfo", &[])
    }

    /// Connects to another node, once.
    pub(in crate::regtest) fn call_peer(&self, address: &str) -> Result<(), Error> {
        call(self.client(), "addnode", &[json!(address), json!("onetry")])
    }
}
