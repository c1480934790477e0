//! This file explains and implements why an answer survives a power cut, why the main file alone holds every
//! row when no process runs, and how many processes share the wait for the disk.
//!
//! A sync is the slowest part of a commit, and SQLite holds its write lock over it. In WAL mode it
//! need not: here COMMIT itself does not sync its frames (`synchronous=NORMAL`). What makes them
//! durable depends on who comes next. A writer with another one behind it in the queue ends its turn
//! and then syncs the log through a descriptor of its own, so that the syncs of many processes
//! overlap. A writer with nobody behind it empties the log in its turn, with a checkpoint that
//! truncates it. Step by step:
//!
//! 1. *The log is the one that is written.* We open it while a connection of ours is open, which
//!    holds a shared lock on the database. Only the last connection to close removes the log.
//! 2. *The log's name is durable before its first frame.* With `synchronous=NORMAL`, SQLite syncs the
//!    header of a log that starts anew before it writes a frame, and the first sync of a log through
//!    a connection syncs the folder as well (`walFrames` in wal.c with
//!    <https://sqlite.org/src/info/ff5be73dee>, `UNIXFILE_DIRSYNC` in os_unix.c). So a log with frames
//!    has a durable name, even if the writer of its first frame died at once. The same sync makes the
//!    database's own name durable. SQLite passes over a folder that cannot be synced; we sync it
//!    ourselves before we write to a log that was not there, so that a disk that fails is told.
//! 3. *The commit is in the log before the sync.* COMMIT returns once its frames are written. The
//!    sync starts after that and covers them, and all frames before them, so an answer never depends
//!    on a frame that is not durable: a log is replayed up to its first gap
//!    (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
//! 4. *A checkpoint keeps the order.* SQLite syncs the log, copies its frames, syncs the database, and
//!    only then truncates the log or starts it anew
//!    (<https://www.sqlite.org/wal.html#performance_considerations>). Whenever the power fails, the
//!    database and what is left of the log give every row that was committed before the first sync.
//! 5. *The answer comes after the sync.* The syncs of a checkpoint replace the sync of the log. An
//!    answer about a row that was there syncs as well, log and folder, as the writer of the row may
//!    have died before its own sync.
//! 6. *The truncation itself is not synced.* A power cut may bring the old log back. All its frames are
//!    in the database, and nothing else has been written to the database since: before a later
//!    checkpoint writes there, step 2 has synced the new log's header, and with it the truncation. So
//!    the old log is whole, and its replay changes nothing. It cannot mix with frames of the new log
//!    either: the new header has other salts and is durable before them. Only for a copy that was
//!    restored over the database in these moments an old log is wrong. `sync` after the copy prevents
//!    that, as it makes the truncation durable with the copy.
//!
//! Somebody always empties the log. Each of our processes that may write looks at the log when it has
//! ended its last transaction, whatever came of it:
//!
//! - If the log is empty, nothing is left to do.
//! - If another process waits in the queue, that process will look, and later than this one.
//! - If a transaction is in the way of the checkpoint, its process will look when it ends the transaction.
//! - If another checkpoint is in the way, we try again when it is over, as it may have failed because
//!   of a transaction that we have just ended ourselves.
//!
//! So the last process to look finds nobody else and empties the log. Two kinds of processes break the
//! chain: one that is killed, after which the next of ours to look makes up for it, and one of the
//! platform, whose last connection to close empties the log unless it was told not to.
//!
//! Two things are outside of this. A sync that fails is an error and no answer, but its frames may be
//! seen by others, and the kernel may report the failure only once. And a log that was written with
//! `synchronous=OFF` by somebody else's process has a durable name when that process, or an answer
//! about a row that was there, has synced it.
//!
//! With a rollback journal, SQLite's `synchronous=EXTRA` does all of this before COMMIT returns. The
//! removal of the journal is the commit; a row that somebody else committed without EXTRA is
//! durable once the folder is synced. A new database on a file system that other machines may share
//! gets a rollback journal: a log needs shared memory
//! (<https://www.sqlite.org/wal.html#overview>).

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rusqlite::Connection;

use crate::core::path::beside;
use crate::store::error::StoreError;

/// The write-ahead log of a database that a connection of ours has open.
pub(super) struct Wal(File);

impl Wal {
    /// Opens the log of a database in WAL mode, if it is there.
    pub(super) fn open(database: &Path) -> io::Result<Option<Self>> {
        match File::open(beside(database, "-wal")) {
            Ok(file) => Ok(Some(Self(file))),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Makes every frame written so far durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// Tells whether a database has a write-ahead log.
pub(super) fn has_log(database: &Path) -> bool {
    beside(database, "-wal").exists()
}

/// Tells whether a database has a write-ahead log with any content.
pub(super) fn has_frames(database: &Path) -> bool {
    fs::metadata(beside(database, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// Returns the journal mode that the connection found when it last looked at the database.
pub(super) fn journal_mode(connection: &Connection) -> Result<String, StoreError> {
    Ok(connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?)
}

/// The result of a checkpoint that is to empty the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkpoint {
    /// The log is empty, and its rows are durable in the database.
    Done,
    /// A transaction of another process blocks it.
    Blocked,
    /// Another checkpoint is running.
    OtherRunning,
}

/// Copies the log into the database and truncates it, unless another process blocks it.
pub(super) fn checkpoint(connection: &Connection) -> Result<Checkpoint, StoreError> {
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    let answer = connection.query_row(truncate, [], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?)));
    let outcome = match answer.map_err(StoreError::from) {
        Ok((false, _)) => Checkpoint::Done,
        // SQLite counts the frames only once it has the lock for checkpoints.
        Ok((true, -1)) => Checkpoint::OtherRunning,
        Ok((true, _)) | Err(StoreError::Busy(..)) => Checkpoint::Blocked,
        Err(other) => return Err(other),
    };
    log::debug!("checkpoint: {outcome:?}");
    Ok(outcome)
}

/// Creates a folder, and makes its name and the names of the folders above it durable.
pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // Every process that found no database runs this, so the first process that answers has synced the
    // folders, no matter who created them.
    std::path::absolute(folder)?.ancestors().skip(1).try_for_each(sync_folder)
}

/// Makes a folder's entries durable, as far as this user may.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot sync folders. SQLite ignores both errors, too.
        Err(err) if matches!(err.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => Ok(()),
        done => done,
    }
}
