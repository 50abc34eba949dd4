//! A program under test as a process group: started, listened to, and ended whatever it does.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{kill_process_group, Pid, Signal};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::assignment::VARIABLE;

/// So much of what the program says on its standard error is kept, from the end, in bytes.
pub(super) const STDERR_KEPT: usize = 64 * 1024;

/// How long the last words of a program that is dead may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(2);

const WATCH: &str = include_str!("watch.sh");

/// A running program. All of its process group is killed when this is dropped, and also when this process ends in any
/// other way; and so is what has left the group, where the system tells whose environment it has (Linux).
pub(super) struct Program {
    child: Child,
    /// What the program and its children have in their environment, until they are ended.
    assignment: Option<String>,
    /// Leads the group, so that its number is nobody else's as long as this is not waited for.
    leader: Child,
    stderr: Arc<Mutex<Vec<u8>>>,
    listener: Option<JoinHandle<()>>,
}

/// The program's standard input and output.
pub(super) struct Pipes {
    pub input: pipe::Sender,
    pub output: pipe::Receiver,
}

/// Ends a whole process group at once.
#[derive(Clone, Copy)]
pub(super) struct Killer(Pid);

impl Killer {
    pub fn kill(self) {
        // It may have ended by itself.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

impl Program {
    /// Starts `command` with a shell. Has to be called on a runtime.
    pub fn start(command: &str, assignment: &str) -> io::Result<(Self, Pipes)> {
        let leader = Leader(Some(watch(assignment, Stdio::piped())?));
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .env(VARIABLE, assignment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(leader.group().0.as_raw_nonzero().get())
            .spawn()?;
        let mut program = Self {
            child,
            assignment: Some(assignment.to_owned()),
            leader: leader.keep(),
            stderr: Arc::default(),
            listener: None,
        };
        let (stdin, stdout, stderr) = (
            program.child.stdin.take(),
            program.child.stdout.take(),
            program.child.stderr.take(),
        );
        let missing = || io::Error::other("a pipe of the program is missing");
        let pipes = Pipes {
            input: pipe::Sender::from_owned_fd(OwnedFd::from(stdin.ok_or_else(missing)?))?,
            output: pipe::Receiver::from_owned_fd(OwnedFd::from(stdout.ok_or_else(missing)?))?,
        };
        let stderr = pipe::Receiver::from_owned_fd(OwnedFd::from(stderr.ok_or_else(missing)?))?;
        program.listener = Some(tokio::spawn(keep_tail(stderr, Arc::clone(&program.stderr))));
        Ok((program, pipes))
    }

    pub fn killer(&self) -> Killer {
        group_of(&self.leader)
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        // Asking cannot fail for a child that nobody else waits for.
        self.child.try_wait().ok().flatten()
    }

    /// Ends it, and returns the end of what it said on its standard error.
    pub async fn end(mut self) -> String {
        self.kill();
        if let Some(listener) = self.listener.take() {
            // Whoever cannot be found may keep the pipe open.
            let _ = tokio::time::timeout(LAST_WORDS, listener).await;
        }
        let kept = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).into_owned()
    }
}

impl Program {
    fn kill(&mut self) {
        self.killer().kill();
        if let Some(assignment) = self.assignment.take() {
            // If the shell does not start any more, the group is gone nonetheless.
            let _ = watch(&assignment, Stdio::null()).and_then(|mut sweeper| sweeper.wait());
        }
    }
}

/// Ends what has this in its environment, once its standard input ends.
fn watch(assignment: &str, stdin: Stdio) -> io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", WATCH, "spilman-conform-watch"])
        .arg(format!("{VARIABLE}={assignment}"))
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        // Killed, they do not keep anybody waiting.
        let _ = self.child.wait();
        let _ = self.leader.wait();
    }
}

fn group_of(leader: &Child) -> Killer {
    let id = i32::try_from(leader.id()).ok().and_then(Pid::from_raw);
    Killer(id.expect("the number of a process is positive and fits"))
}

/// The leader, until there is a program to lead.
struct Leader(Option<Child>);

impl Leader {
    fn group(&self) -> Killer {
        group_of(self.0.as_ref().expect("it is taken out last"))
    }

    fn keep(mut self) -> Child {
        self.0.take().expect("it is taken out once")
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if let Some(mut leader) = self.0.take() {
            group_of(&leader).kill();
            let _ = leader.wait();
        }
    }
}

async fn keep_tail(mut stderr: pipe::Receiver, kept: Arc<Mutex<Vec<u8>>>) {
    let mut some = vec![0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut some).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&some[..count]);
        let surplus = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..surplus);
    }
}
