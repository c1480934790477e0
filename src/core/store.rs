//! Where allocations live: the one trait that every database implements.
//!
//! A store knows no policy. What is chosen or removed comes in as a closure that runs inside the
//! write transaction, between reading the table and writing to it, so that nobody can come between.

mod postgres;
mod settle;
mod sqlite;

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::path::PathBuf;

use jiff::SignedDuration;

pub use self::postgres::Server;

use super::allocation::{Allocation, ForeignMetadata, PortPair};
use super::app::AppId;
use super::conflict::UniqueIndex;
use super::import::Entry;
use super::policy::Refusal;
use super::ports::PortSet;
use super::retry::Retry;

/// Chooses a pair for each of these apps, given the ports that rows have in either column.
///
/// It may run again when the transaction is tried again.
pub type Choose<'a> = dyn FnMut(&[&AppId], &PortSet) -> Result<Vec<PortPair>, Refusal> + 'a;

/// Names what to add to all rows, as they are inside the write transaction.
///
/// It may run again when the transaction is tried again.
pub type Plan<'a> = dyn FnMut(&[Allocation]) -> Vec<Entry> + 'a;

/// Picks from all rows, as they are inside the write transaction, the ones to remove.
pub type Select<'a> = dyn FnMut(Vec<Allocation>) -> Vec<Allocation> + 'a;

/// An app's allocation after a call to [`Store::allocate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The row.
    pub allocation: Allocation,
    /// Whether this call made it.
    pub created: bool,
}

/// How a database keeps what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mode {
    /// Its journal mode, in the database's words.
    pub journal: String,
    /// How writers wait for each other.
    pub waiting: Waiting,
}

/// How writers wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// In the kernel's queue for a lock file.
    LockFile,
    /// In the server's queue for a lock on the table.
    TableLock,
    /// They try again and again.
    Retrying,
}

impl Waiting {
    /// How they do, in words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::LockFile => "in a queue, on a lock file",
            Self::TableLock => "in the server's queue, on a table lock",
            Self::Retrying => "by trying again",
        }
    }
}

/// Where allocations are kept.
#[derive(Clone)]
pub enum Database {
    /// In a SQLite file.
    Sqlite(PathBuf),
    /// On a PostgreSQL server.
    Postgres(Box<Server>),
}

impl Database {
    /// The name by which the database can be opened again, with a password if there is one: for the
    /// environment of a process, not for eyes.
    #[must_use]
    pub fn secret_name(&self) -> OsString {
        match self {
            Self::Sqlite(path) => path.clone().into(),
            Self::Postgres(server) => server.secret_url().into(),
        }
    }
}

impl Display for Database {
    /// Names the database, without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(server) => write!(f, "{server}"),
        }
    }
}

/// An empty database of the same kind and in the same place as another; it is removed on drop.
pub trait Scratch {
    /// Where it is.
    fn database(&self) -> &Database;

    /// Makes 4 KiB durable there.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when that cannot be done.
    fn sync(&mut self) -> Result<(), StoreError>;
}

/// A table of allocations that other processes write too.
pub trait Store {
    /// Reads every row, sorted by model and app number.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the table cannot be read.
    fn snapshot(&mut self) -> Result<Vec<Allocation>, StoreError>;

    /// Gives each app its row, in the order of `apps`: the one it has, or a new one with the pair
    /// that `choose` names. With `hold`, each is held for its app for so long from the moment of the
    /// write, however long that was waited for. All are made or none, and all are durable on return.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] as `choose` refuses, or what else keeps the table from being
    /// written; it is then as it was.
    fn allocate(
        &mut self,
        apps: &[AppId],
        hold: Option<SignedDuration>,
        choose: &mut Choose<'_>,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// Adds the rows that `plan` names and returns them. All are added or none, and all rows that
    /// `plan` was shown are durable on return; without anything to add, no database is made.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the table cannot be written; it is then as it was.
    fn add(&mut self, plan: &mut Plan<'_>) -> Result<Vec<Allocation>, StoreError>;

    /// Removes the rows that `select` picks and returns them. All are removed or none, durably.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the table cannot be written; it is then as it was.
    fn remove(&mut self, select: &mut Select<'_>) -> Result<Vec<Allocation>, StoreError>;

    /// How the database keeps what is written, and how writers wait for each other.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database cannot be read.
    fn mode(&mut self) -> Result<Mode, StoreError>;

    /// The unique indexes of the platform's table that this one lacks.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the schema cannot be read.
    fn missing_indexes(&mut self) -> Result<Vec<UniqueIndex>, StoreError>;
}

/// What to do with a database that was not made yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is an error.
    Fail,
    /// It reads as empty, and the first allocation makes it.
    Empty,
}

/// Opens a database.
///
/// # Errors
///
/// [`StoreError::Missing`] under [`Missing::Fail`], [`StoreError::Unusable`] for what is not a
/// database with the table, [`StoreError::Locked`] when it stays locked. On a server, they may come
/// with the first use.
pub fn open(database: &Database, missing: Missing, retry: Retry) -> Result<Box<dyn Store>, StoreError> {
    Ok(match database {
        Database::Sqlite(path) => Box::new(sqlite::Sqlite::open(path, missing, retry)?),
        Database::Postgres(server) => Box::new(postgres::Postgres::open(server, missing, retry)?),
    })
}

/// Makes an empty database beside another, for trying out what would happen there.
///
/// # Errors
///
/// [`StoreError`] when there is no room for one.
pub fn scratch(database: &Database, retry: Retry) -> Result<Box<dyn Scratch>, StoreError> {
    Ok(match database {
        Database::Sqlite(path) => Box::new(sqlite::Scratch::new(path)?),
        Database::Postgres(server) => Box::new(postgres::Scratch::new(server, retry)?),
    })
}

/// The columns of a row, in the order in which every store reads them, behind the one that names it.
macro_rules! select {
    ($id:literal, $model:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $id,
            ", ",
            $model,
            ", app_num, backend_port, frontend_port, is_available, metadata_json, ",
            "created_at, updated_at FROM port_configurations ",
            $rest
        )
    };
}
use select;

impl From<ForeignMetadata> for StoreError {
    fn from(ForeignMetadata(app): ForeignMetadata) -> Self {
        Self::Unusable {
            why: format!("has metadata of {app} that is no JSON object: a reservation cannot be added to it"),
            hint: Some("set its metadata_json to NULL, or release the app"),
        }
    }
}

/// Why a store could not do what it was asked.
#[derive(Debug)]
pub enum StoreError {
    /// Another process is in the way for now; names what is waited for.
    Busy(&'static str),
    /// A row would break a constraint, in the database's words.
    Conflict(String),
    /// The wait for other processes ran out.
    Locked {
        /// How long was waited.
        waited: std::time::Duration,
        /// How often it was tried.
        tries: u64,
        /// What was waited for.
        what: String,
    },
    /// The user asked to stop while waiting.
    Interrupted,
    /// The choice was refused.
    Refused(Refusal),
    /// There is no database yet.
    Missing,
    /// The database cannot be used; says why and, where there is one, a way on.
    Unusable {
        /// What is wrong, to be read after the database's name.
        why: String,
        /// What to do about it.
        hint: Option<&'static str>,
    },
}
