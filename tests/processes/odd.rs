//! Odd programs in odd places: wrappers, shims, daemons that end by themselves, folders that cannot be used.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bitcoin::Address;
use spilman::regtest::bitcoincore_rpc::RpcApi;
use spilman::regtest::{
    find_bitcoind, wait_until, Error, Look, Misuse, Node, NodeError, Regtest, START_HEIGHT,
};

use super::child::{child_of, is_child, write_program};
use super::proc::{marked, reaper_of};
use super::{signal, PATIENCE, READY};

/// Programs that start the real one in some way, `$REAL`.
const WRAPPERS: &[(&str, &str)] = &[
    ("without exec", r#""$REAL" "$@""#),
    ("with a helper", r#"sleep 1000 & exec "$REAL" "$@""#),
    ("in the background", r#""$REAL" "$@" & wait $!"#),
    ("in a session of its own", r#"setsid "$REAL" "$@" & wait $!"#),
    ("without its environment", r#"env -i "$REAL" "$@"; exit $?"#),
    (
        "without anything of its parent",
        r#"setsid env -i "$REAL" "$@" & wait $!"#,
    ),
    (
        "with a word first",
        r#"echo "Error reading locale, ignored" >&2; exec "$REAL" "$@""#,
    ),
    ("beside its program", r#"exec "$(dirname "$0")/real" "$@""#),
    (
        "by its own name",
        r#"case $0 in */bitcoind) exec "$REAL" "$@" ;; *) exit 9 ;; esac"#,
    ),
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

#[test]
fn a_wrapped_node_starts_stops_and_leaves_nothing() {
    for (how, script) in WRAPPERS {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::builder().program(wrapper(folder.path(), script)).start();
        let node = node.unwrap_or_else(|error| panic!("{how}: {error}"));
        let place = node.data_dir().parent().unwrap().to_owned();
        node.stop().unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(marked(&place), [""; 0], "{how}");
        node.restart().unwrap();
        node.kill().unwrap();
        assert_eq!(marked(&place), [""; 0], "{how}");
        node.restart().unwrap();
        drop(node);
        assert_eq!(marked(&place), [""; 0], "{how}");
        assert!(!place.exists(), "{how}");
    }
}

#[test]
fn kill_9_leaves_nothing_of_a_wrapped_node() {
    const TEST: &str = "odd::kill_9_leaves_nothing_of_a_wrapped_node";
    if is_child(super::live) {
        return;
    }
    for (how, script) in WRAPPERS {
        let folder = tempfile::tempdir().unwrap();
        let program = wrapper(folder.path(), script);
        let (scratch, _) = run_to_node(TEST, &program, |child| signal(&child.id().to_string(), "KILL"));
        wait_until(&format!("nothing to be left of one {how}"), PATIENCE, || {
            let left = (marked(scratch.path()), entries(scratch.path()));
            Ok(if left.0.is_empty() && left.1 == ["ready"] {
                Look::Done(())
            } else {
                Look::Saw(format!("{left:?}"))
            })
        })
        .unwrap();
    }
}

/// Starts a child of this test with a node and ends it as told. The answer is its temporary folder, and that of its nodes.
fn run_to_node(
    test: &str,
    program: &Path,
    end: impl FnOnce(&std::process::Child),
) -> (tempfile::TempDir, PathBuf) {
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
    let said = wait_until("the child's node", PATIENCE, || {
        Ok(fs::read_to_string(&ready).map_or_else(|error| Look::Saw(error.to_string()), Look::Done))
    })
    .unwrap();
    let data = PathBuf::from(said.split_once('\n').unwrap().1);
    end(&child);
    child.wait().unwrap();
    (scratch, data.parent().and_then(Path::parent).unwrap().to_owned())
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// As in a container, whose first process is the test, and whose temporary folder outlives it.
#[test]
fn what_was_left_without_a_reaper_is_swept_up_by_the_next_test() {
    const TEST: &str = "odd::what_was_left_without_a_reaper_is_swept_up_by_the_next_test";
    if is_child(super::live) {
        return;
    }
    let real = find_bitcoind().unwrap().path;
    let (scratch, left) = run_to_node(TEST, &real, |child| {
        signal(&reaper_of(child.id()).to_string(), "KILL");
        signal(&child.id().to_string(), "KILL");
    });
    assert!(left.exists() && marked(&left).len() == 1, "{left:?}");
    let sweep = || {
        let child = child_of("odd::a_node_that_is_started_for_the_sweep", "start")
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
    assert!(sweep(), "somebody uses it");
    drop(held);
    fs::write(left.join("kept"), "").unwrap();
    assert!(sweep(), "it was to be kept");
    fs::remove_file(left.join("kept")).unwrap();
    fs::write(&lock, "another").unwrap();
    assert!(sweep(), "it is of another machine");
    fs::write(&lock, &boot).unwrap();
    assert!(!sweep(), "nobody uses it");
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
    let kill = || {
        let pid = fs::read_to_string(node.data_dir().join("regtest/bitcoind.pid")).unwrap();
        signal(pid.trim(), "KILL");
    };
    for end in ["call", "client", "stop", "kill", "restart"] {
        assert!(node.is_running());
        kill();
        let said = match end {
            "call" => node.tip().unwrap_err().to_string(),
            "client" => node.client().get_block_count().unwrap_err().to_string(),
            "stop" => {
                wait_until("the end", PATIENCE, || Ok(over(node))).unwrap();
                node.stop().unwrap_err().to_string()
            }
            "kill" => {
                wait_until("the end", PATIENCE, || Ok(over(node))).unwrap();
                node.kill().unwrap_err().to_string()
            }
            _ => {
                wait_until("the end", PATIENCE, || Ok(over(node))).unwrap();
                "ended by itself, by signal 9 (SIGKILL)".to_owned()
            }
        };
        assert!(said.contains("ended by itself, by signal"), "{end}: {said}");
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

fn over(node: &Node) -> Look<()> {
    if node.is_running() {
        Look::Saw("it runs".to_owned())
    } else {
        Look::Done(())
    }
}

/// A call that takes longer than the node's patience is given up, and done once.
#[test]
fn a_call_that_is_given_up_is_not_sent_again() {
    let builder = Node::builder().patience(Duration::from_secs(2));
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
        raw.contains("no answer within 2s; the node may still carry the call out"),
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
            r#"--version printed no version, but "ls (coreutils) 9.1""#,
        ),
        ("exit 0", r#"--version printed no version, but """#),
        (
            "echo no library >&2; exit 127",
            "--version ended with status 127: no library",
        ),
        ("kill -9 $$", "--version ended by signal 9 (SIGKILL)"),
        (
            "[ $1 = --version ] && echo version v31.99 && exit; echo is a test; exit 0",
            "it ended at once, with status 0, and said: is a test; a wrapper has to wait for the node",
        ),
        (
            r#"[ $1 = --version ] && echo version v31.99 && exit; "$REAL" "$@" & exit 0"#,
            "it ended at once, with status 0, without a word; a wrapper has to wait for the node",
        ),
        (
            "[ $1 = --version ] && echo version v31.99 && exit; echo thinking; sleep 1000",
            "it did not answer within 2s: it does not listen for RPCs, and said: thinking",
        ),
    ] {
        let program = wrapper(folder.path(), script);
        let builder = Node::builder().patience(Duration::from_secs(2));
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
        assert!(
            matches!(&error, Error::Misuse(Misuse::Argument { argument: named, .. }) if named == argument),
            "{error}"
        );
    }
    let error = Node::builder()
        .arg("-rpcwhitelist=alice:stop")
        .start()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("it refuses the harness's login: the node answered HTTP 403"),
        "{error}"
    );
}

/// Whatever the bytes of its name are.
#[test]
fn a_temporary_folder_may_have_any_name() {
    const TEST: &str = "odd::a_temporary_folder_may_have_any_name";
    if is_child(|_| {
        let chain = Regtest::start().unwrap();
        chain.mine(1).unwrap();
        chain.node().stop().unwrap();
        chain.node().restart().unwrap();
    }) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    for name in [
        &b"with a space and 'quotes\""[..],
        b"\xff\xfe not UTF-8",
        b"$(touch x)\n",
    ] {
        let folder = scratch.path().join(OsStr::from_bytes(name));
        fs::create_dir(&folder).unwrap();
        let output = child_of(TEST, "start")
            .env("TEMPDIR_ROOT", &folder)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        wait_until("nothing to be left", PATIENCE, || {
            let left = entries(&folder);
            Ok(if left.is_empty() {
                Look::Done(())
            } else {
                Look::Saw(format!("{left:?}"))
            })
        })
        .unwrap();
    }
}

/// Not the program is missing, but what it needs of the machine.
#[test]
fn what_the_machine_lacks_is_named() {
    const TEST: &str = "odd::what_the_machine_lacks_is_named";
    if is_child(|expected| {
        let said = Regtest::start().unwrap_err().to_string();
        for part in expected.split('|') {
            assert!(said.contains(part), "no {part:?} in: {said}");
        }
        for other in ["no bitcoind found", "did not answer within"] {
            assert!(!said.contains(other), "{said}");
        }
    }) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    let here = scratch.path().display().to_string();
    let (missing, file) = (format!("{here}/missing"), file.display().to_string());
    for (before, variable, place, expected) in [
        (
            "",
            "TEMPDIR_ROOT",
            &missing,
            "missing (TEMPDIR_ROOT) cannot be used: No such file",
        ),
        (
            "",
            "TMPDIR",
            &missing,
            "missing (TMPDIR) cannot be used: No such file",
        ),
        (
            "",
            "TEMPDIR_ROOT",
            &file,
            "file (TEMPDIR_ROOT) cannot be used: Not a directory",
        ),
        (
            "mount -t tmpfs -o ro none $0 && ",
            "TEMPDIR_ROOT",
            &here,
            "cannot be used: Read-only file system",
        ),
        (
            "mount -t tmpfs -o size=40m none $0 && ",
            "TEMPDIR_ROOT",
            &here,
            "cannot be used|MiB are free, a node needs 70 MiB",
        ),
        (
            "ulimit -n 100 && ",
            "TEMPDIR_ROOT",
            &here,
            "file descriptors|files: 100 may be open at once",
        ),
    ] {
        lacks(&["--mount"], before, TEST, (variable, place), expected);
    }
    // A new network has a loopback interface that is down.
    let expected = "did not start|loopback: 127.0.0.1 does not answer";
    lacks(&["--net"], "", TEST, ("TEMPDIR_ROOT", &here), expected);
}

/// What a test with a node says in such a place, and what the doctor does: the end of each part.
fn lacks(spaces: &[&str], before: &str, test: &str, (variable, place): (&str, &str), expected: &str) {
    let run = |child: Command| {
        let output = isolated(spaces, before, &child)
            .arg(place)
            .env_remove("TEMPDIR_ROOT")
            .env(variable, place)
            .env("BITCOIND_EXE", find_bitcoind().unwrap().path)
            .output()
            .expect("unshare, of the package util-linux");
        let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
        (output.status.success(), said.concat())
    };
    let (passed, said) = run(child_of(test, expected));
    assert!(passed, "{said}");
    #[cfg(feature = "cli")]
    {
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_spilman"));
        doctor.arg("doctor");
        let (passed, said) = run(doctor);
        let part = expected.rsplit(['|', ':']).next().unwrap().trim();
        assert!(
            !passed && said.contains("failed  ") && said.contains(part),
            "no {part:?} in: {said}"
        );
    }
}

/// A command in name spaces of its own.
fn isolated(spaces: &[&str], before: &str, child: &Command) -> Command {
    let run = std::iter::once(child.get_program()).chain(child.get_args());
    let run: Vec<_> = run.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]).args(spaces);
    command.args(["sh", "-c", &format!("{before}exec {}", run.join(" "))]);
    command.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}
