//! This file opens a SQLite file. It checks what is at the path and how this user may open it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::storage::{FILE_MODE, SecondName, shared_file_system};
use super::wal::{has_frames, has_log};
use crate::core::path::folder_of;
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// The page size of a new database, in bytes. An allocation writes about seven pages whatever their
/// size, and SQLite writes each of them twice: to the log and to the database.
const PAGE_SIZE: u32 = 2048;

/// How a connection uses a database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It reads and writes.
    Write,
    /// It reads, and uses the -wal and -shm files of others without creating any.
    Read,
    /// It reads the database file alone, which had this length and modification time.
    ReadFile(Rest),
}

/// The length of a database file and its modification time.
pub(super) type Rest = (u64, SystemTime);

impl Access {
    /// Returns how this user may use the file.
    ///
    /// # Errors
    ///
    /// Fails when the names of the file and its neighbours cannot be looked up.
    pub(super) fn to(path: &Path) -> io::Result<Self> {
        let may_write_file = may_write(path) && SecondName::of(path)?.is_none();
        if may_write_file && may_write(folder_of(path)) {
            return Ok(Self::Write);
        }
        // If its -wal file has no frames, a database in WAL mode is complete in its main file.
        Ok(match rest(path).filter(|_| !has_frames(path)) {
            Some(rest) => Self::ReadFile(rest),
            None if may_write_file => Self::Write,
            None => Self::Read,
        })
    }

    /// Tells whether the file is unchanged since then, so that the data read from it is consistent.
    pub(super) fn still_holds(self, path: &Path) -> bool {
        match self {
            Self::ReadFile(was) => rest(path).is_some_and(|now| now == was) && !has_frames(path),
            Self::Write | Self::Read => true,
        }
    }
}

/// Connects to the file at `path`.
///
/// A reader without the right to write creates neither a -wal nor a -shm file. The reader would own those
/// files, and the owner of the database could not use them.
pub(super) fn connect(path: &Path, access: Access) -> Result<Connection, StoreError> {
    let limit = match access {
        Access::Write => return configured(path, path, OpenFlags::SQLITE_OPEN_READ_WRITE),
        Access::Read => "readonly_shm=1",
        Access::ReadFile(_) => "immutable=1",
    };
    let name = percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    configured(format!("file:{name}?{limit}"), path, flags)
}

/// Connects to the database at `path`, which may be empty or missing, and gives a new one its page
/// size and journal mode.
pub(super) fn create(path: &Path, retry: &Retry) -> Result<Connection, StoreError> {
    // SQLite itself would create the file with a mode that denies writing to the group.
    OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)?;
    let is_new = !has_content(path)?;
    let connection = configured(path, path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if is_new {
        connection.pragma_update(None, "page_size", PAGE_SIZE)?;
        if shared_file_system(folder_of(path)).is_none() {
            retry.run(|| {
                let mut change = connection.prepare("PRAGMA journal_mode = wal")?;
                let mut rows = change.query([])?;
                // The change is written when the statement ends, after its only row.
                while rows.next()?.is_some() {}
                Ok(())
            })?;
        }
    }
    Ok(connection)
}

/// Opens a connection without a busy timeout: all waits are left to [`crate::store::retry`].
fn configured(name: impl AsRef<Path>, path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::ZERO)?;
    // An empty -wal file that was there is kept, because its next writer then need not sync a new name. A
    // -wal file that a read connection created is removed when the connection is closed.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log(path))?;
    // fsync(2) on macOS leaves data in the drive's cache: https://www.sqlite.org/pragma.html#pragma_fullfsync
    #[cfg(target_os = "macos")]
    connection.execute_batch("PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON")?;
    Ok(connection)
}

/// The smallest database: one page of the smallest size, in bytes.
const SMALLEST: u64 = 512;

/// Tells whether the file has any content. An empty or missing file is a database that was not made yet.
pub(super) fn has_content(path: &Path) -> Result<bool, StoreError> {
    if path.to_string_lossy().ends_with('/') {
        return Err(StoreError::unusable("is a folder"));
    }
    match fs::metadata(path) {
        // SQLite would treat a file of one byte as an empty one.
        Ok(metadata) if metadata.is_file() && (1..SMALLEST).contains(&metadata.len()) => {
            Err(StoreError::unusable("is not a SQLite database"))
        }
        Ok(metadata) if metadata.is_file() => Ok(metadata.len() > 0),
        Ok(metadata) if metadata.is_dir() => Err(StoreError::unusable("is a folder")),
        Ok(_) => Err(StoreError::unusable("is not a regular file")),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// The file format of a database with a rollback journal, and of one with a write-ahead log
/// (<https://www.sqlite.org/fileformat2.html#file_format_version_numbers>).
pub(super) const ROLLBACK_FORMAT: u8 = 1;
pub(super) const WAL_FORMAT: u8 = 2;

/// Returns the version of the file format that the file's header names.
pub(super) fn file_format(path: &Path) -> Option<u8> {
    let mut header = [0; 20];
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).ok()?;
    header.starts_with(b"SQLite format 3\0").then_some(header[18].max(header[19]))
}

/// Returns an error if the file's format is newer than this SQLite reads. SQLite itself reports such a file
/// as not a database.
pub(super) fn newer(path: &Path) -> Option<StoreError> {
    let version = file_format(path).filter(|&version| version > WAL_FORMAT)?;
    Some(StoreError::unusable(format!(
        "was made by a newer SQLite: its file format is {version}, this program reads 1 and 2"
    )))
}

/// Resolves all links in a path. Returns the path itself if nothing is there yet.
pub(super) fn real_path(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns the length and modification time of the file, if it is in WAL mode.
fn rest(path: &Path) -> Option<Rest> {
    file_format(path).filter(|&format| format == WAL_FORMAT)?;
    let file = fs::metadata(path).ok()?;
    Some((file.len(), file.modified().ok()?))
}

fn may_write(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}
