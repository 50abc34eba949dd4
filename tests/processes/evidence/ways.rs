//! Each way in which a test can fail, and in which something fails in a test that passes.

use std::fs;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{mpsc, Arc, OnceLock};
use std::thread;

use spilman::regtest::{Node, Regtest, TestFailure};

use super::{kept_in, run_each, text_of};
use crate::common::child::is_child;

fn in_a_static() -> &'static Node {
    static NODE: OnceLock<Node> = OnceLock::new();
    NODE.get_or_init(|| Node::start().unwrap())
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
    "a separate error type",
    "an error without a type",
    "an error and a static",
];

pub fn fail(how: &str) -> Result<(), TestFailure> {
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
        "a separate error type" => {
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
            let kept = kept_in(evidence, each_way_to_fail_keeps_evidence);
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
