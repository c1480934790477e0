//! How far a long look is: one line on a terminal, gone afterwards.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What is over sooner needs no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// By this name the log tells whether progress is shown.
pub(super) const TARGET: &str = module_path!();

/// How often the line is written anew.
const INTERVAL: Duration = Duration::from_millis(100);

/// A line on stderr that counts steps, from many threads; it is removed on drop.
pub(crate) struct Progress {
    what: &'static str,
    is_wanted: bool,
    start: Instant,
    done: AtomicUsize,
    /// When the line was last written.
    shown: Mutex<Option<Instant>>,
}

impl Progress {
    /// Counts steps of this kind, where the log shows progress and a terminal reads it.
    pub(crate) fn new(what: &'static str) -> Self {
        let is_wanted = log::log_enabled!(target: TARGET, log::Level::Info) && io::stderr().is_terminal();
        Self { what, is_wanted, start: Instant::now(), done: AtomicUsize::new(0), shown: Mutex::new(None) }
    }

    /// Counts one step.
    pub(crate) fn step(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.is_wanted || self.start.elapsed() < PATIENCE {
            return;
        }
        // Whoever finds another thread writing leaves it to that.
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
