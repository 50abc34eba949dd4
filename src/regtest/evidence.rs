//! What is kept of a node when its test fails.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{env, fs, io};

use bitcoincore_rpc::{Client, RpcApi};
use serde_json::{json, Value};

use super::error::{Error, NodeError};
use super::node::Node;
use super::process::{keeps_everything, place_in, temporary};

/// The journal keeps so many lines; a test that does more is not read line by line.
const LONGEST_JOURNAL: usize = 10_000;

/// What there is to keep beside the node's own files.
pub(super) struct Evidence {
    since: Instant,
    journal: Mutex<Vec<String>>,
    attached: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            journal: Mutex::default(),
            attached: Mutex::default(),
        }
    }
}

impl Node {
    /// Keeps the node's debug log, what it wrote to standard error, its mempool, tip and peers, a journal of what
    /// was done to it, and what was [attached](Node::attach), in a folder named after the test. The answer is
    /// that folder.
    ///
    /// This is done by itself when a node is dropped by a panic; the last line that is printed then names the folder.
    /// Evidence goes to `spilman-evidence` in the temporary directory, or where `SPILMAN_EVIDENCE` points.
    /// Of a test that passes nothing is kept, unless `SPILMAN_KEEP` is set: then every folder stays as it was.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn keep_evidence(&self) -> Result<PathBuf, Error> {
        self.evidence.save(self).map_err(|source| {
            NodeError::Evidence {
                place: evidence_root(),
                source,
            }
            .into()
        })
    }

    /// Something to be kept with the [evidence](Node::keep_evidence), as a file of this name: for what the
    /// program under test knows, such as its own log. It replaces what had that name.
    pub fn attach(&self, name: &str, content: impl Into<Vec<u8>>) {
        let mut attached = lock(&self.evidence.attached);
        attached.retain(|(earlier, _)| earlier != name);
        attached.push((name.to_owned(), content.into()));
    }

    /// Writes a line into the journal that is kept with the [evidence](Node::keep_evidence).
    pub fn note(&self, line: impl Into<String>) {
        self.evidence.note(line);
    }
}

impl Evidence {
    pub fn note(&self, line: impl Into<String>) {
        let mut journal = lock(&self.journal);
        if journal.len() < LONGEST_JOURNAL {
            let line = line.into();
            journal.push(format!("{:9.3} s  {line}", self.since.elapsed().as_secs_f64()));
        }
    }

    /// Keeps the evidence of a test that fails and says where, as the last line of the failure.
    pub fn keep(&self, node: &Node) {
        match self.save(node) {
            Ok(_) if keeps_everything() => {}
            Ok(folder) => say_once(&folder),
            Err(error) => eprintln!("spilman: the evidence could not be kept: {error}"),
        }
    }

    fn save(&self, node: &Node) -> io::Result<PathBuf> {
        let own = node
            .data_dir()
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        let (folder, of_node) = if keeps_everything() {
            (own.clone(), own.clone())
        } else {
            let folder = folder_of_this_test()?;
            let name = own.file_name().unwrap_or_default();
            let of_node = folder.join(name);
            (folder, of_node)
        };
        fs::create_dir_all(&of_node)?;
        if own != of_node {
            copy(
                &node.data_dir().join("regtest/debug.log"),
                &of_node.join("debug.log"),
            )?;
            copy(&own.join("stderr"), &of_node.join("stderr"))?;
        }
        fs::write(of_node.join("journal.txt"), lock(&self.journal).join("\n") + "\n")?;
        for (name, content) in lock(&self.attached).iter() {
            let file = of_node.join(name);
            // A name may have folders in it.
            fs::create_dir_all(file.parent().unwrap_or(&of_node))?;
            fs::write(file, content)?;
        }
        for (name, content) in asked(node) {
            fs::write(of_node.join(name), content)?;
        }
        Ok(folder)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Half a journal is better than none.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What only the node itself can tell; if it does not, its error.
fn asked(node: &Node) -> Vec<(&'static str, String)> {
    // The node's usual client may be in the hands of whoever panicked.
    let client = node.new_client();
    let ask = |call: &str, arguments: &[Value]| -> Value {
        client
            .call(call, arguments)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }))
    };
    let mempool = ask("getrawmempool", &[json!(true)]);
    let raw = raw_transactions(&client, &mempool);
    let pretty = |value: &Value| format!("{value:#}\n");
    let tip = json!({ "chain": ask("getblockchaininfo", &[]), "tips": ask("getchaintips", &[]) });
    vec![
        ("tip.json", pretty(&tip)),
        ("peers.json", pretty(&ask("getpeerinfo", &[]))),
        ("mempool.json", pretty(&mempool)),
        ("mempool.hex", raw),
    ]
}

/// A line for each transaction.
fn raw_transactions(client: &Client, mempool: &Value) -> String {
    let mut lines = String::new();
    for txid in mempool.as_object().into_iter().flat_map(|entries| entries.keys()) {
        if let Ok(Value::String(raw)) = client.call("getrawtransaction", &[json!(txid)]) {
            let _ = writeln!(lines, "{raw}");
        }
    }
    lines
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    // A node that never got so far has none.
    if from.exists() {
        fs::copy(from, to)?;
    }
    Ok(())
}

fn evidence_root() -> PathBuf {
    let root = place_in("SPILMAN_EVIDENCE").unwrap_or_else(|| temporary().join("spilman-evidence"));
    // Who reads where it is may be elsewhere.
    std::path::absolute(&root).unwrap_or(root)
}

/// One folder for all nodes of a test, new in this process.
fn folder_of_this_test() -> io::Result<PathBuf> {
    static FOLDERS: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let test = name_of_this_test();
    let mut folders = lock(&FOLDERS);
    let folders = folders.get_or_insert_default();
    if let Some(folder) = folders.get(&test) {
        return Ok(folder.clone());
    }
    let root = evidence_root();
    fs::create_dir_all(&root)?;
    let base = format!("{test}-{}", std::process::id());
    for number in 1.. {
        let name = if number == 1 {
            base.clone()
        } else {
            format!("{base}-{number}")
        };
        match fs::create_dir(root.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => {
                let folder = root.join(name);
                folders.insert(test, folder.clone());
                return Ok(folder);
            }
        }
    }
    unreachable!("one of endlessly many names is free")
}

/// As far as it can be known: test runners name the thread after the test, or run it in a process that is told its name.
fn name_of_this_test() -> String {
    let thread = std::thread::current().name().map(ToOwned::to_owned);
    let name = thread
        .filter(|name| name != "main")
        .or_else(|| {
            let mut arguments = env::args().skip(1);
            arguments.any(|argument| argument == "--exact").then_some(())?;
            env::args().skip(1).find(|argument| !argument.starts_with('-'))
        })
        .or_else(|| {
            let program = env::current_exe().ok()?;
            Some(program.file_stem()?.to_string_lossy().into_owned())
        })
        .unwrap_or_else(|| "test".to_owned());
    name.replace("::", "-")
        .replace(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-', "_")
}

fn say_once(folder: &Path) {
    static SAID: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let mut said = lock(&SAID);
    if !said.iter().any(|earlier| earlier == folder) {
        said.push(folder.to_owned());
        eprintln!("evidence: {}", folder.display());
    }
}
