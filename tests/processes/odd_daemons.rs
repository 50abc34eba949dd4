//! Odd programs in odd places: wrappers, shims, daemons that exit on their own, folders that cannot be used.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bitcoin::Address;
use spilman::regtest::bitcoincore_rpc::RpcApi;
use spilman::regtest::{find_bitcoind, Error, InvalidRequest, Node, NodeError, Regtest, START_HEIGHT};

use super::{announced, kill, READY, TIMEOUT};
use crate::common::assert_matches;
use crate::common::child::{child_of, is_child, write_program};
use crate::common::proc::{entries, is_alive, marked, reaper_of, signal};
use crate::common::wait::until;

/// Programs that start the real one in some way, `$REAL`.
#[rustfmt::skip]
const WRAPPERS: &[(&str, &str)] = &[
    ("without exec", r#""$REAL" "$@""#),
    ("with a helper", r#"sleep 1000 & exec "$REAL" "$@""#),
    (
        "with helpers that hide",
        r#"case $* in *-datadir=/\ *) ;; *) for n in 1 2 3 4 5 6 7 8 9; do setsid env -i sleep 4321 & echo $! >>"${0%/*}/helpers"; done ;; esac; exec "$REAL" "$@""#,
    ),
    ("in the background", r#""$REAL" "$@" & wait $!"#),
    ("in a separate session", r#"setsid "$REAL" "$@" & wait $!"#),
    ("without its environment", r#"env -i "$REAL" "$@"; exit $?"#),
    ("without anything of its parent", r#"setsid env -i "$REAL" "$@" & wait $!"#),
    ("with a word first", r#"echo "Error reading locale, ignored" >&2; exec "$REAL" "$@""#),
    ("beside its program", r#"exec "$(dirname "$0")/real" "$@""#),
    ("by its own name", r#"case $0 in */bitcoind) exec "$REAL" "$@" ;; *) exit 9 ;; esac"#),
];

fn wrapper(folder: &Path, script: &str) -> PathBuf {
    let real = find_bitcoind().unwrap().path;
    let link = folder.join("real");
    if !link.exists() {
        std::os::unix::fs::symlink(&real, link).unwrap();
    }
    let program = folder.join("bitcoind");
    write_program(
        &program,
        &format!("#!/bin/sh\nREAL='{}'\n{script}\n", real.display()),
    );
    program
}

/// The processes that a wrapper has left beside the node, without any mark, and that are still there.
fn helpers_of(folder: &Path) -> Vec<i32> {
    let listed = fs::read_to_string(folder.join("helpers")).unwrap_or_default();
    let pids = listed.lines().map(|line| line.parse().unwrap());
    pids.filter(|&pid| is_alive(pid)).collect()
}

#[test]
fn a_wrapped_node_starts_stops_and_leaves_nothing() {
    for (how, script) in WRAPPERS {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::builder().program(wrapper(folder.path(), script)).start();
        let node = node.unwrap_or_else(|error| panic!("{how}: {error}"));
        let place = node.data_dir().parent().unwrap().to_owned();
        let nothing_is_left = || {
            let helpers = helpers_of(folder.path());
            assert_eq!((marked(&place), helpers), (Vec::new(), Vec::new()), "{how}");
        };
        node.stop().unwrap_or_else(|error| panic!("{how}: {error}"));
        nothing_is_left();
        node.restart().unwrap();
        node.kill().unwrap();
        nothing_is_left();
        node.restart().unwrap();
        drop(node);
        nothing_is_left();
        assert!(!place.exists(), "{how}");
    }
}

#[test]
fn kill_9_leaves_nothing_of_a_wrapped_node() {
    if is_child(super::live) {
        return;
    }
    for (how, script) in WRAPPERS {
        let folder = tempfile::tempdir().unwrap();
        let program = wrapper(folder.path(), script);
        let (scratch, _) = run_to_node(kill_9_leaves_nothing_of_a_wrapped_node, &program, kill);
        until(&format!("nothing to be left of one {how}"), TIMEOUT, || {
            let helpers = helpers_of(folder.path());
            let left = (marked(scratch.path()), entries(scratch.path()), helpers);
            let nothing = left.0.is_empty() && left.1 == ["ready"] && left.2.is_empty();
            (nothing, left)
        });
    }
}

/// Starts a child of this test with a node and ends it as told. The answer is its temporary folder, and that of its nodes.
fn run_to_node(test: impl Fn(), program: &Path, end: impl FnOnce(u32)) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let ready = scratch.path().join("ready");
    let mut child = child_of(test, "wait")
        .env(READY, &ready)
        .env("BITCOIND_EXE", program)
        .env("TEMPDIR_ROOT", scratch.path())
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (_, data) = announced(&ready);
    end(child.id());
    child.wait().unwrap();
    (scratch, data.parent().and_then(Path::parent).unwrap().to_owned())
}

/// As in a container, whose first process is the test, and whose temporary folder outlives it.
#[test]
fn what_was_left_without_a_reaper_is_swept_up_by_the_next_test() {
    if is_child(super::live) {
        return;
    }
    let real = find_bitcoind().unwrap().path;
    let (scratch, left) = run_to_node(
        what_was_left_without_a_reaper_is_swept_up_by_the_next_test,
        &real,
        |child| {
            signal(&reaper_of(child).to_string(), "KILL");
            kill(child);
        },
    );
    assert!(left.exists() && marked(&left).len() == 1, "{left:?}");
    let sweep = || {
        let child = child_of(a_node_that_is_started_for_the_sweep, "start")
            .env("TEMPDIR_ROOT", scratch.path())
            .output();
        assert!(child.unwrap().status.success());
        left.exists()
    };
    assert!(!sweep() && marked(&left).is_empty(), "{}", left.display());
    // What another test uses just now, was to be kept, or is of another machine, stays.
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap();
    fs::create_dir(&left).unwrap();
    let lock = left.join("lock");
    fs::write(&lock, &boot).unwrap();
    let held = fs::File::open(&lock).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(sweep(), "another test uses it");
    drop(held);
    fs::write(left.join("kept"), "").unwrap();
    assert!(sweep(), "it was to be kept");
    fs::remove_file(left.join("kept")).unwrap();
    fs::write(&lock, "another").unwrap();
    assert!(sweep(), "it is of another machine");
    fs::write(&lock, &boot).unwrap();
    assert!(!sweep(), "no one uses it");
}

#[test]
fn a_node_that_is_started_for_the_sweep() {
    drop(Node::start().unwrap());
}

/// It may crash, or be killed from outside.
#[test]
fn a_daemon_that_ends_by_itself_is_noticed_and_can_be_started_again() {
    let chain = Regtest::start().unwrap();
    let node = chain.node();
    node.flush().unwrap();
    let kill_daemon = || {
        let pid = fs::read_to_string(node.data_dir().join("regtest/bitcoind.pid")).unwrap();
        signal(pid.trim(), "KILL");
    };
    for end in ["call", "client", "stop", "kill", "restart"] {
        assert!(node.is_running());
        kill_daemon();
        if !["call", "client"].contains(&end) {
            until("the end", TIMEOUT, || (!node.is_running(), "it runs"));
        }
        let said = match end {
            "call" => node.tip().unwrap_err().to_string(),
            "client" => node.client().get_block_count().unwrap_err().to_string(),
            "stop" => node.stop().unwrap_err().to_string(),
            "kill" => node.kill().unwrap_err().to_string(),
            _ => "exited on its own, by signal 9 (SIGKILL)".to_owned(),
        };
        assert!(said.contains("exited on its own, by signal"), "{end}: {said}");
        assert!(said.contains("SIGKILL"), "{end}: {said}");
        assert!(!node.is_running());
        node.restart().unwrap();
        assert_eq!(chain.tip().unwrap().height, START_HEIGHT);
    }
    node.stop().unwrap();
    let said = node.tip().unwrap_err().to_string();
    assert!(
        said.contains("the node was stopped; Node::restart starts it again"),
        "{said}"
    );
}

/// A call that takes longer than the node's timeout is given up, and done once.
#[test]
fn a_call_that_is_given_up_is_not_sent_again() {
    let builder = Node::builder().timeout(Duration::from_secs(2));
    let chain = Regtest::builder().node(builder).start().unwrap();
    let node = chain.node();
    let pid = fs::read_to_string(node.data_dir().join("regtest/bitcoind.pid")).unwrap();
    let address = Address::from_script(&chain.faucet().script(), bitcoin::Network::Regtest).unwrap();
    signal(pid.trim(), "STOP");
    let raw = node
        .client()
        .generate_to_address(1, &address)
        .unwrap_err()
        .to_string();
    assert!(
        raw.contains("no answer within 2s; the node may still execute the call"),
        "{raw}"
    );
    let error = chain.mine(1).unwrap_err();
    assert!(matches!(error, Error::Node(NodeError::Timeout { .. })), "{error}");
    signal(pid.trim(), "CONT");
    let tip = node.wait_for_height(START_HEIGHT + 1).unwrap();
    chain.mine(1).unwrap();
    assert_eq!(
        chain.tip().unwrap().height,
        tip.height + 1,
        "one block of each call"
    );
}

/// A start that hangs, or a program that is something else, is named with its last words and what to do.
#[test]
fn a_program_that_is_no_node_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for (script, says) in [
        (
            "echo 'ls (coreutils) 9.1'",
            r#"--version printed "ls (coreutils) 9.1", which is not a version"#,
        ),
        ("exit 0", r#"--version printed "", which is not a version"#),
        (
            "echo no library >&2; exit 127",
            "--version ended with status 127: no library",
        ),
        ("kill -9 $$", "--version ended by signal 9 (SIGKILL)"),
        ("echo thinking; sleep 1000", "--version did not answer within 10s"),
        (
            "[ $1 = --version ] && echo version v31.99 && exit; echo is a test; exit 0",
            "it exited at once, with status 0, and said: is a test; a wrapper script must wait for the node",
        ),
        (
            r#"[ $1 = --version ] && echo version v31.99 && exit; "$REAL" "$@" & exit 0"#,
            "it exited at once, with status 0, and printed nothing; a wrapper script must wait for the node",
        ),
        (
            "[ $1 = --version ] && echo version v31.99 && exit; echo thinking; sleep 1000",
            "it did not answer within 2s: it does not listen for RPCs, and said: thinking",
        ),
    ] {
        let program = wrapper(folder.path(), script);
        let builder = Node::builder().timeout(Duration::from_secs(2));
        let said = builder.program(&program).start().unwrap_err().to_string();
        assert!(
            said.contains(says) && said.contains(&program.display().to_string()),
            "{script}: {said}"
        );
    }
}

#[test]
fn arguments_that_take_the_node_away_are_refused() {
    for argument in ["-server=0", "-rpcport=1", "-", "-mocktime=0"] {
        let error = Node::builder().arg(argument).start().unwrap_err();
        assert_matches!(
            &error,
            Error::InvalidRequest(InvalidRequest::Argument { argument: named, .. })
                if named == argument
        );
    }
    let error = Node::builder()
        .arg("-rpcwhitelist=alice:stop")
        .start()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("it rejects the harness's login: the node answered HTTP 403"),
        "{error}"
    );
}
