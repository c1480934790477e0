//! This file copies a database beside itself before its schema is changed.
//!
//! The copy is made under a temporary name from one snapshot, which no writer can change. It is compared with
//! that snapshot, checked for damage, made durable, and only then gets its name. A process that is killed before
//! that leaves a file with a temporary name, which the next copy removes: a living process holds a lock on its
//! own.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::iter;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{XattrFlags, fremovexattr, fsetxattr, getxattr};
use rustix::io::Errno;
use tempfile::TempPath;

use super::connect::{Access, connect};
use super::holder::WRITER;
use super::wal::sync_folder;
use crate::core::counts::RetryReason;
use crate::core::path::{beside, folder_of};
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// The suffix of a copy's name. The time of the copy follows it.
const SUFFIX: &str = ".before-migrate-";

/// The end of a temporary name.
const TEMPORARY: &str = ".tmp";

/// The number of pages that are copied before the next look whether the user pressed Ctrl-C.
const STEP_PAGES: i32 = 2000;

/// A copy of a database, which is removed on drop unless it is kept.
pub(super) struct Copy {
    path: TempPath,
    /// Holds the lock that shows that the copy is not a leftover.
    file: File,
}

impl Copy {
    /// Makes and checks a copy under a temporary name.
    pub(super) fn make(database: &Path, retry: &Retry) -> Result<Self, StoreError> {
        remove_leftovers(database);
        let failed = |err: io::Error| uncopied(database, err);
        let copy = tempfile::Builder::new()
            .prefix(&prefix(database))
            .suffix(TEMPORARY)
            .tempfile_in(folder_of(database))
            .map_err(failed)?;
        let (file, path) = copy.into_parts();
        let copy = Self { path, file };
        // Without the lock, another process may remove the copy, and the copy's naming then fails.
        let _ = copy.file.try_lock();
        give_rights(database, &copy.file).map_err(failed)?;
        copy.fill(database, retry)?;
        copy.file.sync_all().map_err(failed)?;
        let found: String = copy.open()?.pragma_query_value(None, "integrity_check", |row| row.get(0))?;
        if found != "ok" {
            return Err(uncopied(database, format!("integrity_check finds in the copy: {found}")));
        }
        Ok(copy)
    }

    /// Copies one snapshot of the database, and compares the copy with it.
    fn fill(&self, database: &Path, retry: &Retry) -> Result<(), StoreError> {
        let source = connect(database, Access::Write)?;
        let snapshot = source.unchecked_transaction()?;
        retry.run(|| Ok(snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?))?;
        let failed = |err: rusqlite::Error| uncopied(database, err);
        {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut target = Connection::open_with_flags(&self.path, flags).map_err(failed)?;
            // The copy is synced as a whole afterwards, and is not used if anything goes wrong before.
            target.execute_batch("PRAGMA journal_mode = off; PRAGMA synchronous = off").map_err(failed)?;
            let backup = Backup::new(&snapshot, &mut target).map_err(failed)?;
            let step = || match backup.step(STEP_PAGES) {
                Ok(StepResult::Done) => Ok(true),
                Ok(StepResult::More) => Ok(false),
                Ok(_) => Err(StoreError::Busy(RetryReason::Writer, WRITER)),
                Err(err) => Err(failed(err)),
            };
            while !retry.run(step)? {}
        }
        if is_equal(&snapshot, &self.open()?).map_err(failed)? {
            Ok(())
        } else {
            Err(uncopied(database, "the copy differs from the database"))
        }
    }

    /// Opens the copy to read it, without any other file beside it.
    fn open(&self) -> Result<Connection, StoreError> {
        connect(&self.path, Access::ReadFile((0, SystemTime::UNIX_EPOCH)))
    }

    /// Gives the copy its name, which no other file has, and makes the name durable.
    pub(super) fn named(self, database: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let Self { mut path, file } = self;
        let first = format!("{SUFFIX}{}", now.strftime("%Y%m%dT%H%M%SZ"));
        let others = (2..1000).map(|number| format!("{first}-{number}"));
        for suffix in iter::once(first.clone()).chain(others) {
            let to = beside(database, &suffix);
            match path.persist_noclobber(&to) {
                Ok(()) => {
                    let path = TempPath::try_from_path(&to).map_err(|err| uncopied(database, err))?;
                    sync_folder(folder_of(database)).map_err(|err| uncopied(database, err))?;
                    return Ok(Self { path, file });
                }
                Err(err) if err.error.kind() == io::ErrorKind::AlreadyExists => path = err.path,
                Err(err) => return Err(uncopied(database, err.error)),
            }
        }
        Err(uncopied(database, "there is no free name for it"))
    }

    /// Keeps the copy and returns its path.
    pub(super) fn keep(self) -> PathBuf {
        let path = self.path.to_path_buf();
        // Only the removal on drop is given up, which cannot fail on Unix.
        let _ = self.path.keep();
        path
    }
}

/// Returns the error for a database that could not be copied.
fn uncopied(database: &Path, why: impl Display) -> StoreError {
    let folder = folder_of(database).display();
    StoreError::Unusable {
        why: format!("was not migrated, as no copy of it could be made first in {folder}: {why}"),
        hint: Some("see that its folder has room and can be written"),
    }
}

/// Returns the beginning of the names of a database's unfinished copies.
fn prefix(database: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(database.file_name().unwrap_or_default());
    prefix.push(SUFFIX);
    prefix
}

/// Removes the unfinished copies of processes that were killed.
fn remove_leftovers(database: &Path) {
    let prefix = prefix(database);
    let is_unfinished = |name: &OsString| {
        let name = name.as_encoded_bytes();
        name.starts_with(prefix.as_encoded_bytes()) && name.ends_with(TEMPORARY.as_bytes())
    };
    for entry in fs::read_dir(folder_of(database)).into_iter().flatten().flatten() {
        let path = entry.path();
        if is_unfinished(&entry.file_name()) && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let removed = fs::remove_file(&path);
            log::debug!("removed the unfinished copy {}: {removed:?}", path.display());
        }
    }
}

/// Gives a copy the owner, group, mode and ACL of the database, as far as this user may. Nobody may read the copy
/// who may not read the database.
///
/// The database is not opened for this: to close it would end SQLite's locks on it.
fn give_rights(database: &Path, copy: &File) -> io::Result<()> {
    let (from, to) = (fs::metadata(database)?, copy.metadata()?);
    if from.uid() != to.uid() && fchown(copy, Some(from.uid()), None).is_err() {
        log::debug!("the copy belongs to this user, not to the owner of the database");
    }
    let acl = acl(database)?;
    if acl.is_none() {
        // The copy may have one from its folder.
        match fremovexattr(copy, ACL) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(err) => return Err(err.into()),
        }
    }
    let keeps_group = from.gid() == to.gid() || fchown(copy, None, Some(from.gid())).is_ok();
    let mode = from.permissions().mode();
    let set_mode = |bits| copy.set_permissions(fs::Permissions::from_mode(mode & bits));
    // With an ACL, the mode shows its mask in place of the group's rights.
    set_mode(if keeps_group && acl.is_none() { 0o777 } else { 0o707 })?;
    match acl {
        Some(acl) if keeps_group => Ok(fsetxattr(copy, ACL, &acl, XattrFlags::empty())?),
        _ => Ok(()),
    }
}

/// The POSIX ACL of a file, see `acl(5)`.
const ACL: &str = "system.posix_acl_access";

/// Returns the ACL of a file, or `None` if it has none.
fn acl(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // The longest value, see `xattr(7)`.
    let mut acl = vec![0; 64 << 10];
    match getxattr(path, ACL, acl.as_mut_slice()) {
        Ok(length) => {
            acl.truncate(length);
            Ok(Some(acl))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Tells whether two databases have the same schema, as many rows in each table, and the same rows in the table
/// of allocations.
fn is_equal(one: &Connection, other: &Connection) -> rusqlite::Result<bool> {
    let is_same = |sql: &str| Ok::<_, rusqlite::Error>(values(one, sql)? == values(other, sql)?);
    let mut tables = one.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")?;
    let tables: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for table in tables {
        if !is_same(&format!("SELECT count(*) FROM \"{}\"", table.replace('"', "\"\"")))? {
            return Ok(false);
        }
    }
    Ok(is_same("SELECT * FROM sqlite_schema ORDER BY rowid")?
        && is_same("SELECT rowid, * FROM port_configurations ORDER BY rowid")?)
}

/// Returns the type and the bytes of all values of a query's rows.
fn values(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<(Type, Vec<u8>)>> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut values = Vec::new();
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            let value = row.get_ref(column)?;
            let bytes = match value {
                ValueRef::Null => Vec::new(),
                ValueRef::Integer(number) => number.to_ne_bytes().to_vec(),
                ValueRef::Real(number) => number.to_ne_bytes().to_vec(),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
            };
            values.push((value.data_type(), bytes));
        }
    }
    Ok(values)
}
