//! The table in a SQLite file that the platform writes too.
//!
//! - Choosing and inserting happen in one `BEGIN IMMEDIATE` transaction, which rolls back on drop.
//! - SQLite's own busy handler is off: every wait goes through [`Retry`]. A COMMIT that readers
//!   hold up is repeated alone; SQLite keeps its PENDING lock meanwhile, so no reader starts anew
//!   (<https://www.sqlite.org/lockingv3.html>).
//! - A database keeps the journal mode it has; new ones get a write-ahead log. How each becomes
//!   durable is told in [`durable`].
//! - The database file itself is never opened a second time: closing it would drop SQLite's locks.
//! - Reading changes nothing: the last reader out does not checkpoint somebody else's log.

mod durable;

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{
    CachedStatement, Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params,
};

use tempfile::TempDir;

use self::durable::{LONG, Log, Queue, Turn, create_folder, folder_of, has_log, is_on_network, sync_folder};
use super::settle::{Step, settled, steps};
use super::{Choose, Database, Missing, Mode, Outcome, Plan, Select, Store, StoreError, Waiting, select};
use crate::core::allocation::Allocation;
use crate::core::app::AppId;
use crate::core::conflict::UniqueIndex;
use crate::core::import::Entry;
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

/// A SQLite file; without a connection while it was not made yet.
pub(super) struct Sqlite {
    path: PathBuf,
    /// Where SQLite's other files stand: beside the database itself, not beside a link to it.
    real_path: PathBuf,
    retry: Retry,
    connection: Option<Connection>,
}

impl Sqlite {
    pub(super) fn open(path: &Path, missing: Missing, retry: Retry) -> Result<Self, StoreError> {
        let mut store = Self { path: path.to_owned(), real_path: path.to_owned(), retry, connection: None };
        if has_content(&store.path)? {
            let connection = store.connect(OpenFlags::empty())?;
            let is_made = store.retry.run(|| is_made(&*connection.unchecked_transaction()?));
            store.connection = is_made.map_err(|err| newer(&store.path).unwrap_or(err))?.then_some(connection);
        }
        if missing == Missing::Fail && store.connection.is_none() {
            return Err(StoreError::Missing);
        }
        Ok(store)
    }

    fn connect(&mut self, extra: OpenFlags) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        self.real_path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        connection.busy_timeout(std::time::Duration::ZERO)?;
        // The last reader out leaves a log as it found it, and takes away one that came with it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log(&self.real_path))?;
        Ok(connection)
    }

    /// Runs `decide` in one write transaction, in its turn, and makes what it wrote durable.
    fn write<T>(
        &self,
        turn: Turn,
        mut decide: impl FnMut(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(connection) = &self.connection else { return Err(StoreError::Missing) };
        // The mode decides, not the file: an empty log may lie beside a database that has none.
        let log = match self.retry.run(|| journal_mode(connection))?.as_str() {
            "wal" => Log::open(&self.real_path)?,
            _ => None,
        };
        if let Some(log) = &log {
            log.prepare()?;
            // The last writer out does not copy the log: that is done when it is long.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            if turn.came_at_once() && frames(connection) >= LONG {
                checkpoint(connection);
            }
        }
        let value = self.retry.run(|| {
            connection.execute_batch(match log {
                Some(_) => "PRAGMA synchronous=NORMAL",
                None => "PRAGMA synchronous=EXTRA",
            })?;
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let value = decide(&transaction)?;
            self.retry.run(|| {
                transaction.execute_batch("COMMIT").map_err(|err| match StoreError::from(err) {
                    StoreError::Busy(_) => StoreError::Busy("readers to finish"),
                    other => other,
                })
            })?;
            Ok(value)
        })?;
        if let Some(log) = log {
            drop(turn);
            log.sync()?;
        }
        Ok(value)
    }

    /// Waits for a turn to write.
    fn enter(&self) -> Result<Turn, StoreError> {
        Queue::open(&self.real_path).enter(&self.retry)
    }

    /// Opens a database that was not made yet, making its file and folders as far as they are missing.
    ///
    /// The table follows with the first allocation, in its transaction.
    fn create(&mut self) -> Result<Turn, StoreError> {
        create_folder(folder_of(&self.path))?;
        let turn = self.enter()?;
        let is_empty = !has_content(&self.path)?;
        let connection = self.connect(OpenFlags::SQLITE_OPEN_CREATE)?;
        if is_empty && !is_on_network(folder_of(&self.path)) {
            self.retry.run(|| Ok(connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?))?;
        }
        // The log comes with the first look, and stays as long as the connection.
        self.retry.run(|| is_made(&*connection.unchecked_transaction()?))?;
        self.connection = Some(connection);
        Ok(turn)
    }

    fn announce(&self, is_new_database: bool) {
        if is_new_database {
            log::info!("Created database {}", self.path.display());
        }
    }

    /// Makes rows durable that others may have committed without syncing.
    fn sync_rows_of_others(&self) -> Result<(), StoreError> {
        if let Some(log) = Log::open(&self.real_path)? {
            log.sync()?;
        }
        Ok(sync_folder(folder_of(&self.real_path))?)
    }
}

impl Store for Sqlite {
    fn snapshot(&mut self) -> Result<Vec<Allocation>, StoreError> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let mut rows = self.retry.run(|| all_rows(connection))?;
        rows.sort_by(|a, b| (&a.app, a.id).cmp(&(&b.app, b.id)));
        Ok(rows)
    }

    fn allocate(
        &mut self,
        apps: &[AppId],
        hold: Option<SignedDuration>,
        choose: &mut Choose<'_>,
    ) -> Result<Vec<Outcome>, StoreError> {
        if let Some(connection) = &self.connection {
            let found = self.retry.run(|| existing(&*connection.unchecked_transaction()?, apps))?;
            if let Some(outcomes) = settled(found, self.retry.timestamp(), hold) {
                self.sync_rows_of_others()?;
                return Ok(outcomes);
            }
        }
        let turn = if self.connection.is_some() {
            self.enter()?
        } else {
            // What would be refused anyway must not leave a database behind.
            choose(&apps.iter().collect::<Vec<_>>(), &PortSet::new()).map_err(StoreError::Refused)?;
            self.create()?
        };
        let (is_new_database, outcomes) = self.write(turn, |transaction| {
            let is_new_database = make(transaction)?;
            let found = existing(transaction, apps)?;
            let now = self.retry.timestamp();
            let mut steps = steps(apps, found, now, hold, &taken_ports(transaction)?, choose)?;
            for step in &mut steps {
                match step {
                    Step::Keep(_) => {}
                    Step::Hold(row) => update_metadata(transaction, row)?,
                    Step::Insert(row) => row.id = insert(transaction, row)?,
                }
            }
            let outcomes: Vec<_> = steps.into_iter().map(Step::into_outcome).collect();
            Ok((is_new_database, outcomes))
        })?;
        self.announce(is_new_database);
        if outcomes.iter().all(|outcome| !outcome.created) {
            self.sync_rows_of_others()?;
        }
        Ok(outcomes)
    }

    fn add(&mut self, plan: &mut Plan<'_>) -> Result<Vec<Allocation>, StoreError> {
        let turn = if self.connection.is_some() {
            self.enter()?
        } else if plan(&[]).is_empty() {
            return Ok(Vec::new());
        } else {
            self.create()?
        };
        let (is_new_database, added) = self.write(turn, |transaction| {
            let rows = if is_made(transaction)? { all_rows(transaction)? } else { Vec::new() };
            let rows = plan(&rows);
            if rows.is_empty() {
                return Ok((false, Vec::new()));
            }
            let is_new_database = make(transaction)?;
            let now = self.retry.timestamp();
            let mut added: Vec<_> =
                rows.into_iter().map(|Entry { app, pair, until }| Allocation::new(app, pair, until, now)).collect();
            for row in &mut added {
                row.id = insert(transaction, row)?;
            }
            Ok((is_new_database, added))
        })?;
        self.announce(is_new_database);
        self.sync_rows_of_others()?;
        Ok(added)
    }

    fn remove(&mut self, select: &mut Select<'_>) -> Result<Vec<Allocation>, StoreError> {
        if self.connection.is_none() {
            return Ok(Vec::new());
        }
        let turn = self.enter()?;
        self.write(turn, |transaction| {
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

    fn mode(&mut self) -> Result<Mode, StoreError> {
        let Some(connection) = &self.connection else { return Err(StoreError::Missing) };
        let journal = self.retry.run(|| journal_mode(connection))?;
        let has_queue = Queue::open(&self.real_path).is_kept();
        Ok(Mode { journal, waiting: if has_queue { Waiting::LockFile } else { Waiting::Retrying } })
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
        Ok(UniqueIndex::missing_from(&present))
    }
}

/// A folder on a database's disk with a database that was not made yet.
pub(super) struct Scratch {
    folder: TempDir,
    database: Database,
}

impl Scratch {
    /// Makes the folder beside the database at `path`.
    pub(super) fn new(path: &Path) -> Result<Self, StoreError> {
        // A database that was not made yet may lack its folder; the next one above is on its disk.
        let beside = path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
        let folder = tempfile::Builder::new()
            .prefix(".manage-ports-selftest-")
            .tempdir_in(beside)
            .map_err(|err| unusable(format!("has no room for a scratch folder in {}: {err}", beside.display())))?;
        Ok(Self { database: Database::Sqlite(folder.path().join("ports.db")), folder })
    }
}

impl super::Scratch for Scratch {
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

/// The smallest database: one page of the smallest size, in bytes.
const SMALLEST: u64 = 512;

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

/// Whether the table is there; a database with something else in it and no table is an error.
///
/// To be asked in a transaction: the database may be made while we look.
fn is_made(transaction: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'port_configurations')";
    if transaction.prepare_cached(sql)?.query_row([], |row| row.get(0))? {
        return Ok(true);
    }
    // Nothing was ever in it: so does a writer leave it that died while it made the database.
    if transaction.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0))? == 0 {
        return Ok(false);
    }
    Err(StoreError::Unusable {
        why: "has no table port_configurations".into(),
        hint: Some("name the platform's database, or a file that does not exist yet to start a new one"),
    })
}

/// Makes the table where there is none, and says whether it did.
fn make(transaction: &Connection) -> Result<bool, StoreError> {
    let is_made = is_made(transaction)?;
    if !is_made {
        transaction.execute_batch(SCHEMA)?;
    }
    Ok(!is_made)
}

/// The journal mode that the connection found when it last looked at the database.
fn journal_mode(connection: &Connection) -> Result<String, StoreError> {
    Ok(connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?)
}

/// How many frames the log holds; its file may be longer.
fn frames(connection: &Connection) -> i64 {
    connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1)).unwrap_or(0)
}

/// Copies the log into the database as far as that need not wait. If all of it is, the next write
/// starts the log anew.
fn checkpoint(connection: &Connection) {
    let done = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok(row.get::<_, i64>("log")? == row.get::<_, i64>("checkpointed")?)
    });
    log::debug!("checkpoint: {}", if done.is_ok_and(|is_whole| is_whole) { "done" } else { "put off" });
}

/// Prepares a statement on the table's columns, and says so where one is missing.
fn prepare<'a>(connection: &'a Connection, sql: &str) -> Result<CachedStatement<'a>, StoreError> {
    connection.prepare_cached(sql).map_err(|err| {
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
    let mut rows = prepare(connection, select!("rowid", ""))?;
    Ok(rows.query_map([], allocation)?.collect::<Result<_, _>>()?)
}

/// The row of each app, where it has one; the oldest where it has several.
fn existing(connection: &Connection, apps: &[AppId]) -> Result<Vec<Option<Allocation>>, StoreError> {
    let mut row = prepare(connection, select!("rowid", "WHERE model = ?1 AND app_num = ?2 ORDER BY rowid LIMIT 1"))?;
    apps.iter().map(|app| Ok(row.query_row(params![app.model, app.app_num], allocation).optional()?)).collect()
}

/// Every port of either column; what is no port cannot be handed out and is passed over.
fn taken_ports(connection: &Connection) -> Result<PortSet, StoreError> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_aggregate_function(c"port_set", 1, flags, PortSetAggregate)?;
    let mut taken = PortSet::new();
    // Each port's index holds all that is needed, in a third of the table's pages.
    for sql in [
        "SELECT port_set(backend_port) FROM port_configurations",
        "SELECT port_set(frontend_port) FROM port_configurations",
    ] {
        let ports: Vec<u8> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        taken.extend(ports.chunks_exact(2).map(|port| u16::from_ne_bytes([port[0], port[1]])));
    }
    Ok(taken)
}

/// The ports of a column, two bytes each: to gather them inside of SQLite spares a quarter of what it
/// costs to take them out row by row.
struct PortSetAggregate;

impl Aggregate<Vec<u8>, Vec<u8>> for PortSetAggregate {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn step(&self, context: &mut Context<'_>, ports: &mut Vec<u8>) -> rusqlite::Result<()> {
        ports.extend(u16::try_from(integer(context.get_raw(0))).into_iter().flat_map(u16::to_ne_bytes));
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, ports: Option<Vec<u8>>) -> rusqlite::Result<Vec<u8>> {
        Ok(ports.unwrap_or_default())
    }
}

/// Writes a new row and returns its id.
fn insert(connection: &Connection, row: &Allocation) -> Result<i64, StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO port_configurations
         (model, app_num, frontend_port, backend_port, is_available, metadata_json, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let [created_at, updated_at] = [row.created_at, row.updated_at].map(|time| time.map(timestamp_text));
    let Allocation { app: AppId { model, app_num }, backend_port, frontend_port, is_available, metadata, .. } = row;
    let values = params![model, app_num, frontend_port, backend_port, is_available, metadata, created_at, updated_at];
    if insert.execute(values)? != 1 {
        return Err(unusable("did not keep a new row: it has a trigger or a rule of its own"));
    }
    Ok(connection.last_insert_rowid())
}

/// Writes a row's metadata, and when that was.
fn update_metadata(connection: &Connection, row: &Allocation) -> Result<(), StoreError> {
    let sql = "UPDATE port_configurations SET metadata_json = ?2, updated_at = ?3 WHERE rowid = ?1";
    let values = params![row.id, row.metadata, row.updated_at.map(timestamp_text)];
    if connection.prepare_cached(sql)?.execute(values)? != 1 {
        return Err(unusable("did not change a row: it has a trigger or a rule of its own"));
    }
    Ok(())
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
