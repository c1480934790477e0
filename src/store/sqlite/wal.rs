//! Why an answer survives a power cut, and how many processes share the wait for it.
//!
//! A sync is the slowest part of a commit, and SQLite holds its write lock over it. In WAL mode it
//! need not: here the commit itself syncs nothing (`synchronous=NORMAL`), the writer leaves the
//! queue, and only then syncs the log through a descriptor of its own. The syncs of many processes
//! overlap, and each answer still has one behind it. Step by step:
//!
//! 1. *The log is the one that is written.* [`Wal`] is opened while a connection of ours is open,
//!    which holds a shared lock on the database. Only the last connection out removes the log.
//! 2. *The log's name is durable before its first frame.* Whoever is about to write to an empty log
//!    syncs its folder first, in its turn. So a log with frames has a durable name, even if the
//!    writer of its first frame died at once; the same sync covers the database's own name. A
//!    reader may have created the log, which is why it falls to the writer of the first frame.
//! 3. *The commit is in the log before the sync.* COMMIT returns once its frames are written. The
//!    sync starts after that and covers them, and all frames before them, so an answer never
//!    depends on a frame that is not durable: a log is replayed up to its first gap
//!    (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
//! 4. *A checkpoint in between does no harm.* SQLite syncs the log, copies its frames, syncs the
//!    database, and only then starts the log anew
//!    (<https://www.sqlite.org/wal.html#performance_considerations>).
//! 5. *The answer comes after the sync.* An answer about a row that was there syncs as well, log and
//!    folder, as the writer of the row may have died before its own sync.
//!
//! Two things are outside of this. A sync that fails is an error and no answer, but its frames may be
//! seen by others, and the kernel may report the failure only once. And a log that somebody else's
//! process made and wrote first has a durable name when that process, or an answer about a row that
//! was there, has synced it.
//!
//! With a rollback journal, SQLite's `synchronous=EXTRA` does all of this before COMMIT returns. The
//! removal of the journal is the commit; a row that somebody else committed without EXTRA is
//! durable once the folder is synced. A database on a network file system keeps to that: a log
//! needs shared memory, and locks there are unreliable (<https://www.sqlite.org/useovernet.html>).
//!
//! The queue is a lock file beside the database on which the kernel lets processes wait in turn.
//! It only spares them SQLite's lock, which has no queue: that lock stays behind it, for writers
//! who do not know of the file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rusqlite::Connection;

use crate::core::path::folder_of;
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// Checkpoint before the next write once the WAL holds this many frames, unless other processes are
/// waiting; SQLite itself checkpoints at 1,000.
///
/// A process that comes alone reads the whole log first, about 3 µs a frame; a copy costs about
/// 0.8 ms, and an allocation writes 7 frames. Their sum is least at about 60 frames. The copy comes
/// before the write, as a log starts anew only while the process that copied it is there, and it
/// starts anew in its own file: to sync what makes a file longer takes twice as long.
pub(super) const CHECKPOINT_FRAMES: i64 = 64;

/// The write-ahead log of a database that a connection of ours has open.
pub(super) struct Wal {
    file: File,
    folder: PathBuf,
}

impl Wal {
    /// Opens the log of a database in WAL mode, if it is there.
    pub(super) fn open(database: &Path) -> io::Result<Option<Self>> {
        match File::open(beside(database, "-wal")) {
            Ok(file) => Ok(Some(Self { file, folder: folder_of(database).to_owned() })),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Makes the log's name durable if it has no frame yet; to be called in turn, before a write.
    pub(super) fn prepare(&self) -> io::Result<()> {
        if self.file.metadata()?.len() == 0 { sync_folder(&self.folder) } else { Ok(()) }
    }

    /// Makes every frame written so far durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The lock file on which our processes wait for each other; none where it cannot be made.
pub(super) struct Queue(Option<File>);

/// A turn at the head of the queue, which ends on drop.
pub(super) struct Turn {
    lock: Option<File>,
    came_at_once: bool,
}

impl Queue {
    /// Opens the queue of a database whose folder exists.
    pub(super) fn open(database: &Path) -> Self {
        if is_on_network(folder_of(database)) {
            return Self(None);
        }
        let path = beside(database, "-queue");
        // Opening what is no file, such as a pipe, could wait for ever.
        if fs::metadata(&path).is_ok_and(|queue| !queue.is_file()) {
            return Self(None);
        }
        // To wait, it is enough to read: another user may have made the file.
        let file = File::open(&path).or_else(|_| OpenOptions::new().create(true).append(true).open(&path));
        if let Err(err) = &file {
            log::debug!("no queue {}: {err}", path.display());
        }
        Self(file.ok())
    }

    /// Whether there is a file to wait on.
    pub(super) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Waits for a turn. Where there is none to be had, or the time for it is over, SQLite's own lock
    /// is what is left to try.
    ///
    /// # Errors
    ///
    /// [`StoreError::Interrupted`].
    pub(super) fn enter(self, retry: &Retry) -> Result<Turn, StoreError> {
        let Some(file) = self.0 else { return Ok(Turn::NONE) };
        match file.try_lock() {
            Ok(()) => return Ok(Turn { lock: Some(file), came_at_once: true }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(err)) => return Ok(Turn::without(&err)),
        }
        // The kernel's wait cannot be bounded, so it is left to a thread, which ends with the
        // process if the time is over first.
        let (done, turn) = mpsc::channel();
        let wait = move || done.send(file.lock().map(|()| file));
        if let Err(err) = thread::Builder::new().spawn(wait) {
            return Ok(Turn::without(&err));
        }
        match retry.wait("its turn among other processes", |pause| turn.recv_timeout(pause).ok()) {
            Ok(Ok(file)) => Ok(Turn { lock: Some(file), came_at_once: false }),
            Ok(Err(err)) => Ok(Turn::without(&err)),
            Err(StoreError::Locked { .. }) => Ok(Turn::NONE),
            Err(other) => Err(other),
        }
    }
}

impl Turn {
    /// A turn without a queue.
    const NONE: Self = Self { lock: None, came_at_once: false };

    /// Whether nobody else had a turn or waited for one.
    pub(super) fn came_at_once(&self) -> bool {
        self.came_at_once
    }

    /// A turn where there is no queue, for this reason.
    fn without(why: &io::Error) -> Self {
        log::debug!("no turn in the queue: {why}");
        Self::NONE
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(file) = &self.lock {
            // The process's end unlocks it as well.
            let _ = file.unlock();
        }
    }
}

/// Whether a database has a write-ahead log.
pub(super) fn has_log(database: &Path) -> bool {
    beside(database, "-wal").exists()
}

/// Whether a database has a write-ahead log with anything in it.
pub(super) fn has_frames(database: &Path) -> bool {
    fs::metadata(beside(database, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// The journal mode that the connection found when it last looked at the database.
pub(super) fn journal_mode(connection: &Connection) -> Result<String, StoreError> {
    Ok(connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?)
}

/// How many frames the log holds; its file may be longer.
pub(super) fn frames(connection: &Connection) -> i64 {
    connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1)).unwrap_or(0)
}

/// Copies the log into the database as far as that need not wait. If all of it is, the next write
/// starts the log anew.
pub(super) fn checkpoint(connection: &Connection) {
    let done = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok(row.get::<_, i64>("log")? == row.get::<_, i64>("checkpointed")?)
    });
    log::debug!("checkpoint: {}", if done.is_ok_and(|is_whole| is_whole) { "done" } else { "put off" });
}

/// A file that stands beside the database under its name.
fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Makes a new folder's own name durable, and those of the folders above it.
pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // All who found no database come through here, so whoever answers first has synced them, no
    // matter who made them.
    std::path::absolute(folder)?.ancestors().skip(1).try_for_each(sync_folder)
}

/// Makes a folder's entries durable, as far as this user may.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems do not sync folders; SQLite passes over both cases too.
        Err(err) if matches!(err.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => Ok(()),
        done => done,
    }
}

/// Whether a folder is on a file system of another machine, by the types of `statfs(2)`.
#[cfg(target_os = "linux")]
pub(super) fn is_on_network(folder: &Path) -> bool {
    // NFS, SMB, CIFS, SMB2, 9P, Ceph, AFS, FUSE (sshfs and the like), Lustre, GPFS.
    const TYPES: [u64; 10] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x0102_1997,
        0x00c3_6400,
        0x5346_414f,
        0x6573_5546,
        0x0bd0_0bd0,
        0x4750_4653,
    ];
    // The type is a signed word on some machines.
    rustix::fs::statfs(folder).is_ok_and(|system| TYPES.contains(&(system.f_type as u64 & 0xffff_ffff)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_on_network(_folder: &Path) -> bool {
    false
}
