//! Who a node is connected with.

use serde::Deserialize;
use serde_json::{json, Value};

use super::error::Error;
use super::node::Node;
use super::rpc::call;

/// A connection, as one of its ends sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Peer {
    /// The address of the other end: that on which it listens, if this end called it.
    pub addr: String,
    /// The address of this end.
    pub addrbind: Option<String>,
    /// Whether the other end called this one.
    pub inbound: bool,
    /// The version of the peer-to-peer protocol that the other end speaks; 0 before the handshake.
    pub version: u32,
    /// What the other end says that it is, such as `/Satoshi:31.99.0/`; empty before the handshake.
    #[serde(rename = "subver")]
    pub subversion: String,
    inflight: Vec<Value>,
}

impl Peer {
    /// Whether the handshake is done.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.version > 0
    }

    /// Whether a block is on its way from there.
    pub(super) fn sends_block(&self) -> bool {
        !self.inflight.is_empty()
    }
}

impl Node {
    /// Who the node is connected with, on every version of Bitcoin Core.
    ///
    /// # Errors
    ///
    /// If the node fails.
    pub fn peers(&self) -> Result<Vec<Peer>, Error> {
        call(self.client(), "getpeerinfo", &[])
    }

    /// Connects to another node, once.
    pub(super) fn call_peer(&self, address: &str) -> Result<(), Error> {
        call(self.client(), "addnode", &[json!(address), json!("onetry")])
    }
}
