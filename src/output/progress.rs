//! Shows the progress of a long scan on one line of the terminal, and removes the line at the end.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::core::clock::{LONG_WAIT, TERMINAL_LOG};

/// The shortest time between two updates of the line.
const INTERVAL: Duration = Duration::from_millis(100);

/// A line on stderr that counts steps of many threads. It is removed on drop.
pub(crate) struct Progress {
    what: &'static str,
    is_wanted: bool,
    start: Instant,
    done: AtomicUsize,
    /// The time at which the line was last written.
    shown: Mutex<Option<Instant>>,
}

impl Progress {
    /// Starts to count; `what` names the steps. The line is shown if messages for a terminal are.
    pub(crate) fn new(what: &'static str) -> Self {
        let is_wanted = log::log_enabled!(target: TERMINAL_LOG, log::Level::Info);
        Self { what, is_wanted, start: Instant::now(), done: AtomicUsize::new(0), shown: Mutex::new(None) }
    }

    /// Counts one step.
    pub(crate) fn step(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.is_wanted || self.start.elapsed() < LONG_WAIT {
            return;
        }
        // If another thread holds the lock, it is writing the line, and this update is skipped.
        if let Ok(mut shown) = self.shown.try_lock()
            && shown.is_none_or(|shown| shown.elapsed() >= INTERVAL)
        {
            *shown = Some(Instant::now());
            let _ = write!(io::stderr(), "\r\u{1b}[K{done} {}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.lock().is_ok_and(|shown| shown.is_some()) {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}
