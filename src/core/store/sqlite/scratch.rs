//! A folder of its own on a database's disk, in which a self-test happens.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use tempfile::TempDir;

use super::unusable;
use crate::core::store::{self, Database, StoreError};

/// A folder on a database's disk with a database that was not made yet.
pub(in crate::core::store) struct Scratch {
    folder: TempDir,
    database: Database,
}

impl Scratch {
    /// Makes the folder beside the database at `path`.
    pub(in crate::core::store) fn new(path: &Path) -> Result<Self, StoreError> {
        // A database that was not made yet may lack its folder; the next one above is on its disk.
        let beside = path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
        let folder = tempfile::Builder::new()
            .prefix(".manage-ports-selftest-")
            .tempdir_in(beside)
            .map_err(|err| unusable(format!("has no room for a scratch folder in {}: {err}", beside.display())))?;
        Ok(Self { database: Database::Sqlite(folder.path().join("ports.db")), folder })
    }
}

impl store::Scratch for Scratch {
    fn database(&self) -> &Database {
        &self.database
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let mut file =
            OpenOptions::new().create(true).truncate(false).write(true).open(self.folder.path().join("sync"))?;
        file.write_all(&[0; 4096])?;
        Ok(file.sync_data()?)
    }
}
