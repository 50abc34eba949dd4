//! Many plays at once, told one after the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::stop::Stop;

/// Returns the default number of jobs: two nodes per core, because a starting node often waits.
pub fn default_jobs() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores * 2).unwrap_or(u16::MAX).min(16)
}

/// Plays all on `jobs` threads and hands them over in the order of the list.
pub fn play_in_order<'s, S: Sync, P: Send>(
    jobs: u16,
    all: &'s [S],
    stop: &Stop,
    play: impl Fn(&S) -> P + Sync,
    mut done: impl FnMut(&'s S, P) -> Result<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next, play) = (sender.clone(), &next, &play);
            scope.spawn(move || {
                while !stop.is_set() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = all.get(index) else { return };
                    // The receiver is gone when the first error ended everything.
                    if sender.send((index, play(one))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut due = 0;
        for (index, played) in receiver {
            waiting.insert(index, played);
            while let Some(played) = waiting.remove(&due) {
                done(&all[due], played)?;
                due += 1;
            }
        }
        Ok(())
    })
}

/// Returns how far it is, on a terminal.
pub fn progress(len: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(u64::try_from(len).ok(), ProgressDrawTarget::stderr());
    let template = format!("{{bar:30}} {{pos}}/{{len}} {what}, {{elapsed}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
