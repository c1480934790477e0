//! The table in a SQLite file that the platform writes too.
//!
//! - Choosing and inserting happen in one `BEGIN IMMEDIATE` transaction, which rolls back on drop.
//! - SQLite's own busy handler is off: every wait goes through [`Retry`]. A COMMIT that readers
//!   hold up is repeated alone; SQLite keeps its PENDING lock meanwhile, so no reader starts anew
//!   (<https://www.sqlite.org/lockingv3.html>).
//! - A database keeps the journal mode it has. Commits use `synchronous=EXTRA`: with FULL alone the
//!   removal of the rollback journal is not durable, and after a power cut the journal would undo
//!   an answer already given (<https://www.sqlite.org/pragma.html#pragma_synchronous>).
//! - A row that somebody else committed may not be durable yet, because they may not use EXTRA or
//!   may have died before their sync. An answer made of such rows alone first syncs the folder and
//!   the write-ahead log. The database file itself is never opened a second time: closing it would
//!   drop SQLite's locks.
//! - Reading changes nothing: the last reader out does not checkpoint somebody else's log.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Statement, Transaction, TransactionBehavior, params,
};

use super::{Choose, Missing, Outcome, Select, Store, StoreError};
use crate::core::allocation::{Allocation, PortPair};
use crate::core::app::AppId;
use crate::core::conflict::UniqueIndex;
use crate::core::ports::PortSet;
use crate::core::retry::Retry;

/// The platform's table and indexes, to the letter.
const SCHEMA: &str = "\
CREATE TABLE port_configurations (
\tid INTEGER NOT NULL, 
\tmodel VARCHAR(200) NOT NULL, 
\tapp_num INTEGER NOT NULL, 
\tfrontend_port INTEGER NOT NULL, 
\tbackend_port INTEGER NOT NULL, 
\tis_available BOOLEAN, 
\tmetadata_json TEXT, 
\tcreated_at DATETIME, 
\tupdated_at DATETIME, 
\tPRIMARY KEY (id), 
\tCONSTRAINT unique_model_app UNIQUE (model, app_num)
);
CREATE INDEX ix_port_configurations_app_num ON port_configurations (app_num);
CREATE INDEX ix_port_configurations_model ON port_configurations (model);
CREATE INDEX ix_port_configurations_is_available ON port_configurations (is_available);
CREATE UNIQUE INDEX ix_port_configurations_frontend_port ON port_configurations (frontend_port);
CREATE UNIQUE INDEX ix_port_configurations_backend_port ON port_configurations (backend_port);
";

/// The columns that [`allocation`] reads, in its order.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT rowid, model, app_num, backend_port, frontend_port, is_available, metadata_json, ",
            "created_at, updated_at FROM port_configurations ",
            $rest
        )
    };
}

/// A SQLite file; without a connection while it was not made yet.
pub(super) struct Sqlite {
    path: PathBuf,
    retry: Retry,
    connection: Option<Connection>,
}

impl Sqlite {
    pub(super) fn open(path: &Path, missing: Missing, retry: Retry) -> Result<Self, StoreError> {
        let mut store = Self { path: path.to_owned(), retry, connection: None };
        if has_content(&store.path)? {
            let connection = connect(&store.path, OpenFlags::empty())?;
            let is_made = store.retry.run(|| {
                // Both looks see one state, or a database made between them would lack its table.
                let moment = connection.unchecked_transaction()?;
                if has_table(&moment)? {
                    return Ok(true);
                }
                // A writer that died while it made the database leaves it empty again.
                if pragma(&moment, "page_count")? == 0 { Ok(false) } else { Err(no_table()) }
            });
            store.connection = is_made.map_err(|err| newer(&store.path).unwrap_or(err))?.then_some(connection);
        }
        if missing == Missing::Fail && store.connection.is_none() {
            return Err(StoreError::Missing);
        }
        Ok(store)
    }

    /// Runs `decide` in one write transaction and makes what it wrote durable.
    fn write<T>(&self, mut decide: impl FnMut(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let Some(connection) = &self.connection else { return Err(StoreError::Missing) };
        self.retry.run(|| {
            connection.execute_batch("PRAGMA synchronous=EXTRA")?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let value = decide(&transaction)?;
            self.retry.run(|| {
                transaction.execute_batch("COMMIT").map_err(|err| match StoreError::from(err) {
                    StoreError::Busy(_) => StoreError::Busy("readers to finish"),
                    other => other,
                })
            })?;
            Ok(value)
        })
    }

    /// Opens a file that was not made yet, making it and its folders as far as they are missing.
    ///
    /// The table follows with the first allocation, in its transaction.
    fn create(&self) -> Result<Connection, StoreError> {
        let folder = self.folder();
        fs::create_dir_all(folder)?;
        // A new folder's own entry has to last too. All who found no database come through here,
        // so whoever answers first has synced them, no matter who made them.
        for ancestor in std::path::absolute(folder)?.ancestors().skip(1) {
            sync_folder(ancestor)?;
        }
        connect(&self.path, OpenFlags::SQLITE_OPEN_CREATE)
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Makes rows durable that others may have committed without syncing.
    fn sync_rows_of_others(&self) -> Result<(), StoreError> {
        // SQLite's files stand beside the database itself, not beside a link to it.
        let path = fs::canonicalize(&self.path)?;
        match File::open(log_path(&path)) {
            Ok(log) => log.sync_data()?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err.into()),
        }
        Ok(sync_folder(path.parent().unwrap_or(&path))?)
    }
}

impl Store for Sqlite {
    fn snapshot(&mut self) -> Result<Vec<Allocation>, StoreError> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let mut rows = self.retry.run(|| all_rows(connection))?;
        rows.sort_by(|a, b| (&a.app, a.id).cmp(&(&b.app, b.id)));
        Ok(rows)
    }

    fn allocate(&mut self, apps: &[AppId], choose: &mut Choose<'_>) -> Result<Vec<Outcome>, StoreError> {
        if let Some(connection) = &self.connection {
            let found = self.retry.run(|| existing(&*connection.unchecked_transaction()?, apps))?;
            if let Some(rows) = found.into_iter().collect::<Option<Vec<_>>>() {
                self.sync_rows_of_others()?;
                return Ok(rows.into_iter().map(|allocation| Outcome { allocation, created: false }).collect());
            }
        } else {
            // What would be refused anyway must not leave a database behind.
            choose(&apps.iter().collect::<Vec<_>>(), &PortSet::new()).map_err(StoreError::Refused)?;
            self.connection = Some(self.create()?);
        }
        let (is_new_database, outcomes) = self.write(|transaction| {
            let is_made = has_table(transaction)?;
            if !is_made {
                if pragma(transaction, "schema_version")? != 0 {
                    return Err(no_table());
                }
                transaction.execute_batch(SCHEMA)?;
            }
            let found = existing(transaction, apps)?;
            let wanting: Vec<_> =
                apps.iter().zip(&found).filter(|(_, row)| row.is_none()).map(|(app, _)| app).collect();
            let pairs = choose(&wanting, &taken_ports(transaction)?).map_err(StoreError::Refused)?;
            let now = self.retry.timestamp();
            let created: Result<Vec<_>, _> =
                wanting.into_iter().zip(pairs).map(|(app, pair)| insert(transaction, app, pair, now)).collect();
            let mut created = created?.into_iter();
            let outcomes: Vec<_> = found
                .into_iter()
                .filter_map(|row| match row {
                    Some(allocation) => Some(Outcome { allocation, created: false }),
                    None => created.next().map(|allocation| Outcome { allocation, created: true }),
                })
                .collect();
            Ok((!is_made, outcomes))
        })?;
        if is_new_database {
            log::info!("Created database {}", self.path.display());
        }
        if outcomes.iter().all(|outcome| !outcome.created) {
            self.sync_rows_of_others()?;
        }
        Ok(outcomes)
    }

    fn remove(&mut self, select: &mut Select<'_>) -> Result<Vec<Allocation>, StoreError> {
        if self.connection.is_none() {
            return Ok(Vec::new());
        }
        self.write(|transaction| {
            let selected = select(all_rows(transaction)?);
            let mut delete = transaction.prepare("DELETE FROM port_configurations WHERE rowid = ?1")?;
            for row in &selected {
                if delete.execute([row.id])? != 1 {
                    return Err(unusable("did not let go of a row: it has a trigger or a rule of its own"));
                }
            }
            Ok(selected)
        })
    }

    fn missing_indexes(&mut self) -> Result<Vec<UniqueIndex>, StoreError> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let present: Vec<String> = self.retry.run(|| {
            let mut indexes = connection.prepare(
                "SELECT group_concat(columns.name ORDER BY columns.name)
                 FROM pragma_index_list('port_configurations') AS indexes, pragma_index_info(indexes.name) AS columns
                 WHERE indexes.\"unique\" AND NOT indexes.partial GROUP BY indexes.name",
            )?;
            Ok(indexes.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })?;
        Ok(UniqueIndex::ALL.into_iter().filter(|index| !present.contains(&index.columns().join(","))).collect())
    }
}

/// The smallest database: one page of the smallest size, in bytes.
const SMALLEST: u64 = 512;

/// Where SQLite keeps the write-ahead log of a database.
fn log_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// Whether there is anything in the file; an empty or missing one is a database not made yet.
fn has_content(path: &Path) -> Result<bool, StoreError> {
    match fs::metadata(path) {
        // SQLite would take a file of one byte for an empty one.
        Ok(metadata) if metadata.is_file() && (1..SMALLEST).contains(&metadata.len()) => {
            Err(unusable("is not a SQLite database"))
        }
        Ok(metadata) if metadata.is_file() => Ok(metadata.len() > 0),
        Ok(metadata) if metadata.is_dir() => Err(unusable("is a folder")),
        Ok(_) => Err(unusable("is not a regular file")),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// Says so if the file's header names a newer file format than this SQLite reads, which it reports
/// as no database at all (<https://www.sqlite.org/fileformat2.html#file_format_version_numbers>).
fn newer(path: &Path) -> Option<StoreError> {
    let mut header = [0; 20];
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).ok()?;
    let version = header[18].max(header[19]);
    (header.starts_with(b"SQLite format 3\0") && version > 2).then(|| {
        unusable(format!("was made by a newer SQLite: its file format is {version}, this program reads 1 and 2"))
    })
}

fn connect(path: &Path, extra: OpenFlags) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    // A log with somebody's rows stays as it is; an empty one goes with the last connection.
    let has_log = fs::canonicalize(path).and_then(|path| fs::metadata(log_path(&path))).is_ok_and(|log| log.len() > 0);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log)?;
    Ok(connection)
}

/// Asks by a statement: the schema that SQLite keeps in memory may be older than the transaction.
fn has_table(connection: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'port_configurations')";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

fn no_table() -> StoreError {
    StoreError::Unusable {
        why: "has no table port_configurations".into(),
        hint: Some("name the platform's database, or a file that does not exist yet to start a new one"),
    }
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

/// Prepares a statement on the table's columns, and says so where one is missing.
fn prepare<'a>(connection: &'a Connection, sql: &str) -> Result<Statement<'a>, StoreError> {
    connection.prepare(sql).map_err(|err| {
        let is_missing = |column: &CStr| !connection.column_exists(None, TABLE, column).unwrap_or(true);
        match COLUMNS.into_iter().find(|column| is_missing(column)) {
            Some(column) => {
                unusable(format!("has a table port_configurations without a column {}", column.to_string_lossy()))
            }
            None => err.into(),
        }
    })
}

const TABLE: &CStr = c"port_configurations";

const COLUMNS: [&CStr; 8] = [
    c"model",
    c"app_num",
    c"backend_port",
    c"frontend_port",
    c"is_available",
    c"metadata_json",
    c"created_at",
    c"updated_at",
];

fn all_rows(connection: &Connection) -> Result<Vec<Allocation>, StoreError> {
    let mut rows = prepare(connection, select!(""))?;
    Ok(rows.query_map([], allocation)?.collect::<Result<_, _>>()?)
}

/// The row of each app, where it has one; the oldest where it has several.
fn existing(connection: &Connection, apps: &[AppId]) -> Result<Vec<Option<Allocation>>, StoreError> {
    let mut row = prepare(connection, select!("WHERE model = ?1 AND app_num = ?2 ORDER BY rowid LIMIT 1"))?;
    apps.iter().map(|app| Ok(row.query_row(params![app.model, app.app_num], allocation).optional()?)).collect()
}

/// Every port of either column; what is no port cannot be handed out and is passed over.
fn taken_ports(connection: &Connection) -> Result<PortSet, StoreError> {
    let mut taken = PortSet::new();
    // The table and not its indexes: a damaged index must not hide a port that a row has.
    let mut ports = connection.prepare("SELECT backend_port, frontend_port FROM port_configurations NOT INDEXED")?;
    let mut ports = ports.query([])?;
    while let Some(row) = ports.next()? {
        for column in [0, 1] {
            taken.extend(u16::try_from(integer(row.get_ref(column)?)).ok());
        }
    }
    Ok(taken)
}

/// Inserts a row and reads it back: what is answered is what is stored, whatever a trigger did.
fn insert(connection: &Connection, app: &AppId, pair: PortPair, now: Timestamp) -> Result<Allocation, StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO port_configurations
             (model, app_num, frontend_port, backend_port, is_available, metadata_json, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, 1, NULL, ?5, ?5)",
        )?
        .execute(params![app.model, app.app_num, pair.frontend, pair.backend, timestamp_text(now)])?;
    let stored = connection
        .prepare_cached(select!("WHERE rowid = ?1 AND model = ?2 AND app_num = ?3"))?
        .query_row(params![connection.last_insert_rowid(), app.model, app.app_num], allocation)
        .optional()?;
    stored.ok_or_else(|| unusable("did not keep a new row: it has a trigger or a rule of its own"))
}

/// Reads a row that may hold anything: SQLite does not enforce the types of its columns.
fn allocation(row: &Row<'_>) -> rusqlite::Result<Allocation> {
    Ok(Allocation {
        id: row.get(0)?,
        app: AppId::new(text(row.get_ref(1)?).unwrap_or_default(), integer(row.get_ref(2)?)),
        backend_port: integer(row.get_ref(3)?),
        frontend_port: integer(row.get_ref(4)?),
        is_available: integer(row.get_ref(5)?) != 0,
        metadata: text(row.get_ref(6)?),
        created_at: text(row.get_ref(7)?).as_deref().and_then(parse_timestamp),
        updated_at: text(row.get_ref(8)?).as_deref().and_then(parse_timestamp),
    })
}

/// A number as SQLite's CAST would give it, 0 for what is none.
#[expect(clippy::cast_possible_truncation, reason = "what is out of range is no port either way")]
fn integer(value: ValueRef<'_>) -> i64 {
    match value {
        ValueRef::Integer(number) => number,
        ValueRef::Real(number) => number as i64,
        ValueRef::Text(text) => str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        ValueRef::Null | ValueRef::Blob(_) => 0,
    }
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Text(text) | ValueRef::Blob(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Null => None,
    }
}

/// A time as SQLAlchemy's `DateTime` writes and reads it in SQLite: UTC, always 26 characters.
fn timestamp_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let utc = |text: &str| TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok();
    utc(text).or_else(|| text.parse().ok())
}

/// Makes a folder's entries durable, as far as this user may.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems do not sync folders; SQLite passes over both cases too.
        Err(err) if matches!(err.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => Ok(()),
        done => done,
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(err: rusqlite::Error) -> Self {
        let (why, hint) = match err.sqlite_error_code() {
            // FileLockingProtocolFailed is a race for the write-ahead log, over at the next try.
            Some(ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed) => {
                return Self::Busy("another writer to finish");
            }
            Some(ErrorCode::ConstraintViolation) => return Self::Conflict(err.to_string()),
            Some(ErrorCode::NotADatabase) => ("is not a SQLite database".into(), None),
            Some(ErrorCode::DatabaseCorrupt) => {
                (format!("is damaged: {err}"), Some("restore a copy, or save what is left with sqlite3's .recover"))
            }
            Some(ErrorCode::ReadOnly) => {
                let hint =
                    "it must be writable to write, to undo what a killed writer left, and to use its write-ahead log";
                ("is read-only".into(), Some(hint))
            }
            Some(ErrorCode::CannotOpen) => {
                ("cannot be opened".into(), Some("check the permissions of the file and of its folder"))
            }
            Some(ErrorCode::DiskFull) => ("cannot be written: the disk is full".into(), None),
            _ => (format!("cannot be used: {err}"), None),
        };
        Self::Unusable { why, hint }
    }
}

impl From<io::Error> for StoreError {
    fn from(err: io::Error) -> Self {
        unusable(format!("cannot be used: {err}"))
    }
}

fn unusable(why: impl Into<String>) -> StoreError {
    StoreError::Unusable { why: why.into(), hint: None }
}
