//! The lock file on which our writers wait in turn.
//!
//! SQLite's own lock has no queue: a process that finds it taken tries again later, and may starve.
//! So a writer first takes an exclusive `flock` lock on a file beside the database, for which the
//! kernel lets processes wait in turn. SQLite's lock stays behind it, for writers that do not know of
//! the file and for those that waited here long enough.
//!
//! A waiting process also holds a shared `fcntl` lock on the same file. It shows the writer at the
//! head of the queue that another writer comes after it. Linux keeps the two kinds of lock apart
//! (<https://man7.org/linux/man-pages/man2/flock.2.html>, "NOTES"); on other systems nobody is ever
//! seen to wait.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use super::storage::{FILE_MODE, shared_file_system};
use crate::core::path::{beside, folder_of};
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// The lock file; none where it cannot be used.
pub(super) struct Queue(Option<Arc<File>>);

/// A turn at the head of the queue, or the leave to write without one; it ends on drop.
pub(super) struct Turn {
    lock: Option<Arc<File>>,
    /// Shows others that this process has yet to write, where it goes on without its turn.
    _announcement: Option<Announcement>,
}

impl Queue {
    /// Opens the lock file of a database, and creates it where it is missing.
    pub(super) fn open(database: &Path) -> Self {
        if !Self::is_possible(database) {
            return Self(None);
        }
        let path = beside(database, "-queue");
        // A file that may be read can be locked; another user may have created it.
        let create = || OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(&path);
        let file = File::open(&path).or_else(|_| create());
        if let Err(err) = &file {
            log::debug!("no queue {}: {err}", path.display());
        }
        Self(file.ok().map(Arc::new))
    }

    /// Opens the lock file of a database if it is there.
    pub(super) fn find(database: &Path) -> Self {
        let file = Self::is_possible(database).then(|| File::open(beside(database, "-queue")).ok());
        Self(file.flatten().map(Arc::new))
    }

    /// Whether writers can wait on a lock file here: on a shared file system a lock may wait for a
    /// server that does not answer, and opening a pipe may wait for ever.
    pub(super) fn is_possible(database: &Path) -> bool {
        shared_file_system(folder_of(database)).is_none()
            && fs::metadata(beside(database, "-queue")).map_or(true, |file| file.is_file())
    }

    /// Waits for a turn, for half of the time that is left. After that, and where there is no queue,
    /// the caller goes on without a turn: SQLite's own lock is left to try.
    ///
    /// # Errors
    ///
    /// [`StoreError::Interrupted`].
    pub(super) fn enter(&self, retry: &Retry) -> Result<Turn, StoreError> {
        let Some(file) = &self.0 else { return Ok(Turn::NONE) };
        match file.try_lock() {
            Ok(()) => return Ok(Turn::of(file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(err)) => return Ok(Turn::without(&err)),
        }
        let announcement = Announcement::make(file);
        // The kernel's wait cannot be bounded, so a thread waits, which ends with the process if the
        // time is over first. A turn that nobody receives any more ends at once.
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
            Err(StoreError::Locked { .. }) => Ok(Turn { lock: None, _announcement: Some(announcement) }),
            Err(other) => Err(other),
        }
    }

    /// Takes a turn if nobody has one.
    pub(super) fn try_enter(&self) -> Option<Turn> {
        self.0.as_ref().filter(|file| file.try_lock().is_ok()).map(Turn::of)
    }

    /// Whether another process waits for its turn, and so will look at the log after us.
    #[cfg(target_os = "linux")]
    pub(super) fn is_awaited(&self) -> bool {
        use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
        // Asks which lock of another process an exclusive one would meet, and takes none.
        let all =
            Flock { start: 0, length: 0, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
        self.0.as_ref().is_some_and(|file| matches!(fcntl_getlk(file, &all), Ok(Some(_))))
    }

    /// Whether another process waits for its turn: not known here.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn is_awaited(&self) -> bool {
        false
    }
}

impl Turn {
    /// The leave to write where there is no queue.
    const NONE: Self = Self { lock: None, _announcement: None };

    /// A turn that the kernel has given.
    fn of(file: &Arc<File>) -> Self {
        Self { lock: Some(Arc::clone(file)), _announcement: None }
    }

    /// The leave to write where there is no queue, for this reason.
    fn without(why: &io::Error) -> Self {
        log::debug!("no turn in the queue: {why}");
        Self::NONE
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(file) = &self.lock {
            // The kernel ends the lock with the process as well.
            let _ = file.unlock();
        }
    }
}

/// The shared lock by which a process shows that it waits; it ends on drop.
///
/// Nothing but speed depends on it: where it cannot be had, the process is not seen to wait.
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
