//! Which tests fail, and which nodes are theirs.
//!
//! A node that a panic drops is known to be of a test that fails. One that outlives the panic is in a `static`, or
//! another thread or a task holds it. For those, a panic hook notes on each node that the panicking thread has used
//! that its test is failing. The evidence is kept when another thread drops the node, or at the latest when the
//! panicking thread ends. A thread that uses the harness after a panic has caught it, so that its notes are taken back.

use std::cell::Cell;
use std::panic;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, ThreadId};

use super::{lock, place, Kept, Saved};
use crate::regtest::error::Error;

/// All nodes of this process.
static NODES: Mutex<Vec<Weak<Kept>>> = Mutex::new(Vec::new());

thread_local! {
    static THIS_THREAD: ThisThread = ThisThread::new();
}

/// Kept apart from [`thread::current`], since it is needed when the thread ends.
struct ThisThread {
    id: ThreadId,
    /// None of a thread that helps a test, such as a worker of a runtime.
    test: Option<Arc<str>>,
    /// It has panicked, and not used the harness since.
    panicked: Cell<bool>,
}

/// The threads that have used a node, and of which test each is.
#[derive(Default)]
pub(super) struct Users(Vec<(ThreadId, Option<Arc<str>>)>);

/// A test that has failed.
pub(super) struct Failing {
    thread: ThreadId,
    /// Its name.
    pub test: String,
}

impl ThisThread {
    fn new() -> Self {
        let thread = thread::current();
        // Test runners name a thread after its test; pools have no names, or their own.
        let test = thread.name().filter(|name| !name.starts_with("tokio-"));
        Self {
            id: thread.id(),
            test: test.map(Arc::from),
            panicked: Cell::new(false),
        }
    }
}

impl Drop for ThisThread {
    fn drop(&mut self) {
        if !self.panicked.get() {
            return;
        }
        for node in nodes() {
            let failing = lock(&node.failing).take_if(|failing| failing.thread == self.id);
            if let Some(failing) = failing {
                node.keep(&failing.test);
            }
        }
    }
}

impl Users {
    pub fn add_this_thread(&mut self) {
        // A thread that ends has nothing more to say.
        let _ = THIS_THREAD.try_with(|this| {
            if self.0.iter().all(|(id, _)| *id != this.id) {
                self.0.push((this.id, this.test.clone()));
            }
        });
    }

    /// Whether a thread's failure is one of this node. Helpers do not say whose they are.
    fn belong_to(&self, thread: ThreadId) -> bool {
        self.0.iter().any(|(id, _)| *id == thread) || self.0.iter().all(|(_, test)| test.is_none())
    }

    fn test(&self) -> Option<&str> {
        self.0.iter().find_map(|(_, test)| test.as_deref())
    }
}

impl Kept {
    /// The test of this thread, or if it only helps one, the first that has used the node.
    pub(super) fn name_of_test(&self) -> String {
        let own = THIS_THREAD.try_with(|this| this.test.clone()).ok().flatten();
        place::name_of(own.as_deref().or(lock(&self.users).test()))
    }
}

/// Watches over a node that has just been started.
pub(super) fn watch(node: &Arc<Kept>) {
    listen_for_panics();
    let mut nodes = lock(&NODES);
    nodes.retain(|earlier| earlier.strong_count() > 0);
    nodes.push(Arc::downgrade(node));
}

fn nodes() -> Vec<Arc<Kept>> {
    lock(&NODES).iter().filter_map(Weak::upgrade).collect()
}

fn listen_for_panics() {
    static LISTENS: Mutex<bool> = Mutex::new(false);
    let mut listens = lock(&LISTENS);
    // A thread that panics cannot change the hook.
    if *listens || thread::panicking() {
        return;
    }
    *listens = true;
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let _ = THIS_THREAD.try_with(note_panic);
        before(info);
    }));
}

/// Writes nothing and queries no node, since the nodes are probably about to be dropped, or the panic is caught.
fn note_panic(this: &ThisThread) {
    // Of a helper, its test hears if it wants to.
    let Some(test) = &this.test else { return };
    for node in nodes() {
        if lock(&node.users).belong_to(this.id) {
            this.panicked.set(true);
            lock(&node.failing).get_or_insert_with(|| Failing {
                thread: this.id,
                test: place::name_of(Some(test)),
            });
        }
    }
}

/// This thread goes on after a panic, if there was one: it was caught.
pub(super) fn goes_on() {
    if thread::panicking() {
        return;
    }
    let _ = THIS_THREAD.try_with(|this| {
        if this.panicked.replace(false) {
            for node in nodes() {
                lock(&node.failing).take_if(|failing| failing.thread == this.id);
            }
        }
    });
}

/// Keeps the evidence of every node that this thread has used, or that only helpers have.
pub(in crate::regtest) fn keep_all_of_this_test() -> Vec<Result<Saved, Error>> {
    let Ok(this) = THIS_THREAD.try_with(|this| this.id) else {
        return Vec::new();
    };
    let own = nodes()
        .into_iter()
        .filter(|node| lock(&node.users).belong_to(this))
        .filter(|node| !node.unwanted.load(Ordering::Relaxed));
    own.map(|node| node.save_now()).collect()
}
