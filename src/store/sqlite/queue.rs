//! This file implements the lock file on which our writers queue.
//!
//! SQLite's own lock has no queue: a process that finds it taken tries again later, and may starve. So a
//! writer first takes an exclusive `flock` lock on a file beside the database, and the kernel grants that
//! lock in order of arrival. Writers still take SQLite's lock afterwards, because some do not know of the
//! lock file and some have waited for it long enough.
//!
//! A waiting process also holds a shared `fcntl` lock on the same file. It shows the writer at the head of
//! the queue that another writer follows. Linux keeps the two kinds of lock apart
//! (<https://man7.org/linux/man-pages/man2/flock.2.html>, "NOTES"). On other systems, a process never sees
//! that another one waits.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use rustix::fs::OFlags;

use super::holder::turn_holder;
use super::storage::{FILE_MODE, shared_file_system};
use crate::core::path::{beside, folder_of};
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// The lock file.
pub(super) struct Queue {
    /// The open file, or `None` if it cannot be used.
    file: Option<Arc<File>>,
    path: PathBuf,
}

/// A turn at the head of the queue, or permission to write without one. It ends on drop.
pub(super) struct Turn {
    lock: Option<Arc<File>>,
    /// If the process writes without a turn, this shows others that it has yet to write.
    _announcement: Option<Announcement>,
}

impl Queue {
    /// Opens the lock file of a database, and creates it where it is missing.
    pub(super) fn open(database: &Path) -> Self {
        let path = beside(database, "-queue");
        if !Self::is_possible(database) {
            return Self { file: None, path };
        }
        // A process that may read a file can lock it, and another user may have created it.
        let create = || lock_file().create(true).append(true).mode(FILE_MODE).open(&path);
        let file = lock_file().read(true).open(&path).or_else(|_| create());
        if let Err(err) = &file {
            log::debug!("no queue {}: {err}", path.display());
        }
        Self { file: file.ok().map(Arc::new), path }
    }

    /// Opens the lock file of a database if it is there.
    pub(super) fn find(database: &Path) -> Self {
        let path = beside(database, "-queue");
        let file = Self::is_possible(database).then(|| lock_file().read(true).open(&path).ok());
        Self { file: file.flatten().map(Arc::new), path }
    }

    /// Tells whether writers can wait on a lock file here. On a shared file system, a lock may wait for a
    /// server that does not answer, and opening a pipe may wait for ever.
    pub(super) fn is_possible(database: &Path) -> bool {
        shared_file_system(folder_of(database)).is_none()
            && fs::metadata(beside(database, "-queue")).map_or(true, |file| file.is_file())
    }

    /// Waits for a turn, for half of the time that is left. After that, or if there is no queue, the caller
    /// goes on without a turn and only takes SQLite's own lock.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Interrupted`].
    pub(super) fn enter(&self, retry: &Retry) -> Result<Turn, StoreError> {
        let Some(file) = &self.file else { return Ok(Turn::NONE) };
        match file.try_lock() {
            Ok(()) => return Ok(Turn::of(file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(err)) => return Ok(Turn::without(&err)),
        }
        let announcement = Announcement::make(file);
        // The kernel's wait has no timeout, so a thread waits. If the time is over first, the thread ends
        // with the process. If nobody receives the turn any more, the turn ends at once.
        let (done, turn) = mpsc::channel();
        let file = Arc::clone(file);
        let wait = move || done.send(file.lock().map(|()| Turn::of(&file)));
        if let Err(err) = thread::Builder::new().spawn(wait) {
            return Ok(Turn::without(&err));
        }
        let kept = retry.left() / 2;
        match retry.wait_keeping(kept, "its turn among other processes", |pause| turn.recv_timeout(pause).ok()) {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(err)) => Ok(Turn::without(&err)),
            Err(StoreError::Locked { .. }) => {
                let holder = turn_holder(&self.path).unwrap_or_else(|| "another process".to_owned());
                log::debug!("goes on without a turn: {holder} holds the lock file {}", self.path.display());
                Ok(Turn { lock: None, _announcement: Some(announcement) })
            }
            Err(other) => Err(other),
        }
    }

    /// Takes a turn if no other process has one.
    pub(super) fn try_enter(&self) -> Option<Turn> {
        self.file.as_ref().filter(|file| file.try_lock().is_ok()).map(Turn::of)
    }

    /// Tells whether another process waits for its turn, and so will check the log after us.
    #[cfg(target_os = "linux")]
    pub(super) fn is_awaited(&self) -> bool {
        use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
        // This asks which lock of another process would conflict with an exclusive one, and takes no lock.
        let all =
            Flock { start: 0, length: 0, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
        self.file.as_ref().is_some_and(|file| matches!(fcntl_getlk(file, &all), Ok(Some(_))))
    }

    /// Tells whether another process waits for its turn, which is unknown on this system.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn is_awaited(&self) -> bool {
        false
    }
}

/// Returns options that open no link: another user may have put one there, to have a file made elsewhere.
fn lock_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    options
}

impl Turn {
    /// The permission to write if there is no queue.
    const NONE: Self = Self { lock: None, _announcement: None };

    /// Returns a turn that the kernel has given.
    fn of(file: &Arc<File>) -> Self {
        Self { lock: Some(Arc::clone(file)), _announcement: None }
    }

    /// Returns the permission to write if there is no queue, for this reason.
    fn without(why: &io::Error) -> Self {
        log::debug!("no turn in the queue: {why}");
        Self::NONE
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(file) = &self.lock {
            // The kernel would also release the lock at the end of the process.
            let _ = file.unlock();
        }
    }
}

/// The shared lock by which a process shows that it waits; it ends on drop.
///
/// Only speed depends on it: if the lock fails, others do not see that the process waits.
struct Announcement(Arc<File>);

impl Announcement {
    fn make(file: &Arc<File>) -> Self {
        #[cfg(target_os = "linux")]
        if let Err(err) = rustix::fs::fcntl_lock(file, rustix::fs::FlockOperation::NonBlockingLockShared) {
            log::debug!("waits unseen: {err}");
        }
        Self(Arc::clone(file))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fcntl_lock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}
