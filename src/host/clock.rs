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

/// Whether Ctrl-C was pressed, once somebody listens for it: a signal is the whole process's.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The machine's clock, which also hears Ctrl-C.
///
/// The first Ctrl-C ends a wait or a look, or keeps the next write from starting; a write under way
/// is finished, so that its answer is known. A second Ctrl-C ends the process at once, with 130.
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
                // In this order: the first signal must not see its own flag.
                flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&interrupted))?;
                flag::register(SIGINT, Arc::clone(&interrupted))?;
                Arc::clone(INTERRUPTED.get_or_init(|| interrupted))
            }
        };
        Ok(Self { start: Instant::now(), interrupted })
    }

    /// Takes for Ctrl-C what else asks the process to end, too: for who has something to clear away. A
    /// signal that whoever started the process had ignored, as nohup(1) does, stays ignored.
    pub(crate) fn and_termination(self) -> io::Result<Self> {
        for signal in [SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal)) {
            flag::register(signal, Arc::clone(&self.interrupted))?;
        }
        Ok(self)
    }
}

/// From here on Ctrl-C ends the process at once, with 130: for who is about to become another program,
/// which would not know of a signal that came before.
pub(crate) fn end_on_interrupt() -> io::Result<()> {
    if !is_ignored(SIGINT) {
        flag::register_conditional_shutdown(SIGINT, 130, Arc::new(AtomicBool::new(true)))?;
    }
    Ok(())
}

/// Leaves Ctrl-C ignored, also by the commands that this process becomes, where whoever started it had
/// it ignored, as a shell does for what runs in the background.
pub(crate) fn keep_ignored() {
    if is_ignored(SIGINT) {
        // A flag that nothing sets.
        INTERRUPTED.get_or_init(Arc::default);
    }
}

/// Whether a signal is ignored, as far as the system tells: see `proc_pid_status(5)`.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set >> (signal - 1) & 1 == 1)
}

/// Whether the user has asked to stop.
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

/// The time of day in whole microseconds, which is what the table keeps.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
