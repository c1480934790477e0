//! One writer of an env file at a time, among those that lock it.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::host::clock;

/// How long to sleep before the lock is asked for again.
const PAUSE: Duration = Duration::from_millis(2);

/// What came of asking for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// It is ours until the file is closed.
    Had,
    /// Another process has it.
    Taken,
    /// The file system has no locks.
    Unknown,
}

/// Asks for the lock of a file, see `flock(2)`.
pub(super) fn ask(file: &File) -> Lock {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Lock::Had,
        Err(Errno::WOULDBLOCK) => Lock::Taken,
        Err(_) => Lock::Unknown,
    }
}

/// Waits for the lock of a file. Where the file system has no locks there is nothing to wait for.
///
/// # Errors
///
/// When another process keeps the lock for longer than `patience`, or the user asks to stop.
pub(super) fn wait(file: &File, patience: Duration) -> Result<()> {
    let start = Instant::now();
    while ask(file) == Lock::Taken {
        if clock::is_interrupted() {
            bail!("interrupted");
        }
        if start.elapsed() >= patience {
            bail!("another process has it locked: waited {:.1} s for its flock", patience.as_secs_f64());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
