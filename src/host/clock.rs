//! Time, sleep and Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use jiff::Timestamp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::core::clock::Clock;

/// Tells whether Ctrl-C was pressed. It is one flag for the whole process, because signals go to the process.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The machine's clock, which also hears Ctrl-C.
///
/// The first Ctrl-C ends a wait or a read, or keeps the next write from starting; a write that has begun is
/// finished, so that its outcome is known. A second Ctrl-C ends the process at once, with exit code 130.
pub(crate) struct HostClock {
    start: Instant,
    interrupted: Arc<AtomicBool>,
}

impl HostClock {
    pub(crate) fn new() -> io::Result<Self> {
        let interrupted = match INTERRUPTED.get() {
            Some(interrupted) => Arc::clone(interrupted),
            None => {
                let interrupted = Arc::new(AtomicBool::new(false));
                // The order matters: the first signal must not see the flag that it sets itself.
                flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&interrupted))?;
                flag::register(SIGINT, Arc::clone(&interrupted))?;
                Arc::clone(INTERRUPTED.get_or_init(|| interrupted))
            }
        };
        Ok(Self { start: Instant::now(), interrupted })
    }

    /// Handles the other signals that ask the process to end as it handles Ctrl-C, for commands that must
    /// clean up. A signal that was ignored when the process started, as under nohup(1), stays ignored.
    pub(crate) fn and_termination(self) -> io::Result<Self> {
        for signal in [SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal)) {
            flag::register(signal, Arc::clone(&self.interrupted))?;
        }
        Ok(self)
    }
}

/// Makes Ctrl-C end the process at once from here on, with exit code 130. A process that is about to call
/// exec(3) needs this, because the new program would not see a signal that came before.
pub(crate) fn end_on_interrupt() -> io::Result<()> {
    if !is_ignored(SIGINT) {
        flag::register_conditional_shutdown(SIGINT, 130, Arc::new(AtomicBool::new(true)))?;
    }
    Ok(())
}

/// Keeps SIGINT ignored, also in programs that this process executes, if it was ignored when the process
/// started. A shell ignores it for background jobs.
pub(crate) fn keep_ignored() {
    if is_ignored(SIGINT) {
        // Nothing ever sets this flag.
        INTERRUPTED.get_or_init(Arc::default);
    }
}

/// Tells whether a signal is ignored, as far as the system tells: see `proc_pid_status(5)`.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set >> (signal - 1) & 1 == 1)
}

/// Tells whether the user has asked to stop.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|interrupted| interrupted.load(Ordering::Relaxed))
}

impl Clock for HostClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn timestamp(&self) -> Timestamp {
        now()
    }

    fn sleep(&self, pause: Duration) {
        thread::sleep(pause);
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// Returns the time of day in whole microseconds, the precision that the table keeps.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
