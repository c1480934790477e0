//! The one trait that every database implements, and the types of its calls.
//!
//! A store knows no policy. What to choose or to remove comes in as a closure that runs inside the
//! write transaction, after the table was read and before it is written, so that no other writer
//! can change the table in between.

use std::time::Duration;

use jiff::SignedDuration;

use super::error::StoreError;
use crate::core::allocation::{Allocation, ForeignMetadata, Outcome, PortPair};
use crate::core::app::AppId;
use crate::core::import::Entry;
use crate::core::ports::PortSet;
use crate::core::refusal::Refusal;
use crate::core::schema::UniqueIndex;

/// What the table holds inside the write transaction, as far as a choice of ports needs to know it.
#[derive(Default)]
pub(crate) struct Taken {
    /// The ports that rows have in either column.
    pub(crate) ports: PortSet,
    /// Whether a row has a model of the apps.
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

/// Picks the rows to remove from all rows, as they are inside the write transaction, given how long the
/// call waited for the lock. `None` gives the lock back without a change: what the choice rests on may be
/// out of date after a wait, and is looked at anew without the lock.
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
    /// What the database is kept on.
    pub(crate) storage: Storage,
}

/// What a database is kept on.
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
    /// The type of a file system that other machines may share.
    pub(crate) fn shared_type(self) -> Option<&'static str> {
        match self {
            Self::Shared(file_system) => Some(file_system),
            Self::Local | Self::Server => None,
        }
    }

    /// The storage in words.
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
    /// The way of waiting in words, to be read after "waiting".
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
    /// [`StoreError`] when the table cannot be read.
    fn snapshot(&mut self) -> Result<Vec<Allocation>, StoreError>;

    /// Reads the row of each app, in the order of `apps`; `None` for an app that has none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the table cannot be read.
    fn find(&mut self, apps: &[AppId]) -> Result<Vec<Option<Allocation>>, StoreError>;

    /// Gives each app its row, in the order of `apps`: the one it has, or a new one with the pair
    /// that `choose` names. `hold` reserves each row for its app for this long from the moment of
    /// the write, however long the call waited before. All rows are made or none, and all are
    /// durable on return.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] when `choose` refuses, or what else keeps the table from being
    /// written; the table is then as it was.
    fn allocate(
        &mut self,
        apps: &[AppId],
        hold: Option<SignedDuration>,
        choose: &mut Choose<'_>,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// Adds the rows that `plan` names and returns them. All are added or none, and all rows that
    /// `plan` was shown are durable on return; without anything to add, no database is created.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the table cannot be written; the table is then as it was.
    fn add(&mut self, plan: &mut Plan<'_>) -> Result<Vec<Allocation>, StoreError>;

    /// Removes the rows that `select` picks and returns them. All are removed or none, durably; `None` where
    /// `select` picked none and gave the lock back.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the table cannot be written; the table is then as it was.
    fn remove(&mut self, select: &mut Select<'_>) -> Result<Option<Vec<Allocation>>, StoreError>;

    /// Writes the metadata of the rows that `change` returns, and returns them. All are written or none,
    /// durably.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the table cannot be written or metadata cannot be changed; the table is then
    /// as it was.
    fn update(&mut self, change: &mut Change<'_>) -> Result<Vec<Allocation>, StoreError>;

    /// Tells how the database keeps what is written, and how writers wait for each other.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database cannot be read.
    fn mode(&mut self) -> Result<Mode, StoreError>;

    /// Tells what the database is kept on; of one that does not exist yet, what it would be kept on.
    fn storage(&self) -> Storage;

    /// Looks at every page of the database for damage, as far as the database can tell.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`] when it is damaged.
    fn verify(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Names the unique indexes of the platform's table that this table lacks.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the schema cannot be read.
    fn missing_indexes(&mut self) -> Result<Vec<UniqueIndex>, StoreError>;
}

/// A place for an empty database of the same kind, on the same disk or server as another; the place
/// is removed on drop.
pub(crate) trait ScratchPlace {
    /// Makes 4 KiB durable there.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when that cannot be done.
    fn sync(&mut self) -> Result<(), StoreError>;
}
