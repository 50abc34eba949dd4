//! What the node makes of the descriptors and the PSBTs of every construction, in calls that need no wallet.

mod channel;
mod output;
mod psbt;

use bitcoin::Amount;
use bitcoincore_rpc::{jsonrpc, Error, RpcApi};
use serde_json::Value;
use spilman::regtest::Regtest;

/// What the node answers to a call that the harness has no function for.
fn ask(chain: &Regtest, call: &str, arguments: &[Value]) -> Value {
    match chain.node().client().call(call, arguments) {
        Ok(answer) => answer,
        Err(error) => panic!("{call} {arguments:?}: {error}"),
    }
}

/// The node's own words when it will not.
fn refused(chain: &Regtest, call: &str, arguments: &[Value]) -> String {
    match chain.node().client().call::<Value>(call, arguments) {
        Err(Error::JsonRpc(jsonrpc::Error::Rpc(error))) => error.message,
        other => panic!("{call} {arguments:?} was not refused: {other:?}"),
    }
}

/// Nodes write amounts in bitcoin.
fn amount(value: &Value) -> Amount {
    let bitcoin = value.as_f64().unwrap_or_else(|| panic!("{value} is no amount"));
    Amount::from_btc(bitcoin).unwrap_or_else(|error| panic!("{value}: {error}"))
}
