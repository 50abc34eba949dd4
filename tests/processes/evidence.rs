//! What is kept of the nodes of a test that fails, in every way in which one can, and that nothing is of one that passes.

mod ways;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use spilman::regtest::{Node, Regtest, TestFailure};

use self::ways::fail;
use super::TIMEOUT;
use crate::common::child::{child_of, is_child, name_of};
use crate::common::proc::{daemons_of, is_alive, signal};
use crate::common::wait::until;

fn pid_of(node: &Node) -> i32 {
    let file = node.data_dir().join("regtest/bitcoind.pid");
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// What was kept of a test, as folders of nodes.
fn kept_in<T>(evidence: &Path, test: T) -> Vec<PathBuf> {
    let Ok(tests) = fs::read_dir(evidence) else {
        return Vec::new();
    };
    let name = name_of(test).replace("::", "-");
    let tests = tests.map(|folder| folder.unwrap().path());
    tests
        .flat_map(|folder| {
            let place = folder.display().to_string();
            assert!(place.contains(&name), "{place} is not of {name}");
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

/// Runs a test's child, which fails: what it said, and the folders of nodes that were kept of it.
fn fails(test: impl Copy, what: &str, evidence: &Path) -> (String, Vec<PathBuf>) {
    let output = child_of(test, what)
        .env("SPILMAN_EVIDENCE", evidence)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = text_of(&output);
    assert!(!output.status.success(), "{said}");
    (said, kept_in(evidence, test))
}

/// The last lines of a failed test, the last one first.
fn last_lines(said: &str) -> impl Iterator<Item = &str> {
    let failure = said.rsplit_once("\n\nfailures:\n").expect("a failure").0;
    failure.trim_end().lines().rev()
}

/// Each of these files is among the evidence and has these words.
fn assert_has(node: &Path, files: &[(&str, &str)], how: &str) {
    for (file, words) in files {
        let text = fs::read_to_string(node.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(words), "{how}, {file} has no {words}: {text}");
    }
}

fn text_of(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// No one waits for the answers of a node that is gone or hangs, and what there is without them is kept.
#[test]
fn a_node_that_does_not_answer_keeps_its_evidence() {
    if is_child(|how| {
        let chain = Regtest::start().unwrap();
        let pid = pid_of(chain.node());
        signal(&pid.to_string(), how);
        if how == "KILL" {
            until("its end", TIMEOUT, || (!is_alive(pid), "it runs"));
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
        let test = a_node_that_does_not_answer_keeps_its_evidence;
        let (said, kept) = fails(test, how, evidence.path());
        assert_eq!(kept.len(), 1, "{how}: {said}");
        assert_has(
            &kept[0],
            &[
                ("debug.log", "UpdateTip"),
                ("journal.txt", "\n"),
                ("tip.json", words),
                ("peers.json", words),
                ("mempool.json", words),
            ],
            how,
        );
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
        for how in ["a local node", "a separate error type", "a static"] {
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
    let (said, kept) = fails(what_can_be_written_is, "panic", evidence.path());
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
    let test = the_last_line_of_a_failure_leads_to_the_evidence;
    let (said, kept) = fails(test, "panic", evidence.path());
    let last = last_lines(&said).next().unwrap();
    let folder = kept[0].parent().unwrap();
    assert_eq!(last, format!("evidence: {}", folder.display()), "{said}");
    assert_has(
        &kept[0],
        &[
            ("debug.log", "UpdateTip"),
            ("logs/own.log", "what the program under test knows"),
            ("journal.txt", "block "),
            ("tip.json", "\"blocks\": 102"),
            ("mempool.json", "{}"),
            ("peers.json", "[]"),
        ],
        last,
    );
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
    let test = a_test_that_returns_an_error_keeps_its_evidence;
    let (said, kept) = fails(test, "fail", evidence.path());
    let mut last = last_lines(&said);
    let folder = kept[0].parent().unwrap();
    let line = format!("evidence: {}", folder.display());
    assert_eq!(last.next(), Some(&*line), "{said}");
    assert!(last.next().unwrap().contains("as it should"), "{said}");
    assert_has(&kept[0], &[("tip.json", "\"blocks\": 103")], &line);
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
        until("the reaper to have ended", TIMEOUT, || {
            let left = daemons_of(process);
            (left.is_empty(), left)
        });
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
