//! The table in a SQLite file that the platform writes too.
//!
//! - Choosing and inserting happen in one `BEGIN IMMEDIATE` transaction, which rolls back on drop.
//! - SQLite's own busy handler is off: every wait goes through [`Retry`]. A COMMIT that readers
//!   hold up is repeated alone; SQLite keeps its PENDING lock meanwhile, so no reader starts anew
//!   (<https://www.sqlite.org/lockingv3.html>).
//! - A database keeps the journal mode it has; new ones get a write-ahead log. How each becomes
//!   durable is told in [`durable`].
//! - The database file itself is never opened a second time while SQLite has locks on it: closing it
//!   would drop them.
//! - Reading changes nothing: the last reader out does not checkpoint somebody else's log. Where there is
//!   no log, or no index of one, a reader who may not write makes none: it would be theirs and lock the
//!   owner out.

mod durable;
mod rows;
mod scratch;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::SignedDuration;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::{Access, access};

use self::durable::{
    LONG, Log, Queue, Turn, create_folder, folder_of, has_frames, has_log, is_on_network, sync_folder,
};
use self::rows::{all_rows, delete, existing, insert, taken_ports, update_metadata};
pub(super) use self::scratch::Scratch;
use super::settle::{Step, settled, steps};
use super::{Choose, Missing, Mode, Outcome, Plan, Select, Store, StoreError, Waiting};
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
    /// Where the file is read as one that nobody writes to: as it was then.
    at_rest: Option<Rest>,
}

/// The length of a database file, and when it was last written.
type Rest = (u64, SystemTime);

/// How often a file at rest may have changed while it was read.
const CHANGES_MAX: u32 = 10;

impl Sqlite {
    pub(super) fn open(path: &Path, missing: Missing, retry: Retry) -> Result<Self, StoreError> {
        let mut store =
            Self { path: path.to_owned(), real_path: path.to_owned(), retry, connection: None, at_rest: None };
        if has_content(&store.path)? {
            store.connection = Some(store.connect()?);
            match store.read(|connection| is_made(&*connection.unchecked_transaction()?)) {
                Ok(true) => {}
                Ok(false) => store.connection = None,
                Err(err) => {
                    drop(store);
                    return Err(newer(path).unwrap_or(err));
                }
            }
        }
        if missing == Missing::Fail && store.connection.is_none() {
            return Err(StoreError::Missing);
        }
        Ok(store)
    }

    /// Connects to a file that is there.
    fn connect(&mut self) -> Result<Connection, StoreError> {
        self.real_path = real_path(&self.path);
        self.at_rest = at_rest(&self.real_path);
        let limit = match self.at_rest {
            Some(_) => Some("immutable=1"),
            None if !may_write(&self.real_path) => Some("readonly_shm=1"),
            None => None,
        };
        if let Some(limit) = limit {
            let path = percent_encode(self.real_path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            self.configured(format!("file:{path}?{limit}"), flags)
        } else {
            self.configured(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        }
    }

    fn configured(&self, name: impl AsRef<Path>, flags: OpenFlags) -> Result<Connection, StoreError> {
        let connection = Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        // The last reader out leaves a log as it found it, and takes away one that came with it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log(&self.real_path))?;
        Ok(connection)
    }

    /// Reads what a database holds, nothing where it was not made yet.
    fn read<T: Default>(&mut self, look: impl Fn(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        for _ in 0..CHANGES_MAX {
            let Some(connection) = &self.connection else { return Ok(T::default()) };
            let looked = self.retry.run(|| look(connection));
            if self.at_rest.is_none() || self.at_rest == at_rest(&self.real_path) {
                return looked;
            }
            // Somebody wrote to it meanwhile: whatever was seen may be neither old nor new.
            self.connection = Some(self.connect()?);
        }
        Err(StoreError::Busy("writers to let go of it"))
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
        let connection =
            self.configured(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        self.real_path = real_path(&self.path);
        self.at_rest = None;
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
        let mut rows = self.read(all_rows)?;
        rows.sort_by(|a, b| (&a.app, a.id).cmp(&(&b.app, b.id)));
        Ok(rows)
    }

    fn allocate(
        &mut self,
        apps: &[AppId],
        hold: Option<SignedDuration>,
        choose: &mut Choose<'_>,
    ) -> Result<Vec<Outcome>, StoreError> {
        if self.connection.is_some() {
            let found = self.read(|connection| existing(&*connection.unchecked_transaction()?, apps))?;
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
            selected.iter().try_for_each(|row| delete(transaction, row))?;
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
        if self.connection.is_none() {
            return Ok(Vec::new());
        }
        let present: Vec<String> = self.read(|connection| {
            let mut indexes = connection.prepare(
                "SELECT group_concat(columns.name ORDER BY columns.name)
                 FROM pragma_index_list('port_configurations') AS indexes, pragma_index_info(indexes.name) AS columns
                 WHERE indexes.\"unique\" AND NOT indexes.partial GROUP BY indexes.name
                 HAVING count(*) = count(columns.name)",
            )?;
            Ok(indexes.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })?;
        Ok(UniqueIndex::missing_from(&present))
    }
}

/// The smallest database: one page of the smallest size, in bytes.
const SMALLEST: u64 = 512;

/// Whether there is anything in the file; an empty or missing one is a database not made yet.
fn has_content(path: &Path) -> Result<bool, StoreError> {
    if path.to_string_lossy().ends_with('/') {
        return Err(unusable("is a folder"));
    }
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

/// The version of the file format that the file's header names: 1, or 2 for a write-ahead log
/// (<https://www.sqlite.org/fileformat2.html#file_format_version_numbers>).
fn file_format(path: &Path) -> Option<u8> {
    let mut header = [0; 20];
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).ok()?;
    header.starts_with(b"SQLite format 3\0").then_some(header[18].max(header[19]))
}

/// Says so if the file's format is newer than this SQLite reads, which it reports as no database at all.
fn newer(path: &Path) -> Option<StoreError> {
    let version = file_format(path).filter(|&version| version > 2)?;
    Some(unusable(format!("was made by a newer SQLite: its file format is {version}, this program reads 1 and 2")))
}

/// Where a link leads, in the end; the path itself where nothing is there yet.
fn real_path(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// How the file is, if it would need a log to be read that this user may not make, and has none with
/// anything in it: it then holds all there is.
fn at_rest(path: &Path) -> Option<Rest> {
    if has_frames(path) || (may_write(path) && may_write(folder_of(path))) || file_format(path) != Some(2) {
        return None;
    }
    let file = fs::metadata(path).ok()?;
    Some((file.len(), file.modified().ok()?))
}

fn may_write(path: &Path) -> bool {
    access(path, Access::WRITE_OK).is_ok()
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;
    use crate::core::retry::Clock;

    /// A clock that nobody waits for.
    struct Still;

    impl Clock for Still {
        fn now(&self) -> Duration {
            Duration::ZERO
        }
        fn timestamp(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
        fn sleep(&self, _: Duration) {}
        fn is_interrupted(&self) -> bool {
            false
        }
    }

    #[test]
    fn what_was_seen_while_somebody_wrote_is_looked_at_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.db");
        Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
        let mut store = Sqlite::open(&path, Missing::Fail, Retry::new(Duration::ZERO, Box::new(Still))).unwrap();
        for seen in [Ok(vec![1]), Err(unusable("is damaged"))] {
            // It was another file when it was opened.
            store.at_rest = Some((0, SystemTime::UNIX_EPOCH));
            let first = Cell::new(Some(seen));
            let read = store.read(|_| first.take().unwrap_or(Ok(vec![2])));
            assert_eq!(read.unwrap(), [2]);
        }
    }
}
