//! How long the harness takes, beside the crates under it doing the same alone, on the same machine, with the
//! same programs, in turns. `just bench-harness` writes the table.

mod report;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use bitcoind::BitcoinD;
use electrsd::electrum_client::ElectrumApi;
use electrsd::ElectrsD;
use report::{argument, machine, publish, version_of};
use spilman::regtest::{find_bitcoind, find_electrs, Node, NodeBuilder, Regtest, START_HEIGHT};
use spilman::scenario;

/// What a row compares.
struct Row {
    what: &'static str,
    ours: Duration,
    /// With the name of who else did it.
    theirs: Option<(&'static str, Duration)>,
}

fn main() {
    let runs = argument("--runs").map_or(20, |runs| runs.parse().expect("--runs takes a number"));
    let bitcoind = find_bitcoind().unwrap_or_else(|error| panic!("{error}"));
    let exe = &bitcoind.path;
    let mut rows = Vec::new();

    eprintln!("start, stop and blocks: {runs} runs each");
    let [ours, theirs] = in_turns(runs, &|| timed(Node::start).0, &|| timed(|| bare(exe)).0);
    rows.push(row("start to the first RPC", ours, ("bitcoind", theirs)));
    let [ours, theirs] = in_turns(runs, &|| timed(Regtest::start).0, &|| {
        timed(|| bare_with_blocks(exe)).0
    });
    rows.push(row("start to 101 blocks", ours, ("bitcoind", theirs)));
    let [ours, theirs] = in_turns(runs, &|| drop_of(Node::start().unwrap()), &|| drop_of(bare(exe)));
    rows.push(row("drop", ours, ("bitcoind", theirs)));
    let clean = || {
        let node = Node::start().unwrap();
        timed(|| node.stop()).0
    };
    let bare_clean = || {
        let mut node = bare(exe);
        timed(|| node.stop()).0
    };
    let [ours, theirs] = in_turns(runs, &clean, &bare_clean);
    rows.push(row("clean stop", ours, ("bitcoind", theirs)));

    let electrs = find_electrs().unwrap_or_else(|error| panic!("{error}"));
    let scratch = tempfile::tempdir().expect("a folder");
    let on_loopback = on_loopback(scratch.path(), &electrs.path);
    let with_electrs = || timed(|| Regtest::builder().electrs(true).start()).0;
    let bare_with_electrs = || timed(|| bare_with_electrs(exe, &on_loopback)).0;
    let [ours, theirs] = in_turns(runs, &with_electrs, &bare_with_electrs);
    rows.push(row(
        "start to electrs with 101 blocks",
        ours,
        ("bitcoind` and `electrsd", theirs),
    ));

    eprintln!("fifty nodes: 3 runs each");
    let [ours, theirs] = in_turns(
        3,
        &|| timed(|| (0..50).for_each(|_| drop(Regtest::start().unwrap()))).0,
        &|| timed(|| (0..50).for_each(|_| drop(bare_with_blocks(exe)))).0,
    );
    rows.push(row(
        "50 nodes with 101 blocks, one after the other",
        ours,
        ("bitcoind", theirs),
    ));
    let [ours, theirs] = in_turns(3, &|| at_once(50, &|| drop(Regtest::start().unwrap())), &|| {
        at_once(50, &|| drop(bare_with_blocks(exe)))
    });
    rows.push(row(
        "50 nodes with 101 blocks, at once",
        ours,
        ("bitcoind", theirs),
    ));

    eprintln!("a hundred scenarios");
    rows.push(Row {
        what: "100 scenarios, each on a separate node, 4 at a time",
        ours: hundred_scenarios(),
        theirs: None,
    });

    let programs = format!("{}, {}", bitcoind.version, electrs.version);
    publish(&table(&rows, &programs, runs));
}

fn row(what: &'static str, ours: Duration, theirs: (&'static str, Duration)) -> Row {
    Row {
        what,
        ours,
        theirs: Some(theirs),
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}

fn drop_of<T>(node: T) -> Duration {
    timed(|| drop(node)).0
}

/// The medians of both, taken in turns so that whatever else the machine does concerns both.
fn in_turns(runs: usize, ours: &dyn Fn() -> Duration, theirs: &dyn Fn() -> Duration) -> [Duration; 2] {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        left.push(ours());
        right.push(theirs());
    }
    [left, right].map(median)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn at_once(count: usize, work: &(dyn Fn() + Sync)) -> Duration {
    timed(|| {
        thread::scope(|scope| {
            for _ in 0..count {
                scope.spawn(work);
            }
        });
    })
    .0
}

/// The crate alone, on a `bitcoind` that has no wallet.
fn bare(exe: &Path) -> BitcoinD {
    BitcoinD::with_conf(exe, &without_wallet()).unwrap()
}

fn without_wallet() -> bitcoind::Conf<'static> {
    let mut conf = bitcoind::Conf::default();
    conf.wallet = None;
    conf
}

/// Both crates alone, until electrs has the last block.
fn bare_with_electrs(bitcoind: &Path, electrs: &Path) -> (ElectrsD, BitcoinD) {
    let node = bare_for_electrs(bitcoind);
    let electrs = ElectrsD::new(electrs, &node).unwrap();
    while electrs.client.block_headers_subscribe().unwrap().height < 101 {
        electrs.trigger().unwrap();
    }
    (electrs, node)
}

fn bare_for_electrs(bitcoind: &Path) -> BitcoinD {
    let mut conf = without_wallet();
    conf.p2p = bitcoind::P2P::Yes;
    let node = BitcoinD::with_conf(bitcoind, &conf).unwrap();
    mine_bare(&node);
    node
}

/// The crate lets electrs listen on all addresses; this is electrs on 127.0.0.1 alone.
fn on_loopback(folder: &Path, electrs: &Path) -> PathBuf {
    let script = format!(
        "#!/bin/sh\nfor a; do shift; case $a in 0.0.0.0:*) a=127.0.0.1:${{a#*:}} ;; esac; set -- \"$@\" \"$a\"; done\n\
         exec '{}' \"$@\"\n",
        electrs.display()
    );
    let path = folder.join("electrs");
    fs::write(&path, script).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

fn bare_with_blocks(exe: &Path) -> BitcoinD {
    let node = bare(exe);
    mine_bare(&node);
    node
}

fn mine_bare(node: &BitcoinD) {
    const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let arguments = [START_HEIGHT.into(), ADDRESS.into()];
    let blocks: Vec<String> = node.client.call("generatetoaddress", &arguments).unwrap();
    assert_eq!(blocks.len(), 101);
}

fn hundred_scenarios() -> Duration {
    let all = scenario::all();
    let next = std::sync::atomic::AtomicUsize::new(0);
    timed(|| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= 100 {
                        return;
                    }
                    let scenario = &all[number % all.len()];
                    scenario
                        .run(NodeBuilder::default())
                        .unwrap_or_else(|failure| panic!("{failure}"));
                });
            }
        });
    })
    .0
}

fn table(rows: &[Row], programs: &str, runs: usize) -> String {
    let mut text = String::from("# The harness beside the crates under it\n\n");
    let _ = writeln!(
        text,
        "Medians of {runs} runs (3 for the fifty nodes, 1 for the hundred scenarios), both sides alternating in one\nprocess. \
         `just bench-harness` measures again and rewrites this file.\n"
    );
    let _ = writeln!(text, "- machine: {}", machine());
    let _ = writeln!(text, "- programs: {programs}");
    let _ = writeln!(
        text,
        "- crates: spilman {}, bitcoind {}, electrsd {}\n",
        env!("CARGO_PKG_VERSION"),
        version_of("bitcoind"),
        version_of("electrsd")
    );
    text.push_str("| what | spilman | the other | ratio |\n|---|--:|--:|--:|\n");
    for row in rows {
        let ours = readable(row.ours);
        let theirs = row
            .theirs
            .map_or_else(String::new, |(who, time)| format!("`{who}` {}", readable(time)));
        let ratio = row.theirs.map_or_else(String::new, |(_, theirs)| {
            format!("{:.2}", row.ours.as_secs_f64() / theirs.as_secs_f64())
        });
        let _ = writeln!(text, "| {} | {ours} | {theirs} | {ratio} |", row.what);
    }
    text
}

fn readable(time: Duration) -> String {
    if time < Duration::from_secs(2) {
        format!("{:.0} ms", time.as_secs_f64() * 1_000.0)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
