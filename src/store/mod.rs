//! Allocations are stored in a SQLite file or on a PostgreSQL server.
//!
//! Only this file knows both databases. Their common interface is in [`api`].

pub(crate) mod api;
pub(crate) mod error;
mod postgres;
pub(crate) mod retry;
mod settle;
mod sql;
mod sqlite;

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use self::api::{IfMissing, ScratchPlace, Store};
use self::error::StoreError;
use self::postgres::{PgTarget, Postgres};
use self::retry::Retry;
use self::sqlite::Sqlite;

/// The database that holds the table of allocations.
#[derive(Clone)]
pub(crate) enum Database {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A database on a PostgreSQL server.
    Postgres(Box<PgTarget>),
}

impl Database {
    /// Reads the part of a URL that follows `postgresql://`. `variable` looks up a variable in the
    /// environment. libpq's password file is in `home` unless a variable names another.
    ///
    /// # Errors
    ///
    /// Returns, in words and without a password, what is wrong with the URL.
    pub(crate) fn postgres(
        url: &str,
        variable: &dyn Fn(&str) -> Option<String>,
        home: Option<&Path>,
    ) -> Result<Self, String> {
        Ok(Self::Postgres(Box::new(PgTarget::parse(url, variable, home)?)))
    }

    /// Returns the password for each host of a server, from the URL or from the password file.
    #[cfg(feature = "internals")]
    pub(crate) fn passwords(&self) -> Vec<Option<&[u8]>> {
        match self {
            Self::Sqlite(_) => Vec::new(),
            Self::Postgres(target) => target.passwords(),
        }
    }

    /// Tells whether the database's URL holds a password.
    pub(crate) fn has_password(&self) -> bool {
        matches!(self, Self::Postgres(target) if target.has_password())
    }

    /// Returns the name by which the database can be opened again, with the password if there is one. It may
    /// be put into the environment of a process, but not into messages.
    pub(crate) fn secret_name(&self) -> OsString {
        match self {
            Self::Sqlite(path) => path.clone().into(),
            Self::Postgres(target) => target.secret_url().into(),
        }
    }
}

impl Display for Database {
    /// Names the database, without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(target) => write!(f, "{target}"),
        }
    }
}

/// Opens a database.
///
/// # Errors
///
/// Returns [`StoreError::Missing`] under [`IfMissing::Fail`], [`StoreError::Unusable`] if it is not a
/// database with the table, and [`StoreError::Locked`] if it stays locked. A server may return these errors
/// only when it is first used.
pub(crate) fn open(database: &Database, missing: IfMissing, retry: Retry) -> Result<Box<dyn Store>, StoreError> {
    Ok(match database {
        Database::Sqlite(path) => Box::new(Sqlite::open(path, missing, retry)?),
        Database::Postgres(target) => Box::new(Postgres::open(target, missing, retry)?),
    })
}

/// An empty database of the same kind and in the same place as another, which is removed on drop.
pub(crate) struct ScratchDatabase {
    /// The empty database.
    pub(crate) database: Database,
    /// The folder or schema that holds it.
    pub(crate) place: Box<dyn ScratchPlace>,
}

/// Makes an empty database beside another, in which the self-test can run.
///
/// # Errors
///
/// Returns [`StoreError`] when no such database can be made.
pub(crate) fn scratch(database: &Database, retry: Retry) -> Result<ScratchDatabase, StoreError> {
    Ok(match database {
        Database::Sqlite(path) => {
            let folder = sqlite::ScratchFolder::new(path)?;
            ScratchDatabase { database: Database::Sqlite(folder.database()), place: Box::new(folder) }
        }
        Database::Postgres(target) => {
            let schema = postgres::ScratchSchema::new(target, retry)?;
            ScratchDatabase { database: Database::Postgres(Box::new(schema.target())), place: Box::new(schema) }
        }
    })
}
