//! Opening a SQLite file: what stands at its path, and how this user may open it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, access};

use super::wal::{has_frames, has_log};
use crate::core::path::folder_of;
use crate::store::error::StoreError;

/// The length of a database file, and when it was last written.
pub(super) type Rest = (u64, SystemTime);

/// Connects to the file at `path`, which links lead to `real_path`.
pub(super) fn connect(path: &Path, real_path: &Path, is_at_rest: bool) -> Result<Connection, StoreError> {
    let limit = match is_at_rest {
        true => Some("immutable=1"),
        false if !may_write(real_path) => Some("readonly_shm=1"),
        false => None,
    };
    if let Some(limit) = limit {
        let name = percent_encode(real_path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        configured(format!("file:{name}?{limit}"), real_path, flags)
    } else {
        configured(path, real_path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }
}

/// Opens a connection whose waits are all left to [`crate::store::retry`].
pub(super) fn configured(name: impl AsRef<Path>, real_path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::ZERO)?;
    // The last reader to close the database leaves a log as it found it, and removes a log that its
    // own connection created.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log(real_path))?;
    Ok(connection)
}

/// The smallest database: one page of the smallest size, in bytes.
const SMALLEST: u64 = 512;

/// Whether there is anything in the file; an empty or missing one is a database not made yet.
pub(super) fn has_content(path: &Path) -> Result<bool, StoreError> {
    if path.to_string_lossy().ends_with('/') {
        return Err(StoreError::unusable("is a folder"));
    }
    match fs::metadata(path) {
        // SQLite would take a file of one byte for an empty one.
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

/// The version of the file format that the file's header names: 1, or 2 for a write-ahead log
/// (<https://www.sqlite.org/fileformat2.html#file_format_version_numbers>).
fn file_format(path: &Path) -> Option<u8> {
    let mut header = [0; 20];
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).ok()?;
    header.starts_with(b"SQLite format 3\0").then_some(header[18].max(header[19]))
}

/// Says so if the file's format is newer than this SQLite reads, which it reports as no database at all.
pub(super) fn newer(path: &Path) -> Option<StoreError> {
    let version = file_format(path).filter(|&version| version > 2)?;
    Some(StoreError::unusable(format!(
        "was made by a newer SQLite: its file format is {version}, this program reads 1 and 2"
    )))
}

/// Where a link leads, in the end; the path itself where nothing is there yet.
pub(super) fn real_path(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Length and modification time of the file, if it is in WAL mode, has no frames in its -wal file, and
/// this user may not create -wal and -shm. The main file is then complete.
pub(super) fn at_rest(path: &Path) -> Option<Rest> {
    if has_frames(path) || (may_write(path) && may_write(folder_of(path))) || file_format(path) != Some(2) {
        return None;
    }
    let file = fs::metadata(path).ok()?;
    Some((file.len(), file.modified().ok()?))
}

fn may_write(path: &Path) -> bool {
    access(path, Access::WRITE_OK).is_ok()
}
