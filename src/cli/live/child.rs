//! The two processes of this program, and what they say.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{ensure, Context, Result};
use serde_json::Value;
use spilman::regtest::{RPC_PASSWORD, RPC_USER};

/// How much of a log is shown.
const LINES: usize = 5;
const WIDTH: usize = 300;

/// An answer of a payer, with the number of its process.
pub type Said = (u32, Value);

/// How to start this program with a folder and a node.
pub struct Starter {
    pub rpc_url: String,
    pub folder: PathBuf,
}

impl Starter {
    fn command(&self, side: &str, arguments: &[&str]) -> Result<Command> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command
            .arg(side)
            .args(arguments)
            .arg("--data")
            .arg(self.folder.join(side))
            .args(["--rpc-url", &self.rpc_url, "--rpc-user", RPC_USER, "--json"])
            .env("SPILMAN_RPC_PASSWORD", RPC_PASSWORD);
        Ok(command)
    }

    /// Runs a command to its end, and returns its answer.
    pub fn ask(&self, side: &str, arguments: &[&str]) -> Result<Value> {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(side, arguments)?.output()?;
        let said = String::from_utf8_lossy(&stderr);
        ensure!(
            status.success(),
            "spilman {side} {arguments:?}: {}",
            said.trim_end()
        );
        Ok(serde_json::from_slice(&stdout)?)
    }

    fn log(&self, name: &str) -> Result<File> {
        let path = self.folder.join(name);
        let file = File::options().create(true).append(true).open(&path);
        file.with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn payee(&self, listen: &str) -> Result<Process> {
        let arguments = ["serve", "--listen", listen, "--until-stdin-ends"];
        let mut command = self.command("payee", &arguments)?;
        command.stdin(Stdio::piped()).stdout(self.log("payee.log")?);
        Process::spawn(command.stderr(self.log("payee.log")?))
    }

    /// Starts a payer. It sends each answer with its number of process.
    pub fn payer(&self, number: u32, answers: Sender<Said>) -> Result<Process> {
        let mut command = self.command("payer", &["orders", "--until-stdin-ends"])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(command.stderr(self.log("payer.log")?))?;
        let said = process.child.stdout.take().context("its output is a pipe")?;
        let mut log = self.log("payer.log")?;
        thread::spawn(move || {
            // A killed process may leave half a line.
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                let _ = writeln!(log, "{line}");
                if let Ok(answer) = serde_json::from_str(&line) {
                    if answers.send((number, answer)).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(process)
    }

    /// The last words of a log.
    pub fn end_of(&self, name: &str) -> String {
        let text = std::fs::read_to_string(Path::new(&self.folder).join(name)).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().rev().take(LINES).map(begin_of).collect();
        lines.reverse();
        lines.join("\n")
    }
}

/// As much of a line as fits on a screen.
fn begin_of(line: &str) -> String {
    line.chars().take(WIDTH).collect()
}

/// A process that ends with this one: its standard input ends then.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Process {
    fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command.spawn().context("cannot start a process")?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin })
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        // One that has ended on its own cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Writes a line. One that has ended does not read it.
    pub fn say(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = writeln!(stdin, "{line}");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
