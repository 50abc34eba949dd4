//! Who a node is connected with.

use serde::Deserialize;
use serde_json::{json, Value};

use super::error::Error;
use super::node::Node;
use super::rpc::call;

/// A connection, as one of its ends sees it.
#[derive(Debug, Deserialize)]
pub(super) struct Peer {
    /// The address of the other end: that on which it listens, if this end called it.
    pub addr: String,
    /// The own address.
    pub addrbind: Option<String>,
    /// 0 before the handshake.
    version: u32,
    inflight: Vec<Value>,
}

impl Peer {
    /// Whether the handshake is done.
    pub fn is_ready(&self) -> bool {
        self.version > 0
    }

    /// Whether a block is on its way from there.
    pub fn sends_block(&self) -> bool {
        !self.inflight.is_empty()
    }
}

impl Node {
    pub(super) fn peers(&self) -> Result<Vec<Peer>, Error> {
        call(self.client(), "getpeerinfo", &[])
    }

    /// Connects to another node, once.
    pub(super) fn call_peer(&self, address: &str) -> Result<(), Error> {
        call(self.client(), "addnode", &[json!(address), json!("onetry")])
    }
}
