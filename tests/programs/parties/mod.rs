//! `spilman payee` and `spilman payer`, on a node without a wallet.

mod flow;
mod refusals;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, TxOut};
use serde_json::Value;
use spilman::regtest::{Regtest, RPC_PASSWORD, RPC_USER};

use crate::common::proc::signal;
use crate::common::wait::until;
use crate::{said, Said, SPILMAN};

const DEADLINE: Duration = Duration::from_secs(60);

/// One side, with its folder and its node.
struct Side<'a> {
    name: &'static str,
    folder: &'a Path,
    url: String,
}

impl<'a> Side<'a> {
    fn new(chain: &Regtest, name: &'static str, folder: &'a Path) -> Self {
        let url = chain.node().rpc_url();
        Self { name, folder, url }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SPILMAN);
        command
            .arg(self.name)
            .args(arguments)
            .arg("--data")
            .arg(self.folder);
        command.args(["--rpc-url", &self.url, "--rpc-user", RPC_USER]);
        command.env("SPILMAN_RPC_PASSWORD", RPC_PASSWORD);
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        said(
            &self
                .command(arguments)
                .output()
                .expect("it was built with this test"),
        )
    }

    /// The answer of a command that succeeds.
    fn ask(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
        serde_json::from_str(&out).expect("JSON")
    }

    /// The words of a command that fails.
    fn refuses(&self, arguments: &[&str], words: &str) {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {out}{err}");
        assert!(err.contains(words), "{words:?} is not in {err:?}");
        assert_eq!(out, "", "{arguments:?}");
    }

    /// Starts a command that waits for blocks.
    fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(&[arguments, &["--json"]].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("it was built with this test")
    }

    fn serve(&self, listen: &str) -> Serving {
        let mut command = self.command(&["serve", "--listen", listen, "--until-stdin-ends", "--json"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it was built with this test");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        said.read_line(&mut line).expect("its first line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["report"], "serving");
        let address = line["address"].as_str().expect("an address").to_owned();
        Serving { child, said, address }
    }

    /// Pays to the seed's address.
    fn give_coin(&self, chain: &Regtest, amount: u64) {
        let answer = self.ask(&["address"]);
        let address: Address<NetworkUnchecked> =
            answer["address"].as_str().expect("text").parse().expect("one");
        let output = TxOut {
            value: Amount::from_sat(amount),
            script_pubkey: address.assume_checked().script_pubkey(),
        };
        chain.pay(vec![output]).expect("a coin");
    }
}

/// A payee that serves.
struct Serving {
    child: Child,
    said: BufReader<ChildStdout>,
    address: String,
}

impl Serving {
    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is gone");
    }

    /// Ends it by a signal, and returns what it has said.
    fn end(mut self, by: &str) -> String {
        signal(&self.child.id().to_string(), by);
        let mut said = String::new();
        self.said.read_to_string(&mut said).expect("its last lines");
        assert_eq!(self.child.wait().expect("it is gone").code(), Some(0), "{said}");
        said
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // One that has ended is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a transaction waits for a block, and mines.
fn mine_when_broadcast(chain: &Regtest, blocks: u32) {
    until("a transaction", DEADLINE, || {
        let mempool = chain.node().mempool().expect("the mempool");
        (!mempool.is_empty(), mempool)
    });
    chain.mine(blocks).expect("blocks");
}

/// The answer of a command that has waited.
fn answer(child: Child) -> Value {
    let (code, out, err) = said(&child.wait_with_output().expect("its end"));
    assert_eq!(code, Some(0), "{out}{err}");
    serde_json::from_str(&out).expect("JSON")
}

/// Opens a channel, and returns its name.
fn open(chain: &Regtest, payer: &Side, payee: &str, capacity: &str) -> String {
    let opening = payer.begin(&["open", payee, "--capacity", capacity]);
    mine_when_broadcast(chain, 3);
    let opened = answer(opening);
    assert_eq!(opened["stage"], "open");
    opened["channel"].as_str().expect("a name").to_owned()
}
