//! This file lets one process at a time write to an env file, among those that lock it.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::host::clock;

/// The pause before the next try to lock.
const PAUSE: Duration = Duration::from_millis(2);

/// The result of a try to lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// This process has the lock until the file is closed.
    Had,
    /// Another process has it.
    Taken,
    /// The file system has no locks.
    Unknown,
}

/// Tries to lock a file, see `flock(2)`.
pub(super) fn ask(file: &File) -> Lock {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Lock::Had,
        Err(Errno::WOULDBLOCK) => Lock::Taken,
        Err(_) => Lock::Unknown,
    }
}

/// Waits for the lock of a file. Returns at once if the file system has no locks.
///
/// # Errors
///
/// Fails when another process keeps the lock for longer than `patience`, or the user asks to stop.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_lock_at_a_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let first = file.reopen().unwrap();
        assert_eq!(ask(&first), Lock::Had);
        let second = file.reopen().unwrap();
        assert_eq!(ask(&second), Lock::Taken);
        let why = wait(&second, Duration::ZERO).unwrap_err().to_string();
        assert_eq!(why, "another process has it locked: waited 0.0 s for its flock");
        drop(first);
        wait(&second, Duration::ZERO).unwrap();
        assert_eq!(ask(&file.reopen().unwrap()), Lock::Taken);
    }
}
