//! What is kept of the nodes of a test that fails, in every way in which one can, and that nothing is of one that passes.

use std::fs;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{mpsc, Arc, OnceLock};
use std::thread;

use spilman::regtest::{wait_until, Node, Poll, Regtest, TestFailure};

use super::{signal, TIMEOUT};
use crate::common::child::{child_of, is_child};
use crate::common::proc::{daemons_of, is_alive};

fn in_a_static() -> &'static Node {
    static NODE: OnceLock<Node> = OnceLock::new();
    NODE.get_or_init(|| Node::start().unwrap())
}

fn pid_of(node: &Node) -> i32 {
    let file = node.data_dir().join("regtest/bitcoind.pid");
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// A task that has a node until its runtime ends. `starts` says whether it starts the node itself.
fn task_with_a_node(runtime: &tokio::runtime::Runtime, starts: bool) {
    let here = (!starts).then(|| Arc::new(Node::start().unwrap()));
    let (tell, told) = mpsc::channel();
    runtime.spawn(async move {
        let start = || Arc::new(Node::start().unwrap());
        let node = match here {
            Some(node) => node,
            None => tokio::task::spawn_blocking(start).await.unwrap(),
        };
        let looks = Arc::clone(&node);
        tokio::task::spawn_blocking(move || looks.tip().unwrap())
            .await
            .unwrap();
        tell.send(()).unwrap();
        std::future::pending::<()>().await;
        drop(node);
    });
    told.recv().unwrap();
}

/// Each way in which a test can fail.
const FAILS: &[&str] = &[
    "a local node",
    "a static",
    "a node of a worker thread",
    "a node of a task",
    "a node that a task started",
    "a caught panic before",
    "an error of the harness",
    "an error of its own",
    "an error without a type",
    "an error and a static",
];

fn fail(how: &str) -> Result<(), TestFailure> {
    match how {
        "a local node" => {
            let _node = Node::start()?;
            panic!("as it should");
        }
        "a static" => {
            in_a_static().tip()?;
            panic!("as it should");
        }
        "a node of a worker thread" => {
            let node = Node::start()?;
            let (hold, held) = mpsc::channel::<()>();
            // Unwinding, this thread lets the worker go, waits for it, and by then the node is gone.
            let worker = thread::spawn(move || (held.recv(), node));
            let _joined = Joined(Some((hold, worker)));
            panic!("as it should");
        }
        "a node of a task" | "a node that a task started" => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            task_with_a_node(&runtime, how == "a node that a task started");
            panic!("as it should");
        }
        "a caught panic before" => {
            let caught = catch_unwind(|| panic!("caught"));
            assert!(caught.is_err());
            in_a_static().tip()?;
            panic!("as it should");
        }
        "an error of the harness" => {
            let chain = Regtest::start()?;
            chain.node().kill()?;
            chain.tip()?;
        }
        "an error of its own" => {
            let _chain = Regtest::start()?;
            "as it should".parse::<u32>()?;
        }
        "an error without a type" => {
            let _node = Node::start()?;
            return Err(TestFailure::new("as it should"));
        }
        "an error and a static" => {
            in_a_static().tip()?;
            "as it should".parse::<u32>()?;
        }
        _ => unreachable!("{how}"),
    }
    unreachable!("{how} fails")
}

type Worker = thread::JoinHandle<(Result<(), mpsc::RecvError>, Node)>;

struct Joined(Option<(mpsc::Sender<()>, Worker)>);

impl Drop for Joined {
    fn drop(&mut self) {
        let (hold, worker) = self.0.take().unwrap();
        drop(hold);
        // Another thread drops the node that this one has got.
        let (_, node) = worker.join().unwrap();
        thread::spawn(move || drop(node)).join().unwrap();
    }
}

/// What was kept, as folders of nodes.
fn kept_in(evidence: &Path, test: &str) -> Vec<PathBuf> {
    let Ok(tests) = fs::read_dir(evidence) else {
        return Vec::new();
    };
    let tests = tests.map(|folder| folder.unwrap().path());
    tests
        .flat_map(|folder| {
            assert!(
                folder.display().to_string().contains(test),
                "{}",
                folder.display()
            );
            fs::read_dir(folder).unwrap().map(|node| node.unwrap().path())
        })
        .collect()
}

/// Runs a test's child as test runners do: with one thread for tests, with two, and without a capture of what is said.
fn run_each(test: impl Copy, what: &str, look: impl Fn(&Output, &Path)) {
    for (threads, more) in [("1", &[][..]), ("2", &[]), ("2", &["--nocapture"])] {
        let evidence = tempfile::tempdir().unwrap();
        let output = child_of(test, what)
            .env("RUST_TEST_THREADS", threads)
            .args(more)
            .env("SPILMAN_EVIDENCE", evidence.path())
            .output()
            .unwrap();
        look(&output, evidence.path());
    }
}

fn text_of(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn each_way_to_fail_keeps_evidence() -> Result<(), TestFailure> {
    let mut result = Ok(());
    if is_child(|how| result = fail(how)) {
        return result;
    }
    for how in FAILS {
        run_each(each_way_to_fail_keeps_evidence, how, |output, evidence| {
            let said = text_of(output);
            assert!(!output.status.success(), "{how}: {said}");
            let kept = kept_in(evidence, "each_way_to_fail");
            assert_eq!(kept.len(), 1, "{how}: {kept:?}, {said}");
            let folder = kept[0].parent().unwrap();
            let line = format!("evidence: {}", folder.display());
            let lines = said.lines().filter(|said| said.ends_with(&line)).count();
            assert_eq!(lines, 1, "{how}: {said}");
            for file in ["debug.log", "journal.txt", "tip.json"] {
                assert!(kept[0].join(file).exists(), "{how}: no {file}, {said}");
            }
            let tip = fs::read_to_string(kept[0].join("tip.json")).unwrap();
            let answers = *how != "an error of the harness";
            assert_eq!(tip.contains("\"blocks\""), answers, "{how}: {tip}");
        });
    }
    Ok(())
}

/// Each way in which something fails in a test that passes.
const PASSES: &[&str] = &[
    "a caught panic",
    "a caught panic and a static",
    "a helper that panics",
    "an error that is expected",
    "a panic that is expected",
];

fn pass(how: &str) {
    match how {
        "a caught panic" => {
            let chain = Regtest::start().unwrap();
            let caught = catch_unwind(AssertUnwindSafe(|| {
                chain.tip().unwrap();
                panic!("caught")
            }));
            assert!(caught.is_err());
        }
        "a caught panic and a static" => {
            let caught = catch_unwind(|| {
                in_a_static().tip().unwrap();
                panic!("caught")
            });
            assert!(caught.is_err());
            in_a_static().tip().unwrap();
        }
        "a helper that panics" => {
            let node = Node::start().unwrap();
            thread::scope(|scope| {
                let helper = scope.spawn(|| {
                    node.tip().unwrap();
                    panic!("caught")
                });
                assert!(helper.join().is_err());
            });
        }
        "an error that is expected" => {
            let node = Node::start().unwrap();
            let error = node.block_at(1).unwrap_err();
            drop(node);
            assert!(!error.to_string().is_empty());
        }
        _ => {
            let caught = catch_unwind(|| {
                let node = Node::start().unwrap();
                node.without_evidence();
                panic!("as it should");
            });
            assert!(caught.is_err());
        }
    }
}

#[test]
fn a_test_that_passes_leaves_nothing() {
    if is_child(pass) {
        return;
    }
    for how in PASSES {
        run_each(a_test_that_passes_leaves_nothing, how, |output, evidence| {
            let said = text_of(output);
            assert!(output.status.success(), "{how}: {said}");
            let left: Vec<_> = fs::read_dir(evidence).unwrap().collect();
            assert!(left.is_empty(), "{how}: {left:?}");
            assert!(!said.contains("evidence: "), "{how}: {said}");
        });
    }
}

/// Nobody waits for the answers of a node that is gone or hangs, and what there is without them is kept.
#[test]
fn a_node_that_does_not_answer_keeps_its_evidence() {
    if is_child(|how| {
        let chain = Regtest::start().unwrap();
        let pid = pid_of(chain.node());
        signal(&pid.to_string(), how);
        if how == "KILL" {
            wait_until("its end", TIMEOUT, || {
                Ok(if is_alive(pid) {
                    Poll::Pending("it runs".to_owned())
                } else {
                    Poll::Ready(())
                })
            })
            .unwrap();
        }
        panic!("as it should");
    }) {
        return;
    }
    for (how, words) in [
        ("KILL", "exited on its own, by signal 9"),
        ("STOP", "the node did not answer within "),
    ] {
        let evidence = tempfile::tempdir().unwrap();
        let output = child_of(a_node_that_does_not_answer_keeps_its_evidence, how)
            .env("SPILMAN_EVIDENCE", evidence.path())
            .output()
            .unwrap();
        let said = text_of(&output);
        let kept = kept_in(evidence.path(), "does_not_answer");
        assert_eq!(kept.len(), 1, "{how}: {said}");
        for (file, words) in [
            ("debug.log", "UpdateTip"),
            ("journal.txt", "\n"),
            ("tip.json", words),
            ("peers.json", words),
            ("mempool.json", words),
        ] {
            let text =
                fs::read_to_string(kept[0].join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(text.contains(words), "{how}, {file}: {text}");
        }
    }
}

/// The place is named, the variable that has chosen it, and what to do.
#[test]
fn a_place_where_nothing_can_be_written_is_named() -> Result<(), TestFailure> {
    let mut result = Ok(());
    if is_child(|how| result = fail(how)) {
        return result;
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "in the way").unwrap();
    fs::write(scratch.path().join("spilman-evidence"), "in the way").unwrap();
    let in_scratch = scratch.path().join("spilman-evidence");
    for (variable, value, place) in [
        ("SPILMAN_EVIDENCE", file.as_path(), file.as_path()),
        (
            "SPILMAN_EVIDENCE",
            Path::new("/proc/nowhere"),
            Path::new("/proc/nowhere"),
        ),
        ("TEMPDIR_ROOT", scratch.path(), &in_scratch),
        ("TMPDIR", scratch.path(), &in_scratch),
    ] {
        for how in ["a local node", "an error of its own", "a static"] {
            let mut child = child_of(a_place_where_nothing_can_be_written_is_named, how);
            for other in ["SPILMAN_EVIDENCE", "TEMPDIR_ROOT"] {
                child.env_remove(other);
            }
            let said = text_of(&child.env(variable, value).output().unwrap());
            let words = format!("could not keep evidence in {} ({variable}): ", place.display());
            assert!(said.contains(&words), "{how}: {words:?} is not in {said}");
            let todo = "; set SPILMAN_EVIDENCE to a writable folder";
            assert!(said.contains(todo), "{how}: {said}");
            assert!(!said.contains("evidence: "), "{how}: {said}");
        }
    }
    Ok(())
}

/// One file that cannot be written does not take the others with it.
#[test]
fn what_can_be_written_is() {
    if is_child(|_| {
        let chain = Regtest::start().unwrap();
        for name in ["debug.log/in the way", "../outside", "own.log"] {
            chain.node().attach(name, "attached");
        }
        panic!("as it should");
    }) {
        return;
    }
    let evidence = tempfile::tempdir().unwrap();
    let output = child_of(what_can_be_written_is, "panic")
        .env("SPILMAN_EVIDENCE", evidence.path())
        .output()
        .unwrap();
    let said = text_of(&output);
    let kept = kept_in(evidence.path(), "what_can_be_written");
    assert_eq!(kept.len(), 1, "{said}");
    for file in ["journal.txt", "tip.json", "mempool.json", "stderr", "own.log"] {
        assert!(kept[0].join(file).exists(), "no {file}: {said}");
    }
    assert!(!kept[0].join("../outside").exists());
    for lost in ["debug.log: ", "../outside: "] {
        let words = format!(
            "could not keep this part of the evidence: {}",
            kept[0].join(lost).display()
        );
        assert!(said.contains(&words), "{words:?} is not in {said}");
    }
    assert!(said.contains("evidence: "), "{said}");
}

#[test]
fn the_last_line_of_a_failure_leads_to_the_evidence() {
    if is_child(|_| {
        let chain = Regtest::start().unwrap();
        chain
            .node()
            .attach("logs/own.log", "what the program under test knows");
        chain.mine(1).unwrap();
        panic!("as it should");
    }) {
        return;
    }
    let evidence = tempfile::tempdir().unwrap();
    let output = child_of(the_last_line_of_a_failure_leads_to_the_evidence, "panic")
        .env("SPILMAN_EVIDENCE", evidence.path())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failure = said.rsplit_once("\n\nfailures:\n").expect("a failure").0;
    let last = failure.trim_end().lines().last().unwrap();
    let folder = last
        .strip_prefix("evidence: ")
        .unwrap_or_else(|| panic!("{said}"));
    assert!(folder.contains("the_last_line_of_a_failure"), "{folder}");
    let of_node = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    for (file, part) in [
        ("debug.log", "UpdateTip"),
        ("logs/own.log", "what the program under test knows"),
        ("journal.txt", "block "),
        ("tip.json", "\"blocks\": 102"),
        ("mempool.json", "{}"),
        ("peers.json", "[]"),
    ] {
        let text = fs::read_to_string(of_node.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(part), "{file} has no {part}: {text}");
    }
}

/// An error that a test returns is printed after its nodes are gone; it has to bring the path along.
#[test]
fn a_test_that_returns_an_error_keeps_its_evidence() -> Result<(), TestFailure> {
    if is_child(|_| ()) {
        return Regtest::run(|chain| {
            chain.mine(2).map_err(|error| error.to_string())?;
            Err("as it should".to_owned())
        });
    }
    let evidence = tempfile::tempdir().unwrap();
    let output = child_of(a_test_that_returns_an_error_keeps_its_evidence, "fail")
        .env("SPILMAN_EVIDENCE", evidence.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failure = said.rsplit_once("\n\nfailures:\n").expect("a failure").0;
    let mut last = failure.trim_end().lines().rev();
    let folder = last.next().and_then(|line| line.strip_prefix("evidence: "));
    let folder = folder.unwrap_or_else(|| panic!("{said}"));
    assert!(last.next().unwrap().contains("as it should"), "{said}");
    let of_node = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let tip = fs::read_to_string(of_node.join("tip.json")).unwrap();
    assert!(tip.contains("\"blocks\": 103"), "{tip}");
    Ok(())
}

#[test]
fn everything_is_kept_only_if_asked_for() {
    if is_child(|_| drop(Regtest::start().unwrap())) {
        return;
    }
    for (keep, stays) in [("", false), ("1", true)] {
        let scratch = tempfile::tempdir().unwrap();
        let mut child = child_of(everything_is_kept_only_if_asked_for, "pass")
            .env("TMPDIR", scratch.path())
            .env("TEMPDIR_ROOT", "")
            .env("SPILMAN_KEEP", keep)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = child.id();
        assert!(child.wait().unwrap().success());
        wait_until("the reaper to have ended", TIMEOUT, || {
            let left = daemons_of(process);
            Ok(if left.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending(format!("{left:?}"))
            })
        })
        .unwrap();
        let roots: Vec<_> = fs::read_dir(scratch.path()).unwrap().collect();
        assert_eq!(!roots.is_empty(), stays, "SPILMAN_KEEP={keep:?}: {roots:?}");
        for root in roots {
            let node = root.unwrap().path().join("0-bitcoind");
            for file in ["data/regtest/debug.log", "journal.txt", "tip.json"] {
                assert!(node.join(file).exists(), "{file} in {}", node.display());
            }
        }
    }
}
