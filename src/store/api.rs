//! This file defines the trait that every database implements, and the types of its calls.
//!
//! A store contains no policy. The choice of ports or of rows to remove comes in as a closure. The closure
//! runs inside the write transaction, after the table was read and before it is written, so that no other
//! writer can change the table in between.

use std::time::Duration;

use jiff::SignedDuration;

use super::error::StoreError;
use crate::core::allocation::{Allocation, ForeignMetadata, Outcome, PortPair};
use crate::core::app::AppId;
use crate::core::import::Entry;
use crate::core::migration::Migration;
use crate::core::ports::PortSet;
use crate::core::refusal::Refusal;
use crate::core::schema::UniqueIndex;

/// The contents of the table inside the write transaction, as far as a choice of ports needs them.
#[derive(Default)]
pub(crate) struct Taken {
    /// The ports that rows have in either column.
    pub(crate) ports: PortSet,
    /// Tells whether some row has the model of the apps.
    pub(crate) has_model: bool,
}

/// Chooses a pair for each of these apps, given what the table holds.
///
/// A store calls it again when it repeats the transaction.
pub(crate) type Choose<'a> = dyn FnMut(&[&AppId], &Taken) -> Result<Vec<PortPair>, Refusal> + 'a;

/// Names the rows to add, given all rows as they are inside the write transaction.
///
/// A store calls it again when it repeats the transaction.
pub(crate) type Plan<'a> = dyn FnMut(&[Allocation]) -> Vec<Entry> + 'a;

/// Picks the rows to remove. Its arguments are all rows, as they are inside the write transaction, and the
/// time that the call waited for the lock. `None` releases the lock without a change: after a wait, the facts
/// on which the choice depends may be out of date, and the caller reads them again without the lock.
///
/// A store calls it again when it repeats the transaction.
pub(crate) type Select<'a> = dyn FnMut(Vec<Allocation>, Duration) -> Option<Vec<Allocation>> + 'a;

/// Changes the metadata of rows and returns the rows that it changed, given all rows as they are inside
/// the write transaction.
///
/// A store calls it again when it repeats the transaction.
pub(crate) type Change<'a> = dyn FnMut(Vec<Allocation>) -> Result<Vec<Allocation>, ForeignMetadata> + 'a;

/// What to do with a database that does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Fail with [`StoreError::Missing`].
    Fail,
    /// Read it as empty; the first allocation creates it.
    ReadAsEmpty,
}

/// How a database keeps what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mode {
    /// The journal mode, in the database's words.
    pub(crate) journal: String,
    /// How writers wait for each other.
    pub(crate) waiting: Waiting,
    /// The kind of storage.
    pub(crate) storage: Storage,
}

/// The kind of storage on which a database is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// A file system of this machine alone.
    Local,
    /// A file system of this type, which other machines or a virtual machine's host may share.
    Shared(&'static str),
    /// A server, which many machines use.
    Server,
}

impl Storage {
    /// Returns the type of the file system if other machines may share it.
    pub(crate) fn shared_type(self) -> Option<&'static str> {
        match self {
            Self::Shared(file_system) => Some(file_system),
            Self::Local | Self::Server => None,
        }
    }

    /// Describes the storage in words.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Local => "a file system of this machine".to_owned(),
            Self::Shared(file_system) => {
                format!(
                    "{file_system}, which other machines may share: only one machine may use it; PostgreSQL is for several"
                )
            }
            Self::Server => "a server".to_owned(),
        }
    }
}

/// How writers wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// In the kernel's queue for a lock file.
    LockFile,
    /// In the server's queue for a lock on the table.
    TableLock,
    /// Each writer tries again and again.
    Retrying,
}

impl Waiting {
    /// Describes the way of waiting, in words that follow "waiting".
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::LockFile => "in a queue, on a lock file",
            Self::TableLock => "in the server's queue, on a table lock",
            Self::Retrying => "by trying again",
        }
    }
}

/// A table of allocations that other processes write too.
pub(crate) trait Store {
    /// Reads every row, sorted by model and app number.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] when the table cannot be read.
    fn snapshot(&mut self) -> Result<Vec<Allocation>, StoreError>;

    /// Reads the name of each model that a row has, once each.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] when the table cannot be read.
    fn models(&mut self) -> Result<Vec<String>, StoreError>;

    /// Reads the row of each app, in the order of `apps`; `None` for an app that has none.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] when the table cannot be read.
    fn find(&mut self, apps: &[AppId]) -> Result<Vec<Option<Allocation>>, StoreError>;

    /// Returns a row for each app, in the order of `apps`: the row that the app has, or a new row with the
    /// pair that `choose` returns. `hold` reserves each row for its app for this long from the moment of the
    /// write, however long the call waited before. Either all rows are written or none, and all are durable
    /// on return.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Refused`] when `choose` refuses, or another error when the table cannot be
    /// written. The table is then unchanged.
    fn allocate(
        &mut self,
        apps: &[AppId],
        hold: Option<SignedDuration>,
        choose: &mut Choose<'_>,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// Adds the rows that `plan` names and returns them. Either all are added or none, and all rows that
    /// `plan` was given are durable on return. If there is nothing to add, no database is created.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] when the table cannot be written. The table is then unchanged.
    fn add(&mut self, plan: &mut Plan<'_>) -> Result<Vec<Allocation>, StoreError>;

    /// Removes the rows that `select` picks and returns them. Either all are durably removed or none. Returns
    /// `None` if `select` released the lock without a choice.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] when the table cannot be written. The table is then unchanged.
    fn remove(&mut self, select: &mut Select<'_>) -> Result<Option<Vec<Allocation>>, StoreError>;

    /// Writes the metadata of the rows that `change` returns, and returns these rows. Either all are durably
    /// written or none.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] when the table cannot be written or metadata cannot be changed. The table is
    /// then unchanged.
    fn update(&mut self, change: &mut Change<'_>) -> Result<Vec<Allocation>, StoreError>;

    /// Tells how the database keeps what is written, and how writers wait for each other.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] when the database cannot be read.
    fn mode(&mut self) -> Result<Mode, StoreError>;

    /// Returns the kind of storage of the database. For a database that does not exist yet, returns the kind
    /// that it would have.
    fn storage(&self) -> Storage;

    /// Checks every page of the database for damage, as far as the database supports it.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Unusable`] when it is damaged.
    fn verify(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Names the unique indexes of the platform's table that this table lacks.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] when the schema cannot be read.
    fn missing_indexes(&mut self) -> Result<Vec<UniqueIndex>, StoreError>;

    /// Adds the missing unique indexes in one transaction, unless rows are in the way. First copies a database
    /// that is a file. With `dry_run`, only plans the changes.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] when the table cannot be read, copied or changed. The table is then unchanged.
    fn migrate(&mut self, dry_run: bool) -> Result<Migration, StoreError>;
}

/// A place for an empty database of the same kind, on the same disk or server as another; the place
/// is removed on drop.
pub(crate) trait ScratchPlace {
    /// Makes 4 KiB durable there.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] when that cannot be done.
    fn sync(&mut self) -> Result<(), StoreError>;
}
