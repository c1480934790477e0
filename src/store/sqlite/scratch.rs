//! This file makes a folder on a database's disk, with a database of the same journal mode, in which the
//! self-test runs.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::connect::{ROLLBACK_FORMAT, WAL_FORMAT, file_format, real_path};
use crate::store::api::ScratchPlace;
use crate::store::error::StoreError;

/// A folder on a database's disk, with a database that has no table yet. The folder is removed on drop.
pub(in crate::store) struct ScratchFolder(TempDir);

impl ScratchFolder {
    /// Makes the folder beside the database at `path`.
    pub(in crate::store) fn new(path: &Path) -> Result<Self, StoreError> {
        let path = real_path(path);
        // If the database does not exist yet, its folder may be missing. The nearest folder above is on its
        // disk.
        let beside = path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
        let folder = tempfile::Builder::new().prefix(".manage-ports-selftest-").tempdir_in(beside).map_err(|err| {
            StoreError::unusable(format!("has no room for a scratch folder in {}: {err}", beside.display()))
        })?;
        let folder = Self(folder);
        let journal_mode = match file_format(&path) {
            Some(ROLLBACK_FORMAT) => "delete",
            Some(WAL_FORMAT) => "wal",
            _ => return Ok(folder),
        };
        // A value is written and then reset, which leaves a database that has a header and no table.
        let connection = Connection::open(folder.database())?;
        connection.pragma_update_and_check(None, "journal_mode", journal_mode, |_| Ok(()))?;
        connection.execute_batch("PRAGMA user_version = 1; PRAGMA user_version = 0")?;
        Ok(folder)
    }

    /// Returns the path of the database.
    pub(in crate::store) fn database(&self) -> PathBuf {
        self.0.path().join("ports.db")
    }
}

impl ScratchPlace for ScratchFolder {
    fn sync(&mut self) -> Result<(), StoreError> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(self.0.path().join("sync"))?;
        file.write_all(&[0; 4096])?;
        Ok(file.sync_data()?)
    }
}
