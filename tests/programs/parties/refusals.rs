use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use spilman::regtest::{find_bitcoind, Regtest};

use super::{open, Side, DEADLINE};
use crate::common::wait::until;
use crate::{said, SPILMAN};

/// Each refusal says what to do.
#[test]
fn what_cannot_be_done_is_refused() {
    let chain = Regtest::start().expect("a node");
    let folder = tempfile::tempdir().expect("a folder");
    let [payer, payee, other] = ["payer", "payee", "other"].map(|name| folder.path().join(name));
    let payer = Side::new(&chain, "payer", &payer);
    let (payee, other) = (
        Side::new(&chain, "payee", &payee),
        Side::new(&chain, "payee", &other),
    );

    payer.refuses(&["status"], "make a new one with `spilman payer address`");
    payer.ask(&["address"]);
    payer.refuses(&["pay", "--total", "1"], "no channel is open here");
    let serving = payee.serve("127.0.0.1:0");
    let open_here = ["open", &serving.address, "--capacity", "100000"];
    payer.refuses(&open_here, "0 sat in 0 confirmed coins");
    payer.give_coin(&chain, 200_000);
    let nowhere = free_port();
    payer.refuses(
        &["open", &nowhere, "--capacity", "100000"],
        "cannot reach the payee",
    );
    let web = web_server();
    payer.refuses(&["open", &web, "--capacity", "100000"], "cannot reach the payee");
    payer.refuses(
        &["open", &serving.address, "--capacity", "900"],
        "outside the limits",
    );

    let channel = open(&chain, &payer, &serving.address, "100000");
    payer.refuses(&["pay", "zz", "--total", "1"], "begins with zz");
    payer.refuses(&["pay", "--total", "100001"], "cannot pay");
    let stranger = other.serve("127.0.0.1:0");
    payer.refuses(
        &["pay", &channel, "--total", "1", "--payee", &stranger.address],
        "unknown-channel",
    );
    payee.refuses(
        &["serve", "--listen", "127.0.0.1:0"],
        "is in use by another process",
    );
    serving.kill();
    payer.refuses(
        &["pay", "--total", "1"],
        "is `spilman payee serve` running there?",
    );
    let payout = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    payee.refuses(&["serve", "--payout", payout], "an address of another network");
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").to_string()
}

/// What answers at a wrong address, once.
fn web_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .expect("it reads");
        // Until the other side hangs up.
        stream.read_to_end(&mut Vec::new())
    });
    address
}

#[test]
fn a_seed_that_is_missing_or_open_to_others_is_refused() {
    let chain = Regtest::start().expect("a node");
    let folder = tempfile::tempdir().expect("a folder");
    let payee = Side::new(&chain, "payee", folder.path());
    payee.serve("127.0.0.1:0").end("INT");
    let seed = folder.path().join("seed");
    fs::set_permissions(&seed, Permissions::from_mode(0o640)).expect("its mode");
    payee.refuses(&["serve"], "others can read the seed");
    fs::write(&seed, "seed").expect("a file");
    fs::set_permissions(&seed, Permissions::from_mode(0o600)).expect("its mode");
    payee.refuses(&["serve"], "expected 64 hex digits");
    fs::remove_file(&seed).expect("it is there");
    payee.refuses(&["serve"], "put the seed back");
}

/// A node on another chain, alone and offline.
struct Foreign {
    child: Child,
    url: String,
    cookie: String,
}

impl Foreign {
    fn start(chain: &str, folder: &Path) -> Self {
        let address = free_port();
        let port = address.rsplit_once(':').expect("a port").1;
        let mut command = Command::new(find_bitcoind().expect("a bitcoind").path);
        command
            .arg(format!("-chain={chain}"))
            .arg(format!("-datadir={}", folder.display()));
        command.args(["-connect=0", "-listen=0", "-dnsseed=0", "-server=1", "-daemon=0"]);
        command
            .arg(format!("-rpcport={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("it starts");
        let cookie = if chain == "main" {
            ".cookie".into()
        } else {
            format!("{chain}/.cookie")
        };
        let cookie = folder.join(cookie);
        until("the cookie", DEADLINE, || (cookie.exists(), &cookie));
        let (url, cookie) = (
            format!("http://{address}"),
            cookie.to_str().expect("text").to_owned(),
        );
        Self { child, url, cookie }
    }

    /// `payee serve` on this node.
    fn serve(&self, data: &Path) -> Command {
        let mut command = Command::new(SPILMAN);
        command.args(["payee", "serve", "--listen", "127.0.0.1:0"]);
        command.args(["--rpc-url", &self.url, "--rpc-cookie", &self.cookie]);
        command.arg("--data").arg(data);
        command
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mainnet_is_refused_and_so_is_the_node_of_another_chain() {
    let folder = tempfile::tempdir().expect("a folder");
    let [main, testnet, data] = ["main", "testnet4", "data"].map(|name| folder.path().join(name));
    fs::create_dir(&main).expect("a folder");
    fs::create_dir(&testnet).expect("a folder");
    let node = Foreign::start("main", &main);
    let (code, out, err) = said(&node.serve(&data).output().expect("its end"));
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(
        err.contains("the node is on mainnet, and this command is for test networks alone"),
        "{err}"
    );
    drop(node);

    // Testnet4 without a peer never ends its first download, so that nothing it says of the chain counts.
    let node = Foreign::start("testnet4", &testnet);
    let mut waiting = node
        .serve(&data)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built");
    let mut said = std::io::BufReader::new(waiting.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("waiting for the node to catch up") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut said, &mut line).expect("a line");
        assert!(read > 0, "it ended instead of waiting");
    }
    assert!(line.contains("on testnet4"), "{line}");
    waiting.kill().expect("it runs");
    waiting.wait().expect("it is gone");

    let regtest = Regtest::start().expect("a node");
    Side::new(&regtest, "payee", &data)
        .serve("127.0.0.1:0")
        .end("INT");
    let chain = fs::read_to_string(data.join("chain")).expect("the chain");
    fs::write(data.join("chain"), chain.replace("regtest", "testnet4")).expect("a file");
    let payee = Side::new(&regtest, "payee", &data);
    payee.refuses(&["serve"], "belongs to testnet4, and the node is on regtest");
    fs::write(data.join("chain"), format!("regtest 1 {}\n", "0".repeat(64))).expect("a file");
    payee.refuses(&["serve"], "belongs to another regtest: its block 1 is 0000");
}

#[test]
fn a_node_that_is_not_there_is_named() {
    let chain = Regtest::start().expect("a node");
    let folder = tempfile::tempdir().expect("a folder");
    let mut payee = Side::new(&chain, "payee", folder.path());
    payee.url = format!("http://{}", free_port());
    payee.refuses(&["serve"], "is bitcoind running, and is --rpc-url right?");
    payee.url.clone_from(&chain.node().rpc_url());
    let mut wrong = payee.command(&["serve"]);
    let (_, _, err) = said(
        &wrong
            .env("SPILMAN_RPC_PASSWORD", "wrong")
            .output()
            .expect("its end"),
    );
    assert!(
        err.contains("check --rpc-cookie, or --rpc-user and its password"),
        "{err}"
    );
    let (code, out, err) = said(
        &wrong
            .env_remove("SPILMAN_RPC_PASSWORD")
            .output()
            .expect("its end"),
    );
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("set SPILMAN_RPC_PASSWORD"), "{err}");
}
