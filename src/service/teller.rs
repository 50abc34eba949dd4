use super::guard::{catch, Panicked};
use super::report::{Observer, ObserverPanic, Report};
use super::trace;

/// Tells the observer, and keeps count of its panics.
pub(super) struct Teller {
    observer: Observer,
    pub fault: Option<ObserverPanic>,
}

impl Teller {
    pub fn new(observer: Observer) -> Self {
        Self {
            observer,
            fault: None,
        }
    }

    pub fn tell(&mut self, report: Report<'_>) {
        // A subscriber of `tracing` is the user's code as well.
        let traced = catch(|| trace::event(&report));
        let told = catch(|| (self.observer)(report));
        for Panicked { message } in [traced, told].into_iter().filter_map(Result::err) {
            let panics = self.fault.take().map_or(0, |fault| fault.panics) + 1;
            self.fault = Some(ObserverPanic { panics, message });
        }
    }
}
