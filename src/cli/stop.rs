use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;
use std::{process, thread};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// Set by Ctrl-C and its kin. What runs may end regularly; what hangs, such as the start of a program, is not
/// waited for longer than [`GRACE`]. A second Ctrl-C ends at once. Whichever it is, what ends with this process (nodes,
/// their folders, programs under test) is ended by its reaper.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

/// As shells have it: 128 and the number of the signal.
pub const INTERRUPTED: u8 = 130;

/// So that all is over within a second.
const GRACE: Duration = Duration::from_millis(600);

impl Stop {
    pub fn on_signals() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut read, write) = UnixStream::pair().context("cannot listen for signals")?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first signal finds the flag down, the second finds it up.
            flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), Arc::clone(&stop))
                .and_then(|_| flag::register(signal, Arc::clone(&stop)))
                .and_then(|_| pipe::register(signal, write.try_clone()?))
                .context("cannot listen for signals")?;
        }
        thread::spawn(move || {
            if read.read(&mut [0]).is_ok_and(|count| count > 0) {
                thread::sleep(GRACE);
                eprintln!("interrupted");
                process::exit(i32::from(INTERRUPTED));
            }
        });
        Ok(Self(stop))
    }

    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
