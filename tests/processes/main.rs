//! Nodes as processes: stopped and started again, many at once, and none left behind, however a test ends.

#[path = "../common/mod.rs"]
mod common;
mod evidence;
mod machine;
mod missing_binary;
mod odd_daemons;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

#[cfg(feature = "electrs")]
use common::child::write_program;
use common::child::{child_of, is_child};
use common::proc::{daemons_of, entries, is_alive, listening, signal};
use common::wait::until;
use spilman::regtest::{Error, InvalidRequest, Node, Regtest, BLOCK_INTERVAL, START_TIME};

/// Generous: what is waited for takes a few hundredths of a second.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where a child says that its nodes are up, and where they are.
const READY: &str = "SPILMAN_TEST_READY";

/// Tells the parent that the node is up: its process, its folder.
fn announce(node: &Node) {
    let pid = fs::read_to_string(node.data_dir().join("regtest/bitcoind.pid")).unwrap();
    let file = PathBuf::from(std::env::var_os(READY).unwrap());
    let half = file.with_extension("half");
    fs::write(&half, format!("{}\n{}", pid.trim(), node.data_dir().display())).unwrap();
    fs::rename(half, file).unwrap();
}

/// How the child ends its life once its node runs.
fn live(ending: &str) {
    match ending {
        "exit" => {
            // What is static is never dropped.
            static NODE: OnceLock<Node> = OnceLock::new();
            announce(NODE.get_or_init(|| Node::start().unwrap()));
            std::process::exit(0);
        }
        "panic" => {
            let node = Node::start().unwrap();
            announce(&node);
            panic!("as it should");
        }
        "dropped-runtime" => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let (tell, told) = std::sync::mpsc::channel();
            runtime.spawn(async move {
                let node = tokio::task::spawn_blocking(|| Node::start().unwrap())
                    .await
                    .unwrap();
                announce(&node);
                tell.send(()).unwrap();
                std::future::pending::<()>().await;
            });
            told.recv().unwrap();
            drop(runtime);
        }
        #[cfg(feature = "electrs")]
        "electrs" => {
            let chain = Regtest::builder().electrs(true).start().unwrap();
            let daemons = daemons_of(std::process::id());
            let is_there = daemons.iter().any(|line| line.contains("--electrum-rpc-addr"));
            assert!(is_there, "{daemons:?}");
            announce(chain.node());
            thread::sleep(TIMEOUT * 10);
        }
        _ => {
            let node = Node::start().unwrap();
            announce(&node);
            // It is killed long before; if its parent is killed first, it exits on its own.
            thread::sleep(TIMEOUT * 10);
        }
    }
}

/// What the child has announced.
fn announced(ready: &Path) -> (i32, PathBuf) {
    let mut said = String::new();
    until("the child's node", TIMEOUT, || match fs::read_to_string(ready) {
        Ok(text) => {
            said = text;
            (true, String::new())
        }
        Err(error) => (false, error.to_string()),
    });
    let (pid, folder) = said.split_once('\n').unwrap();
    (pid.parse().unwrap(), folder.into())
}

/// Runs this test's child until its node is up, ends it, and checks how it ended and that nothing is left.
fn leaves_nothing(test: impl Fn(), ending: &str, end: impl FnOnce(u32), is_expected: fn(ExitStatus) -> bool) {
    if is_child(live) {
        return;
    }
    // Not every tool takes such a name as it is, in this locale.
    let scratch = tempfile::Builder::new().prefix("ü \\n [x]* ").tempdir().unwrap();
    let ready = scratch.path().join("ready");
    let child = child_of(test, ending)
        .env(READY, &ready)
        .env("TMPDIR", scratch.path())
        .env("LC_ALL", "C")
        .env("TEMPDIR_ROOT", "")
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (daemon, folder) = announced(&ready);
    let process = child.id();
    end(process);
    let output = child.wait_with_output().unwrap();
    until(&format!("nothing to be left of {ending}"), TIMEOUT, || {
        let (processes, files) = (daemons_of(process), entries(scratch.path()));
        let only_ours = files
            .iter()
            .all(|name| name == "ready" || name == "spilman-evidence");
        let nothing = processes.is_empty() && only_ours && !is_alive(daemon) && !folder.exists();
        (nothing, (processes, files))
    });
    assert!(is_expected(output.status), "{output:?}");
}

/// Nothing is left of a process that was killed before it had a node.
fn nothing_is_left(process: u32, scratch: &Path) {
    until("nothing to be left", TIMEOUT, || {
        let left = (daemons_of(process), entries(scratch));
        (left.0.is_empty() && left.1.is_empty(), left)
    });
}

fn kill(process: u32) {
    signal(&process.to_string(), "KILL");
}

fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

#[test]
fn kill_9_of_the_test_leaves_nothing() {
    leaves_nothing(kill_9_of_the_test_leaves_nothing, "wait", kill, was_killed);
}

#[cfg(feature = "electrs")]
#[test]
fn kill_9_of_the_test_leaves_no_electrs() {
    leaves_nothing(kill_9_of_the_test_leaves_no_electrs, "electrs", kill, was_killed);
}

/// One that has no node yet, so that it would not end for want of it.
#[cfg(feature = "electrs")]
#[test]
fn kill_9_while_electrs_comes_up_leaves_nothing() {
    if is_child(|_| drop(Regtest::builder().electrs(true).start())) {
        return;
    }
    let (scratch, programs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = programs.path().join("electrs");
    write_program(
        &program,
        "#!/bin/sh\n[ \"$1\" = --version ] && echo v0 && exit\nwhile :; do sleep 1; done\n",
    );
    let mut child = child_of(kill_9_while_electrs_comes_up_leaves_nothing, "start")
        .env("ELECTRS_EXE", &program)
        .env("TEMPDIR_ROOT", scratch.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("electrs to come up", TIMEOUT, || {
        let daemons = daemons_of(child.id());
        let is_there = daemons.iter().any(|line| line.contains("--electrum-rpc-addr"));
        (is_there, daemons)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    nothing_is_left(child.id(), scratch.path());
}

#[test]
fn ctrl_c_at_the_terminal_leaves_nothing() {
    // A terminal sends it to the whole foreground group.
    let interrupt = |process| signal(&format!("-{process}"), "INT");
    let was_interrupted = |status: ExitStatus| status.signal() == Some(2);
    leaves_nothing(
        ctrl_c_at_the_terminal_leaves_nothing,
        "wait",
        interrupt,
        was_interrupted,
    );
}

#[test]
fn an_exit_with_a_node_in_a_static_leaves_nothing() {
    let test = an_exit_with_a_node_in_a_static_leaves_nothing;
    leaves_nothing(test, "exit", |_| (), |status| status.success());
}

#[test]
fn a_dropped_runtime_leaves_nothing() {
    let test = a_dropped_runtime_leaves_nothing;
    leaves_nothing(test, "dropped-runtime", |_| (), |status| status.success());
}

#[test]
fn a_panic_leaves_nothing_but_evidence() {
    let test = a_panic_leaves_nothing_but_evidence;
    leaves_nothing(test, "panic", |_| (), |status| !status.success());
}

/// The moment between the birth of a daemon and its entry in the list of those to be ended would be the gap.
#[test]
fn kill_9_at_any_moment_of_a_start_leaves_nothing() {
    if is_child(|_| drop(Node::start())) {
        return;
    }
    let children: Vec<_> = (0..25_u64)
        .map(|step| {
            let scratch = tempfile::tempdir().unwrap();
            let mut child = child_of(kill_9_at_any_moment_of_a_start_leaves_nothing, "start")
                .env("TMPDIR", scratch.path())
                .env("TEMPDIR_ROOT", "")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Not a wait for something, but the moment that is tried.
            thread::sleep(Duration::from_millis(step * 4));
            child.kill().unwrap();
            child.wait().unwrap();
            (child.id(), scratch)
        })
        .collect();
    for (process, scratch) in children {
        nothing_is_left(process, scratch.path());
    }
}

#[test]
fn a_node_that_restarts_keeps_its_data_ports_and_time() {
    let chain = Regtest::builder()
        .node(Node::builder().p2p(true))
        .start()
        .unwrap();
    let node = chain.node();
    chain.mine(2).unwrap();
    let (tip, rpc, p2p) = (chain.tip().unwrap(), node.rpc_address(), node.p2p_address());

    node.stop().unwrap();
    assert!(!node.is_running());
    let refused = |call: Result<(), Error>, expected: &str| {
        let error = call.unwrap_err();
        let is_it =
            matches!(error, Error::InvalidRequest(InvalidRequest::NodeState { state }) if state == expected);
        assert!(is_it, "{error}");
    };
    refused(node.stop(), "stopped");
    refused(node.kill(), "stopped");
    assert!(matches!(chain.tip(), Err(Error::Node(_))), "no one answers");

    node.restart().unwrap();
    assert!(node.is_running());
    refused(node.restart(), "running");
    assert_eq!(chain.tip().unwrap(), tip);
    assert_eq!((node.rpc_address(), node.p2p_address()), (rpc, p2p));
    assert_eq!(node.mock_time(), START_TIME + 2 * BLOCK_INTERVAL);
    // The node's clock is where it was: a block of that time is not from the future.
    assert_eq!(chain.mine(1).unwrap()[0].height, tip.height + 1);

    // Killed, it forgets what was not written down.
    let flushed = chain.tip().unwrap();
    node.flush().unwrap();
    chain.mine(1).unwrap();
    node.kill().unwrap();
    node.restart().unwrap();
    assert_eq!(chain.tip().unwrap(), flushed);
}

#[test]
fn what_a_program_logs_in_with_outlasts_a_restart() {
    use spilman::regtest::bitcoincore_rpc::{Auth, Client, RpcApi};
    use spilman::regtest::{RPC_PASSWORD, RPC_USER};

    let node = Node::start().unwrap();
    let by_password = Auth::UserPass(RPC_USER.into(), RPC_PASSWORD.into());
    let by_password = Client::new(&node.rpc_url(), by_password).unwrap();
    let by_cookie = || Client::new(&node.rpc_url(), Auth::CookieFile(node.cookie_file())).unwrap();
    assert_eq!(by_cookie().get_block_count().unwrap(), 0);
    node.stop().unwrap();
    node.restart().unwrap();
    assert_eq!(by_password.get_block_count().unwrap(), 0);
    assert_eq!(by_cookie().get_block_count().unwrap(), 0);
}

/// The ports for RPC and for peers, and no other: none for onion peers, none on other addresses.
#[test]
fn a_node_listens_on_127_0_0_1_alone() {
    for p2p in [false, true] {
        let node = Node::builder().p2p(p2p).start().unwrap();
        let pid = fs::read_to_string(node.data_dir().join("regtest/bitcoind.pid")).unwrap();
        let own: BTreeSet<_> = [Some(node.rpc_address()), node.p2p_address()]
            .into_iter()
            .flatten()
            .map(|socket| socket.to_string())
            .collect();
        assert_eq!(own.len(), 1 + usize::from(p2p));
        assert_eq!(listening(pid.trim().parse().unwrap()), own);
    }
}

#[test]
fn a_port_that_is_taken_for_good_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let error = Node::builder()
        .p2p(true)
        .arg(format!("-bind={address}"))
        .start()
        .unwrap_err()
        .to_string();
    assert!(error.contains(&format!("Unable to bind to {address}")), "{error}");
}

#[test]
fn fifty_nodes_at_once_start_and_stop() {
    let nodes: Vec<Node> = thread::scope(|scope| {
        let starts: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| Node::builder().p2p(true).start().unwrap()))
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let sockets: BTreeSet<_> = nodes
        .iter()
        .flat_map(|node| [Some(node.rpc_address()), node.p2p_address()])
        .collect();
    assert_eq!(sockets.len(), 100, "each has separate ports");
    for node in &nodes {
        assert_eq!(node.tip().unwrap().height, 0);
    }
    thread::scope(|scope| {
        for node in nodes {
            scope.spawn(move || node.stop().unwrap());
        }
    });
}
