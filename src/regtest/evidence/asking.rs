//! What only the node itself can tell; if it does not, why not.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bitcoincore_rpc::{Client, RpcApi};
use serde_json::{json, Value};

use super::EvidenceSource;

/// A node that hangs is given up after so long without an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The file that is rewritten for each transaction.
const RAW: &str = "mempool.hex";

type File = (&'static str, String);

/// The answers of the node, as files. Whatever it does, this comes to its end.
pub(super) fn asked(source: &EvidenceSource) -> Vec<File> {
    if let Some(why) = (source.absence)() {
        return files_without_answers(&why);
    }
    // The thread that panicked may hold the node's usual client.
    let client = (source.client)();
    let (tell, told) = mpsc::channel();
    // Left to itself if the node hangs: it ends when the node does.
    thread::spawn(move || ask(&client, &tell));
    let mut files: Vec<File> = Vec::new();
    loop {
        match told.recv_timeout(TIMEOUT) {
            Ok((RAW, line)) if files.last().is_some_and(|(name, _)| *name == RAW) => {
                if let Some((_, raw)) = files.last_mut() {
                    raw.push_str(&line);
                }
            }
            Ok(file) => files.push(file),
            Err(mpsc::RecvTimeoutError::Disconnected) => return files,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let why = (source.absence)()
                    .unwrap_or_else(|| format!("the node did not answer within {TIMEOUT:?}"));
                let missing = files_without_answers(&why);
                let is_missing = |(name, _): &File| files.iter().all(|(there, _)| there != name);
                let missing: Vec<_> = missing.into_iter().filter(is_missing).collect();
                files.extend(missing);
                return files;
            }
        }
    }
}

fn files_without_answers(why: &str) -> Vec<File> {
    let text = pretty(&json!({ "error": why }));
    ["tip.json", "peers.json", "mempool.json"]
        .map(|name| (name, text.clone()))
        .to_vec()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The receiver may be gone, which is fine.
fn ask(client: &Client, tell: &mpsc::Sender<File>) {
    let call = |name: &str, arguments: &[Value]| -> Value {
        client
            .call(name, arguments)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }))
    };
    let tip = json!({ "chain": call("getblockchaininfo", &[]), "tips": call("getchaintips", &[]) });
    let _ = tell.send(("tip.json", pretty(&tip)));
    let _ = tell.send(("peers.json", pretty(&call("getpeerinfo", &[]))));
    let mempool = call("getrawmempool", &[json!(true)]);
    let _ = tell.send(("mempool.json", pretty(&mempool)));
    let _ = tell.send((RAW, String::new()));
    for txid in mempool.as_object().into_iter().flat_map(|entries| entries.keys()) {
        if let Ok(Value::String(raw)) = client.call("getrawtransaction", &[json!(txid)]) {
            if tell.send((RAW, format!("{raw}\n"))).is_err() {
                return;
            }
        }
    }
}
